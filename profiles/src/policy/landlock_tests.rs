//! What the policy's Landlock rules become on kernels of each ABI version.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use super::builtin::baseline;
use super::harden_tests::{host, plain, spec, with};
use super::landlock::{FileAccess, LandlockRules};
use super::model::BestEffort;
use super::*;
use crate::access::{Access, AccessPath, Place, Ports, Right, Scope, Source};
use crate::landlock::Gap;

fn mounts() -> LandlockRules {
    LandlockRules {
        files: FileAccess::Mounts,
        ..LandlockRules::default()
    }
}

fn judged(
    rules: &LandlockRules,
    best_effort: bool,
    json: &serde_json::Value,
    facts: impl Fn(HostFacts) -> HostFacts,
) -> Result<Hardened<oci_spec::runtime::Spec>, Refusal> {
    let spec = spec(json);
    let facts = facts(host(&spec));
    let mut policy = Policy {
        name: "test".to_owned(),
        landlock: rules.clone(),
        ..baseline()
    };
    if best_effort {
        policy.best_effort.insert(BestEffort::Landlock);
    }
    let mut file = PolicyFile::builtin();
    file.insert(policy);
    let selection = Selection {
        command_line: Some("test".to_owned()),
        ..Selection::default()
    };
    harden(spec, &file, &selection, &facts)
}

fn on(abi: u32) -> impl Fn(HostFacts) -> HostFacts {
    move |host| HostFacts {
        landlock_abi: (abi > 0).then_some(abi),
        ..host
    }
}

#[test]
fn a_kernel_that_cannot_enforce_it_is_refused_or_reported() {
    let all = LandlockRules {
        tcp_bind: Ports::Only(BTreeSet::from([80])),
        scope: Scope {
            signals: true,
            abstract_sockets: true,
        },
        ..mounts()
    };
    for (abi, gaps) in [
        (0, vec![Gap::Everything]),
        (
            1,
            vec![
                Gap::Truncate,
                Gap::DeviceIoctl,
                Gap::Ports,
                Gap::Signals,
                Gap::AbstractSockets,
            ],
        ),
        (
            3,
            vec![
                Gap::DeviceIoctl,
                Gap::Ports,
                Gap::Signals,
                Gap::AbstractSockets,
            ],
        ),
        (5, vec![Gap::Signals, Gap::AbstractSockets]),
    ] {
        let refusal = judged(&all, false, &plain(), on(abi)).expect_err("refused");
        let rules: Vec<Rule> = refusal.denials().iter().map(|d| d.rule).collect();
        assert_eq!(rules, vec![Rule::Landlock; gaps.len()], "ABI {abi}");
        // The line keeps what the policy takes as best effort already.
        let line = "best_effort = [\"apparmor\", \"landlock\"]";
        assert!(refusal.to_string().contains(line), "{refusal}");

        let started = judged(&all, true, &plain(), on(abi)).expect("best effort");
        let findings = started.report().findings.iter();
        let unenforced = findings
            .filter(|f| f.rule == Rule::Landlock && f.action == Action::Unenforced)
            .count();
        assert_eq!(unenforced, gaps.len(), "ABI {abi}");
        let told = started.landlock().map(|ruleset| ruleset.gaps.clone());
        assert_eq!(told, (abi > 0).then_some(gaps), "ABI {abi}");
    }
    let whole = judged(&all, false, &plain(), on(6)).expect("enforced");
    assert!(
        whole
            .landlock()
            .is_some_and(|ruleset| ruleset.gaps.is_empty())
    );
    assert_eq!(
        whole.record().landlock.as_ref(),
        whole.landlock(),
        "kept for exec"
    );
}

#[test]
fn exec_gets_what_init_got() {
    let init = judged(&mounts(), false, &plain(), on(7)).expect("enforced");
    let process = init.get().process().clone().expect("a process");
    let exec = harden_exec(process, &init.record()).expect("hardened");
    assert!(exec.landlock().is_some());
    assert_eq!(exec.landlock(), init.landlock());
}

#[test]
fn a_policy_without_rules_asks_for_nothing() {
    let started = judged(&LandlockRules::default(), false, &plain(), on(0)).expect("started");
    assert!(started.landlock().is_none());
    let findings = &started.report().findings;
    assert!(findings.iter().all(|f| f.rule != Rule::Landlock));
}

#[test]
fn documents_bound_the_mounts_and_a_bad_one_is_refused() {
    let rules = LandlockRules {
        documents: BTreeSet::from([PathBuf::from("/etc/a.json")]),
        ..LandlockRules::default()
    };
    let mut document = Access::new();
    let place = Place::subtree(AccessPath::new("/sys").expect("a path"));
    let rights = crate::access::Rights::of(&[Right::Read, Right::Write]);
    document
        .allow(place, rights, Source::Recording)
        .expect("room");
    let mut json = plain();
    json["root"]["readonly"] = json!(true);
    let with_document = |result: Option<Result<Access, String>>| {
        judged(&rules, true, &json, move |host| HostFacts {
            access: result
                .clone()
                .map(|r| (PathBuf::from("/etc/a.json"), r))
                .into_iter()
                .collect(),
            ..on(7)(host)
        })
    };
    let started = with_document(Some(Ok(document))).expect("enforced");
    let ruleset = started.landlock().expect("a ruleset");
    // The root and /sys are read-only: of the document the reading is left.
    assert_eq!(ruleset.lines(), ["/sys read"]);
    // Not even best effort does without.
    for bad in [None, Some(Err("it is broken".to_owned()))] {
        let refusal = with_document(bad).expect_err("refused");
        assert_eq!(refusal.rule(), Some(Rule::Landlock));
    }
}

#[test]
fn names_in_the_root_that_landlock_cannot_hold_are_reported() {
    let rules = LandlockRules {
        documents: BTreeSet::from([PathBuf::from("/etc/a.json")]),
        ..LandlockRules::default()
    };
    let mut document = Access::new();
    for name in ["/made", "/too"] {
        let place = Place::exact(AccessPath::new(name).expect("a path"));
        let rights = crate::access::Rights::of(&[Right::Create, Right::Write]);
        document
            .allow(place, rights, Source::Recording)
            .expect("room");
    }
    let started = judged(&rules, false, &plain(), |host| HostFacts {
        access: [(PathBuf::from("/etc/a.json"), Ok(document.clone()))].into(),
        ..on(7)(host)
    });
    let started = started.expect("enforced");
    let ruleset = started.landlock().expect("a ruleset");
    assert_eq!(ruleset.lines(), ["/made write", "/too write"]);
    let findings = &started.report().findings;
    let left_out = findings
        .iter()
        .find(|f| f.got.contains("no names are made"));
    let left_out = left_out.expect("reported");
    assert_eq!(
        (left_out.rule, left_out.action),
        (Rule::Landlock, Action::Removed)
    );
    assert!(
        left_out.asked.contains("/made and 1 more"),
        "{}",
        left_out.asked
    );
}

#[test]
fn annotations_add_and_never_take_away() {
    let annotated = |value: &str| with("/annotations", json!({LANDLOCK_ANNOTATION: value}));
    let bound = judged(&mounts(), false, &annotated("off"), on(7)).expect("started");
    let plain_one = judged(&mounts(), false, &plain(), on(7)).expect("started");
    assert_eq!(bound.landlock(), plain_one.landlock());
    let more = annotated("tcp-connect=, signals");
    let more = judged(&mounts(), false, &more, on(7)).expect("started");
    let ruleset = more.landlock().expect("a ruleset");
    assert_eq!(
        ruleset.paths,
        plain_one.landlock().expect("a ruleset").paths
    );
    let lines = ruleset.lines();
    assert!(lines.contains(&"connect TCP: none".to_owned()), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains("signals")),
        "{lines:?}"
    );
    let wrong = judged(&mounts(), false, &annotated("everything"), on(7));
    assert!(matches!(wrong, Err(Refusal::AnnotationValue { .. })));
}

#[test]
fn the_meet_of_two_policies_bounds_what_either_bounds() {
    let a = LandlockRules {
        documents: BTreeSet::from([PathBuf::from("/a")]),
        tcp_bind: Ports::Only(BTreeSet::from([80, 443])),
        ..LandlockRules::default()
    };
    let b = LandlockRules {
        documents: BTreeSet::from([PathBuf::from("/b")]),
        tcp_bind: Ports::Only(BTreeSet::from([80])),
        scope: Scope {
            signals: true,
            abstract_sockets: false,
        },
        ..mounts()
    };
    let both = LandlockRules {
        documents: BTreeSet::from([PathBuf::from("/a"), PathBuf::from("/b")]),
        ..b.clone()
    };
    let with = |rules: &LandlockRules| Policy {
        landlock: rules.clone(),
        ..baseline()
    };
    assert_eq!(with(&a).meet(&with(&b)).landlock, both);
    assert_eq!(with(&b).meet(&with(&a)).landlock, both);
    assert_eq!(with(&a).meet(&baseline()).landlock, a);
}
