//! What a profile means for one container, asked by name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cofferdam_profiles::seccomp::{
    Action, Arch, Decision, Evaluator, InvalidProfile, Test, resolve,
};
use oci_spec::runtime::{Arch as OciArch, LinuxSeccompAction};

use super::draft::Draft;
use crate::dialect::{Condition, Entry, Place, Target};

/// Combinations of arguments that are tried to learn what a conditional rule lets through; fewer if there
/// are many rules to hold against each.
const MAX_COMBINATIONS: usize = 4096;
const MAX_TRIALS: usize = 1 << 20;

/// A draft as it applies to one container.
pub(super) struct Subject<'d> {
    pub(super) draft: &'d Draft,
    pub(super) target: Target,
    /// `None` where the profile as a whole means nothing, such as one that asks a listener by default.
    evaluator: Option<Evaluator>,
    /// Why not, if it is that there is more than any filter holds.
    pub(super) too_large: Option<InvalidProfile>,
    /// The rules that count for the container, by the calls they name.
    by_name: BTreeMap<&'d str, Vec<usize>>,
}

/// How much of a call a profile lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Never,
    Sometimes,
    Always,
}

/// Whether a runtime could make a filter of a rule.
pub(super) fn is_sound(entry: &Entry) -> bool {
    let errno = match (entry.errno, entry.action) {
        (None, _) => true,
        (Some(errno), LinuxSeccompAction::ScmpActErrno) => errno <= 4095,
        (Some(errno), LinuxSeccompAction::ScmpActTrace) => errno <= 65535,
        _ => false,
    };
    let notify = entry.action == LinuxSeccompAction::ScmpActNotify;
    errno
        && !entry.names.is_empty()
        && entry.names.iter().all(|name| !name.is_empty())
        && entry.args.iter().all(|arg| arg.index() <= 5)
        && !(notify && entry.names.iter().any(|name| name == "write"))
}

/// The answer of a rule.
pub(super) fn action(entry: &Entry) -> Action {
    Action::from_oci(entry.action, entry.errno)
}

impl<'d> Subject<'d> {
    pub(super) fn new(draft: &'d Draft, target: &Target) -> Self {
        let target = Target {
            arch: native(draft, target.arch),
            ..*target
        };
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, entry) in draft.document.profile.syscalls.iter().enumerate() {
            if entry.is_for(&target) && is_sound(entry) {
                let names: BTreeSet<&str> = entry.names.iter().map(String::as_str).collect();
                for name in names {
                    by_name.entry(name).or_default().push(at);
                }
            }
        }
        let (evaluator, wrong) = match meaning(draft, &target) {
            Ok(evaluator) => (Some(evaluator), None),
            Err(wrong) => (None, wrong),
        };
        Self {
            draft,
            target,
            evaluator,
            too_large: wrong.filter(|wrong| matches!(wrong, InvalidProfile::TooLarge { .. })),
            by_name,
        }
    }

    /// Whether the profile means anything.
    pub(super) fn is_meaningful(&self) -> bool {
        self.evaluator.is_some()
    }

    pub(super) fn default(&self) -> Action {
        let profile = &self.draft.document.profile;
        Action::from_oci(profile.default_action, profile.default_errno)
    }

    /// The rules for this container that name a call.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = (usize, &'d Entry)> {
        let rules = &self.draft.document.profile.syscalls;
        let at = self.by_name.get(name).into_iter().flatten();
        at.filter_map(|at| Some((*at, rules.get(*at)?)))
    }

    /// What is answered to a call of the container's own architecture; `None` if there is no such.
    pub(super) fn decision(&self, name: &str) -> Option<Decision> {
        self.decision_on(self.target.arch, name)
    }

    pub(super) fn decision_on(&self, arch: Arch, name: &str) -> Option<Decision> {
        let number = resolve(arch, name)?;
        Some(self.evaluator.as_ref()?.decision(arch, number))
    }

    /// Whether the profile judges calls of an architecture.
    pub(super) fn judges(&self, arch: Arch) -> bool {
        let judged = self.evaluator.as_ref();
        judged.is_some_and(|evaluator| evaluator.architectures().any(|own| own == arch))
    }

    /// How much of a call gets through, with some arguments given.
    pub(super) fn reach(&self, name: &str, given: &[(u8, u64)]) -> Reach {
        self.reach_on(self.target.arch, name, given)
    }

    pub(super) fn reach_on(&self, arch: Arch, name: &str, given: &[(u8, u64)]) -> Reach {
        self.decision_on(arch, name)
            .map_or(Reach::Never, |decision| reach(&decision, given))
    }

    /// Where it is said that a call gets through: a rule that lets it, or the default.
    pub(super) fn allowed_at(&self, name: &str) -> (Place, String) {
        self.said_at(name, |action| action.allows())
    }

    /// Where it is said that a call gets such an answer.
    pub(super) fn said_at(&self, name: &str, is: impl Fn(Action) -> bool) -> (Place, String) {
        let found = self.named(name).find(|(_, entry)| is(action(entry)));
        found
            .and_then(|(at, entry)| {
                let index = entry.names.iter().position(|own| own == name)?;
                let place = self.draft.places.get(at)?.names.get(index)?;
                Some((*place, name_pointer(entry, index)))
            })
            .unwrap_or_else(|| (self.draft.default_at, self.draft.pointer("defaultAction")))
    }
}

/// The pointer to a name of a rule.
pub(super) fn name_pointer(entry: &Entry, index: usize) -> String {
    if entry.singular {
        format!("{}/name", entry.pointer)
    } else {
        format!("{}/names/{index}", entry.pointer)
    }
}

/// The container's architecture: the wanted one, unless the profile is for others only.
fn native(draft: &Draft, wanted: Arch) -> Arch {
    let lists = |arch: OciArch| draft.architectures.iter().any(|(_, own)| *own == arch);
    let mains = [
        (OciArch::ScmpArchX86_64, Arch::X86_64),
        (OciArch::ScmpArchAarch64, Arch::Aarch64),
        (OciArch::ScmpArchRiscv64, Arch::Riscv64),
    ];
    if lists(wanted.to_oci()) || lists(OciArch::ScmpArchNative) {
        return wanted;
    }
    let other = mains.iter().find(|(oci, _)| lists(*oci));
    other.map_or(wanted, |(_, arch)| *arch)
}

/// The meaning of the part of a profile that has one.
pub(super) fn evaluator(draft: &Draft, target: &Target) -> Option<Evaluator> {
    meaning(draft, target).ok()
}

/// The same; an error says what is wrong if it is the profile and not its dialect.
fn meaning(draft: &Draft, target: &Target) -> Result<Evaluator, Option<InvalidProfile>> {
    let mut document = draft.document.clone();
    document.profile.base = None;
    document.profile.syscalls.retain(is_sound);
    drop_repetitions(&mut document.profile.syscalls);
    let mut profile = document.oci(target).map_err(|_| None)?;
    // Rules that ask a listener mean the same with any; that there is none is a rule of its own.
    profile.set_listener_path(Some(PathBuf::from("/listener")));
    if !matches!(
        profile.default_action(),
        LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace
    ) {
        profile.set_default_errno_ret(None);
    }
    Evaluator::on(&profile, target.arch).map_err(Some)
}

/// Drops the calls of a rule that an earlier one speaks of in the very same words. That changes nothing but the
/// size, of which the evaluator takes only so much.
fn drop_repetitions(rules: &mut Vec<Entry>) {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut seen: BTreeSet<(usize, String)> = BTreeSet::new();
    for rule in rules.iter_mut() {
        let Entry {
            action,
            errno,
            args,
            includes,
            excludes,
            ..
        } = rule;
        let next = kinds.len();
        let words = format!("{action:?} {errno:?} {args:?} {includes:?} {excludes:?}");
        let kind = *kinds.entry(words).or_insert(next);
        rule.names.retain(|name| seen.insert((kind, name.clone())));
    }
    rules.retain(|rule| !rule.names.is_empty());
}

/// Whether two rules can count for one container.
pub(super) fn can_meet(a: &Entry, b: &Entry) -> bool {
    let apart = |one: &Entry, other: &Entry| {
        let Condition {
            capabilities,
            arches,
            min_kernel,
        } = &one.includes;
        let not = &other.excludes;
        capabilities
            .iter()
            .any(|cap| not.capabilities.contains(cap))
            || (!arches.is_empty() && arches.iter().all(|arch| not.arches.contains(arch)))
            || matches!((min_kernel, not.min_kernel), (Some(from), Some(until)) if *from >= until)
    };
    let (own, other) = (&a.includes.arches, &b.includes.arches);
    let disjoint =
        !own.is_empty() && !other.is_empty() && own.iter().all(|arch| !other.contains(arch));
    !disjoint && !apart(a, b) && !apart(b, a)
}

/// Whether `wide` counts for every container that `narrow` counts for.
pub(super) fn always_with(wide: &Entry, narrow: &Entry) -> bool {
    let (w, n) = (&wide.includes, &narrow.includes);
    let (not_w, not_n) = (&wide.excludes, &narrow.excludes);
    w.capabilities
        .iter()
        .all(|cap| n.capabilities.contains(cap))
        && not_w
            .capabilities
            .iter()
            .all(|cap| not_n.capabilities.contains(cap))
        && (w.arches.is_empty()
            || (!n.arches.is_empty() && n.arches.iter().all(|arch| w.arches.contains(arch))))
        && not_w.arches.iter().all(|arch| not_n.arches.contains(arch))
        && w.min_kernel
            .is_none_or(|least| n.min_kernel.is_some_and(|own| own >= least))
        && not_w
            .min_kernel
            .is_none_or(|end| not_n.min_kernel.is_some_and(|own| own <= end))
}

/// How much a decision lets through, by trying values on both sides of every limit it has.
pub(super) fn reach(decision: &Decision, given: &[(u8, u64)]) -> Reach {
    let (mut some, mut all) = (false, true);
    for args in samples(decision, given) {
        if decision.answer(&args).allows() {
            some = true;
        } else {
            all = false;
        }
    }
    match (some, all) {
        (false, _) => Reach::Never,
        (true, true) => Reach::Always,
        (true, false) => Reach::Sometimes,
    }
}

fn samples(decision: &Decision, given: &[(u8, u64)]) -> Vec<[u64; 6]> {
    let mut start = [0; 6];
    for (index, value) in given {
        if let Some(place) = start.get_mut(usize::from(*index)) {
            *place = *value;
        }
    }
    let mut all = vec![start];
    let Decision::Depends { rules, .. } = decision else {
        return all;
    };
    let most = MAX_COMBINATIONS.min(MAX_TRIALS / rules.len().max(1));
    for index in (0u8..6).filter(|index| given.iter().all(|(own, _)| own != index)) {
        let tests = rules.iter().flat_map(|rule| &rule.tests);
        let values: BTreeSet<u64> = tests
            .filter(|test| test.index == index)
            .flat_map(around)
            .take(256)
            .collect();
        if values.is_empty() || all.len() * values.len() > most {
            continue;
        }
        all = all
            .into_iter()
            .flat_map(|args| {
                values.iter().map(move |value| {
                    let mut args = args;
                    if let Some(place) = args.get_mut(usize::from(index)) {
                        *place = *value;
                    }
                    args
                })
            })
            .collect();
    }
    all
}

/// Values on both sides of what a test tells apart.
fn around(test: &Test) -> [u64; 5] {
    use cofferdam_profiles::seccomp::Op;
    let value = test.value;
    match test.op {
        Op::MaskedEq(mask) => [value, value | !mask, !value & mask, !mask, u64::MAX],
        _ => [
            value,
            value.wrapping_sub(1),
            value.wrapping_add(1),
            0,
            u64::MAX,
        ],
    }
}
