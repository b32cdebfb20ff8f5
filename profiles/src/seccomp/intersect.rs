//! What two profiles both allow, as one profile where that can be said.
//!
//! Two filters on one process cost twice at every call that is not allowed outright, so one is
//! made of the engine's profile and the policy's wherever the result is exact: a call is allowed
//! (or logged, traced, notified) exactly if both do so, and denied by the stricter kind of denial.
//! Where both deny with an errno, a rule's errno goes before a default's, ENOSYS before others, and
//! the engine's before ours. Where no single profile says the same, both are kept, to be attached
//! one upon the other; the kernel then takes the stricter answer itself.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag, LinuxSyscall};

use super::action::{Action, ENOSYS};
use super::arch::Arch;
use super::args::{Both, Test};
use super::model::{self, Decision, Listed, Rule, Rules};
use super::numbers;
use super::validate::{self, InvalidProfile};

/// Conditional rules of one call beyond which two filters are cheaper than one.
const MAX_RULES: usize = 128;
/// Rules of one call among which redundant ones are looked for: each is compared with each.
const MAX_COMPARED: usize = 8 * MAX_RULES;

/// What two profiles both allow.
#[derive(Debug, Clone, PartialEq)]
pub enum Intersection {
    /// One profile says it all.
    Single(LinuxSeccomp),
    /// Both must be attached: `lower` first, then `upper`.
    Stacked {
        /// The engine's.
        upper: LinuxSeccomp,
        /// Ours.
        lower: LinuxSeccomp,
    },
}

/// What the engine's profile and ours both allow.
pub fn intersect(
    engine: &LinuxSeccomp,
    ours: &LinuxSeccomp,
) -> Result<Intersection, InvalidProfile> {
    validate::check(engine)?;
    validate::check(ours)?;
    let arches = &model::architectures(engine) & &model::architectures(ours);
    let single = Meet {
        engine: Side::new(engine),
        ours: Side::new(ours),
    }
    .profile(arches);
    Ok(match single {
        Some(mut profile) => {
            settings(&mut profile, engine, ours);
            Intersection::Single(profile)
        }
        None => Intersection::Stacked {
            upper: engine.clone(),
            lower: ours.clone(),
        },
    })
}

/// Flags and listener: only the engine's profile can bring a listener.
fn settings(profile: &mut LinuxSeccomp, engine: &LinuxSeccomp, ours: &LinuxSeccomp) {
    use LinuxSeccompFilterFlag::{
        SeccompFilterFlagLog, SeccompFilterFlagSpecAllow, SeccompFilterFlagWaitKillableRecv,
    };
    let has = |from: &LinuxSeccomp, flag| from.flags().iter().flatten().any(|own| *own == flag);
    let mut flags = Vec::new();
    if has(engine, SeccompFilterFlagLog) || has(ours, SeccompFilterFlagLog) {
        flags.push(SeccompFilterFlagLog);
    }
    if has(engine, SeccompFilterFlagSpecAllow) && has(ours, SeccompFilterFlagSpecAllow) {
        flags.push(SeccompFilterFlagSpecAllow);
    }
    if has(engine, SeccompFilterFlagWaitKillableRecv) {
        flags.push(SeccompFilterFlagWaitKillableRecv);
    }
    profile.set_flags((!flags.is_empty()).then_some(flags));
    let listener = |from: &LinuxSeccomp| {
        (
            from.listener_path().clone(),
            from.listener_metadata().clone(),
        )
    };
    let (path, metadata) = if engine.listener_path().is_some() {
        listener(engine)
    } else {
        listener(ours)
    };
    profile.set_listener_path(path);
    profile.set_listener_metadata(metadata);
}

struct Meet<'a> {
    engine: Side<'a>,
    ours: Side<'a>,
}

/// One of the two profiles.
struct Side<'a> {
    rules: Rules<'a>,
    /// Calls that came after this one are newer than the profile.
    newest: Option<u32>,
}

impl<'a> Side<'a> {
    fn new(profile: &'a LinuxSeccomp) -> Self {
        let rules = Rules::new(profile);
        let newest = numbers::newest_joined(|name| rules.get(name).is_some());
        Self { rules, newest }
    }

    /// The decision on a name, be it listed or not.
    fn decision(&self, name: &str, listed: Option<Listed>) -> Decision {
        match listed {
            Some(listed) => listed.decision(),
            None if self.rules.hides_newer() && numbers::joined(name) > self.newest => {
                Decision::Always(Action::Errno(ENOSYS))
            }
            None => Decision::Always(self.rules.default),
        }
    }
}

/// A name that at least one side lists, and what each has of it.
struct Named<'r, 'a> {
    name: &'a str,
    engine: Option<Listed<'r, 'a>>,
    ours: Option<Listed<'r, 'a>>,
}

/// One side's view of a call.
#[derive(Clone, Copy)]
struct Answer {
    action: Action,
    /// A rule says so, not the default.
    explicit: bool,
}

impl Meet<'_> {
    /// One profile, or `None` if there is no exact one.
    fn profile(&self, arches: BTreeSet<Arch>) -> Option<LinuxSeccomp> {
        let names = self.names();
        if self.names_share_a_number_and_differ(&arches, &names) {
            return None;
        }
        let unlisted = |side: &Side| Answer {
            action: side.rules.default,
            explicit: false,
        };
        let default = combine(unlisted(&self.engine), unlisted(&self.ours));
        let mut always: BTreeMap<(u8, u32), (Action, Vec<&str>)> = BTreeMap::new();
        let mut conditional = Vec::new();
        for named in names {
            let name = named.name;
            // What repeats the default is written too: it tells that the name was known.
            let mut unconditional = |action: Action| {
                let key = (action.rank(), action.ret());
                always
                    .entry(key)
                    .or_insert((action, Vec::new()))
                    .1
                    .push(name);
            };
            match self.decision(&named)? {
                Decision::Always(action) => unconditional(action),
                Decision::Depends { rules, otherwise } => {
                    if otherwise.rank() != default.rank() {
                        if rules
                            .iter()
                            .any(|rule| rule.action.rank() >= otherwise.rank())
                        {
                            return None;
                        }
                        unconditional(otherwise);
                    }
                    conditional.extend(rules.into_iter().map(|rule| (name, rule)));
                }
            }
        }
        let always = always.into_values().map(|(action, names)| {
            let names = names.into_iter().map(str::to_owned).collect();
            syscall(names, action, &[])
        });
        let conditional = conditional
            .into_iter()
            .map(|(name, rule)| syscall(vec![name.to_owned()], rule.action, &rule.tests));
        let mut profile = LinuxSeccomp::default();
        let (action, errno) = default.to_oci();
        profile.set_default_action(action);
        profile.set_default_errno_ret(errno);
        profile.set_architectures(Some(arches.into_iter().map(Arch::to_oci).collect()));
        profile.set_syscalls(Some(always.chain(conditional).collect()));
        Some(profile)
    }

    /// Every name of both sides, once, sorted.
    fn names(&self) -> Vec<Named<'_, '_>> {
        let (mut engine, mut ours) = (
            self.engine.rules.listed().peekable(),
            self.ours.rules.listed().peekable(),
        );
        let mut out = Vec::with_capacity(512);
        loop {
            let names = (
                engine.peek().map(Listed::name),
                ours.peek().map(Listed::name),
            );
            let (name, order) = match names {
                (None, None) => return out,
                (Some(name), None) => (name, Ordering::Less),
                (None, Some(name)) => (name, Ordering::Greater),
                (Some(a), Some(b)) => (a.min(b), a.cmp(b)),
            };
            out.push(Named {
                name,
                engine: engine.next_if(|_| order != Ordering::Greater),
                ours: ours.next_if(|_| order != Ordering::Less),
            });
        }
    }

    /// Two names of one number (only 32-bit ARM has such) must say the same on each side.
    fn names_share_a_number_and_differ(&self, arches: &BTreeSet<Arch>, names: &[Named]) -> bool {
        arches
            .iter()
            .filter(|arch| **arch == Arch::Arm)
            .any(|arch| {
                let mut first: BTreeMap<u32, &str> = BTreeMap::new();
                names.iter().any(|Named { name, .. }| {
                    let Some(number) = numbers::resolve(*arch, name) else {
                        return false;
                    };
                    let other = first.entry(number).or_insert(name);
                    [&self.engine, &self.ours]
                        .into_iter()
                        .any(|side| side.rules.by_name(other) != side.rules.by_name(name))
                })
            })
    }

    fn decision(&self, named: &Named) -> Option<Decision> {
        let engine = self.engine.decision(named.name, named.engine);
        let ours = self.ours.decision(named.name, named.ours);
        let by_engine = |action| Answer {
            action,
            explicit: named.engine.is_some(),
        };
        let by_ours = |action| Answer {
            action,
            explicit: named.ours.is_some(),
        };
        match (engine, ours) {
            (Decision::Always(a), Decision::Always(b)) => {
                Some(Decision::Always(combine(by_engine(a), by_ours(b))))
            }
            (Decision::Always(a), b) => with_constant(a, b),
            (a, Decision::Always(b)) => with_constant(b, a),
            (
                Decision::Depends {
                    rules: a,
                    otherwise: x,
                },
                Decision::Depends {
                    rules: b,
                    otherwise: y,
                },
            ) => {
                if a == b && x.rank() == y.rank() {
                    return Some(Decision::Depends {
                        rules: a,
                        otherwise: x,
                    });
                }
                let otherwise = combine(by_engine(x), by_ours(y));
                product(&a, x, &b, y).map(|rules| Decision::Depends { rules, otherwise })
            }
        }
    }
}

/// The stricter of two answers; of two errnos the more telling one.
fn combine(engine: Answer, ours: Answer) -> Action {
    let (a, b) = (engine.action, ours.action);
    if a.rank() != b.rank() {
        return if a.rank() < b.rank() { a } else { b };
    }
    let ours_tells_more = if engine.explicit == ours.explicit {
        b == Action::Errno(ENOSYS)
    } else {
        ours.explicit
    };
    if ours_tells_more { b } else { a }
}

/// A constant answer together with one that depends on arguments.
fn with_constant(constant: Action, other: Decision) -> Option<Decision> {
    let Decision::Depends { rules, otherwise } = &other else {
        return Some(other);
    };
    if constant == Action::Allow {
        return Some(other);
    }
    let strictest = rules
        .iter()
        .map(|rule| rule.action.rank())
        .chain([otherwise.rank()])
        .min();
    (strictest >= Some(constant.rank())).then_some(Decision::Always(constant))
}

/// The conditional rules of two decisions at once; `None` if no list of rules says it.
fn product(a: &[Rule], x: Action, b: &[Rule], y: Action) -> Option<Vec<Rule>> {
    let plain = |action: Action| action == Action::Allow || action.denies();
    let denials = || a.iter().chain(b).filter(|rule| rule.action.denies());
    // A denial by rule must be at least as strict as what either side falls back to, or the
    // fall-back of one side would have to overrule the other's rule.
    let fall_backs = || [x, y].into_iter().filter(|action| action.denies());
    let strict = denials().all(|rule| fall_backs().all(|other| rule.action.rank() <= other.rank()));
    let same = !x.denies() || !y.denies() || x.rank() == y.rank();
    let all_plain = a
        .iter()
        .chain(b)
        .map(|rule| rule.action)
        .chain([x, y])
        .all(plain);
    if !all_plain || !strict || !same {
        return None;
    }
    let mut out: Vec<Rule> = denials().cloned().collect();
    let allowing = |rules: &'_ [Rule]| -> Vec<Rule> {
        rules
            .iter()
            .filter(|rule| rule.action == Action::Allow)
            .cloned()
            .collect()
    };
    let (a, b) = (allowing(a), allowing(b));
    out.extend(match (x.denies(), y.denies()) {
        (true, true) => pairs(&a, &b)?,
        (true, false) => a,
        (false, true) => b,
        (false, false) => Vec::new(),
    });
    if out.len() > MAX_COMPARED {
        return None;
    }
    let out = without_redundant(out);
    (out.len() <= MAX_RULES).then_some(out)
}

/// Every rule of `a` with every rule of `b`.
fn pairs(a: &[Rule], b: &[Rule]) -> Option<Vec<Rule>> {
    if a.len().saturating_mul(b.len()) > MAX_RULES * MAX_RULES {
        return None;
    }
    let mut out = Vec::new();
    for left in a {
        for right in b {
            if let Some(rule) = both(left, right)? {
                out.push(rule);
            }
        }
    }
    Some(out)
}

/// A rule that holds where both do: `Some(None)` if nowhere, `None` if there is none.
fn both(left: &Rule, right: &Rule) -> Option<Option<Rule>> {
    let mut tests = left.tests.clone();
    for test in &right.tests {
        match tests.iter_mut().find(|own| own.index == test.index) {
            None => tests.push(*test),
            Some(own) => match own.and(*test) {
                Both::Never => return Some(None),
                Both::One(one) => *own = one,
                Both::Inexpressible => return None,
            },
        }
    }
    tests.sort_unstable();
    Some(Some(Rule {
        tests,
        action: left.action,
    }))
}

/// Drops rules that hold only where another with the same answer does.
fn without_redundant(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        if out.iter().any(|other| rule.within(other)) {
            continue;
        }
        out.retain(|other| !other.within(&rule));
        out.push(rule);
    }
    out
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
