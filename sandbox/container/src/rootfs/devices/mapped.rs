//! Nodes for a container with user ids of its own, which cannot make any: the host's process makes them, on
//! a tmpfs that is mounted nowhere else, with the owners that the spec gives them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, mknodat};
use nix::unistd::{Gid, Uid, fchownat};
use oci_spec::runtime::LinuxDevice;

use super::{Node, failed, failed_io, host_device};
use crate::init::chain;
use crate::rootfs::error::{MountProblem, Result, RootfsError};
use crate::rootfs::filesystem::Context;
use crate::rootfs::sys::{self, attr};
use crate::rootfs::{Umask, aside, idmap};

/// The nodes of a container with user ids of its own.
#[derive(Debug, Default)]
pub(in crate::rootfs) struct Made {
    /// By their paths in the container, detached.
    pub(in crate::rootfs) nodes: BTreeMap<PathBuf, OwnedFd>,
    /// Those that the host's nodes are to be bound for.
    pub(in crate::rootfs) hosts: Vec<PathBuf>,
}

/// What came of an attempt.
#[derive(Debug)]
enum Attempt {
    Made(BTreeMap<PathBuf, OwnedFd>),
    /// Only what is mounted somewhere can be copied here.
    NotCopied,
    /// This process may make no devices, or this kernel cannot map them.
    NotMade,
}

/// Makes the nodes. Where this process or kernel cannot (before Linux 6.3 a tmpfs cannot be id-mapped) the
/// host's are to be bound, with the host's owners; one that gives more than the spec asks for is refused.
pub(in crate::rootfs) fn make(devices: &[LinuxDevice], user: BorrowedFd<'_>) -> Result<Made> {
    if devices.is_empty() {
        return Ok(Made::default());
    }
    let mut attempt = on(place()?.as_fd(), devices, user)?;
    if matches!(attempt, Attempt::NotCopied) {
        let place = place()?;
        attempt = aside::within(place.as_fd(), || Ok(on(place.as_fd(), devices, user)))
            .map_err(no_place)??;
    }
    match attempt {
        Attempt::Made(nodes) => Ok(Made {
            nodes,
            hosts: Vec::new(),
        }),
        Attempt::NotCopied | Attempt::NotMade => of_host(devices),
    }
}

fn place() -> Result<OwnedFd> {
    let place = Context::open("tmpfs").and_then(|context| {
        context.set("size", Some("64k"))?;
        context.mount(attr::NOSUID | attr::NOEXEC)
    });
    place.map_err(no_place)
}

fn no_place(problem: MountProblem) -> RootfsError {
    RootfsError::Device {
        action: "make a place for",
        path: PathBuf::from("/dev"),
        source: std::io::Error::other(chain(&problem)),
    }
}

/// The nodes, made on a tmpfs.
fn on(place: BorrowedFd<'_>, devices: &[LinuxDevice], user: BorrowedFd<'_>) -> Result<Attempt> {
    let mut nodes = BTreeMap::new();
    let _umask = Umask::zero();
    for (index, device) in devices.iter().enumerate() {
        let (path, node) = (device.path(), Node::from_spec(device)?);
        // Init makes those itself.
        if node.kind == SFlag::S_IFIFO {
            continue;
        }
        let name = index.to_string();
        let mode = Mode::from_bits_truncate(node.mode);
        match mknodat(place, name.as_str(), node.kind, mode, node.number()) {
            Ok(()) => {}
            Err(Errno::EPERM) => return Ok(Attempt::NotMade),
            Err(errno) => return Err(failed("make the device", path)(errno)),
        }
        let (uid, gid) = node.owner.unwrap_or((0, 0));
        fchownat(
            place,
            name.as_str(),
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .map_err(failed("set the owner of", path))?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let node = openat(place, name.as_str(), flags, Mode::empty())
            .map_err(failed("open the device", path))?;
        let tree = match sys::clone_tree(node.as_fd(), false) {
            Err(error) if aside::is_needed(&error) => return Ok(Attempt::NotCopied),
            other => other.map_err(failed_io("take out the device", path))?,
        };
        // Only now: in a mapped mount the host's root is nobody, and makes nothing.
        match idmap::set(tree.as_fd(), false, user) {
            Ok(()) => {}
            Err(problem) if problem.is_unmappable() => return Ok(Attempt::NotMade),
            Err(problem) => {
                let source = std::io::Error::other(chain(&problem));
                return Err(failed_io("set the owner of", path)(source));
            }
        }
        nodes.insert(path.clone(), tree);
    }
    Ok(Attempt::Made(nodes))
}

/// The host's nodes, none of which lets anybody do what the spec's would not.
fn of_host(devices: &[LinuxDevice]) -> Result<Made> {
    let mut made = Made::default();
    for device in devices {
        let (path, node) = (device.path(), Node::from_spec(device)?);
        if node.kind == SFlag::S_IFIFO {
            continue;
        }
        let host = host_device(path, &node)?;
        let status = fstat(&host).map_err(failed("look at the host's", path))?;
        let (hosts, asked) = (status.st_mode & 0o777, node.mode & 0o777);
        if hosts & !asked != 0 {
            let path = path.clone();
            return Err(RootfsError::WiderDevice { path, hosts, asked });
        }
        made.hosts.push(path.clone());
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::rootfs::sys::resolve;

    fn device(path: &str, minor: i64, mode: u32) -> LinuxDevice {
        let device = serde_json::json!({
            "path": path, "type": "c", "major": 1, "minor": minor, "fileMode": mode,
            "uid": 5, "gid": 6,
        });
        serde_json::from_value(device).unwrap()
    }

    /// Whether a tmpfs, on which nodes are made, can be id-mapped: since Linux 6.3.
    fn can_be_mapped(user: BorrowedFd<'_>) -> bool {
        let place = place().unwrap();
        match idmap::set(place.as_fd(), false, user) {
            Ok(()) => true,
            Err(problem) => {
                assert!(problem.is_unmappable(), "{problem:?}");
                false
            }
        }
    }

    /// Before Linux 6.15 a container that was given devices was refused. Before 6.3 one still is that is to have
    /// less of a device than the host's node gives.
    #[test]
    fn nodes_are_made_with_and_without_a_place_that_is_mounted() {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("COFFERDAM_REQUIRE_ROOT").is_none_or(|v| v != "1"),
                "COFFERDAM_REQUIRE_ROOT is set, but this test needs root"
            );
            println!("SKIPPED: needs root to make devices");
            return;
        }
        let user = idmap::tests::namespace(70_000);
        let devices = [device("/dev/null", 3, 0o640)];
        let user = user.as_fd();
        let direct = make(&devices, user);
        if !can_be_mapped(user) {
            assert!(
                matches!(
                    &direct,
                    Err(RootfsError::WiderDevice { path, asked: 0o640, .. })
                        if path == Path::new("/dev/null")
                ),
                "{direct:?}"
            );
            return;
        }
        let direct = direct.unwrap();
        assert!(direct.hosts.is_empty(), "{direct:?}");
        let before = std::fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        let place = place().unwrap();
        let on = aside::within(place.as_fd(), || {
            // The control: it is another namespace.
            assert_ne!(
                std::fs::read_link("/proc/thread-self/ns/mnt").ok().as_ref(),
                Some(&before)
            );
            Ok(on(place.as_fd(), &devices, user))
        });
        assert_eq!(
            std::fs::read_link("/proc/thread-self/ns/mnt").unwrap(),
            before
        );
        let Attempt::Made(aside) = on.unwrap().unwrap() else {
            panic!("not made");
        };
        for nodes in [direct.nodes, aside] {
            let status = fstat(&nodes[&PathBuf::from("/dev/null")]).unwrap();
            assert_eq!((status.st_uid, status.st_gid), (70_005, 70_006));
            assert_eq!(status.st_mode & 0o7777, 0o640);
        }
    }

    #[test]
    fn a_node_of_the_hosts_that_gives_more_than_asked_is_refused() {
        let host = sys::openat2(
            sys::cwd(),
            c"/dev/null",
            libc::O_PATH,
            0,
            resolve::NO_SYMLINKS,
        );
        let mode = fstat(host.unwrap()).unwrap().st_mode & 0o777;
        let same = of_host(&[device("/dev/null", 3, mode)]).unwrap();
        assert_eq!(same.hosts, [PathBuf::from("/dev/null")]);
        let refused = of_host(&[device("/dev/null", 3, mode & 0o600)]);
        assert!(
            matches!(refused, Err(RootfsError::WiderDevice { .. })),
            "{refused:?}"
        );
    }
}
