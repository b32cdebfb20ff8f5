//! The seccomp filter: the engine's profile, the built-in default, or what both allow.

use oci_spec::runtime::{LinuxSeccomp, Spec};

use crate::capability::Set;
use crate::policy::judge::Judge;
use crate::policy::model::SeccompChoice;
use crate::policy::report::{Action, Rule};
use crate::seccomp::{Arch, Warning, allowed_native, default_profile, validate};

const FIELD: &str = "linux.seccomp";

/// What the container's filter is made from, in words, and the second profile if there is one.
pub(crate) struct Outcome {
    pub(crate) origin: &'static str,
    pub(crate) stacked: Option<LinuxSeccomp>,
}

/// Puts the profile the policy wants into the spec. `bounding` is what the container kept.
pub(crate) fn harden(spec: &mut Spec, bounding: Set, judge: &mut Judge<'_>) -> Outcome {
    let nothing = Outcome {
        origin: "none",
        stacked: None,
    };
    let Some(linux) = spec.linux_mut() else {
        return nothing;
    };
    let asked = linux.seccomp().clone();
    if let Some(profile) = &asked {
        unknown_names(profile, judge);
    }
    let ours = || default_profile(&bounding.to_oci(), Arch::NATIVE);
    let (profile, stacked, action, origin, reason) = match (judge.policy.seccomp, asked) {
        (SeccompChoice::Engine, None) => {
            let reason = "the policy takes the engine's profile as it is, and there is none";
            judge.note(
                Rule::Seccomp,
                FIELD,
                Action::Granted,
                "no filter",
                "no filter",
                reason,
            );
            return nothing;
        }
        (SeccompChoice::Engine, Some(engine)) => (
            engine,
            None,
            Action::Granted,
            "the engine's profile",
            "the policy takes the engine's profile as it is",
        ),
        (SeccompChoice::Intersect, None) | (SeccompChoice::Default, None) => (
            ours(),
            None,
            Action::Added,
            "the built-in default",
            "no container runs without a filter",
        ),
        (SeccompChoice::Default, Some(_)) => (
            ours(),
            None,
            Action::Tightened,
            "the built-in default",
            "the policy wants the built-in default whatever the engine asks for",
        ),
        (SeccompChoice::Intersect, Some(engine)) => (
            engine,
            Some(ours()),
            Action::Tightened,
            "what the engine's profile and the built-in default both allow",
            "a call passes only if both profiles let it pass",
        ),
    };
    let before = match linux.seccomp() {
        Some(engine) => describe(engine),
        None => "no filter".to_owned(),
    };
    judge.note(
        Rule::Seccomp,
        FIELD,
        action,
        before,
        describe(&profile),
        reason,
    );
    linux.set_seccomp(Some(profile));
    Outcome { origin, stacked }
}

fn describe(profile: &LinuxSeccomp) -> String {
    let allowed = allowed_native(profile);
    format!(
        "{} calls allowed, {} more with conditions",
        allowed.always, allowed.conditional
    )
}

/// Names that no kernel knows have no effect; that is worth a line, it may be a typing error.
fn unknown_names(profile: &LinuxSeccomp, judge: &mut Judge<'_>) {
    let warnings = validate(profile).unwrap_or_default();
    let names: Vec<&str> = warnings
        .iter()
        .filter_map(|warning| match warning {
            Warning::UnknownName(name) => Some(name.as_str()),
            _ => None,
        })
        .take(20)
        .collect();
    if !names.is_empty() {
        judge.note(
            Rule::Seccomp,
            FIELD,
            Action::Removed,
            names.join(" "),
            "nothing",
            "no kernel has system calls of these names, so rules about them have no effect",
        );
    }
}
