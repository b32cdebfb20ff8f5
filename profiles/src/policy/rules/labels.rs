//! AppArmor profiles and SELinux labels: passed on, refused, or reported as missing; never
//! dropped in silence.

use oci_spec::runtime::Spec;

use crate::policy::facts::HostFacts;
use crate::policy::judge::{Judge, Request};
use crate::policy::model::{BestEffort, Verdict};
use crate::policy::report::{Action, Rule};

/// Profiles that engines set without being asked: Docker, containerd's CRI plugin and nerdctl,
/// CRI-O, Podman (`containers-default-VERSION`).
const ENGINE_PROFILES: &[&str] = &[
    "docker-default",
    "cri-containerd.apparmor.d",
    "nerdctl-default",
    "crio-default",
];

/// Types in which SELinux confines nothing (the reference policy's unconfined domains and
/// `container-selinux`), and those of the host's own services, which may do what those must.
const UNCONFINED_TYPES: &[&str] = &[
    "container_runtime_t",
    "crio_t",
    "docker_t",
    "init_t",
    "initrc_t",
    "kernel_generic_helper_t",
    "kernel_t",
    "kubelet_t",
    "spc_t",
    "sysadm_t",
    "system_cronjob_t",
    "unconfined_service_t",
    "unconfined_t",
    "virtd_t",
];

/// Whether a profile is what an engine sets without being asked.
pub fn is_engine_profile(profile: &str) -> bool {
    ENGINE_PROFILES.contains(&profile) || profile.starts_with("containers-default-")
}

/// Judges the AppArmor profile and the SELinux labels of a spec.
pub(crate) fn harden(spec: &mut Spec, host: &HostFacts, judge: &mut Judge<'_>) {
    if let Some(process) = spec.process_mut() {
        let asked = process.apparmor_profile().clone().filter(|p| !p.is_empty());
        let profile = match asked {
            Some(profile) => apparmor(profile, host, judge),
            None => no_apparmor(host, judge),
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
}

/// What a container gets for which nobody named a profile: without one it would run unconfined, as
/// if it had asked for that. (CRI engines write "unconfined" so.)
fn no_apparmor(host: &HostFacts, judge: &mut Judge<'_>) -> Option<String> {
    const FIELD: &str = "process.apparmorProfile";
    const NONE: &str = "no AppArmor profile";
    if !host.apparmor || judge.policy.apparmor_unconfined != Verdict::Deny {
        return None;
    }
    if let Some(profile) = host.apparmor_profiles.first() {
        let reason = "the policy lets nothing run unconfined, and the host has this profile loaded";
        judge.note(Rule::Apparmor, FIELD, Action::Added, NONE, profile, reason);
        return Some(profile.clone());
    }
    if judge.lenient || judge.policy.best_effort.contains(&BestEffort::Apparmor) {
        let reason = "the engine names no profile and no engine's default is loaded; the policy \
                      takes AppArmor as best effort";
        judge.note(
            Rule::Apparmor,
            FIELD,
            Action::Unenforced,
            NONE,
            "none",
            reason,
        );
        return None;
    }
    judge.deny(Request {
        rule: Rule::Apparmor,
        field: FIELD,
        asked: "to run without an AppArmor profile".to_owned(),
        stripped: "",
        why: "the host has AppArmor, the engine names no profile and no engine's default is loaded",
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
        let denied = judge.policy.apparmor_unconfined == Verdict::Deny;
        if denied && judge.lenient && !host.apparmor_profiles.is_empty() {
            return no_apparmor(host, judge);
        }
        if judge.policy.apparmor_unconfined == Verdict::Allow || judge.lenient {
            let reason = "there is no profile to put in its place";
            judge.note(
                Rule::Apparmor,
                FIELD,
                Action::Granted,
                &profile,
                &profile,
                reason,
            );
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
    judge.deny(Request {
        rule: Rule::Apparmor,
        field: FIELD,
        asked: format!("the AppArmor profile {profile:?}"),
        stripped: "",
        why: "this kernel has no AppArmor, so the profile would not be enforced",
        allow: if engines {
            "best_effort = [\"apparmor\"]"
        } else {
            ""
        },
        instead: "start the kernel with AppArmor (lsm=...,apparmor), or do not ask for the profile",
    });
    None
}

/// `unconfined`, also as a part of a stack or with its policy namespace, which the kernel takes as
/// well (`:root:unconfined`, `a//&unconfined`).
fn is_unconfined(profile: &str) -> bool {
    let between = |c: char| c.is_whitespace() || matches!(c, ':' | '/' | '&');
    profile.split(between).any(|name| name == "unconfined")
}

/// Whether the type of a label, `user:role:type:level`, is an unconfined one.
fn confines_nothing(label: &str) -> bool {
    let typ = label.split(':').nth(2).unwrap_or_default();
    UNCONFINED_TYPES.contains(&typ) || typ.starts_with("unconfined_")
}

fn unconfined_label(field: &str, label: &str, judge: &mut Judge<'_>) {
    if judge.policy.selinux_unconfined == Verdict::Allow {
        let reason = "the policy allows it";
        judge.note(Rule::Selinux, field, Action::Granted, label, label, reason);
        return;
    }
    // Not stripped, also of a privileged spec: without a label a type of the engine's would hold.
    judge.deny(Request {
        rule: Rule::Selinux,
        field,
        asked: format!("the SELinux label {label:?}"),
        stripped: "",
        why: "its type confines nothing, or is one of the host's own services",
        allow: "selinux_unconfined = \"allow\"",
        instead: "leave out label=type:... and label=disable, so that the engine takes container_t",
    });
}

fn selinux(field: &str, label: String, host: &HostFacts, judge: &mut Judge<'_>) -> Option<String> {
    if host.selinux {
        if confines_nothing(&label) {
            unconfined_label(field, &label, judge);
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
        allow: "best_effort = [\"selinux\"]",
        instead: "turn SELinux off in the engine (label=disable, enable_selinux = false)",
    });
    None
}
