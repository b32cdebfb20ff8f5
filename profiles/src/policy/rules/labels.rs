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

/// Judges the AppArmor profile and the SELinux labels of a spec.
pub(crate) fn harden(spec: &mut Spec, host: &HostFacts, judge: &mut Judge<'_>) {
    if let Some(process) = spec.process_mut() {
        let asked = process.apparmor_profile().clone().filter(|p| !p.is_empty());
        process.set_apparmor_profile(asked.and_then(|profile| apparmor(profile, host, judge)));
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

fn apparmor(profile: String, host: &HostFacts, judge: &mut Judge<'_>) -> Option<String> {
    const FIELD: &str = "process.apparmorProfile";
    if is_unconfined(&profile) {
        if !host.apparmor {
            return None;
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
    let engines =
        ENGINE_PROFILES.contains(&profile.as_str()) || profile.starts_with("containers-default-");
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

fn selinux(field: &str, label: String, host: &HostFacts, judge: &mut Judge<'_>) -> Option<String> {
    if host.selinux {
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
