//! Kernel parameters of the container's own namespaces.
//!
//! They are written through a procfs of our own, never through whatever the container has at
//! `/proc` (CVE-2025-52881), and only where the parameter belongs to a namespace that the container
//! does not share with the host.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{AT_FDCWD, readlinkat};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use super::error::{Result, RootfsError};
use super::resolve::c_string;
use super::sys::{self, resolve};

/// Parameters of the IPC namespace, besides `fs.mqueue.*`.
const IPC: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// `net.ipv4.ip_forward` or `net/ipv4/conf/eth0.100/forwarding` -> the path below `/proc/sys`.
/// Whichever of `.` and `/` comes first separates, the other is part of a name (sysctl.d(5)).
fn path_of(key: &str) -> Option<String> {
    let path = match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'.' => key
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    };
    let plain = path
        .split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..");
    plain.then_some(path)
}

/// Which namespace a parameter belongs to; `None` if it is the whole machine's.
fn owner(path: &str) -> Option<LinuxNamespaceType> {
    if path.starts_with("net/") {
        Some(LinuxNamespaceType::Network)
    } else if path.starts_with("fs/mqueue/") || IPC.contains(&path) {
        Some(LinuxNamespaceType::Ipc)
    } else if path == "kernel/domainname" || path == "kernel/hostname" {
        Some(LinuxNamespaceType::Uts)
    } else {
        None
    }
}

/// Refuses every parameter that is not the container's own; the result is the path to write to.
fn check(key: &str, spec: &Spec) -> Result<String> {
    let refused = |problem| RootfsError::SysctlRefused {
        key: key.to_owned(),
        problem,
    };
    let path = path_of(key).ok_or_else(|| refused("the name is not that of a parameter"))?;
    let owner = owner(&path)
        .ok_or_else(|| refused("it is not in a namespace: it would change the host"))?;
    if path == "kernel/hostname" {
        return Err(refused("set the spec's `hostname` instead"));
    }
    let namespaces = spec
        .linux()
        .as_ref()
        .and_then(|l| l.namespaces().as_deref());
    let namespace = namespaces
        .unwrap_or_default()
        .iter()
        .find(|namespace| namespace.typ() == owner)
        .ok_or_else(|| refused("the container shares the namespace it belongs to with the host"))?;
    if is_hosts(namespace) {
        return Err(refused(
            "the namespace it belongs to is joined by path and is the host's own",
        ));
    }
    Ok(path)
}

/// A namespace joined by path may still be the one of the host's init.
fn is_hosts(namespace: &LinuxNamespace) -> bool {
    let (Some(_), name) = (namespace.path(), name_of(namespace.typ())) else {
        return false;
    };
    // Through the caller's view of the host's procfs. This runs before the pivot; see `Checked`.
    let own = readlinkat(AT_FDCWD, format!("/proc/self/ns/{name}").as_str());
    let host = readlinkat(AT_FDCWD, format!("/proc/1/ns/{name}").as_str());
    match (own, host) {
        (Ok(own), Ok(host)) => own == host,
        // Not allowed to look: an unprivileged caller, whom the kernel itself keeps in bounds.
        _ => false,
    }
}

fn name_of(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Mount => "mnt",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Time => "time",
    }
}

/// The parameters that may be written, checked while the host's procfs is still in view.
#[derive(Debug, Default)]
pub(super) struct Checked(Vec<(String, String, String)>);

impl Checked {
    /// Checks all of them first: nothing is set if one is refused. `network_done`: those of the network
    /// namespace are set already. `own_ids`: the container has its own user ids.
    pub(super) fn new(
        parameters: &HashMap<String, String>,
        spec: &Spec,
        network_done: bool,
        own_ids: bool,
    ) -> Result<Self> {
        let mut checked = Self::of(parameters, spec)?;
        if network_done {
            checked
                .0
                .retain(|(_, path, _)| owner(path) != Some(LinuxNamespaceType::Network));
        }
        if own_ids {
            checked.groups(0);
        }
        Ok(checked)
    }

    /// Those of the network namespace, in numbers of the host, on which id 0 of the container is
    /// `first`.
    pub(super) fn network(spec: &Spec, first: u32) -> Result<Self> {
        let linux = spec.linux().as_ref();
        let Some(parameters) = linux.and_then(|l| l.sysctl().as_ref()) else {
            return Ok(Self::default());
        };
        let mut checked = Self::of(parameters, spec)?;
        checked
            .0
            .retain(|(_, path, _)| owner(path) == Some(LinuxNamespaceType::Network));
        checked.groups(first);
        Ok(checked)
    }

    fn of(parameters: &HashMap<String, String>, spec: &Spec) -> Result<Self> {
        let mut checked = Vec::with_capacity(parameters.len());
        for (key, value) in parameters {
            checked.push((key.clone(), check(key, spec)?, value.clone()));
        }
        // The map's order changes from run to run; errors and writes should not.
        checked.sort();
        Ok(Self(checked))
    }

    /// Groups that may ping: engines write all the host's, of which a container has the first ones.
    fn groups(&mut self, first: u32) {
        for (_, path, value) in &mut self.0 {
            let numbers: Vec<u32> = value
                .split_ascii_whitespace()
                .filter_map(|number| number.parse().ok())
                .collect();
            if let ("net/ipv4/ping_group_range", [low, high]) = (path.as_str(), &numbers[..])
                && *low <= crate::ids::LAST
                && low <= high
            {
                let high = (*high).min(crate::ids::LAST);
                *value = format!("{} {}", first + low, first + high);
            }
        }
    }

    /// Whether the parameter with this path below `/proc/sys` is among them.
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.iter().any(|(_, known, _)| known == path)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes them below `proc`, a procfs that nothing is mounted over.
    pub(super) fn write(&self, proc: BorrowedFd<'_>) -> Result<()> {
        for (key, path, value) in &self.0 {
            write_one(proc, path, value).map_err(|source| RootfsError::Sysctl {
                key: key.clone(),
                value: value.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

pub(super) fn write_one(proc: BorrowedFd<'_>, path: &str, value: &str) -> io::Result<()> {
    let path = c_string(format!("sys/{path}").as_bytes())?;
    // NO_XDEV: a mount over any part of the path is an error, not a detour.
    let rules = resolve::BENEATH | resolve::NO_SYMLINKS | resolve::NO_XDEV;
    let fd = sys::openat2(proc.as_fd(), &path, libc::O_WRONLY, 0, rules)?;
    std::fs::File::from(fd).write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths() {
        for (key, path) in [
            ("net.ipv4.ip_forward", Some("net/ipv4/ip_forward")),
            ("net/ipv4/ip_forward", Some("net/ipv4/ip_forward")),
            (
                "net.ipv4.conf.eth0/100.forwarding",
                Some("net/ipv4/conf/eth0.100/forwarding"),
            ),
            (
                "net/ipv4/conf/eth0.100/forwarding",
                Some("net/ipv4/conf/eth0.100/forwarding"),
            ),
            ("net..x", None),
            ("net/../kernel/core_pattern", None),
            (".kernel.core_pattern", None),
            ("", None),
            ("net.", None),
        ] {
            assert_eq!(path_of(key).as_deref(), path, "{key}");
        }
    }

    #[test]
    fn only_namespaced_parameters_have_an_owner() {
        use LinuxNamespaceType::{Ipc, Network, Uts};
        for (path, expected) in [
            ("net/core/somaxconn", Some(Network)),
            ("kernel/shmmax", Some(Ipc)),
            ("fs/mqueue/msg_max", Some(Ipc)),
            ("kernel/domainname", Some(Uts)),
            ("kernel/core_pattern", None),
            ("kernel/shmmaxx", None),
            ("vm/overcommit_memory", None),
            ("fs/mqueue", None),
            ("netx/y", None),
        ] {
            assert_eq!(owner(path), expected, "{path}");
        }
    }
}
