//! Kernel parameters: those of the container's own namespaces only.

use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::namespaces;
use crate::policy::facts::HostFacts;
use crate::policy::judge::{Judge, Request};
use crate::policy::report::Rule;

/// The parameters Kubernetes' Pod Security Standards call safe (kubernetes.io, "Pod Security
/// Standards", baseline, as of 1.32).
const SAFE: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// The namespace a parameter belongs to; `None` for one that is the whole host's (runc
/// `libcontainer/configs/validate`, `sysctl`).
pub(crate) fn namespace(name: &str) -> Option<LinuxNamespaceType> {
    const IPC: &[&str] = &[
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    const UTS: &[&str] = &["kernel.domainname", "kernel.hostname"];
    let plain = name.split('.').all(|part| !part.is_empty() && part != "..")
        && !name.contains("..")
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-/*".contains(&b));
    if !plain {
        None
    } else if name.starts_with("net.") {
        Some(LinuxNamespaceType::Network)
    } else if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        Some(LinuxNamespaceType::Ipc)
    } else if UTS.contains(&name) {
        Some(LinuxNamespaceType::Uts)
    } else {
        None
    }
}

/// Whether `pattern` of a policy, a name or `net.core.*`, means `name`.
fn means(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

/// Judges the kernel parameters of a spec.
pub(crate) fn harden(spec: &mut Spec, host: &HostFacts, judge: &mut Judge<'_>) {
    let Some(linux) = spec.linux_mut() else {
        return;
    };
    let list = linux.namespaces().clone().unwrap_or_default();
    let Some(asked) = linux.sysctl_mut() else {
        return;
    };
    let mut names: Vec<String> = asked.keys().cloned().collect();
    names.sort();
    for name in names {
        let owner = namespace(&name);
        let hosts = owner.is_none_or(|typ| namespaces::shares_host(&list, typ, host));
        let allow = &judge.policy.sysctls.allow;
        let allowed = SAFE.contains(&name.as_str()) || allow.iter().any(|p| means(p, &name));
        if !hosts && allowed {
            continue;
        }
        let line = format!("sysctls.allow = [{name:?}]");
        let request = Request {
            rule: Rule::Sysctls,
            field: "linux.sysctl",
            asked: format!("to set {name}"),
            stripped: "the parameter as it is",
            why: if hosts {
                "the parameter is not the container's own: it would change for the whole host"
            } else {
                "it is not among the parameters that are known to be safe"
            },
            allow: if hosts { "" } else { &line },
            instead: "leave it out (--sysctl)",
        };
        let verdict = judge.policy.sysctls.beyond;
        if hosts {
            judge.deny(request);
        } else if !judge.keeps(verdict, request) {
            asked.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_belong_to_namespaces() {
        use LinuxNamespaceType::{Ipc, Network, Uts};
        for (name, expected) in [
            ("net.core.somaxconn", Some(Network)),
            ("net.*", Some(Network)),
            ("kernel.sem", Some(Ipc)),
            ("fs.mqueue.msg_max", Some(Ipc)),
            ("kernel.hostname", Some(Uts)),
            ("kernel.core_pattern", None),
            ("vm.max_map_count", None),
            ("net", None),
            ("net.../kernel.core_pattern", None),
            ("net.x/../../kernel/core_pattern", None),
            ("net.ipv4.conf.eth0/1.rp_filter", Some(Network)),
            ("", None),
        ] {
            assert_eq!(namespace(name), expected, "{name}");
        }
    }
}
