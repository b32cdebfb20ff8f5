//! Random calls, near to where a profile changes its mind.

use cofferdam_profiles::seccomp::{Arch, Call, Decision, Evaluator, Op, Test, table};

/// SplitMix64 (Steele and others, 2014): good enough for test data, the same everywhere, and quick.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is small.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    pub(crate) fn one_of<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len()))
    }
}

/// Calls that a profile may tell apart.
pub(crate) struct Calls {
    random: Random,
    /// A number of an architecture, and the values its rules compare with.
    numbers: Vec<(Arch, u32, Vec<Test>)>,
    /// Those of `numbers` with rules on arguments.
    conditional: Vec<usize>,
}

impl Calls {
    pub(crate) fn new(seed: u64, evaluator: &Evaluator) -> Self {
        let mut numbers = Vec::new();
        for arch in Arch::FAMILY {
            let mut own: Vec<u32> = table(*arch).keys().copied().collect();
            own.extend(evaluator.listed(*arch));
            own.extend(evaluator.newest(*arch));
            let beside = own
                .iter()
                .flat_map(|number| [number.wrapping_sub(1), number.wrapping_add(1)]);
            let beside: Vec<u32> = beside.collect();
            own.extend(beside);
            own.sort_unstable();
            own.dedup();
            for number in own {
                let tests = match evaluator.decision(*arch, number) {
                    Decision::Always(_) => Vec::new(),
                    Decision::Depends { rules, .. } => {
                        rules.into_iter().flat_map(|rule| rule.tests).collect()
                    }
                };
                numbers.push((*arch, number, tests));
            }
        }
        let conditional = numbers
            .iter()
            .enumerate()
            .filter(|(_, (.., tests))| !tests.is_empty());
        let conditional = conditional.map(|(at, _)| at).collect();
        Self {
            random: Random(seed),
            numbers,
            conditional,
        }
    }

    /// Half of the calls go where arguments count, if they do anywhere.
    pub(crate) fn next(&mut self) -> Call {
        let kind = self.random.below(32);
        if kind == 0 {
            return self.anything();
        }
        let favoured = kind
            .is_multiple_of(2)
            .then(|| self.random.one_of(&self.conditional).copied());
        let at = favoured
            .flatten()
            .unwrap_or_else(|| self.random.below(self.numbers.len()));
        let (arch, number, tests) = &self.numbers[at];
        let (arch, number) = (*arch, *number);
        let mut args = [0; 6];
        for value in &mut args {
            *value = any_value(&mut self.random);
        }
        // Most of the tested arguments come near to what they are compared with.
        for _ in 0..2 {
            if let Some(test) = self.random.one_of(tests) {
                args[usize::from(test.index)] = near(&mut self.random, *test);
            }
        }
        Call {
            audit: arch.audit(),
            number,
            args,
        }
    }

    /// Any architecture, number and arguments.
    fn anything(&mut self) -> Call {
        let random = &mut self.random;
        let audits = [
            0,
            0xc000_003e,
            0x4000_0003,
            0xc000_00b7,
            0x8000_0016,
            u32::MAX,
        ];
        let number = random.next();
        let small = random.below(2) == 0;
        let number = u32::try_from(number & if small { 0x3ff } else { 0xffff_ffff }).unwrap();
        Call {
            audit: *random.one_of(&audits).unwrap(),
            number,
            args: std::array::from_fn(|_| any_value(random)),
        }
    }
}

fn any_value(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => 0,
        1 => random.next() % 64,
        2 => 1 << random.below(64),
        _ => random.next(),
    }
}

/// A value at, beside or above what a condition compares with.
fn near(random: &mut Random, test: Test) -> u64 {
    let Test { value, op, .. } = test;
    let bit = 1u64 << random.below(64);
    let noise = random.next();
    match random.below(8) {
        0 | 1 => value,
        2 => value.wrapping_add(1),
        3 => value.wrapping_sub(1),
        4 => value ^ bit,
        // The same to a kernel that reads an int.
        5 => value & 0xffff_ffff | noise << 32,
        _ => match op {
            Op::MaskedEq(mask) => value | noise & !mask,
            _ => value ^ noise & 0xff,
        },
    }
}
