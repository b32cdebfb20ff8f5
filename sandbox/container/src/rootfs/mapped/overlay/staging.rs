//! Places for mapped layers, on kernels that take no descriptors.
//!
//! An overlay of those kernels takes paths, and only of what is mounted: the layers are attached to
//! a tmpfs in a mount namespace that nobody else is in and that is gone when this process leaves it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount as mount_path};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{fchdir, mkdir};

use super::super::layers::Overlay;
use super::{Mapped, attributes};
use crate::rootfs::aside;
use crate::rootfs::error::MountProblem;
use crate::rootfs::filesystem::Context;
use crate::rootfs::mounts::Outcome;
use crate::rootfs::sys::{self, MountAttr};

/// The kernel takes one page of options, its terminating zero included.
const OPTIONS_MAX: usize = 4095;

fn failed<E: Into<std::io::Error>>(action: &'static str) -> impl Fn(E) -> MountProblem {
    move |error| MountProblem::system(action)(error.into())
}

/// A path that stands for itself among the options.
fn plain(path: &Path) -> Outcome<&str> {
    match path.to_str() {
        Some(text) if !text.contains([',', ':', '\\', '"']) => Ok(text),
        _ => Err(MountProblem::Layers {
            problem: format!(
                "{} has a character that options cannot hold",
                path.display()
            ),
        }),
    }
}

/// Mounts the overlay in a mount namespace of its own and takes it out of there, detached.
pub(super) fn mount(overlay: &Overlay, mapped: &Mapped) -> Outcome<OwnedFd> {
    let context = Context::open("tmpfs")?;
    context.set("mode", Some("755"))?;
    let tmpfs = context.mount(0)?;
    aside::within(tmpfs.as_fd(), || inside(&tmpfs, overlay, mapped))
}

fn inside(tmpfs: &OwnedFd, overlay: &Overlay, mapped: &Mapped) -> Outcome<OwnedFd> {
    fchdir(tmpfs).map_err(failed("enter the place for the layers"))?;
    let put = |layer: &OwnedFd, name: &str| -> Outcome<()> {
        let failed = failed::<nix::errno::Errno>("make a place for a layer");
        mkdirat(tmpfs, name, Mode::S_IRWXU).map_err(&failed)?;
        let at = open(name, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(&failed)?;
        sys::attach(layer.as_fd(), at.as_fd()).map_err(self::failed("attach a layer"))
    };
    let mut data = String::new();
    let lower = mapped.lower.len() - overlay.data_only;
    for (index, layer) in mapped.lower.iter().enumerate() {
        put(layer, &index.to_string())?;
        let before = match index {
            0 => "lowerdir=",
            _ if index < lower => ":",
            _ => "::",
        };
        data.push_str(&format!("{before}{index}"));
    }
    if let Some(writable) = &mapped.writable {
        put(&writable.tree, "changes")?;
        let (upper, work) = (plain(&writable.upper)?, plain(&writable.work)?);
        data.push_str(&format!(",upperdir=changes/{upper},workdir=changes/{work}"));
    }
    for (name, value) in &overlay.options {
        data.push(',');
        data.push_str(name);
        if let Some(value) = value {
            data.push_str(&format!("={value}"));
        }
    }
    if data.len() > OPTIONS_MAX {
        return Err(MountProblem::Layers {
            problem: "it has more layers than this kernel takes".to_owned(),
        });
    }
    mkdir("merged", Mode::S_IRWXU).map_err(failed("make a place for the overlay"))?;
    let kind = Some("overlay");
    mount_path(kind, "merged", kind, MsFlags::empty(), Some(data.as_str()))
        .map_err(failed("mount the overlay over mapped layers"))?;
    let merged = open("merged", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(failed("open the overlay"))?;
    let tree =
        sys::clone_tree(merged.as_fd(), false).map_err(failed("copy the overlay's mount"))?;
    let wanted = MountAttr {
        set: attributes(&overlay.flags),
        ..MountAttr::default()
    };
    sys::set_attributes(tree.as_fd(), &wanted, false)
        .map_err(failed("set the overlay's options"))?;
    Ok(tree)
}
