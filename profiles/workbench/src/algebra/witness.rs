//! A value that passes some tests of an argument and fails others, or the proof that there is none.

use std::collections::{BTreeSet, HashSet};

use cofferdam_profiles::seccomp::{Op, Test};

use super::TooComplex;

/// Steps that a search takes at most. Conditions in use take a few hundred.
const MAX_STEPS: usize = 1 << 17;

/// The values between two bounds that have some bits and lack some patterns of bits.
#[derive(Debug, Clone)]
pub(super) struct Region {
    low: u64,
    high: u64,
    /// Bits that are given, and what they are.
    mask: u64,
    datum: u64,
    /// `value & mask != datum`, for each.
    not: Vec<(u64, u64)>,
}

impl Region {
    /// Every value.
    pub(super) fn whole() -> Self {
        Self {
            low: 0,
            high: u64::MAX,
            mask: 0,
            datum: 0,
            not: Vec::new(),
        }
    }

    /// The part where a test passes, or where it fails; `None` where that is plainly empty.
    pub(super) fn part(&self, test: Test, passes: bool) -> Option<Self> {
        let mut part = self.clone();
        let value = test.value;
        match (test.op, passes) {
            (Op::Eq, true) | (Op::Ne, false) => part.within(value, value),
            (Op::Ne, true) | (Op::Eq, false) => part.not.push((u64::MAX, value)),
            (Op::Lt, true) | (Op::Ge, false) => part.within(0, value.checked_sub(1)?),
            (Op::Le, true) | (Op::Gt, false) => part.within(0, value),
            (Op::Ge, true) | (Op::Lt, false) => part.within(value, u64::MAX),
            (Op::Gt, true) | (Op::Le, false) => part.within(value.checked_add(1)?, u64::MAX),
            (Op::MaskedEq(mask), true) => {
                if (part.datum ^ value) & part.mask & mask != 0 {
                    return None;
                }
                part.mask |= mask;
                part.datum |= value;
            }
            (Op::MaskedEq(mask), false) => part.not.push((mask, value)),
        }
        (part.low <= part.high).then_some(part)
    }

    /// The region without some values.
    pub(super) fn without(&self, values: &BTreeSet<u64>) -> Self {
        let mut rest = self.clone();
        let range = values.range(self.low..=self.high);
        rest.not.extend(range.map(|value| (u64::MAX, *value)));
        rest
    }

    fn within(&mut self, low: u64, high: u64) {
        self.low = self.low.max(low);
        self.high = self.high.min(high);
    }

    /// The least value of the region.
    pub(super) fn least(&self) -> Result<Option<u64>, TooComplex> {
        let mut search = Search {
            region: self,
            steps: 0,
            hopeless: HashSet::new(),
        };
        let every = (0..self.not.len()).collect();
        search.from(State {
            bits: 64,
            at_low: true,
            at_high: true,
            threats: every,
        })
    }
}

/// What is decided: the bits from the top down to `bits`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    /// How many bits are left.
    bits: u32,
    /// So far the value is that of the lower bound.
    at_low: bool,
    /// So far it is that of the upper bound.
    at_high: bool,
    /// The patterns to avoid that it matches so far.
    threats: Vec<usize>,
}

struct Search<'a> {
    region: &'a Region,
    steps: usize,
    /// States without a way on.
    hopeless: HashSet<State>,
}

impl Search<'_> {
    /// The least completion of a state: its remaining bits. The depth is at most 64.
    fn from(&mut self, state: State) -> Result<Option<u64>, TooComplex> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(TooComplex);
        }
        // A pattern that is matched to its last bit is matched.
        let below = if state.bits == 64 {
            u64::MAX
        } else {
            (1 << state.bits) - 1
        };
        let not = &self.region.not;
        let matched = |threat: &usize| not.get(*threat).is_some_and(|(mask, _)| mask & below == 0);
        if state.threats.iter().any(matched) {
            return Ok(None);
        }
        let Some(next) = state.bits.checked_sub(1) else {
            return Ok(Some(0));
        };
        if self.hopeless.contains(&state) {
            return Ok(None);
        }
        let bit = 1u64 << next;
        for set in [false, true] {
            let Some(after) = self.step(&state, next, set) else {
                continue;
            };
            if let Some(rest) = self.from(after)? {
                return Ok(Some(rest | if set { bit } else { 0 }));
            }
        }
        self.hopeless.insert(state);
        Ok(None)
    }

    /// The state after one more bit; `None` where the bounds or the given bits forbid it.
    fn step(&self, state: &State, next: u32, set: bool) -> Option<State> {
        let bit = 1u64 << next;
        let Region {
            low,
            high,
            mask,
            datum,
            not,
        } = self.region;
        let in_low = low & bit != 0;
        let in_high = high & bit != 0;
        let allowed = (mask & bit == 0 || (datum & bit != 0) == set)
            && !(state.at_low && in_low && !set)
            && !(state.at_high && !in_high && set);
        let matches = |threat: &&usize| {
            not.get(**threat)
                .is_some_and(|(mask, datum)| mask & bit == 0 || (datum & bit != 0) == set)
        };
        allowed.then(|| State {
            bits: next,
            at_low: state.at_low && in_low == set,
            at_high: state.at_high && in_high == set,
            threats: state.threats.iter().filter(matches).copied().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn test() -> impl Strategy<Value = (Test, bool)> {
        let op = prop_oneof![
            Just(Op::Ne),
            Just(Op::Lt),
            Just(Op::Le),
            Just(Op::Eq),
            Just(Op::Ge),
            Just(Op::Gt),
            (0u64..32).prop_map(Op::MaskedEq),
            (0u64..32).prop_map(Op::MaskedEq),
        ];
        (op, 0u64..32, any::<bool>()).prop_map(|(op, value, passes)| {
            let value = match op {
                Op::MaskedEq(mask) => value & mask,
                _ => value,
            };
            let index = 0;
            (Test { index, op, value }, passes)
        })
    }

    proptest! {
        /// Bounded from above, the space is small enough to be gone through.
        #[test]
        fn the_least_value_is_found(tests in proptest::collection::vec(test(), 0..8)) {
            let limit = Test { index: 0, op: Op::Lt, value: 64 };
            let mut region = Region::whole().part(limit, true);
            for (test, passes) in &tests {
                region = region.and_then(|region| region.part(*test, *passes));
            }
            let found = region.and_then(|region| region.least().unwrap());
            let fits = |value: &u64| tests.iter().all(|(test, passes)| test.passes(*value) == *passes);
            prop_assert_eq!(found, (0..64).find(fits));
        }
    }

    #[test]
    fn many_values_left_out_and_the_far_end() {
        let test = |op, value| Test {
            index: 0,
            op,
            value,
        };
        let mut region = Region::whole();
        for value in 0..300 {
            region = region.part(test(Op::Eq, value), false).unwrap();
        }
        assert_eq!(region.least().unwrap(), Some(300));
        let low = test(Op::MaskedEq(0xffff_ffff), 0x5412);
        let region = Region::whole().part(low, true).unwrap();
        assert_eq!(region.least().unwrap(), Some(0x5412));
        let region = region.part(test(Op::Gt, 0x5412), true).unwrap();
        assert_eq!(region.least().unwrap(), Some(0x1_0000_5412));
        let region = region.part(test(Op::MaskedEq(0xffff_ffff_0000_0000), 1 << 32), false);
        assert_eq!(region.unwrap().least().unwrap(), Some(0x2_0000_5412));
        let end = Region::whole().part(test(Op::Ge, u64::MAX), true).unwrap();
        assert_eq!(end.least().unwrap(), Some(u64::MAX));
        let none = end.part(test(Op::MaskedEq(1), 0), true).unwrap();
        assert_eq!(none.least().unwrap(), None);
    }
}
