//! The specs that engines write for ordinary containers.
//!
//! Written by hand after what the engines of these versions were seen to produce: `ctr` 1.6, Docker 28,
//! Podman 4.3, containerd's CRI plugin 1.6 and 2.1.

use cofferdam_profiles::capability;
use serde_json::{Value, json};

/// The fourteen capabilities that engines give by default.
pub(crate) fn default_capabilities() -> Value {
    let all = capability::ENGINE_DEFAULT;
    json!({"bounding": all, "effective": all, "permitted": all})
}

fn mount(destination: &str, typ: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": typ, "source": typ, "options": options})
}

pub(crate) fn bind(source: &str, destination: &str, options: &[&str]) -> Value {
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

pub(crate) fn ctr() -> Value {
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

pub(crate) fn docker() -> Value {
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

pub(crate) fn podman() -> Value {
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
pub(crate) fn cri() -> Value {
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
pub(crate) fn cri_restricted() -> Value {
    let mut spec = cri();
    let none: [&str; 0] = [];
    spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    spec["process"]["capabilities"] = json!({"bounding": none, "effective": none});
    spec["process"]["noNewPrivileges"] = json!(true);
    spec["process"]["apparmorProfile"] = Value::Null;
    spec
}
