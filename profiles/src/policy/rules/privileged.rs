//! Specs with all that `--privileged` asks for: one refusal instead of a hundred.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Process, Spec};

use crate::capability::{Capability, Set};
use crate::policy::judge::{Judge, Request};
use crate::policy::model::Verdict;
use crate::policy::report::Rule;

/// From here on a set with SYS_ADMIN counts as "all": engines leave out what the host's kernel or
/// they themselves lack, and nobody lists twenty by hand.
const MANY: u32 = 20;

/// Refuses a privileged spec, or makes the other rules strip what it asks for.
pub(crate) fn harden(spec: &Spec, judge: &mut Judge<'_>) {
    if is_privileged(spec) {
        rule(
            judge,
            "process.capabilities, linux.seccomp, linux.resources.devices",
        );
    }
}

/// The same for a process that joins a container.
pub(crate) fn harden_exec(process: &Process, judge: &mut Judge<'_>) {
    if has_all_capabilities(process) {
        rule(judge, "process.capabilities");
    }
}

fn rule(judge: &mut Judge<'_>, field: &str) {
    let verdict = judge.policy.privileged;
    judge.keeps(
        verdict,
        Request {
            rule: Rule::Privileged,
            field,
            asked: "a privileged container".to_owned(),
            stripped: "an ordinary container",
            why: "a privileged container is root on the host",
            allow: "privileged = \"strip\"",
            instead: "run it without --privileged (privileged: true) and ask for the single \
                      capabilities and devices it needs",
        },
    );
    judge.lenient = verdict == Verdict::Strip;
}

/// Whether a spec has all that `--privileged` asks for.
pub(crate) fn is_privileged(spec: &Spec) -> bool {
    let Some(linux) = spec.linux() else {
        return false;
    };
    let rules = linux
        .resources()
        .as_ref()
        .and_then(|r| r.devices().as_ref());
    let every_device = rules.is_some_and(|rules| rules.iter().any(allows_every_device));
    let unmasked = linux.masked_paths().as_ref().is_none_or(Vec::is_empty);
    spec.process().as_ref().is_some_and(has_all_capabilities)
        && linux.seccomp().is_none()
        && (every_device || unmasked)
}

fn has_all_capabilities(process: &Process) -> bool {
    let sets = process.capabilities().as_ref();
    let bounding = Set::from_oci(sets.and_then(|s| s.bounding().as_ref()));
    bounding.contains(Capability::SysAdmin) && bounding.len() >= MANY
}

fn allows_every_device(rule: &LinuxDeviceCgroup) -> bool {
    rule.allow()
        && matches!(rule.typ(), None | Some(LinuxDeviceType::A))
        && rule.major().is_none_or(|n| n < 0)
}
