//! The smallest change of the file that changes an answer, as a JSON patch (RFC 6902).

use cofferdam_profiles::seccomp::{Action, Op, Test};
use oci_spec::runtime::LinuxSeccompAction;
use serde_json::{Value, json};

use super::{Explanation, Profile, Reason};
use crate::dialect::{Dialect, Entry};
use crate::words;

/// A change that turns an answer around.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// In words.
    pub text: String,
    /// The operations, in order; empty where the file stays and the container changes.
    pub patch: Vec<Patch>,
}

/// One operation of a JSON patch.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Patch {
    /// Puts a value where a pointer says; `-` is the end of a list.
    Add {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
    /// Takes away what a pointer points to.
    Remove {
        /// Where.
        path: String,
    },
}

/// What it takes to turn an answer around: to let a refused call run, or to refuse one that runs.
///
/// `given` are the arguments asked for; with any, the narrowest edit comes first.
pub fn edits(profile: &Profile, name: &str, given: &[u64], why: &Explanation) -> Vec<Edit> {
    if why.answer.allows() {
        return vec![refuse(profile, name, why)];
    }
    let mut out = Vec::new();
    let mut first = Vec::new();
    let mut before = String::new();
    match &why.reason {
        Reason::Foreign => return vec![list_architecture(profile, why)],
        Reason::Rule(rule) => {
            // Every rule as strict as this one that matches would have to go with it.
            let entry = profile.document.profile.syscalls.get(rule.index);
            let removal = entry.map(|entry| without(entry, name));
            if let Some((text, patch)) = removal {
                before = format!("{text}, and ");
                first.push(patch);
            }
        }
        Reason::Default | Reason::Newer { .. } => {}
    }
    if !given.is_empty() && first.is_empty() {
        out.push(narrow(profile, name, given));
    }
    let (text, mut patch) = allow(profile, name, &first);
    first.append(&mut patch);
    out.push(Edit {
        text: format!("{before}{text}"),
        patch: first,
    });
    out.extend(by_container(profile, name));
    out
}

/// Takes a name out of a rule, or the rule away if it has no other.
fn without(entry: &Entry, name: &str) -> (String, Patch) {
    let at = entry.names.iter().position(|own| own == name);
    match at.filter(|_| entry.names.len() > 1 && !entry.singular) {
        Some(at) => {
            let path = format!("{}/names/{at}", entry.pointer);
            (
                format!("take {name} out of {}", entry.pointer),
                Patch::Remove { path },
            )
        }
        None => {
            let path = entry.pointer.clone();
            (
                format!("remove the rule {}", entry.pointer),
                Patch::Remove { path },
            )
        }
    }
}

/// Puts a name among those that are always allowed. `removed` went before.
fn allow(profile: &Profile, name: &str, removed: &[Patch]) -> (String, Vec<Patch>) {
    let list = |entry: &&Entry| {
        entry.action == LinuxSeccompAction::ScmpActAllow
            && entry.args.is_empty()
            && !entry.singular
            && entry.is_for(&profile.target)
            // A removed rule before it would shift its index.
            && !removed.iter().any(|patch| matches!(patch, Patch::Remove { path } if !path.contains("/names/")))
    };
    let unconditional = |entry: &&Entry| entry.includes.is_empty() && entry.excludes.is_empty();
    let entries = &profile.document.profile.syscalls;
    let place = entries.iter().filter(list).find(unconditional);
    if let Some(entry) = place {
        let path = format!("{}/names/-", entry.pointer);
        let value = json!(name);
        return (
            format!("add {name:?} to {}/names", entry.pointer),
            vec![Patch::Add { path, value }],
        );
    }
    let value = json!({ "names": [name], "action": "SCMP_ACT_ALLOW" });
    (format!("add the rule {value}"), new_rule(profile, value))
}

/// A rule at the end, in a list that is made if there is none.
fn new_rule(profile: &Profile, value: Value) -> Vec<Patch> {
    let root = &profile.document.root;
    let (path, value) = if profile.document.profile.syscalls.is_empty() {
        (format!("{root}/syscalls"), json!([value]))
    } else {
        (format!("{root}/syscalls/-"), value)
    };
    vec![Patch::Add { path, value }]
}

/// A rule for exactly these arguments.
fn narrow(profile: &Profile, name: &str, given: &[u64]) -> Edit {
    let args: Vec<_> = (0u8..)
        .zip(given)
        .map(|(index, value)| {
            let op = Op::Eq;
            Test {
                index,
                op,
                value: *value,
            }
            .to_oci()
        })
        .collect();
    let value = json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": args });
    let which: Vec<String> = given.iter().map(|value| words::number(*value)).collect();
    Edit {
        text: format!(
            "only with these arguments ({}): add the rule {value}",
            which.join(" ")
        ),
        patch: new_rule(profile, value),
    }
}

fn list_architecture(profile: &Profile, why: &Explanation) -> Edit {
    let arch = why.arch.to_oci().to_string();
    let document = profile.document;
    let native = profile.target.arch.to_oci();
    let maps = document.profile.arch_map.iter().flatten();
    let map = maps.enumerate().find(|(_, map)| map.architecture == native);
    let (path, value) = match map {
        Some((at, map)) if map.sub_architectures.is_empty() => (
            format!("{}/archMap/{at}/subArchitectures", document.root),
            json!([arch]),
        ),
        Some((at, _)) => (
            format!("{}/archMap/{at}/subArchitectures/-", document.root),
            json!(arch),
        ),
        None if document
            .profile
            .architectures
            .as_ref()
            .is_some_and(|list| !list.is_empty()) =>
        {
            (format!("{}/architectures/-", document.root), json!(arch))
        }
        None => (
            format!("{}/architectures", document.root),
            json!([native.to_string(), arch]),
        ),
    };
    Edit {
        text: format!("list the architecture: add {arch:?}, and the call's own rules apply"),
        patch: vec![Patch::Add { path, value }],
    }
}

/// Rules of the file that would allow the call, were the container another one.
fn by_container(profile: &Profile, name: &str) -> Vec<Edit> {
    let excluded = profile.resolved.excluded.iter();
    let entries = excluded.filter_map(|at| profile.document.profile.syscalls.get(*at));
    let allows = |entry: &&Entry| {
        Action::from_oci(entry.action, entry.errno).allows()
            && entry.names.iter().any(|own| own == name)
    };
    entries
        .filter(allows)
        .filter_map(|entry| {
            let has = |one: &&_| profile.target.capabilities.contains(**one);
            let missing = entry.includes.capabilities.iter().filter(|one| !has(one));
            let missing: Vec<String> = missing.map(|one| format!("CAP_{one}")).collect();
            let surplus = entry.excludes.capabilities.iter().filter(has);
            let surplus: Vec<String> = surplus.map(|one| format!("CAP_{one}")).collect();
            let mut needs = Vec::new();
            if !missing.is_empty() {
                needs.push(format!("with {}", missing.join(" and ")));
            }
            if !surplus.is_empty() {
                needs.push(format!("without {}", surplus.join(" and ")));
            }
            if let Some(kernel) = entry.includes.min_kernel {
                needs.push(format!("on Linux {kernel} or newer"));
            }
            (!needs.is_empty()).then(|| Edit {
                text: format!(
                    "leave the file and start the container {}: then {} allows it",
                    needs.join(", "),
                    entry.pointer
                ),
                patch: Vec::new(),
            })
        })
        .collect()
}

/// Refuses a call that runs.
fn refuse(profile: &Profile, name: &str, why: &Explanation) -> Edit {
    if let Reason::Rule(rule) = &why.reason
        && let Some(entry) = profile.document.profile.syscalls.get(rule.index)
        && !profile.evaluator.default_answer().allows()
    {
        let (text, patch) = without(entry, name);
        let others = why
            .rules
            .iter()
            .filter(|other| other.index != rule.index && other.action.allows());
        let rest = others.count();
        let more = match rest {
            0 => String::new(),
            _ => format!("; {rest} more rules allow it in some cases"),
        };
        return Edit {
            text: format!("{text}{more}"),
            patch: vec![patch],
        };
    }
    // The strictest matching rule answers, so a refusal can be added to whatever allows.
    let errno = if profile.document.dialect == Dialect::Spo {
        json!("1")
    } else {
        json!(1)
    };
    let value = json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno });
    Edit {
        text: format!("add the rule {value}"),
        patch: new_rule(profile, value),
    }
}
