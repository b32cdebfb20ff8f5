//! The values of arguments, cut where conditions change their mind.

use cofferdam_profiles::seccomp::{Decision, Test};

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
fn cut<'a>(tests: impl Iterator<Item = &'a Test>) -> Result<Vec<u64>, TooComplex> {
    let mut cells = vec![(Region::whole(), 0)];
    for test in tests {
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
    let mut values: Vec<u64> = cells.into_iter().map(|(_, value)| value).collect();
    values.sort_unstable();
    Ok(values)
}
