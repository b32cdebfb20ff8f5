//! Single requests, each against the rule that judges it.

use serde_json::{Value, json};

use super::harden_tests::{baseline, plain, refused_by, spec, under, with, without_namespace};
use super::model::Verdict;
use super::*;

pub(crate) fn bind(source: &str, destination: &str, options: &[&str]) -> Value {
    let mount = json!({"destination": destination, "type": "bind", "source": source,
                       "options": options});
    with("/mounts/-", mount)
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
fn a_user_namespace_that_maps_the_hosts_users_is_the_hosts() {
    let mapped = |uid: u32, gid: u32| {
        let mut json = plain();
        let list = json["linux"]["namespaces"].as_array_mut().unwrap();
        list.push(json!({"type": "user"}));
        json["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 10}]);
        json["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 10}]);
        json
    };
    let mut policy = builtin::baseline();
    policy.host_namespaces.user = Verdict::Deny;
    for first in [100_000, 65_536] {
        under(&policy, &mapped(first, first)).unwrap();
    }
    for json in [
        mapped(0, 100_000),
        mapped(100_000, 0),
        mapped(1000, 100_000),
        mapped(100_000, 65_535),
    ] {
        let refusal = under(&policy, &json).unwrap_err();
        assert_eq!(refusal.rule(), Some(Rule::HostNamespaces));
        baseline(&json).unwrap();
    }
}

/// 32-bit x86 reaches every socket family by `socketcall`: only a policy that says so lets it.
#[cfg(target_arch = "x86_64")]
#[test]
fn socketcall_is_for_policies_that_ask_for_it() {
    use crate::seccomp::Compat32;
    use oci_spec::runtime::Arch;
    let engines = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [],
                         "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]});
    for (compat32, free, x86) in [
        (Compat32::Refused, false, false),
        (Compat32::Filtered, false, true),
        (Compat32::Socketcall, true, true),
    ] {
        let policy = Policy {
            seccomp_compat32: compat32,
            ..builtin::baseline()
        };
        for json in [plain(), with("/linux/seccomp", engines.clone())] {
            let hardened = under(&policy, &json).unwrap();
            let seccomp = hardened
                .get()
                .linux()
                .as_ref()
                .unwrap()
                .seccomp()
                .clone()
                .unwrap();
            let rules = seccomp.syscalls().as_ref().unwrap();
            let mut about = rules
                .iter()
                .filter(|r| r.names().iter().any(|n| n == "socketcall"));
            let unconditional = about.clone().count() == 1 && about.all(|r| r.args().is_none());
            assert_eq!(unconditional, free, "{compat32:?}");
            let archs = seccomp.architectures().clone().unwrap();
            assert_eq!(archs.contains(&Arch::ScmpArchX86), x86, "{compat32:?}");
            let findings = &hardened.report().findings;
            let said = findings
                .iter()
                .find(|f| f.rule == Rule::Seccomp && f.asked == "32-bit programs");
            assert_eq!(
                said.is_some(),
                compat32 != Compat32::Filtered,
                "{compat32:?}"
            );
        }
        // An annotation, which only tightens, does not loosen it, and can take it away.
        let loose = Policy {
            seccomp_compat32: Compat32::Socketcall,
            ..builtin::baseline()
        };
        assert_eq!(policy.meet(&loose).seccomp_compat32, compat32);
        assert_eq!(loose.meet(&policy).seccomp_compat32, compat32);
    }
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
