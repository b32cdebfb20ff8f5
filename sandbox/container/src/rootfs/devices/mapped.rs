//! Nodes for a container with user ids of its own, which cannot make any: the host's process makes them, on
//! a tmpfs that is mounted nowhere else, with the owners that the spec gives them.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, mknodat};
use nix::unistd::{Gid, Uid, fchownat};
use oci_spec::runtime::LinuxDevice;

use super::{Node, failed, failed_io};
use crate::rootfs::error::{Result, RootfsError};
use crate::rootfs::filesystem::Context;
use crate::rootfs::sys::{self, attr};
use crate::rootfs::{Umask, idmap};

/// Nodes by their paths in the container, detached. None where this process or kernel cannot make them
/// (before Linux 6.3 a tmpfs cannot be id-mapped): then the host's are bound, with the host's owners.
pub(in crate::rootfs) fn make(
    devices: &[LinuxDevice],
    user: BorrowedFd<'_>,
) -> Result<BTreeMap<PathBuf, OwnedFd>> {
    let mut nodes = BTreeMap::new();
    if devices.is_empty() {
        return Ok(nodes);
    }
    let place = Context::open("tmpfs").and_then(|context| {
        context.set("size", Some("64k"))?;
        context.mount(attr::NOSUID | attr::NOEXEC)
    });
    let place = place.map_err(|problem| RootfsError::Device {
        action: "make a place for",
        path: PathBuf::from("/dev"),
        source: std::io::Error::other(problem.to_string()),
    })?;
    let _umask = Umask::zero();
    for (index, device) in devices.iter().enumerate() {
        let (path, node) = (device.path(), Node::from_spec(device)?);
        // Init makes those itself.
        if node.kind == SFlag::S_IFIFO {
            continue;
        }
        let name = index.to_string();
        let mode = Mode::from_bits_truncate(node.mode);
        match mknodat(&place, name.as_str(), node.kind, mode, node.number()) {
            Ok(()) => {}
            Err(Errno::EPERM) => return Ok(BTreeMap::new()),
            Err(errno) => return Err(failed("make the device", path)(errno)),
        }
        let (uid, gid) = node.owner.unwrap_or((0, 0));
        fchownat(
            &place,
            name.as_str(),
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )
        .map_err(failed("set the owner of", path))?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let node = openat(&place, name.as_str(), flags, Mode::empty())
            .map_err(failed("open the device", path))?;
        let tree =
            sys::clone_tree(node.as_fd(), false).map_err(failed_io("take out the device", path))?;
        // Only now: in a mapped mount the host's root is nobody, and makes nothing.
        if idmap::set(tree.as_fd(), false, user).is_err() {
            return Ok(BTreeMap::new());
        }
        nodes.insert(path.clone(), tree);
    }
    Ok(nodes)
}
