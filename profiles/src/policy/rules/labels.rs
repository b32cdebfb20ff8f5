//! AppArmor profiles and SELinux labels: passed on, refused, or reported as missing; never
//! dropped in silence.

use oci_spec::runtime::Spec;

use crate::policy::facts::HostFacts;
use crate::policy::judge::{Judge, Request};
use crate::policy::model::{BestEffort, Policy, Verdict};
use crate::policy::report::{Action, Rule};
use crate::policy::rules::apparmor::ToMake;

/// Profiles that engines set without being asked: Docker, containerd's CRI plugin and nerdctl,
/// CRI-O, Podman (`containers-default-VERSION`).
const ENGINE_PROFILES: &[&str] = &[
    "docker-default",
    "cri-containerd.apparmor.d",
    "nerdctl-default",
    "crio-default",
];

/// How the names of the types begin that confine containers, and of those that label their files
/// (`container-selinux`, libvirt's sVirt, from which it comes).
const CONTAINER_TYPES: &[&str] = &["container_", "svirt_"];

/// The engines' own types, which begin like those of containers and confine nothing.
const ENGINE_TYPES: &str = "container_runtime_";

/// The longest name of a type that a policy may list.
const MAX_TYPE: usize = 255;

/// Whether a profile is what an engine sets without being asked.
pub fn is_engine_profile(profile: &str) -> bool {
    ENGINE_PROFILES.contains(&profile) || profile.starts_with("containers-default-")
}

/// Judges the AppArmor profile and the SELinux labels of a spec; says whether an AppArmor profile is
/// to be made, and in whose place.
pub(crate) fn harden(spec: &mut Spec, host: &HostFacts, judge: &mut Judge<'_>) -> ToMake {
    let mut to_make = ToMake::No;
    if let Some(process) = spec.process_mut() {
        let asked = process.apparmor_profile().clone().filter(|p| !p.is_empty());
        to_make = ToMake::of(asked.as_deref(), judge);
        let profile = match asked {
            _ if to_make != ToMake::No => None,
            Some(profile) => apparmor(profile, host, judge),
            None => no_apparmor(None, host, judge),
        };
        process.set_apparmor_profile(profile);
        let asked = process.selinux_label().clone().filter(|l| !l.is_empty());
        let label = asked.and_then(|l| selinux("process.selinuxLabel", l, host, judge));
        process.set_selinux_label(label);
    }
    if let Some(linux) = spec.linux_mut() {
        let asked = linux.mount_label().clone().filter(|l| !l.is_empty());
        let label = asked.and_then(|l| selinux("linux.mountLabel", l, host, judge));
        linux.set_mount_label(label);
    }
    to_make
}

/// What a container gets for which nobody named a profile: without one it would run unconfined, as
/// if it had asked for that. (CRI engines write "unconfined" so.) The same for one that did ask for it,
/// by the name `unconfined`, as a part of what the policy strips.
fn no_apparmor(
    unconfined: Option<&str>,
    host: &HostFacts,
    judge: &mut Judge<'_>,
) -> Option<String> {
    const FIELD: &str = "process.apparmorProfile";
    let asked = unconfined.unwrap_or("no AppArmor profile");
    if !host.apparmor || judge.policy.apparmor_unconfined != Verdict::Deny {
        return None;
    }
    if let Some(profile) = host.apparmor_profiles.first() {
        let reason = "the policy lets nothing run unconfined, and the host has this profile loaded";
        judge.note(Rule::Apparmor, FIELD, Action::Added, asked, profile, reason);
        return Some(profile.clone());
    }
    let why = match unconfined {
        Some(_) => {
            "the host has AppArmor, the policy strips \"unconfined\", and no engine's default is \
             loaded to put in its place"
        }
        None => {
            "the host has AppArmor, the engine names no profile and no engine's default is loaded"
        }
    };
    if judge.policy.best_effort.contains(&BestEffort::Apparmor) {
        let reason = format!("{why}; the policy takes AppArmor as best effort");
        let action = Action::Unenforced;
        judge.note(Rule::Apparmor, FIELD, action, asked, "none", &reason);
        return None;
    }
    judge.deny(Request {
        rule: Rule::Apparmor,
        field: FIELD,
        asked: "to run without an AppArmor profile".to_owned(),
        stripped: "",
        why,
        allow: "apparmor_unconfined = \"allow\"",
        instead: "name a profile (--security-opt apparmor=NAME, appArmorProfile of a pod)",
    });
    None
}

fn apparmor(profile: String, host: &HostFacts, judge: &mut Judge<'_>) -> Option<String> {
    const FIELD: &str = "process.apparmorProfile";
    if is_unconfined(&profile) {
        if !host.apparmor {
            return None;
        }
        if judge.policy.apparmor_unconfined == Verdict::Allow {
            let (action, reason) = (Action::Granted, "the policy allows it");
            judge.note(Rule::Apparmor, FIELD, action, &profile, &profile, reason);
        } else if judge.lenient {
            return no_apparmor(Some(&profile), host, judge);
        } else {
            judge.deny(Request {
                rule: Rule::Apparmor,
                field: FIELD,
                asked: "to run without an AppArmor profile".to_owned(),
                stripped: "",
                why: "the host has AppArmor and engines confine containers with it by default",
                allow: "apparmor_unconfined = \"allow\"",
                instead: "leave out apparmor=unconfined",
            });
        }
        return (profile != "unconfined").then_some(profile);
    }
    if host.apparmor {
        return Some(profile);
    }
    let engines = is_engine_profile(&profile);
    if engines && judge.policy.best_effort.contains(&BestEffort::Apparmor) {
        judge.note(
            Rule::Apparmor,
            FIELD,
            Action::Unenforced,
            profile,
            "none",
            "this kernel has no AppArmor; the policy takes the engine's default profile as best effort",
        );
        return None;
    }
    let line = || judge.policy.with_best_effort(BestEffort::Apparmor);
    let allow = engines.then(line).unwrap_or_default();
    judge.deny(Request {
        rule: Rule::Apparmor,
        field: FIELD,
        asked: format!("the AppArmor profile {profile:?}"),
        stripped: "",
        why: "this kernel has no AppArmor, so the profile would not be enforced",
        allow: &allow,
        instead: "start the kernel with AppArmor (lsm=...,apparmor), or do not ask for the profile",
    });
    None
}

/// `unconfined`, also as a part of a stack or with its policy namespace, which the kernel takes as
/// well (`:root:unconfined`, `a//&unconfined`).
pub(super) fn is_unconfined(profile: &str) -> bool {
    let between = |c: char| c.is_whitespace() || matches!(c, ':' | '/' | '&');
    profile.split(between).any(|name| name == "unconfined")
}

/// The type of a label, `user:role:type:level`.
fn type_of(label: &str) -> &str {
    label.split(':').nth(2).unwrap_or_default()
}

/// Whether a type is one of containers', or one that the policy lists.
fn confines(typ: &str, policy: &Policy) -> bool {
    let mut prefixes = CONTAINER_TYPES.iter();
    let containers = prefixes.any(|prefix| typ.starts_with(prefix));
    (containers && !typ.starts_with(ENGINE_TYPES)) || policy.selinux_types.contains(typ)
}

fn other_label(field: &str, label: &str, judge: &mut Judge<'_>) {
    if judge.policy.selinux_unconfined == Verdict::Allow {
        let reason = "the policy allows it";
        judge.note(Rule::Selinux, field, Action::Granted, label, label, reason);
        return;
    }
    let typ = type_of(label);
    // Only a name can be listed.
    let allow = match selinux_type(typ) {
        Ok(typ) => format!("selinux_types = [\"{typ}\"]"),
        Err(_) => "selinux_unconfined = \"allow\"".to_owned(),
    };
    // Not stripped, also of a privileged spec: without a label a type of the engine's would hold.
    judge.deny(Request {
        rule: Rule::Selinux,
        field,
        asked: format!("the SELinux label {label:?}"),
        stripped: "",
        why: "its type is none of those that confine containers (container_*, svirt_*) and the \
              policy does not list it",
        allow: &allow,
        instead: "leave out label=type:... and label=disable, so that the engine takes container_t",
    });
}

/// The name of an SELinux type, as a policy file may list it.
pub(crate) fn selinux_type(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if text.is_empty() || text.len() > MAX_TYPE || !text.bytes().all(plain) {
        return Err(format!(
            "{text:?} is no SELinux type: write its name alone, such as \"my_app_t\""
        ));
    }
    Ok(text.to_owned())
}

fn selinux(field: &str, label: String, host: &HostFacts, judge: &mut Judge<'_>) -> Option<String> {
    if host.selinux {
        if !confines(type_of(&label), judge.policy) {
            other_label(field, &label, judge);
        }
        return Some(label);
    }
    if judge.policy.best_effort.contains(&BestEffort::Selinux) {
        judge.note(
            Rule::Selinux,
            field,
            Action::Unenforced,
            label,
            "none",
            "this kernel has no SELinux; the policy takes labels as best effort",
        );
        return None;
    }
    judge.deny(Request {
        rule: Rule::Selinux,
        field,
        asked: format!("the SELinux label {label:?}"),
        stripped: "",
        why: "this kernel has no SELinux, so the label would not be enforced",
        allow: &judge.policy.with_best_effort(BestEffort::Selinux),
        instead: "turn SELinux off in the engine (label=disable, enable_selinux = false)",
    });
    None
}
