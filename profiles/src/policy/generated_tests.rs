//! Policies that say `seccomp = "generate"`.

use std::collections::BTreeSet;
use std::path::Path;

use oci_spec::runtime::{LinuxSeccompAction, Spec};
use serde_json::{Value, json};

use super::harden_tests::{host, plain, spec, with};
use super::model::{BestEffort, SeccompChoice};
use super::*;
use crate::generated::{Generated, Origin, Outcome, Source};

/// A profile that allows `names`, as an analysis would answer.
pub(crate) fn made(names: &[&str]) -> Outcome {
    let calls: Value = names
        .iter()
        .map(|name| ((*name).to_owned(), json!("analysis")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let generated: Generated = serde_json::from_value(json!({
        "profile": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 1,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": names, "action": "SCMP_ACT_ALLOW"},
                {"names": ["statx"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            ],
        },
        "provenance": {
            "program": "/bin/x", "programs": 2, "confidence": "medium", "reasons": ["a reason"],
            "unresolved": 0, "calls": calls, "recordings": [],
        },
    }))
    .unwrap();
    Outcome::Made(Box::new(generated))
}

fn failed() -> Outcome {
    Outcome::Failed {
        why: "the program is no program".to_owned(),
        remedy: "give it one".to_owned(),
    }
}

fn generate() -> Policy {
    Policy {
        name: "test".to_owned(),
        seccomp: SeccompChoice::Generate,
        ..builtin::baseline()
    }
}

fn under(
    policy: &Policy,
    json: &Value,
    generated: Option<Outcome>,
) -> Result<Hardened<Spec>, Refusal> {
    let spec = spec(json);
    let host = HostFacts {
        generated,
        ..host(&spec)
    };
    let mut file = PolicyFile::builtin();
    file.insert(policy.clone());
    let selection = Selection {
        command_line: Some("test".to_owned()),
        ..Selection::default()
    };
    let wanted = file.wants_generated(&selection, &spec).unwrap();
    assert_eq!(wanted.is_some(), policy.seccomp == SeccompChoice::Generate);
    harden(spec, &file, &selection, &host)
}

/// What a hardened spec allows whatever the arguments.
fn allowed(hardened: &Hardened<Spec>) -> BTreeSet<String> {
    let linux = hardened.get().linux().as_ref().unwrap();
    let profile = linux.seccomp().as_ref().unwrap();
    let rules = profile.syscalls().iter().flatten();
    rules
        .filter(|rule| rule.action() == LinuxSeccompAction::ScmpActAllow)
        .filter(|rule| rule.args().as_ref().is_none_or(Vec::is_empty))
        .flat_map(|rule| rule.names().clone())
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_made_profile_only_tightens_and_is_reported() {
    // `mount` is found in the files, and the built-in default denies it all the same.
    let outcome = made(&["read", "execve", "openat", "mount"]);
    let hardened = under(&generate(), &plain(), Some(outcome.clone())).unwrap();
    let names = allowed(&hardened);
    assert!(names.is_superset(&set(&["read", "openat", "execve", "exit_group"])));
    for name in ["mount", "socket", "unlink", "statx", "setuid"] {
        assert!(!names.contains(name), "{name}");
    }
    assert!(hardened.stacked_seccomp().is_none());
    let report = hardened.report();
    let from = report.summary.generated.as_ref().unwrap();
    assert_eq!(from.calls["read"], Source::Analysis);
    assert_eq!(from.calls["exit_group"], Source::Always);
    let text = report.render(200);
    assert!(text.contains("4 calls from files"), "{text}");
    assert!(text.contains("confidence medium"), "{text}");
    let mut findings = report.findings.iter();
    let finding = findings.find(|f| f.asked == "calls of /bin/x").unwrap();
    assert!(finding.reason.contains("a reason"), "{finding:?}");

    // The engine's profile counts as well.
    let engine = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["read", "execve", "unlink"], "action": "SCMP_ACT_ALLOW"}]});
    let engine = with("/linux/seccomp", engine);
    let hardened = under(&generate(), &engine, Some(outcome)).unwrap();
    assert_eq!(allowed(&hardened), set(&["read", "execve"]));
}

#[test]
fn where_the_base_denies_a_new_call_the_older_ones_pass_as_far_as_the_base_has_them() {
    let engine = |names: &[&str]| {
        let engine = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]});
        with("/linux/seccomp", engine)
    };
    let found = |files: &[&str], names: &[&str]| {
        let hardened = under(&generate(), &engine(names), Some(made(files))).unwrap();
        allowed(&hardened)
    };
    let files = ["read", "execve", "faccessat2", "getrandom"];
    // As before Linux 5.8; of what the files do not need, `getgroups` is not allowed by the engine.
    let old = ["read", "execve", "getuid", "faccessat", "poll", "unlink"];
    assert_eq!(
        found(&files, &old),
        set(&["read", "execve", "getuid", "faccessat", "poll"])
    );
    // Where the engine has the newer ones, and where the files need none, nothing is added.
    let new = [&old[..], &["faccessat2", "getrandom"]].concat();
    assert_eq!(found(&files, &new), set(&files));
    assert_eq!(found(&["read", "execve"], &old), set(&["read", "execve"]));
    // A call that passes with some arguments only does not serve for all.
    let mut some = engine(&old);
    let rules = some["linux"]["seccomp"]["syscalls"].as_array_mut().unwrap();
    rules.push(json!({"names": ["faccessat2"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 3, "value": 0, "op": "SCMP_CMP_EQ"}]}));
    let hardened = under(&generate(), &some, Some(made(&files))).unwrap();
    assert!(allowed(&hardened).contains("faccessat"));
}

#[test]
fn what_the_runtime_needs_depends_on_when_the_filter_comes() {
    let mut late = generate();
    late.no_new_privileges = false;
    let json = with("/process/noNewPrivileges", json!(false));
    let needs = ["setgroups", "setresuid", "capset", "prctl"];
    let early = under(&late, &json, Some(made(&["read"]))).unwrap();
    assert!(allowed(&early).is_superset(&set(&needs)));
    let late = under(&generate(), &json, Some(made(&["read"]))).unwrap();
    assert!(allowed(&late).is_disjoint(&set(&needs)));
}

#[test]
fn without_a_profile_the_container_is_refused_unless_that_is_best_effort() {
    for outcome in [None, Some(failed())] {
        let refusal = under(&generate(), &plain(), outcome.clone()).unwrap_err();
        assert_eq!(refusal.rule(), Some(Rule::Seccomp));
        let text = refusal.to_string();
        assert!(text.contains("generated-seccomp"), "{text}");
        assert_eq!(text.contains("give it one"), outcome.is_some(), "{text}");

        let mut lenient = generate();
        lenient.best_effort.insert(BestEffort::GeneratedSeccomp);
        let hardened = under(&lenient, &plain(), outcome).unwrap();
        let intersect = Policy {
            seccomp: SeccompChoice::Intersect,
            ..generate()
        };
        let usual = under(&intersect, &plain(), None).unwrap();
        assert_eq!(allowed(&hardened), allowed(&usual));
        let report = hardened.report();
        assert!(report.summary.generated.is_none());
        let mut findings = report.findings.iter();
        assert!(findings.any(|f| f.rule == Rule::Seccomp && f.action == Action::Unenforced));
    }
}

#[test]
fn what_is_refused_anyway_is_refused_before_files_are_looked_at() {
    let mut file = PolicyFile::builtin();
    file.insert(generate());
    let selection = Selection {
        command_line: Some("test".to_owned()),
        ..Selection::default()
    };
    let check = |json: &Value| {
        let spec = spec(json);
        let host = host(&spec);
        check_before_generating(spec, &file, &selection, &host)
    };
    check(&plain()).unwrap();
    // Without a made profile the same would be refused for that.
    assert!(under(&generate(), &plain(), None).is_err());
    let bad = with("/linux/namespaces", json!([{"type": "pid"}]));
    let refusal = check(&bad).unwrap_err();
    let late = under(&generate(), &bad, Some(made(&["read"]))).unwrap_err();
    assert_eq!(refusal.to_string(), late.to_string());
    assert_ne!(refusal.rule(), Some(Rule::Seccomp));
}

#[test]
fn where_the_profile_comes_from_is_told() {
    let reason = |origin: Origin| {
        let Outcome::Made(mut generated) = made(&["read"]) else {
            unreachable!("made")
        };
        generated.provenance.origin = origin;
        let hardened = under(&generate(), &plain(), Some(Outcome::Made(generated))).unwrap();
        let mut findings = hardened.report().findings.iter();
        let finding = findings.find(|f| f.asked == "calls of /bin/x").unwrap();
        finding.reason.clone()
    };
    assert!(reason(Origin::Kept).starts_with("kept from an earlier start"));
    assert!(reason(Origin::Made).starts_with("made at this start and kept"));
    assert!(reason(Origin::NotKept("so".to_owned())).contains("not kept: so"));
}

#[test]
fn annotations_choose_it_and_no_annotation_names_a_recording() {
    let text = "[policy.made]\nseccomp = \"generate\"\nseccomp_recordings = \"/r\"\n\
                [policy.bare]\nseccomp = \"generate\"\n[policy.two]\nextends = \"made\"\n\
                seccomp_recordings = \"/s\"\n[policy.none]\nextends = \"made\"\n\
                seccomp_recordings = \"\"\nbest_effort = [\"generated-seccomp\"]";
    let file = PolicyFile::parse(text, Path::new("p")).unwrap();
    let annotated = |name: &str, base: &str| {
        let json = with("/annotations", json!({POLICY_ANNOTATION: name}));
        let selection = Selection {
            command_line: Some(base.to_owned()),
            ..Selection::default()
        };
        let wanted = file.wants_generated(&selection, &spec(&json)).unwrap();
        wanted.map(|wanted| wanted.recordings)
    };
    assert_eq!(annotated("baseline", "baseline"), None);
    assert_eq!(annotated("made", "baseline"), Some(Some("/r".into())));
    assert_eq!(annotated("baseline", "made"), Some(Some("/r".into())));
    // Recordings allow more, so an annotation must not add or exchange them.
    assert_eq!(annotated("made", "bare"), Some(None));
    assert_eq!(annotated("two", "made"), Some(None));
    assert_eq!(annotated("made", "none"), Some(None));
    for (bad, why) in [
        ("seccomp_recordings = \"r\"", "absolute"),
        ("seccomp_recordings = \"/a/../b\"", "absolute"),
        ("seccomp = \"generated\"", "did you mean \"generate\"?"),
    ] {
        let text = format!("[policy.x]\n{bad}");
        let error = PolicyFile::parse(&text, Path::new("p")).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}
