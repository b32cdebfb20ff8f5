//! From a hardened spec to what a guest is told, and what stands in for it.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde_json::json;

use super::harden_tests::{baseline, plain, under, with};
use super::microvm::{GuestError, Places, Plan, StandIn, for_guest, stand_in};
use super::model::Isolation;
use super::*;

fn places(joins_pod: bool) -> Places<'static> {
    Places {
        share: Path::new("/share/c"),
        shared_memory: Path::new("/shm"),
        joins_pod,
    }
}

fn planned(json: &serde_json::Value) -> Result<Plan, GuestError> {
    let hardened = under(&lax(), json).unwrap();
    for_guest(&hardened, places(false))
}

/// Lets through what the guest is then asked about.
fn lax() -> Policy {
    let mut policy = builtin::baseline();
    policy.devices.beyond = model::Verdict::Allow;
    policy.host_namespaces.network = model::Verdict::Allow;
    policy
}

fn kinds(spec: &Spec) -> Vec<LinuxNamespaceType> {
    let linux = spec.linux().as_ref().unwrap();
    let namespaces = linux.namespaces().iter().flatten();
    namespaces.map(|namespace| namespace.typ()).collect()
}

#[test]
fn a_guest_is_told_the_same_with_its_own_paths() {
    let mut json = with(
        "/mounts/-",
        json!({"destination": "/data", "type": "bind", "source": "/v", "options": ["rbind", "ro"]}),
    );
    json["mounts"].as_array_mut().unwrap().push(
        json!({"destination": "/dev/shm", "type": "bind", "source": "/run/shm", "options": ["rbind"]}),
    );
    json["linux"]["sysctl"] =
        json!({"net.ipv4.ip_unprivileged_port_start": "0", "kernel.shm_rmid_forced": "1"});
    let hardened = baseline(&json).unwrap();
    assert!(hardened.own_ids());
    let plan = for_guest(&hardened, places(false)).unwrap();
    let spec = &plan.record.spec;
    assert_eq!(
        spec.root().as_ref().unwrap().path(),
        Path::new("/share/c/rootfs")
    );
    let sources: Vec<_> = spec
        .mounts()
        .iter()
        .flatten()
        .filter_map(|m| m.source().clone())
        .collect();
    assert!(
        sources.contains(&PathBuf::from("/share/c/mounts/3")),
        "{sources:?}"
    );
    assert!(sources.contains(&PathBuf::from("/shm")) && !sources.contains(&PathBuf::from("/v")));
    let places: Vec<_> = plan
        .shared
        .iter()
        .map(|s| (s.place.as_str(), s.read_only))
        .collect();
    assert_eq!(places, [("rootfs", false), ("mounts/3", true)]);
    // What confines it stays; what is the machine's goes.
    assert_eq!(
        spec.process().as_ref().unwrap().capabilities(),
        hardened.get().process().as_ref().unwrap().capabilities()
    );
    let linux = |spec: &Spec| spec.linux().clone().unwrap();
    assert!(linux(spec).seccomp().is_some());
    assert_eq!(linux(spec).seccomp(), linux(hardened.get()).seccomp());
    assert_eq!(
        linux(spec).masked_paths(),
        linux(hardened.get()).masked_paths()
    );
    let left: Vec<_> = linux(spec).sysctl().clone().unwrap().into_keys().collect();
    assert_eq!(left, ["kernel.shm_rmid_forced"]);
    assert_eq!(plan.parameters["net.ipv4.ip_unprivileged_port_start"], "0");
    let kinds = kinds(spec);
    assert!(
        !kinds.contains(&LinuxNamespaceType::Network) && !kinds.contains(&LinuxNamespaceType::User)
    );
    assert!(kinds.contains(&LinuxNamespaceType::Pid) && kinds.contains(&LinuxNamespaceType::Mount));
    assert!(
        plan.record
            .report
            .findings
            .iter()
            .any(|f| f.rule == Rule::Isolation)
    );
}

#[test]
fn what_no_guest_has_is_refused() {
    let device = json!({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229});
    let mut devices = plain();
    devices["linux"]["devices"] = json!([device]);
    let mut network = plain();
    network["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|namespace| namespace["type"] != "network");
    let mut hooks = plain();
    hooks["hooks"] = json!({"createContainer": [{"path": "/bin/true"}]});
    let mut joined = plain();
    let namespaces = joined["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "ipc");
    namespaces.push(json!({"type": "ipc", "path": "/proc/7/ns/ipc"}));
    for (name, json) in [
        ("devices", devices),
        ("network", network),
        ("hooks", hooks),
        ("ipc", joined),
    ] {
        let refused = planned(&json).map(drop);
        assert!(
            matches!(refused, Err(GuestError::Unsupported { .. })),
            "{name}: {refused:?}"
        );
    }
    assert!(planned(&plain()).is_ok());
}

#[test]
fn labels_are_best_effort_or_refused() {
    let json = with(
        "/process/apparmorProfile",
        json!("cri-containerd.apparmor.d"),
    );
    let harden_with = |best_effort: bool| {
        let mut policy = builtin::baseline();
        if !best_effort {
            policy.best_effort.clear();
        }
        let spec = harden_tests::spec(&json);
        let host = HostFacts {
            apparmor: true,
            apparmor_profiles: vec!["cri-containerd.apparmor.d".to_owned()],
            ..harden_tests::host(&spec)
        };
        let mut file = PolicyFile::builtin();
        policy.name = "test".to_owned();
        file.insert(policy);
        let selection = Selection {
            command_line: Some("test".to_owned()),
            ..Selection::default()
        };
        harden(spec, &file, &selection, &host).unwrap()
    };
    assert!(for_guest(&harden_with(false), places(false)).is_err());
    let plan = for_guest(&harden_with(true), places(false)).unwrap();
    assert_eq!(
        plan.record
            .spec
            .process()
            .as_ref()
            .unwrap()
            .apparmor_profile(),
        &None
    );
    let told = plan
        .record
        .report
        .findings
        .iter()
        .any(|finding| finding.rule == Rule::Apparmor && finding.action == Action::Unenforced);
    assert!(told);
}

#[test]
fn what_stands_in_has_nothing() {
    let mut json = plain();
    json["hooks"] = json!({"prestart": [{"path": "/bin/true"}]});
    json["linux"]["cgroupsPath"] = json!("/a/b");
    let hardened = baseline(&json).unwrap();
    let plan = for_guest(&hardened, places(false)).unwrap();
    let made = StandIn {
        arguments: vec!["/stand-in".to_owned()],
        user: 4242,
        root: "/r".into(),
        files: vec![("/p".into(), "/stand-in".into(), false)],
        network: "/n".into(),
    };
    let stand_in = stand_in(&hardened, &plan, made).unwrap();
    let spec = stand_in.get();
    let process = spec.process().as_ref().unwrap();
    assert_eq!((process.user().uid(), process.user().gid()), (4242, 4242));
    assert!(process.capabilities().is_none() && process.no_new_privileges() == Some(true));
    let linux = spec.linux().as_ref().unwrap();
    let filter = linux.seccomp().as_ref().unwrap();
    let names: Vec<&String> = filter
        .syscalls()
        .iter()
        .flatten()
        .flat_map(|s| s.names())
        .collect();
    for dangerous in [
        "ptrace", "mount", "unshare", "setns", "bpf", "keyctl", "kill",
    ] {
        assert!(!names.iter().any(|name| *name == dangerous), "{dangerous}");
    }
    crate::seccomp::compile(filter).unwrap();
    assert_eq!(linux.cgroups_path(), &Some(PathBuf::from("/a/b")));
    assert!(spec.hooks().is_some() && spec.root().as_ref().unwrap().readonly() == Some(true));
    let network = linux
        .namespaces()
        .iter()
        .flatten()
        .find(|n| n.typ() == LinuxNamespaceType::Network);
    assert_eq!(network.unwrap().path(), &Some(PathBuf::from("/n")));
}

/// An annotation asks for more than the policy, never for less.
#[test]
fn an_annotation_only_adds_isolation() {
    let isolation = |policy: Isolation, asked: &str| {
        let policy = Policy {
            isolation: policy,
            ..builtin::baseline()
        };
        let json = with("/annotations", json!({"cofferdam.dev/isolation": asked}));
        under(&policy, &json).map(|hardened| hardened.policy().isolation)
    };
    let (host, machine) = (Isolation::HostKernel, Isolation::Microvm);
    assert_eq!(isolation(host, "microvm").unwrap(), machine);
    assert_eq!(isolation(host, "host-kernel").unwrap(), host);
    assert_eq!(isolation(machine, "host-kernel").unwrap(), machine);
    assert!(isolation(host, "vm").is_err());
}
