//! A joined network namespace that belongs to the host's user namespace, as engines and CNI make them.
//!
//! A container in a user namespace of its own has no privileges over it: it could neither set its
//! parameters nor, with CAP_NET_BIND_SERVICE, listen on port 80, nor ping with CAP_NET_RAW. The first
//! is done for it; for the other two the namespace has parameters that say who may without
//! privileges, which Docker sets for all its containers (moby #41030).

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};

use cofferdam_profiles::capability::{Capability, Set};
use oci_spec::runtime::Spec;

use super::error::{Result, RootfsError};
use super::resolve::c_string;
use super::sys::{self, resolve};
use super::{detached_proc, sysctl};
use crate::namespaces::InNetwork;

const PORTS: &str = "net/ipv4/ip_unprivileged_port_start";
const PING: &str = "net/ipv4/ping_group_range";
/// The kernel's own value: a range of no group.
const NO_PING: &str = "1\t0";

/// The parameters that stand for capabilities.
#[derive(Debug, Default)]
pub struct Standing {
    /// What was set for the process.
    pub added: Vec<(String, String)>,
    /// What was set before for others, where the process lacks the capability.
    pub neighbours: Vec<(Capability, String, String)>,
}

/// Sets the network parameters of the spec, and those that stand for capabilities which the process
/// has and cannot use there; tells of the latter.
pub fn prepare_network(spec: &Spec, network: BorrowedFd<'_>, first: u32) -> Result<Standing> {
    let failed = |key: &str, value: &str, source| RootfsError::Sysctl {
        key: key.to_owned(),
        value: value.to_owned(),
        source,
    };
    let _inside = InNetwork::enter(network).map_err(|source| failed("net", "", source))?;
    // In there: what is the host's own is told by comparing with this process's.
    let asked = sysctl::Checked::network(spec, first)?;
    let proc = detached_proc()
        .map_err(|problem| failed("net", "", io::Error::other(problem.to_string())))?;
    let proc = proc.as_fd();
    asked.write(proc)?;
    let mut standing = Standing::default();
    let kept = capabilities(spec);
    let groups = format!("{first} {}", first + crate::ids::LAST);
    for (capability, path, unset, value) in [
        (Capability::NetBindService, PORTS, "1024", "0"),
        (Capability::NetRaw, PING, NO_PING, groups.as_str()),
    ] {
        if asked.has(path) {
            continue;
        }
        // A kernel without IPv4 has neither.
        let Ok(now) = read(proc, path) else {
            continue;
        };
        let name = path.replace('/', ".");
        if !kept.contains(capability) {
            if now.trim() != unset {
                let now = now.trim().replace('\t', " ");
                standing.neighbours.push((capability, name, now));
            }
        } else if now.trim() == unset {
            sysctl::write_one(proc, path, value).map_err(|source| failed(path, value, source))?;
            standing.added.push((name, value.to_owned()));
        }
    }
    Ok(standing)
}

fn capabilities(spec: &Spec) -> Set {
    let process = spec.process().as_ref();
    let sets = process.and_then(|process| process.capabilities().as_ref());
    Set::from_oci(sets.and_then(|sets| sets.bounding().as_ref()))
}

fn read(proc: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    let path = c_string(format!("sys/{path}").as_bytes())?;
    let rules = resolve::BENEATH | resolve::NO_SYMLINKS | resolve::NO_XDEV;
    let file = sys::openat2(proc, &path, libc::O_RDONLY, 0, rules)?;
    let mut text = String::new();
    std::fs::File::from(file)
        .take(256)
        .read_to_string(&mut text)?;
    Ok(text)
}
