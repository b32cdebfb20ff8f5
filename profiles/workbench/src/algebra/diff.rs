//! What two profiles answer differently: per architecture, call and arguments.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_profiles::seccomp::{Action, Arch, Both, Decision, Evaluator, Rule, Test, table};

use super::cells::{Cells, Point};
use super::{AlgebraError, TooComplex};

/// What two profiles answer differently.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// By architecture and number.
    pub changes: Vec<Change>,
    /// The answers to calls of architectures that neither profile lists, if they differ.
    pub foreign: Option<(Action, Action)>,
}

impl Diff {
    /// Both profiles mean the same.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.foreign.is_none()
    }
}

/// One call, or several without a name, that is answered differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The architecture.
    pub arch: Arch,
    /// Which call.
    pub calls: Calls,
    /// In which cases, and how.
    pub differences: Vec<Difference>,
}

/// A call by name, or numbers that no call is known to have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Calls {
    /// A call.
    Named {
        /// Its name.
        name: String,
        /// Its number.
        number: u32,
    },
    /// Numbers without a name.
    Numbers {
        /// The first.
        first: u32,
        /// The last.
        last: u32,
    },
}

/// A case in which the answers differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The first profile's answer.
    pub left: Action,
    /// The second's.
    pub right: Action,
    /// When: in any of these cases.
    pub cases: Vec<Case>,
    /// Arguments with which it happens.
    pub example: Point,
}

/// Arguments of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// All of these hold.
    pub when: Vec<Test>,
    /// And none of these conjunctions.
    pub unless: Vec<Vec<Test>>,
}

/// Compares two profiles on the architectures of a machine, or `only` on some of them.
pub fn diff(
    left: &Evaluator,
    right: &Evaluator,
    native: Arch,
    only: &[Arch],
) -> Result<Diff, AlgebraError> {
    let mut out = Diff::default();
    let family = native.family().iter().copied();
    for arch in family.filter(|arch| only.is_empty() || only.contains(arch)) {
        on(arch, left, right, &mut out.changes)?;
    }
    let (a, b) = (left.foreign(), right.foreign());
    out.foreign = (a != b && only.is_empty()).then_some((a, b));
    Ok(out)
}

fn on(
    arch: Arch,
    left: &Evaluator,
    right: &Evaluator,
    out: &mut Vec<Change>,
) -> Result<(), AlgebraError> {
    let names = table(arch);
    for (number, name) in names {
        let pair = [left, right].map(|side| side.decision(arch, *number));
        let differences = compare(&pair).map_err(|error| error.of(name))?;
        if !differences.is_empty() {
            let calls = Calls::Named {
                name: name.clone(),
                number: *number,
            };
            out.push(Change {
                arch,
                calls,
                differences,
            });
        }
    }
    // Between them lie numbers without a name, all of whose answers are constant, and change only
    // where one of the profiles takes what follows for newer than itself.
    for (first, last) in nameless(arch, names, &[left, right]) {
        let pair = [left, right].map(|side| side.decision(arch, first));
        let differences = compare(&pair).map_err(|error| error.of("a call without a name"))?;
        if !differences.is_empty() {
            let calls = Calls::Numbers { first, last };
            out.push(Change {
                arch,
                calls,
                differences,
            });
        }
    }
    Ok(())
}

/// The ranges of numbers that have no name, cut where an evaluator's answer may change.
pub(super) fn nameless(
    arch: Arch,
    names: &BTreeMap<u32, String>,
    sides: &[&Evaluator],
) -> Vec<(u32, u32)> {
    // x32's numbers lie above x86-64's.
    let (start, end) = match arch {
        Arch::X86_64 => (0, X32_BIT - 1),
        Arch::X32 => (X32_BIT, u32::MAX),
        _ => (0, u32::MAX),
    };
    let mut starts = BTreeSet::from([start]);
    let listed = sides.iter().flat_map(|side| side.listed(arch));
    let newest = sides.iter().filter_map(|side| side.newest(arch));
    for number in names.keys().copied().chain(listed).chain(newest) {
        starts.insert(number);
        starts.extend(number.checked_add(1));
    }
    let starts: Vec<u32> = starts
        .into_iter()
        .filter(|at| (start..=end).contains(at))
        .collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([end]);
    starts
        .iter()
        .copied()
        .zip(ends)
        .filter(|(first, _)| !names.contains_key(first))
        .collect()
}

/// `__X32_SYSCALL_BIT` (asm/unistd.h).
const X32_BIT: u32 = 0x4000_0000;

/// The cases in which two decisions differ.
fn compare(pair: &[Decision; 2]) -> Result<Vec<Difference>, TooComplex> {
    let [left, right] = pair;
    if left == right {
        return Ok(Vec::new());
    }
    let mut out: Vec<Difference> = Vec::new();
    for point in Cells::of(pair)?.points()? {
        let (a, b) = (left.answer(&point), right.answer(&point));
        if a == b {
            continue;
        }
        let rules = [left, right].map(|side| deciding(side, &point));
        let case = together(rules, pair);
        match out.iter_mut().find(|own| (own.left, own.right) == (a, b)) {
            Some(own) => {
                if !own.cases.contains(&case) {
                    own.cases.push(case);
                }
            }
            None => out.push(Difference {
                left: a,
                right: b,
                cases: vec![case],
                example: point,
            }),
        }
    }
    Ok(out)
}

/// The rule that answers, or none where that is what is left over.
fn deciding<'a>(decision: &'a Decision, point: &Point) -> Option<&'a Rule> {
    match decision {
        Decision::Always(_) => None,
        Decision::Depends { rules, .. } => rules.iter().find(|rule| rule.matches(point)),
    }
}

/// The conditions of the two rules that decide; where none does, no rule's conditions hold.
fn together(rules: [Option<&Rule>; 2], pair: &[Decision; 2]) -> Case {
    let mut when: Vec<Test> = Vec::new();
    for test in rules.iter().flatten().flat_map(|rule| &rule.tests) {
        match when.iter_mut().find(|own| own.index == test.index) {
            None => when.push(*test),
            Some(own) => match own.and(*test) {
                Both::One(one) => *own = one,
                // Two conditions on one argument then, which readers understand.
                Both::Inexpressible | Both::Never => when.push(*test),
            },
        }
    }
    when.sort_unstable();
    when.dedup();
    let mut unless: Vec<Vec<Test>> = Vec::new();
    for (rule, decision) in rules.iter().zip(pair) {
        if let (None, Decision::Depends { rules, .. }) = (rule, decision) {
            unless.extend(rules.iter().map(|rule| rule.tests.clone()));
        }
    }
    // What cannot hold together with `when` needs no exception.
    unless.retain(|tests| {
        let never = |test: &Test| {
            let own = when.iter().filter(|own| own.index == test.index);
            own.into_iter().any(|own| own.and(*test) == Both::Never)
        };
        !tests.iter().any(never)
    });
    unless.sort();
    unless.dedup();
    Case { when, unless }
}
