//! Places for mapped layers, on kernels that take no descriptors.
//!
//! An overlay of those kernels takes paths, and only of what is mounted: the layers are attached to
//! a tmpfs in a mount namespace that nobody else is in and that is gone when this process leaves it.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount as mount_path};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{fchdir, mkdir};

use super::super::layers::Overlay;
use super::{Mapped, attributes};
use crate::namespaces;
use crate::rootfs::error::MountProblem;
use crate::rootfs::filesystem::Context;
use crate::rootfs::mounts::Outcome;
use crate::rootfs::sys::{self, MountAttr};
use crate::sys::namespace;

/// Any directory that every host has; it is hidden in the new mount namespace only.
const PLACE: &str = "/proc";

/// The kernel takes one page of options, its terminating zero included.
const OPTIONS_MAX: usize = 4095;

fn failed<E: Into<std::io::Error>>(action: &'static str) -> impl Fn(E) -> MountProblem {
    move |error| MountProblem::system(action)(error.into())
}

/// Brings this process back to where it came from.
struct Return {
    namespace: File,
    directory: OwnedFd,
}

impl Return {
    fn here() -> Outcome<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self {
            namespace: File::open("/proc/self/ns/mnt")
                .map_err(failed("open the mount namespace"))?,
            directory: open(".", flags, Mode::empty())
                .map_err(failed("open the working directory"))?,
        })
    }

    fn go(self) -> Outcome<()> {
        namespace::join(&self.namespace, namespaces::MOUNT)
            .map_err(failed("go back to the mount namespace"))?;
        fchdir(&self.directory).map_err(failed("go back to the working directory"))
    }
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
    let back = Return::here()?;
    namespace::unshare(namespaces::MOUNT).map_err(failed("make a mount namespace"))?;
    let made = inside(overlay, mapped);
    // Whatever happened: what follows must not run in there.
    if back.go().is_err() {
        std::process::abort();
    }
    made
}

fn inside(overlay: &Overlay, mapped: &Mapped) -> Outcome<OwnedFd> {
    let private = MountAttr {
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    sys::set_attributes_at(sys::cwd(), c"/", &private, true)
        .map_err(failed("cut the mount namespace off"))?;
    let context = Context::open("tmpfs")?;
    context.set("mode", Some("755"))?;
    let tmpfs = context.mount(0)?;
    let place = open(PLACE, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(failed("open a place for the layers"))?;
    sys::attach(tmpfs.as_fd(), place.as_fd()).map_err(failed("mount a place for the layers"))?;
    fchdir(&tmpfs).map_err(failed("enter the place for the layers"))?;
    let put = |layer: &OwnedFd, name: &str| -> Outcome<()> {
        let failed = failed::<nix::errno::Errno>("make a place for a layer");
        mkdirat(&tmpfs, name, Mode::S_IRWXU).map_err(&failed)?;
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
