//! The specs engines really write, through the built-in policies: ordinary containers keep working,
//! what reaches for the host is refused by the rule that says why.
//!
//! The specs are written by hand after what the engines of these versions were seen to produce:
//! `ctr` 1.6, Docker 28, Podman 4.3, containerd's CRI plugin 1.6 and 2.1.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cofferdam_profiles::capability;
use cofferdam_profiles::policy::{
    Hardened, HostFacts, NamespaceOwner, PolicyFile, Questions, Refusal, Rule, Selection, harden,
    parse_spec,
};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

/// The fourteen capabilities that engines give by default.
fn default_capabilities() -> Value {
    let all = capability::ENGINE_DEFAULT;
    json!({"bounding": all, "effective": all, "permitted": all})
}

fn mount(destination: &str, typ: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": typ, "source": typ, "options": options})
}

fn bind(source: &str, destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": "bind", "source": source, "options": options})
}

fn kernel_mounts() -> Vec<Value> {
    let quiet = ["nosuid", "noexec", "nodev"];
    let read_only = ["nosuid", "noexec", "nodev", "ro"];
    vec![
        mount("/proc", "proc", &quiet),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666"],
        ),
        mount("/dev/mqueue", "mqueue", &quiet),
        mount("/sys", "sysfs", &read_only),
        mount("/sys/fs/cgroup", "cgroup", &read_only),
    ]
}

fn namespaces(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"type": name})).collect()
}

fn ctr() -> Value {
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/",
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "capabilities": default_capabilities(),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs"},
        "mounts": kernel_mounts(),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "cgroupsPath": "/default/web",
            "namespaces": namespaces(&["pid", "ipc", "uts", "mount", "network"]),
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                            "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                            "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                              "/proc/sysrq-trigger"]
        }
    })
}

fn docker() -> Value {
    let mut spec = ctr();
    let own = "/var/lib/docker/containers/0123";
    let mut mounts = kernel_mounts();
    mounts.push(mount(
        "/dev/shm",
        "tmpfs",
        &["nosuid", "noexec", "nodev", "size=67108864"],
    ));
    for file in ["resolv.conf", "hostname", "hosts"] {
        let source = format!("{own}/{file}");
        mounts.push(bind(
            &source,
            &format!("/etc/{file}"),
            &["rbind", "rprivate"],
        ));
    }
    spec["mounts"] = Value::Array(mounts);
    spec["process"]
        .as_object_mut()
        .unwrap()
        .remove("noNewPrivileges");
    spec["process"]["rlimits"] = Value::Null;
    spec["process"]["apparmorProfile"] = json!("docker-default");
    spec["root"] = json!({"path": "/var/lib/docker/overlay2/4567/merged"});
    spec["hooks"] = json!({"prestart": [{"path": "/proc/77/exe", "args": ["libnetwork-setkey"]}]});
    let device = |allow: bool, major: u32, minor: u32| json!({"allow": allow, "type": "c", "major": major, "minor": minor, "access": "rwm"});
    spec["linux"]["resources"]["devices"] = json!([
        {"allow": false, "access": "rwm"}, device(true, 1, 5), device(true, 1, 3),
        device(true, 1, 9), device(true, 1, 8), device(true, 5, 0), device(true, 5, 1),
        device(false, 10, 229)
    ]);
    spec["linux"]["sysctl"] = json!({
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647"
    });
    spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32",
                          "SCMP_ARCH_AARCH64"],
        "syscalls": [
            {"names": ["read", "write", "execve", "exit_group", "openat", "mmap", "ptrace"],
             "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
        ]
    });
    spec
}

fn podman() -> Value {
    let mut spec = ctr();
    let bounding = capability::BASELINE;
    spec["process"]["capabilities"] =
        json!({"bounding": bounding, "effective": bounding, "permitted": bounding});
    let user = "/run/containers/storage/overlay-containers/0123/userdata";
    let mut mounts = kernel_mounts();
    let shm = "/var/lib/containers/storage/overlay-containers/0123/userdata/shm";
    mounts.push(bind(
        shm,
        "/dev/shm",
        &["bind", "rprivate", "nosuid", "noexec", "nodev"],
    ));
    for (file, destination) in [
        (".containerenv", "/run/.containerenv"),
        ("hostname", "/etc/hostname"),
        ("hosts", "/etc/hosts"),
        ("resolv.conf", "/etc/resolv.conf"),
        ("run/secrets", "/run/secrets"),
    ] {
        mounts.push(bind(
            &format!("{user}/{file}"),
            destination,
            &["bind", "rprivate"],
        ));
    }
    spec["mounts"] = Value::Array(mounts);
    spec["root"] = json!({"path": "/var/lib/containers/storage/overlay/4567/merged"});
    spec["annotations"] = json!({"io.container.manager": "libpod"});
    spec["linux"]["sysctl"] = json!({"net.ipv4.ping_group_range": "0 0"});
    spec["linux"]["namespaces"][4] = json!({"type": "network", "path": "/run/netns/netns-1"});
    let paths = spec["linux"]["readonlyPaths"].as_array_mut().unwrap();
    paths.push(json!("/proc/asound"));
    spec
}

/// A container of a pod, as containerd's CRI plugin writes it for the kubelet.
fn cri() -> Value {
    let mut spec = ctr();
    let pod = "/var/lib/kubelet/pods/0a1b";
    let sandbox = "io.containerd.grpc.v1.cri/sandboxes/0123";
    let mut mounts = kernel_mounts();
    let private = ["rbind", "rprivate", "rw"];
    let secret = "volumes/kubernetes.io~projected/kube-api-access";
    for (source, destination, options) in [
        (format!("{pod}/etc-hosts"), "/etc/hosts", &private[..]),
        (
            format!("{pod}/containers/web/4567"),
            "/dev/termination-log",
            &private,
        ),
        (
            format!("/var/lib/containerd/{sandbox}/hostname"),
            "/etc/hostname",
            &private,
        ),
        (
            format!("/var/lib/containerd/{sandbox}/resolv.conf"),
            "/etc/resolv.conf",
            &private,
        ),
        (
            format!("/run/containerd/{sandbox}/shm"),
            "/dev/shm",
            &private,
        ),
        (
            format!("{pod}/{secret}"),
            "/run/secrets/kubernetes.io/serviceaccount",
            &["rbind", "rprivate", "ro"],
        ),
    ] {
        mounts.push(bind(&source, destination, options));
    }
    spec["mounts"] = Value::Array(mounts);
    spec["process"]["apparmorProfile"] = json!("cri-containerd.apparmor.d");
    spec["process"]["oomScoreAdj"] = json!(1000);
    spec["process"]["noNewPrivileges"] = json!(false);
    spec["annotations"] = json!({
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-id": "0123",
        "io.kubernetes.cri.sandbox-uid": "0a1b"
    });
    spec["linux"]["namespaces"] = json!([
        {"type": "pid"}, {"type": "mount"}, {"type": "cgroup"},
        {"type": "ipc", "path": "/proc/88/ns/ipc"},
        {"type": "uts", "path": "/proc/88/ns/uts"},
        {"type": "network", "path": "/proc/88/ns/net"}
    ]);
    spec
}

/// A pod that Kubernetes' Pod Security Standard "restricted" admits.
fn cri_restricted() -> Value {
    let mut spec = cri();
    let none: [&str; 0] = [];
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    spec["process"]["capabilities"] = json!({"bounding": none, "effective": none});
    spec["process"]["noNewPrivileges"] = json!(true);
    spec["process"]["apparmorProfile"] = Value::Null;
    spec
}

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
