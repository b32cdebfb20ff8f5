//! A profile at a glance: how many calls it allows, and which dangerous ones.

use std::collections::BTreeMap;

use cofferdam_profiles::seccomp::{Action, Arch, Decision, table};

use super::Profile;
use crate::knowledge::{self, Danger};

/// A profile at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Per architecture of the machine.
    pub counts: Vec<Count>,
    /// Of the native architecture, the dangerous calls that can run, by class: those that run
    /// whatever their arguments, and those that run with some.
    pub dangerous: BTreeMap<Danger, (Vec<String>, Vec<String>)>,
    /// The answer where no rule matches.
    pub default: Action,
}

/// How many calls of an architecture run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// The architecture.
    pub arch: Arch,
    /// The profile lists it.
    pub listed: bool,
    /// Whatever their arguments.
    pub allowed: usize,
    /// With some arguments.
    pub conditional: usize,
    /// Never.
    pub denied: usize,
}

/// Whether a call runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    Always,
    Sometimes,
    Never,
}

impl Runs {
    fn of(decision: &Decision) -> Self {
        let (rules, otherwise) = match decision {
            Decision::Always(action) => (&[][..], *action),
            Decision::Depends { rules, otherwise } => (rules.as_slice(), *otherwise),
        };
        let all = || rules.iter().map(|rule| rule.action).chain([otherwise]);
        if all().all(Action::allows) {
            Self::Always
        } else if all().any(Action::allows) {
            Self::Sometimes
        } else {
            Self::Never
        }
    }
}

/// Counts what a profile allows, over every call that is known.
pub fn summary(profile: &Profile) -> Summary {
    let mut out = Summary {
        counts: Vec::new(),
        dangerous: BTreeMap::new(),
        default: profile.evaluator.default_answer(),
    };
    for arch in profile.target.arch.family() {
        let mut count = Count {
            arch: *arch,
            listed: profile.evaluator.architectures().any(|own| own == *arch),
            allowed: 0,
            conditional: 0,
            denied: 0,
        };
        for (number, name) in table(*arch) {
            let runs = Runs::of(&profile.evaluator.decision(*arch, *number));
            *match runs {
                Runs::Always => &mut count.allowed,
                Runs::Sometimes => &mut count.conditional,
                Runs::Never => &mut count.denied,
            } += 1;
            if *arch == profile.target.arch
                && runs != Runs::Never
                && let Some(danger) = knowledge::of(name).danger
            {
                let (always, sometimes) = out.dangerous.entry(danger).or_default();
                let list = if runs == Runs::Always {
                    always
                } else {
                    sometimes
                };
                list.push(name.clone());
            }
        }
        out.counts.push(count);
    }
    out
}
