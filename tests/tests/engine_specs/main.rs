//! The specs engines really write, through the built-in policies: ordinary containers keep working,
//! what reaches for the host is refused by the rule that says why.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod specs;

use cofferdam_profiles::capability;
use cofferdam_profiles::policy::{
    Hardened, HostFacts, NamespaceOwner, PolicyFile, Questions, Refusal, Rule, Selection, harden,
    parse_spec,
};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use specs::{bind, cri, cri_restricted, ctr, default_capabilities, docker, podman};

fn facts(spec: &Spec) -> HostFacts {
    let questions = Questions::of(spec);
    let owner = |path: &std::path::Path| match path.starts_with("/proc/1/ns") {
        true => NamespaceOwner::Host,
        false => NamespaceOwner::Other,
    };
    HostFacts {
        mount_sources: questions
            .mount_sources
            .into_iter()
            .map(|p| (p.clone(), p))
            .collect(),
        namespaces: questions
            .namespaces
            .into_iter()
            .map(|p| (p.clone(), owner(&p)))
            .collect(),
        ..HostFacts::default()
    }
}

fn under(policy: &str, json: &Value) -> Result<Hardened<Spec>, Refusal> {
    let spec = parse_spec(json.to_string().as_bytes())?;
    let selection = Selection {
        command_line: Some(policy.to_owned()),
        ..Selection::default()
    };
    let facts = facts(&spec);
    harden(spec, &PolicyFile::builtin(), &selection, &facts)
}

/// `spec` changed by a closure.
fn but(mut spec: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut spec);
    spec
}

fn with_mount(spec: Value, mount: Value) -> Value {
    but(spec, |s| s["mounts"].as_array_mut().unwrap().push(mount))
}

fn without_namespace(spec: Value, name: &str) -> Value {
    but(spec, |s| {
        let list = s["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|n| n["type"] != name);
    })
}

#[test]
fn ordinary_containers_run_under_baseline() {
    for (what, spec) in [
        ("ctr", ctr()),
        ("docker", docker()),
        (
            "docker --user 1000",
            but(docker(), |s| s["process"]["user"]["uid"] = json!(1000)),
        ),
        (
            "docker --read-only",
            but(docker(), |s| s["root"]["readonly"] = json!(true)),
        ),
        (
            "docker -v volume",
            with_mount(
                docker(),
                bind("/var/lib/docker/volumes/v/_data", "/v", &["rbind"]),
            ),
        ),
        (
            "docker -v /srv:/srv:ro --init",
            with_mount(
                with_mount(docker(), bind("/srv", "/srv", &["rbind", "ro", "rprivate"])),
                bind("/usr/bin/docker-init", "/sbin/docker-init", &["bind", "ro"]),
            ),
        ),
        (
            "docker -v /etc/localtime:ro",
            with_mount(
                docker(),
                bind(
                    "/usr/share/zoneinfo/UTC",
                    "/etc/localtime",
                    &["rbind", "ro"],
                ),
            ),
        ),
        (
            "docker --security-opt seccomp=unconfined",
            but(docker(), |s| s["linux"]["seccomp"] = Value::Null),
        ),
        (
            "docker --cgroupns=private",
            but(docker(), |s| {
                let list = s["linux"]["namespaces"].as_array_mut().unwrap();
                list.push(json!({"type": "cgroup"}));
            }),
        ),
        ("podman", podman()),
        (
            "podman -v volume",
            with_mount(
                podman(),
                bind(
                    "/var/lib/containers/storage/volumes/v/_data",
                    "/v",
                    &["rbind"],
                ),
            ),
        ),
        ("a pod's container", cri()),
        ("a restricted pod's container", cri_restricted()),
        (
            "a pod with HostToContainer propagation",
            with_mount(cri(), bind("/srv", "/srv", &["rbind", "rslave"])),
        ),
    ] {
        let hardened = match under("baseline", &spec) {
            Ok(hardened) => hardened,
            Err(refusal) => panic!("{what}: {refusal}"),
        };
        let summary = &hardened.report().summary;
        assert!(summary.no_new_privileges, "{what}");
        assert!(summary.seccomp_allowed.is_some(), "{what}");
        assert!(
            summary.capabilities_kept.is_subset_of(capability::BASELINE),
            "{what}"
        );
        assert!(
            summary.masked_paths >= 14 && summary.readonly_paths >= 5,
            "{what}"
        );
        let rules = hardened
            .get()
            .linux()
            .as_ref()
            .unwrap()
            .resources()
            .clone()
            .unwrap();
        let rules = rules.devices().clone().unwrap();
        assert!(
            !rules[0].allow() && rules[0].major().is_none(),
            "{what}: {rules:?}"
        );
        assert!(
            rules[1..].iter().all(|r| r.allow() && r.major().is_some()),
            "{what}: {rules:?}"
        );
    }
}

#[test]
fn what_reaches_for_the_host_is_refused_by_its_rule() {
    let all: capability::Set = capability::ALL.iter().copied().collect();
    let privileged = |spec: Value| {
        but(spec, |s| {
            s["process"]["capabilities"] =
                json!({"bounding": all, "effective": all, "permitted": all});
            s["linux"]["seccomp"] = Value::Null;
            s["linux"]["maskedPaths"] = Value::Null;
            s["linux"]["readonlyPaths"] = Value::Null;
            s["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
            s["mounts"][4]["options"] = json!(["nosuid"]);
        })
    };
    let add = |spec: Value, name: &str| {
        but(spec, |s| {
            let list = s["process"]["capabilities"]["bounding"]
                .as_array_mut()
                .unwrap();
            list.push(json!(name));
        })
    };
    let join = |spec: Value, index: usize, path: &str| {
        but(spec, |s| {
            s["linux"]["namespaces"][index]["path"] = json!(path)
        })
    };
    for (what, spec, rule, remedy) in [
        (
            "docker --privileged",
            privileged(docker()),
            Rule::Privileged,
            "--privileged",
        ),
        (
            "podman --privileged",
            privileged(podman()),
            Rule::Privileged,
            "--privileged",
        ),
        (
            "a privileged pod",
            privileged(cri()),
            Rule::Privileged,
            "privileged: true",
        ),
        (
            "docker --cap-add SYS_ADMIN",
            add(docker(), "CAP_SYS_ADMIN"),
            Rule::Capabilities,
            "SYS_ADMIN",
        ),
        (
            "a pod with NET_ADMIN",
            add(cri(), "CAP_NET_ADMIN"),
            Rule::Capabilities,
            "NET_ADMIN",
        ),
        (
            "docker --pid=host",
            without_namespace(docker(), "pid"),
            Rule::HostNamespaces,
            "--pid=host",
        ),
        (
            "docker --network=host",
            without_namespace(docker(), "network"),
            Rule::HostNamespaces,
            "publish",
        ),
        (
            "a pod with hostPID",
            without_namespace(cri(), "pid"),
            Rule::HostNamespaces,
            "hostPID",
        ),
        (
            "podman --network ns:/proc/1/ns/net",
            join(podman(), 4, "/proc/1/ns/net"),
            Rule::HostNamespaces,
            "network",
        ),
        (
            "docker -v /:/host",
            with_mount(docker(), bind("/", "/host", &["rbind", "ro"])),
            Rule::SensitiveMounts,
            "mounts.allow",
        ),
        (
            "docker -v docker.sock",
            with_mount(
                docker(),
                bind("/run/docker.sock", "/var/run/docker.sock", &["rbind"]),
            ),
            Rule::SensitiveMounts,
            "docker.sock",
        ),
        (
            "a pod with /etc/kubernetes",
            with_mount(cri(), bind("/etc/kubernetes", "/k", &["rbind", "ro"])),
            Rule::SensitiveMounts,
            "/etc/kubernetes",
        ),
        (
            "a pod with the kubelet's directory",
            with_mount(cri(), bind("/var/lib/kubelet", "/k", &["rbind"])),
            Rule::SensitiveMounts,
            "/var/lib/kubelet",
        ),
        (
            "docker --sysctl kernel.msgmax",
            but(docker(), |s| {
                s["linux"]["sysctl"]["kernel.msgmax"] = json!("1")
            }),
            Rule::Sysctls,
            "kernel.msgmax",
        ),
        (
            "docker --device /dev/kvm",
            but(
                docker(),
                |s| {
                    s["linux"]["devices"] =
                        json!([{"path": "/dev/kvm", "type": "c", "major": 10, "minor": 232}])
                },
            ),
            Rule::Devices,
            "c 10:232",
        ),
    ] {
        let Err(refusal) = under("baseline", &spec) else {
            panic!("{what} was not refused");
        };
        assert_eq!(refusal.rule(), Some(rule), "{what}: {refusal}");
        let [denial] = refusal.denials() else {
            panic!("{what}: {refusal}");
        };
        assert!(denial.remedy.contains(remedy), "{what}: {denial}");
        assert!(!refusal.to_string().contains('\n'), "{what}");
    }
}

#[test]
fn restricted_admits_what_pod_security_admits() {
    under("restricted", &cri_restricted()).unwrap();
    for (spec, rule) in [
        (
            but(cri_restricted(), |s| s["process"]["user"]["uid"] = json!(0)),
            Rule::RunAsRoot,
        ),
        (
            but(cri_restricted(), |s| {
                s["process"]["apparmorProfile"] = json!("cri-containerd.apparmor.d")
            }),
            Rule::Apparmor,
        ),
        (
            with_mount(
                cri_restricted(),
                bind("/srv", "/srv", &["rbind", "rshared"]),
            ),
            Rule::MountPropagation,
        ),
    ] {
        assert_eq!(under("restricted", &spec).unwrap_err().rule(), Some(rule));
    }
    // Capabilities that engines give by default are dropped, not refused.
    let defaults = but(cri_restricted(), |s| {
        s["process"]["capabilities"] = default_capabilities()
    });
    let hardened = under("restricted", &defaults).unwrap();
    let kept = hardened.report().summary.capabilities_kept;
    assert_eq!(kept.to_string(), "NET_BIND_SERVICE");
}

#[test]
fn an_annotation_tightens_a_pod() {
    let spec = but(cri(), |s| {
        s["annotations"]["cofferdam.dev/policy"] = json!("restricted");
        s["process"]["apparmorProfile"] = Value::Null;
    });
    assert_eq!(
        under("baseline", &spec).unwrap_err().rule(),
        Some(Rule::RunAsRoot)
    );
    let loosened = but(cri(), |s| {
        s["annotations"]["cofferdam.dev/policy"] = json!("baseline")
    });
    assert_eq!(
        under("restricted", &loosened).unwrap_err().rule(),
        Some(Rule::RunAsRoot)
    );
}
