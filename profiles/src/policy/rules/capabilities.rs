//! Capability sets: never more than asked and never more than the policy's bounding set.

use oci_spec::runtime::{LinuxCapabilities, Process};

use crate::capability::{ENGINE_DEFAULT, Set};
use crate::policy::judge::{Judge, Request};
use crate::policy::report::{Action, Rule};

/// What the rule left of the asked bounding set.
pub(crate) struct Outcome {
    pub(crate) kept: Set,
    pub(crate) dropped: Set,
}

/// Intersects every set of `process` with `ceiling`, which is the policy's bounding set or, for a
/// process that joins a container, that container's.
pub(crate) fn harden(process: &mut Process, ceiling: Set, judge: &mut Judge<'_>) -> Outcome {
    let empty = LinuxCapabilities::default();
    let asked = process.capabilities().as_ref();
    let set = |pick: fn(&LinuxCapabilities) -> &Option<oci_spec::runtime::Capabilities>| {
        Set::from_oci(asked.and_then(|sets| pick(sets).as_ref()))
    };
    let asked_bounding = set(LinuxCapabilities::bounding);
    let asked_all = asked_bounding
        | set(LinuxCapabilities::effective)
        | set(LinuxCapabilities::permitted)
        | set(LinuxCapabilities::inheritable)
        | set(LinuxCapabilities::ambient);

    let beyond = asked_all - ceiling - ENGINE_DEFAULT;
    if !beyond.is_empty() {
        refuse_beyond(beyond, judge);
    }

    let bounding = asked_bounding & ceiling;
    let permitted = set(LinuxCapabilities::permitted) & bounding;
    let effective = set(LinuxCapabilities::effective) & permitted;
    // Without an ambient set an inheritable one only serves files with inheritable capabilities,
    // which is how CVE-2022-24769 and its siblings gave rights to non-root users.
    let ambient = set(LinuxCapabilities::ambient) & set(LinuxCapabilities::inheritable) & permitted;
    let inheritable = ambient;

    let dropped = asked_all - bounding;
    let silent = dropped - beyond;
    if !silent.is_empty() {
        judge.note(
            Rule::Capabilities,
            "process.capabilities",
            Action::Tightened,
            asked_all.to_string(),
            bounding.to_string(),
            "engines give these by default and the policy's bounding set does not have them",
        );
    }
    let lost = set(LinuxCapabilities::inheritable) - inheritable;
    if !(lost & bounding).is_empty() {
        judge.note(
            Rule::Capabilities,
            "process.capabilities.inheritable",
            Action::Removed,
            (lost & bounding).to_string(),
            "none",
            "an inheritable capability that is not ambient only helps to gain rights (CVE-2022-24769)",
        );
    }

    let mut sets = empty;
    sets.set_bounding(Some(bounding.to_oci()))
        .set_permitted(Some(permitted.to_oci()))
        .set_effective(Some(effective.to_oci()))
        .set_inheritable(Some(inheritable.to_oci()))
        .set_ambient(Some(ambient.to_oci()));
    process.set_capabilities(Some(sets));
    Outcome {
        kept: bounding,
        dropped,
    }
}

fn refuse_beyond(beyond: Set, judge: &mut Judge<'_>) {
    let list: Vec<String> = beyond.iter().map(|c| format!("\"{c}\"")).collect();
    judge.keeps(
        judge.policy.capabilities.beyond,
        Request {
            rule: Rule::Capabilities,
            field: "process.capabilities",
            asked: format!("the capabilities {beyond}"),
            stripped: "none of them",
            why: "they are beyond the policy's bounding set and reach for the host",
            allow: &format!("capabilities.bounding = [..., {}]", list.join(", ")),
            instead: "do not add them (--cap-add)",
        },
    );
}
