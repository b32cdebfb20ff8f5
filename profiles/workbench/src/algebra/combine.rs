//! Two profiles into one: at each call the looser answer, or the stricter.
//!
//! A profile says the same of a name on every architecture it lists, so not every union of two
//! profiles is one: where only one of them lists an architecture, the union would have to allow
//! the other's calls everywhere but there. What the result answers otherwise than it should is
//! worked out by comparing it with what was wanted, and told.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_profiles::seccomp::{
    Action, Arch, Decision, Evaluator, InvalidProfile, Rule, Test, resolve, table,
};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag, LinuxSyscall};

use super::cells::Cells;
use super::diff::nameless;
use super::fit::fit;
use super::order::{looser, stricter, strictness};
use super::{AlgebraError, Calls, TooComplex};

/// How two profiles become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// What either allows: the least profile that is at least as loose as both.
    Merge,
    /// What both allow: the loosest profile that is at least as strict as both.
    Intersect,
}

impl Operation {
    /// The answer where the two profiles answer `a` and `b`.
    pub fn of(self, a: Action, b: Action) -> Action {
        match self {
            Self::Merge => looser(a, b),
            Self::Intersect => stricter(a, b),
        }
    }
}

/// Two profiles as one.
#[derive(Debug, Clone, PartialEq)]
pub struct Combined {
    /// The profile.
    pub profile: LinuxSeccomp,
    /// Where it does not answer what it should. Empty: it is exact.
    pub approximations: Vec<Approximation>,
}

/// A call that the result answers otherwise than it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approximation {
    /// The architecture.
    pub arch: Arch,
    /// The call.
    pub calls: Calls,
    /// What it should be answered, with some arguments.
    pub wanted: Action,
    /// What it is answered with them.
    pub got: Action,
}

impl Approximation {
    /// Whether it matters to more than the errno or the signal of a refusal.
    pub fn is_serious(&self) -> bool {
        !(self.wanted.denies() && self.got.denies())
    }
}

/// How often what the first attempt missed is added to it.
const ROUNDS: usize = 4;

/// Combines two profiles as seen on a machine; `only`: on these architectures, whatever they list.
pub fn combine(
    operation: Operation,
    left: &LinuxSeccomp,
    right: &LinuxSeccomp,
    native: Arch,
    only: &[Arch],
) -> Result<Combined, AlgebraError> {
    let evaluator = |which, profile: &LinuxSeccomp| {
        let invalid = |source: InvalidProfile| AlgebraError::Invalid { which, source };
        Evaluator::on(profile, native).map_err(invalid)
    };
    let sides = [evaluator("first", left)?, evaluator("second", right)?];
    let plan = Plan::new(operation, [left, right], &sides, native, only);
    let mut rules = plan.named()?;
    let mut profile = plan.profile(&rules)?;
    let mut approximations = Vec::new();
    for _ in 0..ROUNDS {
        let result = evaluator("resulting", &profile)?;
        let (found, missed) = plan.check(&result)?;
        approximations = found;
        let missed: Vec<String> = missed
            .into_iter()
            .filter(|name| !rules.contains_key(name))
            .collect();
        if missed.is_empty() {
            break;
        }
        for name in missed {
            let own = plan.rules(&name)?;
            rules.insert(name, own);
        }
        profile = plan.profile(&rules)?;
    }
    Ok(Combined {
        profile,
        approximations,
    })
}

/// What is wanted.
struct Plan<'a> {
    operation: Operation,
    profiles: [&'a LinuxSeccomp; 2],
    sides: &'a [Evaluator; 2],
    default: Action,
    /// The architectures of the result, those that both sides list first.
    arches: Vec<Arch>,
    /// The architectures on which the result matters.
    judged: Vec<Arch>,
}

impl<'a> Plan<'a> {
    fn new(
        operation: Operation,
        profiles: [&'a LinuxSeccomp; 2],
        sides: &'a [Evaluator; 2],
        native: Arch,
        only: &[Arch],
    ) -> Self {
        let listed = sides
            .each_ref()
            .map(|side| side.architectures().collect::<BTreeSet<_>>());
        let [left, right] = &listed;
        let both = left & right;
        let mut arches: Vec<Arch> = both.iter().copied().collect();
        if operation == Operation::Merge {
            arches.extend(left ^ right);
        }
        let wanted = |arch: &Arch| only.is_empty() || only.contains(arch);
        arches.retain(|arch| wanted(arch) || *arch == native);
        let judged = native.family().iter().copied().filter(wanted).collect();
        let [a, b] = sides.each_ref().map(Evaluator::default_answer);
        Self {
            operation,
            profiles,
            sides,
            default: operation.of(a, b),
            arches,
            judged,
        }
    }

    /// The rules of every name that either profile has.
    fn named(&self) -> Result<BTreeMap<String, Vec<Rule>>, AlgebraError> {
        let rules = self
            .profiles
            .iter()
            .flat_map(|profile| profile.syscalls().iter().flatten());
        let names: BTreeSet<&String> = rules.flat_map(|rule| rule.names()).collect();
        names
            .into_iter()
            .map(|name| Ok((name.clone(), self.rules(name)?)))
            .collect()
    }

    /// The two decisions on a name.
    fn decisions(&self, name: &str) -> [Decision; 2] {
        for arch in &self.arches {
            if let Some(number) = resolve(*arch, name) {
                return self
                    .sides
                    .each_ref()
                    .map(|side| side.decision(*arch, number));
            }
        }
        // No call of these architectures, but perhaps of another one's.
        self.profiles.map(|profile| {
            let default = Action::from_oci(profile.default_action(), profile.default_errno_ret());
            let entries = profile.syscalls().iter().flatten();
            let own = entries.filter(|entry| entry.names().iter().any(|own| own == name));
            let rules: Vec<Rule> = own.flat_map(Rule::of_entry).collect();
            Decision::of(rules.iter(), default)
        })
    }

    /// Rules for a name: exact ones, or such that refuse the same calls with another errno, or the
    /// answer that errs to the side the operation may err to.
    fn rules(&self, name: &str) -> Result<Vec<Rule>, AlgebraError> {
        let pair = self.decisions(name);
        let all = |pair: &[Decision; 2]| -> Result<_, TooComplex> {
            let points = Cells::of(pair)?.points()?;
            let [left, right] = pair;
            let wanted = |point| self.operation.of(left.answer(point), right.answer(point));
            let wanted: Vec<Action> = points.iter().map(wanted).collect();
            Ok((points, wanted))
        };
        let (points, wanted) = all(&pair).map_err(|error| error.of(name))?;
        let [left, right] = &pair;
        let exact = fit(&points, &wanted, &[left, right], self.default);
        // Rules cannot say two errnos and an exception to the second; the default's errno will do.
        let worded = |action: &Action| {
            if action.denies() && action.rank() == self.default.rank() {
                self.default
            } else {
                *action
            }
        };
        let alike = || {
            let wanted: Vec<Action> = wanted.iter().map(worded).collect();
            fit(&points, &wanted, &[left, right], self.default)
        };
        let bound = || {
            let bound = match self.operation {
                Operation::Merge => wanted.iter().copied().reduce(looser),
                Operation::Intersect => wanted.iter().copied().reduce(stricter),
            };
            vec![Rule {
                tests: Vec::new(),
                action: bound.unwrap_or(self.default),
            }]
        };
        Ok(exact.or_else(alike).unwrap_or_else(bound))
    }

    /// The rules as a profile: names that share a rule share an entry.
    fn profile(&self, rules: &BTreeMap<String, Vec<Rule>>) -> Result<LinuxSeccomp, AlgebraError> {
        // Of equally strict rules the first in a profile answers, so a call's rules stay in order.
        type Key = (bool, usize, (u8, u32), Vec<Test>);
        let mut entries: BTreeMap<Key, (Action, Vec<String>)> = BTreeMap::new();
        // A name with the default's answer still counts as known to the profile.
        let usual = Rule {
            tests: Vec::new(),
            action: self.default,
        };
        for (name, own) in rules {
            let own = if own.is_empty() {
                std::slice::from_ref(&usual)
            } else {
                own
            };
            for (at, rule) in own.iter().enumerate() {
                let conditional = !rule.tests.is_empty();
                let key = (
                    conditional,
                    if conditional { at } else { 0 },
                    strictness(rule.action),
                    rule.tests.clone(),
                );
                let entry = entries.entry(key).or_insert((rule.action, Vec::new()));
                entry.1.push(name.clone());
            }
        }
        let mut list: Vec<LinuxSyscall> = Vec::new();
        for ((.., tests), (action, names)) in entries {
            list.push(syscall(names, action, &tests));
        }
        let mut profile = LinuxSeccomp::default();
        let (action, errno) = self.default.to_oci();
        profile.set_default_action(action);
        profile.set_default_errno_ret(errno);
        profile.set_architectures(Some(self.arches.iter().map(|arch| arch.to_oci()).collect()));
        profile.set_syscalls(Some(list));
        self.settings(&mut profile)?;
        Ok(profile)
    }

    /// Flags and listener. Logging is added, speculation is allowed only where both allow it.
    fn settings(&self, profile: &mut LinuxSeccomp) -> Result<(), AlgebraError> {
        use LinuxSeccompFilterFlag as Flag;
        let has = |from: &LinuxSeccomp, flag| from.flags().iter().flatten().any(|own| *own == flag);
        let [left, right] = self.profiles;
        let mut flags = Vec::new();
        for flag in [
            Flag::SeccompFilterFlagTsync,
            Flag::SeccompFilterFlagLog,
            Flag::SeccompFilterFlagWaitKillableRecv,
        ] {
            if has(left, flag) || has(right, flag) {
                flags.push(flag);
            }
        }
        let speculate = Flag::SeccompFilterFlagSpecAllow;
        if has(left, speculate) && has(right, speculate) {
            flags.push(speculate);
        }
        profile.set_flags((!flags.is_empty()).then_some(flags));
        let path = |from: &LinuxSeccomp| from.listener_path().clone();
        if let (Some(a), Some(b)) = (path(left), path(right))
            && a != b
        {
            return Err(AlgebraError::Listeners {
                left: a.display().to_string(),
                right: b.display().to_string(),
            });
        }
        let from = if path(left).is_some() { left } else { right };
        profile.set_listener_path(path(from));
        profile.set_listener_metadata(from.listener_metadata().clone());
        Ok(())
    }

    /// Where a result is not what is wanted, and the names to list for it to be.
    fn check(
        &self,
        result: &Evaluator,
    ) -> Result<(Vec<Approximation>, BTreeSet<String>), AlgebraError> {
        let mut found = Vec::new();
        let mut missed = BTreeSet::new();
        for arch in &self.judged {
            let names = table(*arch);
            for (number, name) in names {
                let wrong = self.wrong(*arch, *number, result);
                if let Some((wanted, got)) = wrong.map_err(|error| error.of(name))? {
                    missed.insert(name.clone());
                    found.push(Approximation {
                        arch: *arch,
                        calls: Calls::Named {
                            name: name.clone(),
                            number: *number,
                        },
                        wanted,
                        got,
                    });
                }
            }
            let [left, right] = self.sides;
            for (first, last) in nameless(*arch, names, &[left, right, result]) {
                let wrong = self.wrong(*arch, first, result);
                let wrong = wrong.map_err(|error| error.of("a call without a name"))?;
                if let Some((wanted, got)) = wrong {
                    let calls = Calls::Numbers { first, last };
                    found.push(Approximation {
                        arch: *arch,
                        calls,
                        wanted,
                        got,
                    });
                }
            }
        }
        Ok((found, missed))
    }

    /// What a call should be answered and what it is, where these differ first.
    fn wrong(
        &self,
        arch: Arch,
        number: u32,
        result: &Evaluator,
    ) -> Result<Option<(Action, Action)>, TooComplex> {
        let [left, right] = self
            .sides
            .each_ref()
            .map(|side| side.decision(arch, number));
        let result = result.decision(arch, number);
        if let (Decision::Always(a), Decision::Always(b), Decision::Always(got)) =
            (&left, &right, &result)
        {
            let wanted = self.operation.of(*a, *b);
            return Ok((wanted != *got).then_some((wanted, *got)));
        }
        let points = Cells::of([&left, &right, &result])?.points()?;
        Ok(points.iter().find_map(|point| {
            let wanted = self.operation.of(left.answer(point), right.answer(point));
            let got = result.answer(point);
            (wanted != got).then_some((wanted, got))
        }))
    }
}

fn syscall(names: Vec<String>, action: Action, tests: &[Test]) -> LinuxSyscall {
    let (action, errno) = action.to_oci();
    let args: Vec<_> = tests.iter().map(|test| test.to_oci()).collect();
    let mut out = LinuxSyscall::default();
    out.set_names(names);
    out.set_action(action);
    out.set_errno_ret(errno);
    out.set_args((!args.is_empty()).then_some(args));
    out
}
