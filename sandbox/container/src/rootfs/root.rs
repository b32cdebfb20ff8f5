//! The container's root: from a directory of the host to `/` of the mount namespace.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{chdir, chroot, fchdir};

use super::error::{Result, RootfsError};
use super::options::Propagation;
use super::resolve::{c_string, lexical};
use super::sys::{self, MountAttr, attr, resolve};

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> RootfsError + use<'a> {
    move |source| RootfsError::Root {
        action,
        path: path.to_owned(),
        source,
    }
}

fn failed_nix<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(nix::errno::Errno) -> RootfsError + use<'a> {
    let failed = failed(action, path);
    move |errno| failed(errno.into())
}

fn propagation_attr(propagation: Propagation) -> MountAttr {
    MountAttr {
        propagation: propagation.flag(),
        ..MountAttr::default()
    }
}

/// Reads `linux.rootfsPropagation`; the default is `rslave`, as in runc.
pub(super) fn propagation(text: Option<&str>) -> Result<(Propagation, bool)> {
    match text {
        None | Some("") => Ok((Propagation::Slave, true)),
        Some(text) => Propagation::parse(text).ok_or_else(|| RootfsError::Spec {
            field: "linux.rootfsPropagation",
            problem: format!(
                "{text:?} is unknown; it is one of private, slave, shared, unbindable, or one of \
                 them with an r before it"
            ),
        }),
    }
}

/// Cuts the new mount namespace off from the host's, so that no mount made here shows there.
///
/// With `shared` the namespace must stay a peer of the host's (a volume mounted `rshared` needs
/// it); then only the mount that holds the rootfs is cut off.
pub(super) fn isolate(kind: Propagation, rootfs: &Path) -> Result<()> {
    if kind == Propagation::Shared {
        return isolate_parent(rootfs);
    }
    // Always recursive, whatever the spec says of the container's own root: a mount left shared
    // here would carry what init does to the host.
    let kind = match kind {
        Propagation::Private | Propagation::Unbindable => Propagation::Private,
        Propagation::Slave | Propagation::Shared => Propagation::Slave,
    };
    sys::set_attributes_at(sys::cwd(), c"/", &propagation_attr(kind), true).map_err(failed(
        "make the mount namespace independent below",
        Path::new("/"),
    ))
}

/// Makes the mount that holds `rootfs` private: the nearest ancestor that is a mount.
fn isolate_parent(rootfs: &Path) -> Result<()> {
    for ancestor in rootfs.ancestors() {
        let path = c_string(ancestor.as_os_str().as_bytes()).map_err(failed("open", ancestor))?;
        match sys::set_attributes_at(
            sys::cwd(),
            &path,
            &propagation_attr(Propagation::Private),
            false,
        ) {
            Ok(()) => return Ok(()),
            // Not a mount.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(failed("make private", ancestor)(error)),
        }
    }
    Ok(())
}

/// Opens the rootfs: the directory that policy has judged.
pub(super) fn open(rootfs: &Path) -> Result<OwnedFd> {
    if lexical(rootfs) == Path::new("/") {
        return Err(RootfsError::Spec {
            field: "root.path",
            problem: "the host's root cannot be a container's root".to_owned(),
        });
    }
    let path = c_string(rootfs.as_os_str().as_bytes())
        .map_err(failed("open the root file system", rootfs))?;
    // The path is the canonical one that policy has judged: a link anywhere in it came since.
    let directory = sys::openat2(sys::cwd(), &path, libc::O_PATH, 0, resolve::NO_SYMLINKS);
    let directory = directory.map_err(|source| match source.raw_os_error() {
        Some(libc::ELOOP) => RootfsError::Spec {
            field: "root.path",
            problem: format!(
                "{} is a symbolic link or reached through one; name the directory itself",
                rootfs.display()
            ),
        },
        _ => failed("open the root file system", rootfs)(source),
    })?;
    let mode = fstat(&directory)
        .map_err(failed_nix("look at the root file system", rootfs))?
        .st_mode;
    if mode & libc::S_IFMT != libc::S_IFDIR {
        return Err(RootfsError::Spec {
            field: "root.path",
            problem: format!("{} is not a directory; it must be one", rootfs.display()),
        });
    }
    Ok(directory)
}

/// Mounts the rootfs onto itself, with what is mounted below it; the result is the new mount.
pub(super) fn bind(rootfs: &Path) -> Result<OwnedFd> {
    let directory = open(rootfs)?;
    let tree = sys::clone_tree(directory.as_fd(), true)
        .map_err(failed("clone the root file system", rootfs))?;
    sys::attach(tree.as_fd(), directory.as_fd())
        .map_err(failed("mount the root file system", rootfs))?;
    Ok(tree)
}

/// Mounts a rootfs that is there already, detached. The container's root may not be able to enter the
/// directories above the rootfs, so the place is the root of this mount namespace: on top of it
/// nobody needs to search for it.
pub(super) fn place(tree: BorrowedFd<'_>) -> Result<OwnedFd> {
    let slash = Path::new("/");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(slash, flags, Mode::empty()).map_err(failed_nix("open", slash))?;
    sys::attach(tree, root.as_fd()).map_err(failed("mount the root file system on", slash))?;
    tree.try_clone_to_owned()
        .map_err(failed("keep the root file system on", slash))
}

/// Makes `root` the root of the mount namespace and lets go of the host's.
pub(super) fn pivot(root: BorrowedFd<'_>, shared: bool) -> Result<()> {
    let here = Path::new(".");
    if shared {
        return pivot_shared(root);
    }
    fchdir(root).map_err(failed_nix("enter the root file system", here))?;
    sys::pivot_here().map_err(failed("pivot to the root file system", here))?;
    // The old root now lies on top of the new one, at "."; umount2 follows to it.
    umount2(here, MntFlags::MNT_DETACH).map_err(failed_nix("let go of the host's root", here))?;
    chdir("/").map_err(failed_nix("enter", Path::new("/")))
}

/// [`pivot`] while the host's mounts are still shared with it.
fn pivot_shared(root: BorrowedFd<'_>) -> Result<()> {
    let here = Path::new(".");
    let slash = Path::new("/");
    let old = nix::fcntl::open(
        slash,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed_nix("open", slash))?;
    fchdir(root).map_err(failed_nix("enter the root file system", here))?;
    sys::pivot_here().map_err(failed("pivot to the root file system", here))?;
    // Else the unmount would be repeated on the host. By descriptor: "." is the new root here.
    sys::set_attributes(old.as_fd(), &propagation_attr(Propagation::Slave), true)
        .map_err(failed("make the old root independent", here))?;
    umount2(here, MntFlags::MNT_DETACH).map_err(failed_nix("let go of the host's root", here))?;
    chdir(slash).map_err(failed_nix("enter", slash))
}

/// For hosts whose root is an initramfs, which pivot_root refuses: moves `root` over `/`.
pub(super) fn move_root(root: BorrowedFd<'_>, in_place: bool) -> Result<()> {
    let slash = Path::new("/");
    fchdir(root).map_err(failed_nix("enter the root file system", slash))?;
    let old = nix::fcntl::open(
        slash,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed_nix("open", slash))?;
    if !in_place {
        sys::attach(root, old.as_fd()).map_err(failed("move the root file system to", slash))?;
    }
    chroot(".").map_err(failed_nix("change root to", slash))?;
    chdir("/").map_err(failed_nix("enter", slash))
}

/// Makes the root read-only; mounts below it stay as they are.
pub(super) fn read_only(root: BorrowedFd<'_>) -> Result<()> {
    let attributes = MountAttr {
        set: attr::RDONLY,
        ..MountAttr::default()
    };
    sys::set_attributes(root, &attributes, false).map_err(failed("make read-only", Path::new("/")))
}

/// Gives the container's root the propagation that the spec asks for.
pub(super) fn propagate(root: BorrowedFd<'_>, kind: Propagation, recursive: bool) -> Result<()> {
    sys::set_attributes(root, &propagation_attr(kind), recursive)
        .map_err(failed("set the propagation of", Path::new("/")))
}
