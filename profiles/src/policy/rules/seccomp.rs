//! The seccomp filter: the engine's profile, the built-in default, or what both allow.

use oci_spec::runtime::{LinuxSeccomp, Spec};

use super::generated;
use crate::capability::Set;
use crate::generated::{Outcome as Made, Provenance};
use crate::policy::judge::Judge;
use crate::policy::model::SeccompChoice;
use crate::policy::report::{Action, Rule};
use crate::seccomp::{
    Allowed, Arch, Compat32, DefaultProfile, Intersection, Warning, allowed_native, intersect,
    validate,
};

const FIELD: &str = "linux.seccomp";

/// What the container's filter is made from, in words, and the second profile if there is one.
pub(crate) struct Outcome {
    pub(crate) origin: &'static str,
    pub(crate) stacked: Option<LinuxSeccomp>,
    /// What the profile lets through; of stacked ones, what the engine's does.
    pub(crate) allowed: Option<Allowed>,
    /// Where the calls of a made profile come from.
    pub(crate) generated: Option<Provenance>,
}

/// Puts the profile the policy wants into the spec. `bounding` is what the container kept, `made` the
/// profile of its own files.
pub(crate) fn harden(
    spec: &mut Spec,
    bounding: Set,
    made: Option<&Made>,
    judge: &mut Judge<'_>,
) -> Outcome {
    let nothing = Outcome {
        origin: "none",
        stacked: None,
        allowed: None,
        generated: None,
    };
    let process = spec.process().as_ref();
    let confined = process.is_some_and(|p| p.no_new_privileges() == Some(true));
    let Some(linux) = spec.linux_mut() else {
        return nothing;
    };
    let asked = linux.seccomp().clone();
    let had_one = asked.is_some();
    if let Some(profile) = &asked {
        unknown_names(profile, judge);
    }
    let (choice, compat32) = (judge.policy.seccomp, judge.policy.seccomp_compat32);
    let ours = || {
        DefaultProfile {
            capabilities: &bounding.to_oci(),
            arch: Arch::NATIVE,
            compat32,
        }
        .build()
    };
    let (mut profile, mut stacked, mut origin, reason) = match (choice, asked) {
        (SeccompChoice::Engine, None) => {
            let reason = "the policy takes the engine's profile as it is, and there is none";
            let none = "no filter";
            judge.note(Rule::Seccomp, FIELD, Action::Granted, none, none, reason);
            return nothing;
        }
        (SeccompChoice::Engine, Some(engine)) => (
            engine,
            None,
            "the engine's profile",
            "the policy takes the engine's profile as it is",
        ),
        (SeccompChoice::Intersect | SeccompChoice::Generate, Some(engine)) => {
            let (profile, stacked) = both(engine, ours());
            (
                profile,
                stacked,
                "what the engine's profile and the built-in default both allow",
                "a call passes only if both profiles let it pass",
            )
        }
        (SeccompChoice::Default, Some(_)) => (
            ours(),
            None,
            "the built-in default",
            "the policy wants the built-in default whatever the engine asks for",
        ),
        (_, None) => (
            ours(),
            None,
            "the built-in default",
            "no container runs without a filter",
        ),
    };
    let (action, before) = match (choice, had_one) {
        (SeccompChoice::Engine, _) => (Action::Granted, "the engine's profile"),
        (_, true) => (Action::Tightened, "the engine's profile"),
        (_, false) => (Action::Added, "no filter"),
    };
    let mut provenance = None;
    if choice == SeccompChoice::Generate
        && let Some(mut made) = generated::made(made, confined, judge)
    {
        generated::add_fallbacks(&mut made, stacked.iter().chain([&profile]));
        match generated::tighten(profile.clone(), stacked.clone(), &made.profile) {
            Some(both) => (profile, stacked) = both,
            None => generated::refuse(judge),
        }
        origin = match had_one {
            true => {
                "what the engine's profile, the built-in default and the container's files allow"
            }
            false => "what the built-in default and the container's files both allow",
        };
        provenance = Some(made.provenance);
    }
    let allowed = allowed_native(&profile);
    let after = format!(
        "{origin}: {} calls allowed, {} more with conditions",
        allowed.always, allowed.conditional
    );
    judge.note(Rule::Seccomp, FIELD, action, before, after, reason);
    linux.set_seccomp(Some(profile));
    if let Some(provenance) = &provenance {
        generated::note(provenance, judge);
    }
    if choice != SeccompChoice::Engine {
        note_compat32(compat32, judge);
    }
    Outcome {
        origin,
        stacked,
        allowed: Some(allowed),
        generated: provenance,
    }
}

/// What 32-bit programs get, where that is not the usual.
fn note_compat32(compat32: Compat32, judge: &mut Judge<'_>) {
    let (action, got, reason) = match compat32 {
        Compat32::Filtered => return,
        Compat32::Refused => (
            Action::Tightened,
            "no 32-bit calls at all",
            "the policy says seccomp_compat32 = \"refused\"",
        ),
        Compat32::Socketcall => (
            Action::Granted,
            "socketcall, and with it sockets of every family",
            "the policy says seccomp_compat32 = \"socketcall\"; a filter cannot see its arguments",
        ),
    };
    let asked = "32-bit programs";
    judge.note(Rule::Seccomp, FIELD, action, asked, got, reason);
}

/// One profile that allows what both allow, or both to be stacked where there is no such one.
fn both(engine: LinuxSeccomp, ours: LinuxSeccomp) -> (LinuxSeccomp, Option<LinuxSeccomp>) {
    match intersect(&engine, &ours) {
        Ok(Intersection::Single(profile)) => (profile, None),
        Ok(Intersection::Stacked { upper, lower }) => (upper, Some(lower)),
        // Both were validated before; stacking is right for any two.
        Err(_) => (engine, Some(ours)),
    }
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
