//! The AppArmor profile that is made for the container.

use oci_spec::runtime::Spec;

use super::labels::{is_engine_profile, is_unconfined};
use crate::access::Access;
use crate::apparmor::{Mode, Profile, Shape, generate};
use crate::capability::Set;
use crate::policy::facts::HostFacts;
use crate::policy::judge::{Judge, Request};
use crate::policy::model::{ApparmorChoice, BestEffort, Denials};
use crate::policy::report::{Action, Rule};

const FIELD: &str = "process.apparmorProfile";

/// Whether a profile is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ToMake {
    /// It is not.
    No,
    /// It is, in the place of what the spec asked for, in words.
    InPlaceOf(String),
}

impl ToMake {
    /// Whether the policy makes a profile for a spec that asks for this one. What an engine gives every
    /// container is replaced; ours denies the same. A profile that somebody chose is kept, where the
    /// policy has no documents that it would have to follow.
    pub(super) fn of(asked: Option<&str>, judge: &mut Judge<'_>) -> Self {
        if judge.policy.apparmor != ApparmorChoice::Generate {
            return Self::No;
        }
        let Some(asked) = asked else {
            return Self::InPlaceOf("no AppArmor profile".to_owned());
        };
        let unconfined = is_unconfined(asked);
        if is_engine_profile(asked) || (unconfined && judge.lenient) {
            return Self::InPlaceOf(asked.to_owned());
        }
        if unconfined {
            return Self::No;
        }
        if judge.policy.apparmor_documents.is_empty() {
            let reason = "the engine names it, so none is made";
            judge.note(Rule::Apparmor, FIELD, Action::Granted, asked, asked, reason);
        } else {
            judge.deny(Request {
                rule: Rule::Apparmor,
                field: FIELD,
                asked: format!("the AppArmor profile {asked:?}"),
                stripped: "",
                why: "the policy has access documents (apparmor_documents), which that profile need \
                      not follow",
                allow: "apparmor_documents = []",
                instead: "do not ask for a profile",
            });
        }
        Self::No
    }
}

/// Makes the profile, and names it in the spec.
pub(crate) fn harden(
    spec: &mut Spec,
    to_make: ToMake,
    kept: Set,
    host: &HostFacts,
    judge: &mut Judge<'_>,
) -> Option<Profile> {
    let ToMake::InPlaceOf(asked) = to_make else {
        return None;
    };
    let missing = match (host.apparmor, host.apparmor_compiler) {
        (false, _) => Some((
            "this kernel has no AppArmor",
            "start the kernel with AppArmor (lsm=...,apparmor)",
        )),
        (true, false) => Some((
            "this host has no apparmor_parser to compile a profile",
            "install the package apparmor",
        )),
        (true, true) => None,
    };
    if let Some((why, remedy)) = missing {
        unenforceable(&asked, why, remedy, judge);
        return None;
    }
    let access = match documents(host, judge) {
        Ok(access) => access,
        Err(why) => {
            deny(&why, "mend the document", judge);
            return None;
        }
    };
    let explained = judge.policy.denials == Denials::Explain;
    let owner = host.bundle.to_string_lossy();
    let made = generate(&Shape {
        capabilities: kept,
        access: access.as_ref(),
        streams: &host.streams,
        mode: judge.policy.apparmor_mode,
        owner: explained.then_some(owner.as_ref()),
        runtime: host.apparmor_own.as_deref(),
    });
    match made {
        Ok(profile) => {
            note(&asked, &profile, judge);
            if let Some(process) = spec.process_mut() {
                process.set_apparmor_profile(Some(profile.name.clone()));
            }
            Some(profile)
        }
        Err(error) => {
            deny(&error.to_string(), "", judge);
            None
        }
    }
}

/// What all documents allow; `None` where there are none.
fn documents(host: &HostFacts, judge: &Judge<'_>) -> Result<Option<Access>, String> {
    let mut all: Option<Access> = None;
    for path in &judge.policy.apparmor_documents {
        let shown = path.display();
        let access = match host.access.get(path) {
            Some(Ok(access)) => access,
            Some(Err(why)) => return Err(format!("the access document {shown}: {why}")),
            None => return Err(format!("the access document {shown} was not read")),
        };
        all = Some(match all {
            None => access.clone(),
            Some(others) => others
                .intersection(access)
                .map_err(|error| format!("the access document {shown}: {error}"))?,
        });
    }
    Ok(all)
}

fn note(asked: &str, profile: &Profile, judge: &mut Judge<'_>) {
    let documents = match judge.policy.apparmor_documents.len() {
        0 => "files are left alone but for the kernel's own",
        _ => "files and sockets follow the policy's access documents",
    };
    let (action, reason) = match profile.mode {
        Mode::Enforce => (
            Action::Added,
            format!("the policy has one made of the container's capabilities; {documents}"),
        ),
        Mode::Complain => (
            Action::Unenforced,
            "the policy says apparmor_mode = \"complain\": what the profile would deny is written \
             down only, but for the kernel's own files"
                .to_owned(),
        ),
    };
    judge.note(Rule::Apparmor, FIELD, action, asked, &profile.name, &reason);
    if !profile.left_out.is_empty() {
        let asked = "all that the access documents say";
        let got = format!("not: {}", profile.left_out.join("; "));
        let reason = "Landlock, where the policy has the same documents there, bounds some of it";
        judge.note(
            Rule::Apparmor,
            FIELD,
            Action::Unenforced,
            asked,
            got,
            reason,
        );
    }
}

fn unenforceable(asked: &str, why: &str, remedy: &str, judge: &mut Judge<'_>) {
    if judge.policy.best_effort.contains(&BestEffort::Apparmor) {
        let reason = format!("{why}; the policy takes AppArmor as best effort");
        let action = Action::Unenforced;
        judge.note(Rule::Apparmor, FIELD, action, asked, "none", &reason);
        return;
    }
    judge.deny(Request {
        rule: Rule::Apparmor,
        field: FIELD,
        asked: "the AppArmor profile that the policy has made".to_owned(),
        stripped: "",
        why,
        allow: &judge.policy.with_best_effort(BestEffort::Apparmor),
        instead: remedy,
    });
}

fn deny(why: &str, remedy: &str, judge: &mut Judge<'_>) {
    judge.deny(Request {
        rule: Rule::Apparmor,
        field: FIELD,
        asked: "the AppArmor profile that the policy has made".to_owned(),
        stripped: "",
        why,
        allow: "apparmor = \"engine\"",
        instead: remedy,
    });
}
