//! Argument conditions: one test of one argument, and what two tests of the same argument make.
//!
//! A test sees all 64 bits, as `seccomp_data.args` holds them. The kernel's own parameter is often
//! narrower, so a profile that means "this command" must mask (see the built-in default's `ioctl`).

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator};

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    /// `argument != value`.
    Ne,
    /// `argument < value`.
    Lt,
    /// `argument <= value`.
    Le,
    /// `argument == value`.
    Eq,
    /// `argument >= value`.
    Ge,
    /// `argument > value`.
    Gt,
    /// `argument & mask == value`.
    MaskedEq(u64),
}

/// One test of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Test {
    /// The argument, 0 to 5.
    pub index: u8,
    /// How it is compared.
    pub op: Op,
    /// With what.
    pub value: u64,
}

/// What two tests of the same argument are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Both {
    /// No value passes both.
    Never,
    /// Exactly the values that pass this one.
    One(Test),
    /// More than one test can say.
    Inexpressible,
}

impl Test {
    /// The test an OCI rule asks for; the index is checked by [`super::validate`].
    ///
    /// For `SCMP_CMP_MASKED_EQ`, `value` is the mask and `valueTwo` the datum; bits of the datum
    /// outside the mask are ignored, as libseccomp does.
    pub fn from_oci(arg: &LinuxSeccompArg) -> Self {
        let (op, value) = match arg.op() {
            LinuxSeccompOperator::ScmpCmpNe => (Op::Ne, arg.value()),
            LinuxSeccompOperator::ScmpCmpLt => (Op::Lt, arg.value()),
            LinuxSeccompOperator::ScmpCmpLe => (Op::Le, arg.value()),
            LinuxSeccompOperator::ScmpCmpEq => (Op::Eq, arg.value()),
            LinuxSeccompOperator::ScmpCmpGe => (Op::Ge, arg.value()),
            LinuxSeccompOperator::ScmpCmpGt => (Op::Gt, arg.value()),
            LinuxSeccompOperator::ScmpCmpMaskedEq => (
                Op::MaskedEq(arg.value()),
                arg.value_two().unwrap_or(0) & arg.value(),
            ),
        };
        let index = u8::try_from(arg.index()).unwrap_or(u8::MAX);
        Self { index, op, value }
    }

    /// The same test as an OCI rule writes it.
    pub fn to_oci(self) -> LinuxSeccompArg {
        let (op, value, two) = match self.op {
            Op::Ne => (LinuxSeccompOperator::ScmpCmpNe, self.value, None),
            Op::Lt => (LinuxSeccompOperator::ScmpCmpLt, self.value, None),
            Op::Le => (LinuxSeccompOperator::ScmpCmpLe, self.value, None),
            Op::Eq => (LinuxSeccompOperator::ScmpCmpEq, self.value, None),
            Op::Ge => (LinuxSeccompOperator::ScmpCmpGe, self.value, None),
            Op::Gt => (LinuxSeccompOperator::ScmpCmpGt, self.value, None),
            Op::MaskedEq(mask) => {
                let op = LinuxSeccompOperator::ScmpCmpMaskedEq;
                (op, mask, Some(self.value))
            }
        };
        let arg = LinuxSeccompArgBuilder::default()
            .index(usize::from(self.index))
            .value(value)
            .op(op);
        let arg = match two {
            Some(two) => arg.value_two(two),
            None => arg,
        };
        // Every field has a default, so there is nothing to miss.
        arg.build().unwrap_or_default()
    }

    /// Whether `value` passes.
    pub fn passes(self, value: u64) -> bool {
        match self.op {
            Op::Ne => value != self.value,
            Op::Lt => value < self.value,
            Op::Le => value <= self.value,
            Op::Eq => value == self.value,
            Op::Ge => value >= self.value,
            Op::Gt => value > self.value,
            Op::MaskedEq(mask) => value & mask == self.value,
        }
    }

    /// The values that pass, where they are one range; `None` for none or for another shape.
    fn range(self) -> Option<(u64, u64)> {
        match self.op {
            Op::Eq => Some((self.value, self.value)),
            Op::Le => Some((0, self.value)),
            Op::Ge => Some((self.value, u64::MAX)),
            Op::Lt => self.value.checked_sub(1).map(|last| (0, last)),
            Op::Gt => self.value.checked_add(1).map(|first| (first, u64::MAX)),
            Op::MaskedEq(u64::MAX) => Some((self.value, self.value)),
            Op::MaskedEq(0) => Some((0, u64::MAX)),
            Op::Ne | Op::MaskedEq(_) => None,
        }
    }

    /// The values that do not pass, as ranges; `None` where they are another shape.
    fn gaps(self) -> Option<Vec<(u64, u64)>> {
        match self.op {
            Op::Ne => Some(vec![(self.value, self.value)]),
            Op::Lt if self.value == 0 => Some(vec![(0, u64::MAX)]),
            Op::Gt if self.value == u64::MAX => Some(vec![(0, u64::MAX)]),
            _ => {
                let (first, last) = self.range()?;
                let below = first.checked_sub(1).map(|end| (0, end));
                let above = last.checked_add(1).map(|start| (start, u64::MAX));
                Some(below.into_iter().chain(above).collect())
            }
        }
    }

    /// Whether some value of the range passes.
    fn meets(self, (first, last): (u64, u64)) -> bool {
        match self.op {
            Op::Ne => first != last || first != self.value,
            Op::MaskedEq(mask) => {
                least_match(first, mask, self.value).is_some_and(|value| value <= last)
            }
            _ => self
                .range()
                .is_some_and(|(low, high)| low <= last && first <= high),
        }
    }

    /// Whether every value that passes `self` passes `other`; `None` if that was not worked out.
    pub fn implies(self, other: Self) -> Option<bool> {
        if self == other {
            return Some(true);
        }
        if let (Op::MaskedEq(mine), Op::MaskedEq(theirs)) = (self.op, other.op) {
            return Some(mine & theirs == theirs && self.value & theirs == other.value);
        }
        let gaps = other.gaps()?;
        Some(!gaps.into_iter().any(|gap| self.meets(gap)))
    }

    /// What this test and another of the same argument are together.
    pub fn and(self, other: Self) -> Both {
        if self.implies(other) == Some(true) {
            return Both::One(self);
        }
        if other.implies(self) == Some(true) {
            return Both::One(other);
        }
        match (self.op, other.op) {
            (Op::MaskedEq(a), Op::MaskedEq(b)) => {
                if (self.value ^ other.value) & a & b != 0 {
                    return Both::Never;
                }
                let op = Op::MaskedEq(a | b);
                let value = self.value | other.value;
                Both::One(Self { op, value, ..self })
            }
            _ => match (self.range(), other.range()) {
                (Some(range), _) if !other.meets(range) => Both::Never,
                (_, Some(range)) if !self.meets(range) => Both::Never,
                _ => Both::Inexpressible,
            },
        }
    }
}

/// The least value from `first` up with `value & mask == datum`; the datum lies inside the mask.
fn least_match(first: u64, mask: u64, datum: u64) -> Option<u64> {
    if first & mask == datum {
        return Some(first);
    }
    // A larger match keeps `first`'s bits above some bit `n`, has bit `n` set where `first` has it
    // clear, and below it is as small as the mask lets it be. The lowest such `n` gives the least.
    (0..64).find_map(|n| {
        let bit = 1u64 << n;
        let above = !(bit | (bit - 1));
        let bit_may_be_set = mask & bit == 0 || datum & bit != 0;
        (first & bit == 0 && first & mask & above == datum & above && bit_may_be_set)
            .then_some((first & above) | bit | (datum & (bit - 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tests over few bits, so that every case meets every other.
    pub(crate) fn small_test() -> impl Strategy<Value = Test> {
        (0u64..18, 0u64..18, 0usize..7).prop_map(|(value, mask, op)| {
            let ops = [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt];
            match ops.get(op) {
                Some(op) => Test {
                    index: 0,
                    op: *op,
                    value,
                },
                None => Test {
                    index: 0,
                    op: Op::MaskedEq(mask),
                    value: value & mask,
                },
            }
        })
    }

    proptest! {
        #[test]
        fn two_tests_together_pass_what_both_pass(a in small_test(), b in small_test()) {
            let together = a.and(b);
            for value in (0..40).chain([u64::MAX - 1, u64::MAX, 1 << 32, (1 << 32) | 5]) {
                let both = a.passes(value) && b.passes(value);
                match together {
                    Both::Never => prop_assert!(!both, "{value}"),
                    Both::One(one) => prop_assert_eq!(one.passes(value), both, "{}", value),
                    Both::Inexpressible => {}
                }
            }
        }

        #[test]
        fn the_least_match_is_least(first in 0u64..64, mask in 0u64..64, datum in 0u64..64) {
            let datum = datum & mask;
            let expected = (first..256).find(|value| value & mask == datum);
            prop_assert_eq!(least_match(first, mask, datum), expected);
        }
    }

    #[test]
    fn family_tests_meet_exactly() {
        let test = |op, value| Test {
            index: 0,
            op,
            value,
        };
        let table = [
            (
                test(Op::Eq, 2),
                test(Op::Lt, 38),
                Both::One(test(Op::Eq, 2)),
            ),
            (test(Op::Eq, 2), test(Op::Gt, 40), Both::Never),
            (test(Op::Eq, 16), test(Op::Ne, 16), Both::Never),
            (
                test(Op::Ge, 0),
                test(Op::Gt, 40),
                Both::One(test(Op::Gt, 40)),
            ),
            (test(Op::Lt, 38), test(Op::Gt, 3), Both::Inexpressible),
            (test(Op::Lt, 0), test(Op::Ne, 3), Both::One(test(Op::Lt, 0))),
        ];
        for (a, b, expected) in table {
            assert_eq!(a.and(b), expected, "{a:?} {b:?}");
            assert_eq!(b.and(a), expected, "{b:?} {a:?}");
        }
    }
}
