//! The meaning of a profile: for each architecture and number, what is answered and when.
//!
//! The rules, which `compile`, `evaluate` and `intersect` all follow:
//! - Of the rules that match a call, the strictest answer wins, in the kernel's own order for
//!   stacked filters; of equally strict ones the first in the profile. libseccomp lets an
//!   unconditional rule hide conditional ones and leaves other conflicts to its tree order, so
//!   where this differs from runc it is stricter.
//! - An unconditional rule that repeats the default says nothing (as in runc).
//! - A rule that names one argument twice is a rule per condition, one of which must hold (as in
//!   runc, because libseccomp cannot test an argument twice).
//! - Where nothing matches, the default answers; but where the default refuses and the number is
//!   above every call the profile lists and above Linux 5.0's, the author cannot have known the
//!   call, and the answer is ENOSYS, which makes libraries fall back (as in runc).
//! - A call of an architecture that is not listed gets ENOSYS, or the default if that kills.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::{LinuxSeccomp, LinuxSyscall};

use super::action::{Action, ENOSYS};
use super::arch::{Arch, X32_BIT};
use super::args::Test;
use super::numbers;

/// Conditions that must all hold, and the answer then. No conditions: always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Sorted; no argument twice.
    pub tests: Vec<Test>,
    /// The answer.
    pub action: Action,
}

impl Rule {
    /// What one entry says of each of its names.
    pub fn of_entry(entry: &LinuxSyscall) -> Vec<Self> {
        let action = Action::from_oci(entry.action(), entry.errno_ret());
        let args = entry.args().as_deref().unwrap_or_default();
        let mut tests: Vec<Test> = args.iter().map(Test::from_oci).collect();
        tests.sort_unstable();
        tests.dedup();
        let twice = tests
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a.index == b.index));
        if !twice {
            return vec![Self { tests, action }];
        }
        let single = |test| Self {
            tests: vec![test],
            action,
        };
        tests.into_iter().map(single).collect()
    }

    /// Whether it holds only where `other`, which answers the same, does.
    pub(crate) fn within(&self, other: &Self) -> bool {
        self.action == other.action
            && other.tests.iter().all(|wanted| {
                let own = self.tests.iter().find(|own| own.index == wanted.index);
                own.is_some_and(|own| own.implies(*wanted) == Some(true))
            })
    }

    /// Whether all conditions hold.
    pub fn matches(&self, args: &[u64; 6]) -> bool {
        self.tests.iter().all(|test| {
            args.get(usize::from(test.index))
                .is_some_and(|value| test.passes(*value))
        })
    }
}

/// What one call is answered, in normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Whatever the arguments.
    Always(Action),
    /// The first rule that matches answers, the strictest stand first; else `otherwise`.
    Depends {
        /// The conditional answers.
        rules: Vec<Rule>,
        /// The answer where no condition holds.
        otherwise: Action,
    },
}

impl Decision {
    /// The answer to a call with these arguments.
    pub fn answer(&self, args: &[u64; 6]) -> Action {
        match self {
            Self::Always(action) => *action,
            Self::Depends { rules, otherwise } => rules
                .iter()
                .find(|rule| rule.matches(args))
                .map_or(*otherwise, |rule| rule.action),
        }
    }

    /// The normal form of some rules under a default.
    pub fn of<'a>(rules: impl Iterator<Item = &'a Rule>, default: Action) -> Self {
        let mut always: Option<Action> = None;
        let mut conditional: Vec<Rule> = Vec::new();
        for rule in rules {
            if !rule.tests.is_empty() {
                if !conditional.contains(rule) {
                    conditional.push(rule.clone());
                }
            } else if rule.action != default
                && always.is_none_or(|other| rule.action.rank() < other.rank())
            {
                always = Some(rule.action);
            }
        }
        if let Some(action) = always {
            conditional.retain(|rule| rule.action.rank() < action.rank());
        }
        conditional.sort_by_key(|rule| rule.action.rank());
        let otherwise = always.unwrap_or(default);
        if conditional.is_empty() {
            Self::Always(otherwise)
        } else {
            Self::Depends {
                rules: conditional,
                otherwise,
            }
        }
    }
}

/// A profile's meaning on one architecture.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) decisions: BTreeMap<u32, Decision>,
    /// Numbers above this one get ENOSYS instead of the default.
    pub(crate) newest: Option<u32>,
}

/// A profile by names, which it borrows: intersecting is on the path of every start.
#[derive(Debug, Clone)]
pub(crate) struct Rules<'a> {
    pub(crate) default: Action,
    /// What each entry of the profile says.
    entries: Vec<Vec<Rule>>,
    /// Each name with the entries it stands in, sorted, in the profile's order within a name.
    names: Vec<Named<'a>>,
}

/// A name and an entry it stands in. Ordered by the name: its first bytes, kept apart, decide most
/// comparisons without a look at the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named<'a> {
    start: u64,
    name: &'a str,
    entry: usize,
}

impl<'a> Named<'a> {
    fn new(name: &'a str, entry: usize) -> Self {
        let mut start = [0; 8];
        for (to, from) in start.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        let start = u64::from_be_bytes(start);
        Self { start, name, entry }
    }

    fn same(&self, other: &Self) -> bool {
        self.start == other.start && self.name == other.name
    }
}

/// A name that a profile lists, with all the rules about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed<'r, 'a> {
    rules: &'r Rules<'a>,
    group: &'r [Named<'a>],
}

impl<'r, 'a> Listed<'r, 'a> {
    pub(crate) fn name(&self) -> &'a str {
        self.group.first().map_or("", |first| first.name)
    }

    /// The rules of the name, in the profile's order.
    fn rules(&self) -> impl Iterator<Item = &'r Rule> {
        let entries = &self.rules.entries;
        let of = |named: &Named| entries.get(named.entry);
        self.group.iter().filter_map(of).flatten()
    }

    /// The decision on the name alone, on an architecture where no other name has its number.
    pub(crate) fn decision(&self) -> Decision {
        Decision::of(self.rules(), self.rules.default)
    }
}

impl<'a> Rules<'a> {
    /// Reads a profile that [`super::validate`] accepted.
    pub(crate) fn new(profile: &'a LinuxSeccomp) -> Self {
        let syscalls = profile.syscalls().as_deref().unwrap_or_default();
        let mut names: Vec<Named> = syscalls
            .iter()
            .enumerate()
            .flat_map(|(at, entry)| entry.names().iter().map(move |name| Named::new(name, at)))
            .collect();
        // Stable, because that makes use of the sorted lists that most profiles consist of.
        names.sort();
        Self {
            default: Action::from_oci(profile.default_action(), profile.default_errno_ret()),
            entries: syscalls.iter().map(Rule::of_entry).collect(),
            names,
        }
    }

    /// Every name, once, sorted.
    pub(crate) fn listed(&self) -> impl Iterator<Item = Listed<'_, 'a>> {
        let groups = self.names.chunk_by(Named::same);
        groups.map(|group| Listed { rules: self, group })
    }

    /// A name, if it is listed.
    pub(crate) fn get(&self, name: &str) -> Option<Listed<'_, 'a>> {
        let wanted = Named::new(name, 0);
        let start = self.names.partition_point(|own| *own < wanted);
        let from = self.names.get(start..)?;
        let group = from.chunk_by(Named::same).next()?;
        let found = Listed { rules: self, group };
        (found.name() == name).then_some(found)
    }

    /// The decision on a name, listed or not.
    pub(crate) fn by_name(&self, name: &str) -> Decision {
        let listed = self.get(name).map(|listed| listed.decision());
        listed.unwrap_or(Decision::Always(self.default))
    }

    /// Whether calls newer than those listed get ENOSYS instead of the default.
    pub(crate) fn hides_newer(&self) -> bool {
        let refuses = self.default.denies() || self.default == Action::Notify;
        refuses && self.default != Action::Errno(ENOSYS)
    }
}

/// A profile with every name resolved.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) default: Action,
    pub(crate) tables: BTreeMap<Arch, Table>,
}

impl Model {
    /// Reads a profile that [`super::validate`] accepted.
    pub(crate) fn new(profile: &LinuxSeccomp) -> Self {
        Self::on(profile, Arch::NATIVE)
    }

    /// The same on a machine with another native architecture.
    pub(crate) fn on(profile: &LinuxSeccomp, native: Arch) -> Self {
        let rules = Rules::new(profile);
        let tables = architectures_on(profile, native)
            .into_iter()
            .map(|arch| (arch, table(arch, &rules)))
            .collect();
        Self {
            default: rules.default,
            tables,
        }
    }

    /// The answer to calls of architectures that the profile does not list.
    pub(crate) fn foreign(&self) -> Action {
        match self.default {
            Action::KillProcess | Action::KillThread => self.default,
            _ => Action::Errno(ENOSYS),
        }
    }

    /// The answer to one call; `audit` and `number` as in `struct seccomp_data`.
    pub(crate) fn answer(&self, audit: u32, number: u32, args: &[u64; 6]) -> Action {
        let x32 = audit == Arch::X32.audit() && number >= X32_BIT;
        let table = self
            .tables
            .iter()
            .find(|(arch, _)| arch.audit() == audit && (**arch == Arch::X32) == x32);
        let Some((_, table)) = table else {
            return self.foreign();
        };
        match table.decisions.get(&number) {
            Some(decision) => decision.answer(args),
            None => self.unlisted(table, number),
        }
    }

    /// The answer to a number that no rule names.
    fn unlisted(&self, table: &Table, number: u32) -> Action {
        if table.newest.is_some_and(|newest| number > newest) {
            Action::Errno(ENOSYS)
        } else {
            self.default
        }
    }

    /// What is answered to calls of a number of an architecture.
    pub(crate) fn decision(&self, arch: Arch, number: u32) -> Decision {
        let Some(table) = self.tables.get(&arch) else {
            return Decision::Always(self.foreign());
        };
        let listed = table.decisions.get(&number);
        listed.map_or_else(
            || Decision::Always(self.unlisted(table, number)),
            Decision::clone,
        )
    }
}

/// The architectures in force: those listed that this machine has, and always the native one.
pub(crate) fn architectures(profile: &LinuxSeccomp) -> BTreeSet<Arch> {
    architectures_on(profile, Arch::NATIVE)
}

/// The same on a machine with another native architecture.
fn architectures_on(profile: &LinuxSeccomp, native: Arch) -> BTreeSet<Arch> {
    let listed = profile.architectures().iter().flatten();
    listed
        .filter_map(|arch| Arch::from_oci_on(*arch, native))
        .chain([native])
        .collect()
}

/// What the rules say of one architecture's numbers.
fn table(arch: Arch, rules: &Rules) -> Table {
    let mut by_number: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for listed in rules.listed() {
        if let Some(number) = numbers::resolve(arch, listed.name()) {
            by_number.entry(number).or_default().extend(listed.rules());
        }
    }
    let listed = by_number.keys().next_back().copied().unwrap_or(0);
    Table {
        newest: rules.hides_newer().then_some(listed.max(arch.long_known())),
        decisions: by_number
            .into_iter()
            .map(|(number, of)| (number, Decision::of(of.into_iter(), rules.default)))
            .collect(),
    }
}
