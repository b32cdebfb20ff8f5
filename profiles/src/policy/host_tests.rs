//! What depends on the host: labels, resolved paths, pods, where nodes are made.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::harden_tests::{baseline, host, plain, refused_by, spec, with};
use super::model::Verdict;
use super::rule_tests::bind;
use super::*;
use crate::capability::{self, Set};

fn judged(
    json: &Value,
    policy: &Policy,
    host_with: impl Fn(HostFacts) -> HostFacts,
) -> Result<Hardened<oci_spec::runtime::Spec>, Refusal> {
    let spec = spec(json);
    let host = host_with(host(&spec));
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

#[test]
fn unconfined_is_refused_in_every_form_the_kernel_takes() {
    for (profile, refused) in [
        ("unconfined", true),
        (":root:unconfined", true),
        ("docker-default//&unconfined", true),
        (" unconfined", true),
        ("docker-default", false),
        ("not-unconfined", false),
    ] {
        let json = with("/process/apparmorProfile", json!(profile));
        let spec = spec(&json);
        let host = HostFacts {
            apparmor: true,
            ..host(&spec)
        };
        let hardened = harden(spec, &PolicyFile::builtin(), &Selection::default(), &host);
        assert_eq!(hardened.is_err(), refused, "{profile}");
    }
}

#[test]
fn an_absent_apparmor_profile_is_unconfined_too() {
    let strict = builtin::restricted();
    let lax = Policy {
        apparmor_unconfined: Verdict::Allow,
        ..builtin::baseline()
    };
    let loaded = &["cri-containerd.apparmor.d", "docker-default"][..];
    let mut user = with("/process/user", json!({"uid": 1000, "gid": 1000}));
    user["process"]["capabilities"] = json!({});
    for (asked, policy, on, profiles, expected) in [
        // Refused, or given a profile.
        (None, &strict, true, &[][..], Err(Rule::Apparmor)),
        (
            None,
            &strict,
            true,
            loaded,
            Ok(Some("cri-containerd.apparmor.d")),
        ),
        (Some(""), &strict, true, &[], Err(Rule::Apparmor)),
        (
            None,
            &builtin::baseline(),
            true,
            loaded,
            Ok(Some("cri-containerd.apparmor.d")),
        ),
        (
            Some("unconfined"),
            &builtin::baseline(),
            true,
            loaded,
            Err(Rule::Apparmor),
        ),
        // Best effort, with a line in the report.
        (None, &builtin::baseline(), true, &[], Ok(None)),
        // What names a profile keeps it.
        (Some("mine"), &strict, true, loaded, Ok(Some("mine"))),
        // No AppArmor, or a policy that does not ask for it.
        (None, &strict, false, &[], Ok(None)),
        (None, &lax, true, loaded, Ok(None)),
    ] {
        let mut json = user.clone();
        json["process"]["apparmorProfile"] = json!(asked);
        let hardened = judged(&json, policy, |host| HostFacts {
            apparmor: on,
            apparmor_profiles: profiles.iter().map(ToString::to_string).collect(),
            ..host
        });
        let case = format!(
            "{asked:?} under {}, AppArmor {on}, {profiles:?}",
            policy.name
        );
        let found = match &hardened {
            Ok(hardened) => Ok(hardened
                .get()
                .process()
                .as_ref()
                .unwrap()
                .apparmor_profile()
                .as_deref()),
            Err(refusal) => Err(refusal.rule().unwrap()),
        };
        assert_eq!(found, expected, "{case}");
        let Ok(hardened) = hardened else { continue };
        let findings = &hardened.report().findings;
        let said = findings.iter().any(|f| f.rule == Rule::Apparmor);
        let silent = asked == Some("mine") || !on || policy.apparmor_unconfined == Verdict::Allow;
        assert_eq!(said, !silent, "{case}: {findings:?}");
    }
}

/// A stripped privileged container is an ordinary one, with the profile that those get.
#[test]
fn a_stripped_container_gets_the_engines_profile() {
    let all: Set = capability::ALL.iter().copied().collect();
    let mut json = with(
        "/process/capabilities",
        json!({"bounding": all, "effective": all, "permitted": all}),
    );
    json["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
    let policy = Policy {
        privileged: Verdict::Strip,
        ..builtin::baseline()
    };
    for asked in [None, Some("unconfined"), Some(":root:unconfined")] {
        json["process"]["apparmorProfile"] = json!(asked);
        assert!(facts::Questions::of(&spec(&json)).apparmor_profiles);
        let hardened = judged(&json, &policy, |host| HostFacts {
            apparmor: true,
            apparmor_profiles: vec!["docker-default".to_owned()],
            ..host
        });
        let hardened = hardened.unwrap();
        let process = hardened.get().process().as_ref().unwrap();
        let profile = process.apparmor_profile().as_deref();
        assert_eq!(profile, Some("docker-default"), "{asked:?}");
        // Where none is loaded it is refused or taken as best effort like any other, for that reason.
        let bare = |policy: &Policy| {
            judged(&json, policy, |host| HostFacts {
                apparmor: true,
                ..host
            })
        };
        let strict = Policy {
            best_effort: [].into(),
            ..policy.clone()
        };
        let refusal = bare(&strict).unwrap_err();
        assert_eq!(refusal.rule(), Some(Rule::Apparmor), "{asked:?}");
        let hardened = bare(&policy).unwrap();
        let process = hardened.get().process().as_ref().unwrap();
        assert_eq!(process.apparmor_profile(), &None, "{asked:?}");
        let mut findings = hardened.report().findings.iter();
        let finding = findings.find(|f| f.rule == Rule::Apparmor).unwrap();
        assert_eq!(finding.action, Action::Unenforced, "{asked:?}");
        let reasons = [&refusal.denials()[0].why, &finding.reason];
        for (reason, end) in reasons.into_iter().zip(["in its place", "best effort"]) {
            assert_eq!(
                reason.contains("strips \"unconfined\""),
                asked.is_some(),
                "{asked:?}: {reason}"
            );
            assert!(asked.is_none() || reason.ends_with(end), "{reason}");
        }
    }
}

#[test]
fn a_selinux_type_that_is_no_containers_is_refused() {
    let listed = Policy {
        selinux_types: ["my_app_t".to_owned()].into(),
        ..builtin::baseline()
    };
    let lax = Policy {
        selinux_unconfined: Verdict::Allow,
        ..builtin::baseline()
    };
    for (label, refused) in [
        ("system_u:system_r:container_t:s0:c1,c2", false),
        ("system_u:system_r:container_init_t:s0", false),
        ("system_u:system_r:spc_t:s0", true),
        ("system_u:system_r:spc_t", true),
        (
            "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023",
            true,
        ),
        ("u:r:unconfined_service_t:s0", true),
        ("u:r:unconfined_anything_t:s0", true),
        ("system_u:system_r:container_runtime_t:s0", true),
        ("system_u:system_r:kernel_t:s0", true),
        ("unconfined_u:unconfined_r:container_t:s0", false),
        ("system_u:system_r:svirt_lxc_net_t:s0:c1,c2", false),
        ("system_u:system_r:container_runtime_tmp_t:s0", true),
        // Of services, some as powerful as the unconfined types; no list can have them all.
        ("system_u:system_r:rpm_script_t:s0", true),
        ("system_u:system_r:my_app_t:s0", true),
        ("my_container_t", true),
        ("system_u:system_r:my_container_t:s0", true),
        ("", false),
        ("container_t", true),
    ] {
        let json = with("/process/selinuxLabel", json!(label));
        let selinux = |host| HostFacts {
            selinux: true,
            ..host
        };
        let hardened = judged(&json, &builtin::baseline(), selinux);
        let rule = hardened.as_ref().err().and_then(Refusal::rule);
        assert_eq!(rule, refused.then_some(Rule::Selinux), "{label}");
        let refused = refused && !label.contains(":my_app_t:");
        let hardened = judged(&json, &listed, selinux);
        assert_eq!(hardened.is_err(), refused, "{label} under a list");
        let hardened = judged(&json, &lax, selinux).unwrap();
        let process = hardened.get().process().as_ref().unwrap();
        let expected = Some(label).filter(|label| !label.is_empty());
        assert_eq!(process.selinux_label().as_deref(), expected);
    }
}

#[test]
fn volumes_of_another_pod_are_refused() {
    let volume = "/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~secret/token";
    let mut json = bind(volume, "/token", &["rbind", "ro"]);
    assert_eq!(refused_by(&json), [Rule::SensitiveMounts]);
    json["annotations"] = json!({"io.kubernetes.cri.sandbox-uid": "0a1b"});
    baseline(&json).unwrap();
    json["linux"]["cgroupsPath"] = json!("/kubepods/burstable/podffff/c0");
    assert_eq!(refused_by(&json), [Rule::SensitiveMounts]);
    json["linux"]["cgroupsPath"] = json!("kubepods-burstable-pod0a1b.slice:cri-containerd:c0");
    baseline(&json).unwrap();
}

#[test]
fn nodes_are_not_made_in_the_hosts_directories() {
    let node = |path: &str| json!([{"path": path, "type": "c", "major": 1, "minor": 3}]);
    let volume = bind("/srv/data", "/data", &["rbind", "rw"]);
    for (path, refused) in [
        ("/data/null", true),
        ("/data/deep/null", true),
        ("/data/./null", true),
        ("/dev/null2", false),
        ("/database/null", false),
        ("/data/tmp/null", false),
    ] {
        let mut json = volume.clone();
        let mounts = json["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/data/tmp", "type": "tmpfs", "source": "tmpfs"}));
        json["linux"]["devices"] = node(path);
        let hardened = baseline(&json);
        assert_eq!(hardened.is_err(), refused, "{path}");
        if let Err(refusal) = hardened {
            let [denial] = refusal.denials() else {
                panic!("{refusal}");
            };
            assert_eq!(
                (denial.rule, &*denial.field),
                (Rule::Devices, "linux.devices")
            );
            assert!(denial.asked.contains("/srv/data") && denial.asked.contains(path));
        }
    }
}

#[test]
fn the_last_mount_at_a_directory_counts() {
    let tmpfs = json!({"destination": "/data/tmp", "type": "tmpfs", "source": "tmpfs"});
    let mut json = bind("/srv/data", "/data", &["rbind", "rw"]);
    let mounts = json["mounts"].as_array_mut().unwrap();
    let at = mounts.len() - 1;
    mounts.insert(at, tmpfs);
    mounts.push(json!({"destination": "/data", "type": "none", "options": ["remount", "ro"]}));
    json["linux"]["devices"] =
        json!([{"path": "/data/tmp/null", "type": "c", "major": 1, "minor": 3}]);
    assert!(refused_by(&json).contains(&Rule::Devices));
}

#[test]
fn the_root_is_the_path_that_was_judged() {
    let spec = spec(&plain());
    let mut host = host(&spec);
    host.mount_sources
        .insert("rootfs".into(), "/srv/c/rootfs".into());
    let file = PolicyFile::builtin();
    let hardened = harden(spec, &file, &Selection::default(), &host).unwrap();
    let root = hardened.get().root().as_ref().unwrap();
    assert_eq!(root.path(), &PathBuf::from("/srv/c/rootfs"));
}

#[test]
fn binds_carry_the_canonical_source() {
    let spec = spec(&bind("/srv/link", "/data", &["bind"]));
    let mut host = host(&spec);
    host.mount_sources
        .insert("/srv/link".into(), "/srv/target".into());
    let file = PolicyFile::builtin();
    let hardened = harden(spec.clone(), &file, &Selection::default(), &host).unwrap();
    let mount = hardened.get().mounts().as_ref().unwrap().last().unwrap();
    assert_eq!(mount.source(), &Some(PathBuf::from("/srv/target")));
    host.mount_sources
        .insert("/srv/link".into(), "/run/docker.sock".into());
    assert!(harden(spec.clone(), &file, &Selection::default(), &host).is_err());
    host.mount_sources.clear();
    assert!(harden(spec, &file, &Selection::default(), &host).is_err());
}
