//! The values of arguments, cut where conditions change their mind.

use std::collections::BTreeSet;

use cofferdam_profiles::seccomp::{Decision, Op, Test};

use super::TooComplex;
use super::witness::Region;

/// Cells of one argument, and of all together, that are gone through.
const MAX_CELLS: usize = 2048;
const MAX_POINTS: usize = 1 << 16;

/// The arguments of one call.
pub type Point = [u64; 6];

/// For each argument a value of every cell.
#[derive(Debug, Clone)]
pub struct Cells([Vec<u64>; 6]);

impl Cells {
    /// The cells of the conditions of some decisions.
    pub fn of<'a>(decisions: impl IntoIterator<Item = &'a Decision>) -> Result<Self, TooComplex> {
        let mut tests: Vec<Test> = decisions.into_iter().flat_map(tests).copied().collect();
        tests.sort_unstable();
        tests.dedup();
        let mut out: [Vec<u64>; 6] = Default::default();
        for (index, values) in (0u8..).zip(&mut out) {
            let own = tests.iter().filter(|test| test.index == index);
            *values = cut(own)?;
        }
        Ok(Self(out))
    }

    /// One call of each combination of cells.
    pub fn points(&self) -> Result<Vec<Point>, TooComplex> {
        let Self(values) = self;
        let many = values.iter().try_fold(1usize, |many, own| {
            many.checked_mul(own.len())
                .filter(|many| *many <= MAX_POINTS)
        });
        many.ok_or(TooComplex)?;
        let mut points = vec![[0; 6]];
        for (index, own) in values.iter().enumerate() {
            let extended = |point: &Point| {
                let point = *point;
                own.iter().map(move |value| {
                    let mut point = point;
                    if let Some(place) = point.get_mut(index) {
                        *place = *value;
                    }
                    point
                })
            };
            points = points.iter().flat_map(extended).collect();
        }
        Ok(points)
    }
}

/// The tests of a decision's rules.
pub(super) fn tests(decision: &Decision) -> impl Iterator<Item = &Test> {
    let rules = match decision {
        Decision::Always(_) => [].as_slice(),
        Decision::Depends { rules, .. } => rules,
    };
    rules.iter().flat_map(|rule| &rule.tests)
}

/// A value of every cell that some tests of one argument make.
///
/// A value that a test names alone is a cell of its own. The other tests cut what is left.
fn cut<'a>(tests: impl Iterator<Item = &'a Test>) -> Result<Vec<u64>, TooComplex> {
    let mut alone = BTreeSet::new();
    let mut cells = vec![(Region::whole(), 0)];
    for test in tests {
        if let Op::Eq | Op::Ne | Op::MaskedEq(u64::MAX) = test.op {
            alone.insert(test.value);
            continue;
        }
        let mut next = Vec::with_capacity(cells.len() + 1);
        for (region, value) in cells {
            // The value at hand speaks for its side; the other side may be empty.
            let own = test.passes(value);
            let other = region.part(*test, !own);
            if let Some(part) = other
                && let Some(least) = part.least()?
            {
                next.push((part, least));
            }
            if let Some(part) = region.part(*test, own) {
                next.push((part, value));
            }
        }
        if next.len() > MAX_CELLS {
            return Err(TooComplex);
        }
        cells = next;
    }
    if alone.len().saturating_add(cells.len()) > MAX_CELLS {
        return Err(TooComplex);
    }
    let mut values = alone.clone();
    for (region, value) in cells {
        // Its own value may be one of those that stand alone.
        let own = if alone.contains(&value) {
            region.without(&alone).least()?
        } else {
            Some(value)
        };
        values.extend(own);
    }
    Ok(values.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn test(op: Op, value: u64) -> Test {
        Test {
            index: 0,
            op,
            value,
        }
    }

    #[test]
    fn every_cell_has_a_value() {
        let tests = [
            test(Op::Eq, 0),
            test(Op::Eq, 5),
            test(Op::Ne, 6),
            test(Op::Lt, 10),
            test(Op::MaskedEq(1), 1),
        ];
        // 0, 5 and 6 alone; below 10 odd and even, from 10 on odd and even.
        assert_eq!(cut(tests.iter()), Ok(vec![0, 1, 2, 5, 6, 10, 11]));
        assert_eq!(cut([].iter()), Ok(vec![0]));
    }

    /// Many rules on one argument are bounded by their number, not by what they could combine to.
    #[test]
    fn thousands_of_values_are_quick_or_refused() {
        let begun = Instant::now();
        let many: Vec<Test> = (0..2000)
            .map(|value| test(Op::Eq, value * 0x1_0001))
            .collect();
        assert_eq!(cut(many.iter()).map(|values| values.len()), Ok(2001));
        let dense: Vec<Test> = (0..2000).map(|value| test(Op::Eq, value)).collect();
        assert_eq!(cut(dense.iter()).map(|values| values.len()), Ok(2001));
        let more: Vec<Test> = (0..4096).map(|value| test(Op::Eq, value)).collect();
        assert_eq!(cut(more.iter()), Err(TooComplex));
        let ranges: Vec<Test> = (0..4096).map(|value| test(Op::Ge, value)).collect();
        assert_eq!(cut(ranges.iter()), Err(TooComplex));
        let bits: Vec<Test> = (0..64).map(|bit| test(Op::MaskedEq(1 << bit), 0)).collect();
        assert_eq!(cut(bits.iter()), Err(TooComplex));
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{:?}",
            begun.elapsed()
        );
    }
}
