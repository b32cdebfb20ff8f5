//! Whole specs through the whole recipe.

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::model::{Denials, Verdict};
use super::*;
use crate::capability::{self, Set};

/// What containerd makes for a container that asks for nothing.
pub(crate) fn plain() -> Value {
    let default = capability::ENGINE_DEFAULT;
    json!({
        "ociVersion": "1.1.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "cwd": "/",
            "capabilities": {"bounding": default, "effective": default, "permitted": default},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                           {"type": "network"}, {"type": "cgroup"}],
            "resources": {"devices": [{"allow": false, "access": "rwm"}]}
        }
    })
}

pub(crate) fn spec(json: &Value) -> Spec {
    parse_spec(json.to_string().as_bytes()).unwrap()
}

/// A host where every path is itself and `/proc/1/ns/*` is the host's.
pub(crate) fn host(spec: &Spec) -> HostFacts {
    let questions = Questions::of(spec);
    let sources = questions.mount_sources.into_iter();
    HostFacts {
        mount_sources: sources.map(|path| (path.clone(), path)).collect(),
        namespaces: questions
            .namespaces
            .into_iter()
            .map(|path| {
                let host = path.starts_with("/proc/1/");
                let owner = [NamespaceOwner::Other, NamespaceOwner::Host][usize::from(host)];
                (path, owner)
            })
            .collect(),
        ..HostFacts::default()
    }
}

pub(crate) fn under(policy: &Policy, json: &Value) -> Result<Hardened<Spec>, Refusal> {
    let spec = spec(json);
    let host = host(&spec);
    let mut file = PolicyFile::builtin();
    file.insert(Policy {
        name: "test".to_owned(),
        ..policy.clone()
    });
    let selection = Selection {
        command_line: Some("test".to_owned()),
        ..Selection::default()
    };
    harden(spec, &file, &selection, &host)
}

pub(crate) fn baseline(json: &Value) -> Result<Hardened<Spec>, Refusal> {
    under(&builtin::baseline(), json)
}

pub(crate) fn refused_by(json: &Value) -> Vec<Rule> {
    let refusal = baseline(json).unwrap_err();
    refusal.denials().iter().map(|d| d.rule).collect()
}

pub(crate) fn bounding(spec: &Spec) -> Set {
    let process = spec.process().as_ref().unwrap();
    Set::from_oci(process.capabilities().as_ref().unwrap().bounding().as_ref())
}

/// `plain` with the value at a JSON pointer replaced, or appended where the pointer ends in `-`.
pub(crate) fn with(pointer: &str, value: Value) -> Value {
    let mut json = plain();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(list) => list.push(value),
        other => other[key] = value,
    }
    json
}

pub(crate) fn without_namespace(name: &str) -> Value {
    let mut json = plain();
    let list = json["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|n| n["type"] != name);
    json
}

#[test]
fn an_ordinary_container_keeps_what_it_needs() {
    let hardened = baseline(&plain()).unwrap();
    assert_eq!(bounding(hardened.get()), capability::BASELINE);
    let summary = &hardened.report().summary;
    assert!(summary.no_new_privileges);
    assert_eq!(
        summary.capabilities_dropped.to_string(),
        "NET_RAW MKNOD AUDIT_WRITE"
    );
    assert_eq!(
        hardened.report().policy,
        "test (chosen by the command line)"
    );
    let linux = hardened.get().linux().as_ref().unwrap();
    let masked = linux.masked_paths().as_ref().unwrap();
    assert!(masked.contains(&"/proc/kcore".to_owned()));
}

#[test]
fn hardening_twice_changes_nothing() {
    let once = baseline(&plain()).unwrap();
    let mut json = serde_json::to_value(once.get()).unwrap();
    // The ids of the namespace that was put in are handed out later: no engine leaves them out.
    let namespaces = json["linux"]["namespaces"].as_array_mut().unwrap();
    assert_eq!(namespaces.pop().unwrap(), json!({"type": "user"}));
    assert!(once.own_ids());
    let twice = baseline(&json).unwrap();
    let without_seccomp = |hardened: &Hardened<Spec>| {
        let mut spec = hardened.get().clone();
        spec.linux_mut().as_mut().unwrap().set_seccomp(None);
        spec
    };
    assert_eq!(without_seccomp(&once), without_seccomp(&twice));
    assert_eq!(
        once.report().summary,
        Summary {
            seccomp: once.report().summary.seccomp.clone(),
            capabilities_dropped: once.report().summary.capabilities_dropped,
            ..twice.report().summary.clone()
        }
    );
}

#[test]
fn exec_gets_no_more_than_init() {
    let record = baseline(&plain()).unwrap().record();
    let mut process = spec(&plain()).process().clone().unwrap();
    process.set_no_new_privileges(Some(false)).set_rlimits(None);
    let hardened = harden_exec(process, &record).unwrap();
    let sets = hardened.get().capabilities().as_ref().unwrap();
    assert_eq!(
        Set::from_oci(sets.effective().as_ref()),
        capability::BASELINE
    );
    assert_eq!(hardened.get().no_new_privileges(), Some(true));
    assert_eq!(hardened.get().rlimits().as_ref().unwrap()[0].hard(), 1024);
}

#[test]
fn a_privileged_exec_is_refused() {
    let record = baseline(&plain()).unwrap().record();
    let all: Set = capability::ALL.iter().copied().collect();
    let json = with(
        "/process/capabilities",
        json!({"bounding": all, "effective": all}),
    );
    let process = spec(&json).process().clone().unwrap();
    let refusal = harden_exec(process, &record).unwrap_err();
    assert_eq!(refusal.rule(), Some(Rule::Privileged));
}

#[test]
fn a_capability_beyond_is_refused() {
    let json = with("/process/capabilities/bounding", json!(["CAP_SYS_ADMIN"]));
    assert_eq!(
        baseline(&json).unwrap_err().to_string(),
        "cofferdam: policy \"test\" refuses the capabilities SYS_ADMIN (rule capabilities, \
         field process.capabilities): they are beyond the policy's bounding set and reach for the \
         host. To allow it: do not add them (--cap-add), or select a policy that extends \
         \"test\" with `capabilities.bounding = [..., \"SYS_ADMIN\"]`"
    );
}

#[test]
fn a_privileged_container_is_one_refusal_or_an_ordinary_container() {
    let all: Set = capability::ALL.iter().copied().collect();
    let mut json = with(
        "/process/capabilities",
        json!({"bounding": all, "effective": all, "permitted": all}),
    );
    json["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    json["linux"]["devices"] = json!([{"path": "/dev/sda", "type": "b", "major": 8, "minor": 0}]);
    json["mounts"][2]["options"] = json!(["rw"]);
    assert_eq!(refused_by(&json), [Rule::Privileged]);

    let mut policy = builtin::baseline();
    policy.privileged = Verdict::Strip;
    let stripped = under(&policy, &json).unwrap();
    let ordinary = under(&policy, &plain()).unwrap();
    let (stripped, ordinary) = (stripped.get(), ordinary.get());
    assert_eq!(bounding(stripped), bounding(ordinary));
    let linux = |spec: &Spec| spec.linux().clone().unwrap();
    assert_eq!(linux(stripped).resources(), linux(ordinary).resources());
    assert_eq!(linux(stripped).devices(), &Some(vec![]));
    assert_eq!(
        linux(stripped).masked_paths(),
        linux(ordinary).masked_paths()
    );
    let sys = &stripped.mounts().as_ref().unwrap()[2];
    assert_eq!(sys.options(), &Some(vec!["ro".to_owned()]));
}

#[test]
fn restricted_wants_another_user_than_root() {
    let restricted = builtin::restricted();
    let refusal = under(&restricted, &plain()).unwrap_err();
    assert_eq!(refusal.rule(), Some(Rule::RunAsRoot));
    let hardened = under(&restricted, &with("/process/user/uid", json!(1000))).unwrap();
    assert_eq!(bounding(hardened.get()).to_string(), "NET_BIND_SERVICE");
    let record = hardened.record();
    let root = spec(&plain()).process().clone().unwrap();
    let refusal = harden_exec(root, &record).unwrap_err();
    assert_eq!(refusal.rule(), Some(Rule::RunAsRoot));
}

#[test]
fn a_recording_is_made_only_where_the_file_allows_the_key() {
    let asks = |name: &str| with("/annotations", json!({"cofferdam.dev/record": name}));
    let harden_in = |file: &PolicyFile, json: &Value| {
        let asked = spec(json);
        let host = host(&asked);
        harden(asked, file, &Selection::default(), &host).map(|hardened| hardened.report().clone())
    };
    let closed = PolicyFile::builtin();
    assert!(matches!(
        harden_in(&closed, &asks("web")),
        Err(Refusal::RecordingNotAllowed)
    ));
    let text = "[annotations]\nallow = [\"cofferdam.dev/record\"]\n";
    let open = PolicyFile::parse(text, std::path::Path::new("policy.toml")).unwrap();
    let report = harden_in(&open, &asks("web")).unwrap();
    assert_eq!(report.summary.recording.as_deref(), Some("web"));
    let finding = report.findings.iter().find(|f| f.field == "annotations");
    let finding = finding.unwrap();
    assert!(finding.got.contains(&report.summary.seccomp), "{finding:?}");
    assert!(matches!(
        harden_in(&open, &asks("../web")),
        Err(Refusal::RecordingName { .. })
    ));
    let none = harden_in(&open, &with("/annotations", json!({}))).unwrap();
    assert_eq!(none.summary.recording, None);
}

#[test]
fn selection_follows_the_order_and_annotations_only_tighten() {
    let annotated = |name: &str| with("/annotations", json!({"cofferdam.dev/policy": name}));
    let file = PolicyFile::builtin();
    let choose_in = |environment: Option<&str>, json: &Value, line, handler: Option<&str>| {
        let line: Option<&str> = line;
        let selection = Selection {
            command_line: line.map(str::to_owned),
            handler: handler.map(str::to_owned),
            environment: environment.map(str::to_owned),
        };
        file.select(&selection, spec(json).annotations().as_ref())
            .map(|(policy, _)| policy.name)
    };
    let choose = |json: &Value, line, handler| choose_in(None, json, line, handler);
    let none = with("/annotations", json!({"other": "x"}));
    assert_eq!(choose(&none, None, None).unwrap(), "baseline");
    assert_eq!(
        choose(&none, None, Some("restricted")).unwrap(),
        "restricted"
    );
    assert_eq!(
        choose(&none, Some("baseline"), Some("restricted")).unwrap(),
        "baseline"
    );
    // An engine's environment holds for all its handlers: the one that names a policy means it.
    for (environment, line, handler, expected) in [
        (Some("restricted"), None, None, "restricted"),
        (Some("baseline"), None, Some("restricted"), "restricted"),
        (Some("baseline"), Some("restricted"), None, "restricted"),
    ] {
        let chosen = choose_in(environment, &none, line, handler);
        assert_eq!(chosen.unwrap(), expected);
    }
    assert!(matches!(
        choose_in(Some("lax"), &none, None, None),
        Err(Refusal::UnknownPolicy { .. })
    ));
    let met = choose(&annotated("baseline"), None, Some("restricted")).unwrap();
    assert_eq!(met, "baseline+restricted");
    assert!(matches!(
        choose(&annotated("lax"), None, None),
        Err(Refusal::UnknownPolicy { .. })
    ));
    let typo = with("/annotations", json!({"cofferdam.dev/polcy": "restricted"}));
    assert!(matches!(
        choose(&typo, None, None),
        Err(Refusal::UnknownAnnotation { .. })
    ));
}

#[test]
fn denials_are_explained_if_the_policy_or_an_allowed_annotation_says_so() {
    let explaining = "default = \"e\"\n[policy.e]\ndenials = \"explain\"\n";
    let allowing = "[annotations]\nallow = [\"cofferdam.dev/denials\"]\n";
    let table = [
        ("", None, Denials::Silent, None),
        ("", Some("explain"), Denials::Silent, Some(Action::Removed)),
        ("", Some("silent"), Denials::Silent, None),
        (
            allowing,
            Some("explain"),
            Denials::Explain,
            Some(Action::Granted),
        ),
        (allowing, None, Denials::Silent, None),
        (explaining, None, Denials::Explain, Some(Action::Added)),
        (explaining, Some("silent"), Denials::Silent, None),
        (
            explaining,
            Some("explain"),
            Denials::Explain,
            Some(Action::Granted),
        ),
    ];
    for (text, annotation, expected, noted) in table {
        let file = PolicyFile::parse(text, std::path::Path::new("x")).unwrap();
        let json = match annotation {
            Some(value) => with("/annotations", json!({"cofferdam.dev/denials": value})),
            None => plain(),
        };
        let spec = spec(&json);
        let host = host(&spec);
        let hardened = harden(spec, &file, &Selection::default(), &host).unwrap();
        assert_eq!(hardened.policy().denials, expected, "{text} {annotation:?}");
        let findings = hardened.report().findings.iter();
        let mut found = findings.filter(|finding| finding.rule == Rule::Denials);
        assert_eq!(found.next().map(|finding| finding.action), noted, "{text}");
    }
    // An annotated policy does not turn it on, and does not turn it off by accident of its name.
    let file = format!("{explaining}[policy.quiet]\n");
    let file = PolicyFile::parse(&file, std::path::Path::new("x")).unwrap();
    for (base, annotated, expected) in [
        ("e", "e", Denials::Explain),
        ("quiet", "e", Denials::Silent),
        ("e", "quiet", Denials::Silent),
    ] {
        let spec = spec(&with(
            "/annotations",
            json!({"cofferdam.dev/policy": annotated}),
        ));
        let selection = Selection {
            command_line: Some(base.to_owned()),
            ..Selection::default()
        };
        let (policy, _) = file
            .select(&selection, spec.annotations().as_ref())
            .unwrap();
        assert_eq!(policy.denials, expected, "{base} {annotated}");
    }
    let bad = spec(&with(
        "/annotations",
        json!({"cofferdam.dev/denials": "loud"}),
    ));
    assert!(matches!(
        PolicyFile::builtin().select(&Selection::default(), bad.annotations().as_ref()),
        Err(Refusal::AnnotationValue { .. })
    ));
}
