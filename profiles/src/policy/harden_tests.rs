//! Whole specs through the whole recipe.

use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::model::Verdict;
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

fn under(policy: &Policy, json: &Value) -> Result<Hardened<Spec>, Refusal> {
    let spec = spec(json);
    let host = host(&spec);
    let mut file = PolicyFile::builtin();
    file.insert(Policy {
        name: "test".to_owned(),
        ..policy.clone()
    });
    let selection = Selection {
        command_line: Some("test".to_owned()),
        handler: None,
    };
    harden(spec, &file, &selection, &host)
}

fn baseline(json: &Value) -> Result<Hardened<Spec>, Refusal> {
    under(&builtin::baseline(), json)
}

fn refused_by(json: &Value) -> Vec<Rule> {
    let refusal = baseline(json).unwrap_err();
    refusal.denials().iter().map(|d| d.rule).collect()
}

fn bounding(spec: &Spec) -> Set {
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

fn without_namespace(name: &str) -> Value {
    let mut json = plain();
    let list = json["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|n| n["type"] != name);
    json
}

fn bind(source: &str, destination: &str, options: &[&str]) -> Value {
    let mount = json!({"destination": destination, "type": "bind", "source": source,
                       "options": options});
    with("/mounts/-", mount)
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
    let json = serde_json::to_value(once.get()).unwrap();
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
fn inheritable_without_ambient_is_dropped() {
    let chown = json!(["CAP_CHOWN"]);
    let json = with(
        "/process/capabilities",
        json!({"bounding": chown, "permitted": chown, "effective": chown, "inheritable": chown}),
    );
    let hardened = baseline(&json).unwrap();
    let process = hardened.get().process().as_ref().unwrap();
    let sets = process.capabilities().as_ref().unwrap();
    assert!(sets.inheritable().as_ref().unwrap().is_empty());
    assert!(sets.ambient().as_ref().unwrap().is_empty());

    let mut json = json;
    json["process"]["capabilities"]["ambient"] = chown;
    let hardened = baseline(&json).unwrap();
    let process = hardened.get().process().as_ref().unwrap();
    let sets = process.capabilities().as_ref().unwrap();
    assert_eq!(sets.inheritable().as_ref().unwrap().len(), 1);
    assert_eq!(sets.ambient().as_ref().unwrap().len(), 1);
}

#[test]
fn requests_for_the_host_are_refused_by_the_right_rule() {
    let cases = [
        (without_namespace("pid"), Rule::HostNamespaces),
        (without_namespace("network"), Rule::HostNamespaces),
        (without_namespace("ipc"), Rule::HostNamespaces),
        (without_namespace("mount"), Rule::HostNamespaces),
        (with("/root/path", json!("/")), Rule::SensitiveMounts),
        (with("/root/path", json!("/etc")), Rule::SensitiveMounts),
        (bind("/", "/host", &["rbind", "ro"]), Rule::SensitiveMounts),
        (
            bind("/etc", "/host-etc", &["rbind", "ro"]),
            Rule::SensitiveMounts,
        ),
        (
            bind("/etc/hosts", "/etc/hosts", &["bind"]),
            Rule::SensitiveMounts,
        ),
        (
            bind("/run/docker.sock", "/s", &["bind"]),
            Rule::SensitiveMounts,
        ),
        (bind("/srv", "/proc", &["bind"]), Rule::KernelMounts),
        (bind("/srv", "/proc/sys", &["bind"]), Rule::KernelMounts),
        (
            with(
                "/mounts/-",
                json!({"destination": "/x", "type": "ext4", "source": "/dev/sda1"}),
            ),
            Rule::KernelMounts,
        ),
        (
            with(
                "/linux/devices",
                json!([{"path": "/dev/null", "type": "b", "major": 8, "minor": 0}]),
            ),
            Rule::Devices,
        ),
        (
            with(
                "/linux/resources/devices/-",
                json!({"allow": true, "access": "rwm"}),
            ),
            Rule::Devices,
        ),
        (
            with(
                "/linux/resources/devices/-",
                json!({"allow": true, "type": "b", "access": "r"}),
            ),
            Rule::Devices,
        ),
        (
            with("/linux/sysctl", json!({"kernel.core_pattern": "|/x"})),
            Rule::Sysctls,
        ),
        (
            with("/linux/sysctl", json!({"net.core.somaxconn": "9"})),
            Rule::Sysctls,
        ),
        (
            with("/process/apparmorProfile", json!("mine")),
            Rule::Apparmor,
        ),
        (
            with("/process/selinuxLabel", json!("a:b:c:s0")),
            Rule::Selinux,
        ),
    ];
    for (json, rule) in cases {
        assert_eq!(refused_by(&json), [rule], "{json}");
    }
}

#[test]
fn a_path_to_the_hosts_namespace_is_the_hosts_namespace() {
    let mut json = without_namespace("network");
    let list = json["linux"]["namespaces"].as_array_mut().unwrap();
    list.push(json!({"type": "network", "path": "/proc/1/ns/net"}));
    assert_eq!(refused_by(&json), [Rule::HostNamespaces]);
    json["linux"]["namespaces"][5]["path"] = json!("/run/netns/pod");
    baseline(&json).unwrap();
    let spec = spec(&json);
    let nothing = HostFacts::default();
    let refusal = harden(
        spec,
        &PolicyFile::builtin(),
        &Selection::default(),
        &nothing,
    );
    assert_eq!(refusal.unwrap_err().rule(), Some(Rule::HostNamespaces));
}

#[test]
fn a_sysctl_of_a_shared_namespace_is_refused_whatever_the_policy_lists() {
    let mut policy = builtin::baseline();
    policy.host_namespaces.network = Verdict::Allow;
    policy.sysctls.allow.insert("net.*".to_owned());
    policy.sysctls.beyond = Verdict::Allow;
    let sysctl = json!({"net.ipv4.ip_unprivileged_port_start": "0"});
    under(&policy, &with("/linux/sysctl", sysctl.clone())).unwrap();
    let mut json = without_namespace("network");
    json["linux"]["sysctl"] = sysctl;
    let refusal = under(&policy, &json).unwrap_err();
    assert_eq!(refusal.rule(), Some(Rule::Sysctls));
}

#[test]
fn ordinary_requests_pass() {
    for json in [
        bind("/srv/data", "/data", &["rbind", "rw"]),
        bind(
            "/usr/share/zoneinfo/UTC",
            "/etc/localtime",
            &["rbind", "ro"],
        ),
        bind(
            "/var/lib/docker/containers/id/hosts",
            "/etc/hosts",
            &["rbind", "rprivate"],
        ),
        bind(
            "/tmp/root/containers/id/resolv.conf",
            "/etc/resolv.conf",
            &["rbind"],
        ),
        with(
            "/linux/sysctl",
            json!({"net.ipv4.ping_group_range": "0 2147483647"}),
        ),
        with(
            "/linux/resources/devices/-",
            json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}),
        ),
        with(
            "/linux/resources/devices/-",
            json!({"allow": true, "type": "c", "access": "m"}),
        ),
        with("/process/apparmorProfile", json!("docker-default")),
        with(
            "/hooks",
            json!({"prestart": [{"path": "/usr/bin/nvidia-container-runtime-hook"}]}),
        ),
        without_namespace("cgroup"),
    ] {
        if let Err(refusal) = baseline(&json) {
            panic!("{refusal}: {json}");
        }
    }
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

#[test]
fn read_only_binds_are_read_only_with_all_below_them() {
    for (asked, got) in [
        (&["rbind", "ro"][..], &["rbind", "ro", "rro"][..]),
        (&["rbind", "rrw", "ro"], &["rbind", "ro", "rro"]),
        (&["bind", "rrw", "ro"], &["bind", "ro"]),
        (&["rbind", "ro", "rw"], &["rbind", "ro", "rw"]),
    ] {
        let hardened = baseline(&bind("/srv", "/data", asked)).unwrap();
        let mount = hardened.get().mounts().as_ref().unwrap().last().unwrap();
        assert_eq!(mount.options().as_deref().unwrap(), got);
    }
    assert_eq!(
        refused_by(&bind("/etc/hosts", "/x", &["bind", "ro", "rrw"])),
        [Rule::SensitiveMounts]
    );
}

#[test]
fn a_device_is_refused_once_with_its_numbers() {
    let mut json = with(
        "/linux/devices",
        json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]),
    );
    let rule = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"});
    let rules = json["linux"]["resources"]["devices"]
        .as_array_mut()
        .unwrap();
    rules.push(rule);
    let refusal = baseline(&json).unwrap_err();
    let [denial] = refusal.denials() else {
        panic!("{refusal}");
    };
    assert!(
        denial.remedy.contains("devices.allow = [\"c 10:229\"]"),
        "{denial}"
    );

    let mut policy = builtin::baseline();
    policy.devices.allow.insert("/dev/fuse".parse().unwrap());
    let hardened = under(&policy, &json).unwrap();
    let linux = hardened.get().linux().clone().unwrap();
    assert_eq!(linux.devices().as_ref().unwrap().len(), 1);
    let resources = linux.resources().clone().unwrap();
    let last = resources
        .devices()
        .as_ref()
        .unwrap()
        .last()
        .unwrap()
        .to_string();
    assert_eq!(last, "c 10:229 rwm");
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
fn a_second_procfs_is_masked_too() {
    let json = with(
        "/mounts/-",
        json!({"destination": "/mnt/proc/", "type": "proc", "source": "proc"}),
    );
    let hardened = baseline(&json).unwrap();
    let linux = hardened.get().linux().clone().unwrap();
    let has =
        |list: &Option<Vec<String>>, path: &str| list.as_ref().unwrap().iter().any(|p| p == path);
    assert!(has(linux.masked_paths(), "/mnt/proc/kcore"));
    assert!(has(linux.readonly_paths(), "/mnt/proc/sys"));
}

#[test]
fn selection_follows_the_order_and_annotations_only_tighten() {
    let annotated = |name: &str| with("/annotations", json!({"cofferdam.dev/policy": name}));
    let file = PolicyFile::builtin();
    let choose = |json: &Value, line: Option<&str>, handler: Option<&str>| {
        let selection = Selection {
            command_line: line.map(str::to_owned),
            handler: handler.map(str::to_owned),
        };
        file.select(&selection, spec(json).annotations().as_ref())
            .map(|(policy, _)| policy.name)
    };
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
fn the_engines_seccomp_profile_only_tightens() {
    let profile = |default: &str, names: &[&str], action: &str| {
        json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"],
               "syscalls": [{"names": names, "action": action}]})
    };
    let allowed = |json: &Value| {
        let hardened = baseline(json).unwrap();
        assert!(hardened.stacked_seccomp().is_none(), "{json}");
        hardened.report().summary.seccomp_allowed.unwrap().always
    };
    let ours = allowed(&plain());
    assert!(ours > 250, "{ours}");
    let few = profile(
        "SCMP_ACT_ERRNO",
        &["read", "mount", "nosuchcall"],
        "SCMP_ACT_ALLOW",
    );
    let json = with("/linux/seccomp", few);
    assert_eq!(allowed(&json), 1);
    let hardened = baseline(&json).unwrap();
    let findings = &hardened.report().findings;
    assert!(findings.iter().any(|f| f.asked == "nosuchcall"));
    let lax = profile("SCMP_ACT_ALLOW", &["mkdir"], "SCMP_ACT_ERRNO");
    assert_eq!(allowed(&with("/linux/seccomp", lax)), ours - 1);
}

/// How long hardening takes; run by hand in release mode with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn hardening_is_quick() {
    let profile = crate::seccomp::default_profile(
        &capability::ENGINE_DEFAULT.to_oci(),
        crate::seccomp::Arch::NATIVE,
    );
    for json in [
        plain(),
        with("/linux/seccomp", serde_json::to_value(profile).unwrap()),
    ] {
        let bytes = json.to_string().into_bytes();
        let mut times = Vec::new();
        for _ in 0..200 {
            let start = std::time::Instant::now();
            let spec = parse_spec(&bytes).unwrap();
            let parsed = start.elapsed();
            let host = host(&spec);
            harden(spec, &PolicyFile::builtin(), &Selection::default(), &host).unwrap();
            times.push((start.elapsed(), parsed));
        }
        times.sort();
        println!(
            "{} bytes: total and parsing alone {:?}",
            bytes.len(),
            times[100]
        );
    }
}
