//! What Landlock is told, and what this kernel's Landlock cannot enforce.

use oci_spec::runtime::Spec;

use crate::access::{Access, AccessError};
use crate::capability::{Capability, Set};
use crate::landlock::{self, Gap, NEWEST_ABI, Ruleset};
use crate::policy::facts::HostFacts;
use crate::policy::judge::{Judge, Request};
use crate::policy::model::{BestEffort, Denials};
use crate::policy::report::{Action, Rule};

const FIELD: &str = "landlock";

/// The ruleset of a hardened spec; `None` where the policy bounds nothing or nothing can be enforced.
pub(crate) fn harden(spec: &Spec, host: &HostFacts, judge: &mut Judge<'_>) -> Option<Ruleset> {
    let policy = judge.policy;
    let rules = &policy.landlock;
    if rules.is_off() {
        return None;
    }
    let access = match access(spec, host, judge) {
        Ok(access) => access,
        Err(Unusable {
            asked,
            why,
            instead,
        }) => {
            judge.deny(Request {
                rule: Rule::Landlock,
                field: FIELD,
                asked,
                stripped: "",
                why: &why,
                allow: "",
                instead,
            });
            return None;
        }
    };
    let request = landlock::Request {
        access: &access,
        files: rules.bounds_files(),
        log: policy.denials == Denials::Explain,
    };
    let ruleset = Ruleset::new(request, host.landlock_abi);
    for gap in &ruleset.gaps {
        report(*gap, host.landlock_abi, judge);
    }
    if ruleset.is_empty() {
        return None;
    }
    granted(&ruleset, &access, spec, judge);
    Some(ruleset)
}

struct Unusable {
    asked: String,
    why: String,
    instead: &'static str,
}

/// What the spec, every document and the policy allow.
fn access(spec: &Spec, host: &HostFacts, judge: &Judge<'_>) -> Result<Access, Unusable> {
    let rules = &judge.policy.landlock;
    let asked = || "files bounded by Landlock".to_owned();
    let too_many = |error: AccessError| Unusable {
        asked: asked(),
        why: error.to_string(),
        instead: "allow whole directories in the access document",
    };
    let mut access = Access::new();
    if rules.bounds_files() {
        access = landlock::of_spec(spec).map_err(too_many)?;
    }
    for path in &rules.documents {
        let document = match host.access.get(path) {
            Some(Ok(document)) => document,
            Some(Err(why)) => {
                return Err(Unusable {
                    asked: asked(),
                    why: format!("the access document cannot be used: {why}"),
                    instead: "correct the file, or the policy that names it",
                });
            }
            None => {
                return Err(Unusable {
                    asked: asked(),
                    why: format!("the access document {} was not read", path.display()),
                    instead: "correct the policy that names it",
                });
            }
        };
        access = access.intersection(document).map_err(too_many)?;
    }
    access.network = match (access.network.take(), rules.network()) {
        (Some(one), Some(other)) => Some(one.intersection(&other)),
        (one, other) => one.or(other),
    };
    access.scope = access.scope.intersection(rules.scope);
    Ok(access)
}

fn report(gap: Gap, abi: Option<u32>, judge: &mut Judge<'_>) {
    let kernel = match abi {
        None | Some(0) => "this kernel has no Landlock".to_owned(),
        Some(abi) => format!("this kernel's Landlock has ABI {abi}"),
    };
    let why = match gap.since() {
        Some(since) if gap != Gap::Everything => {
            format!("{kernel}, and bounding {gap} takes ABI {since}")
        }
        Some(_) => kernel,
        None => format!("no Landlock bounds {gap}; seccomp and AppArmor do"),
    };
    let asked = format!("a bound on {gap}");
    if judge.policy.best_effort.contains(&BestEffort::Landlock) {
        let reason = format!("{why}; the policy takes Landlock as best effort");
        let action = Action::Unenforced;
        judge.note(Rule::Landlock, FIELD, action, asked, "none", &reason);
        return;
    }
    judge.deny(Request {
        rule: Rule::Landlock,
        field: FIELD,
        asked,
        stripped: "",
        why: &why,
        allow: &judge.policy.with_best_effort(BestEffort::Landlock),
        instead: "start a newer kernel with Landlock (lsm=landlock,...)",
    });
}

fn granted(ruleset: &Ruleset, access: &Access, spec: &Spec, judge: &mut Judge<'_>) {
    let mut got = Vec::new();
    if ruleset.handled_fs != 0 {
        got.push(format!("files by {} rule(s)", ruleset.paths.len()));
    }
    if ruleset.handled_net != 0 {
        got.push(format!("TCP by {} port(s)", ruleset.ports.len()));
    }
    if access.scope.signals && ruleset.scoped != 0 {
        got.push("signals".to_owned());
    }
    if access.scope.abstract_sockets && ruleset.scoped != 0 {
        got.push("abstract sockets".to_owned());
    }
    let reason = format!(
        "the policy or an annotation wants it; enforced with ABI {} (this code knows up to {NEWEST_ABI})",
        ruleset.abi
    );
    let got = format!("Landlock bounds {}", got.join(", "));
    judge.note(
        Rule::Landlock,
        FIELD,
        Action::Added,
        "nothing",
        &got,
        &reason,
    );
    let wider = landlock::widened(access);
    if ruleset.handled_fs != 0 && wider > 0 {
        judge.note(
            Rule::Landlock,
            FIELD,
            Action::Unenforced,
            format!(
                "{wider} rule(s) for a directory alone, for names that are made, or for what may yet be made"
            ),
            "the same for all below the directory, or below one above that is there",
            "a rule of Landlock holds for a file or directory that is there and all below it",
        );
    }
    let left_out = landlock::left_out(access);
    if ruleset.handled_fs != 0
        && let Some(first) = left_out.first()
    {
        judge.note(
            Rule::Landlock,
            FIELD,
            Action::Removed,
            format!(
                "to make and remove {first}{} in the root",
                match left_out.len() {
                    1 => String::new(),
                    count => format!(" and {} more name(s)", count - 1),
                }
            ),
            "no names are made or removed there",
            "a rule of Landlock for the root holds for every directory; give the workload one of its own",
        );
    }
    if ruleset.handled_fs != 0 && bounds_mounts(spec) {
        judge.note(
            Rule::Landlock,
            FIELD,
            Action::Removed,
            "CAP_SYS_ADMIN to mount",
            "no mounts are made or changed",
            "Landlock lets nobody mount whose files it bounds",
        );
    }
}

fn bounds_mounts(spec: &Spec) -> bool {
    let process = spec.process().as_ref();
    let sets = process.and_then(|p| p.capabilities().as_ref());
    let bounding = Set::from_oci(sets.and_then(|sets| sets.bounding().as_ref()));
    bounding.contains(Capability::SysAdmin)
}
