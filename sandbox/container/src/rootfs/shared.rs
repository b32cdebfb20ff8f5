//! Files for a virtual machine: what was opened for it is mounted where its monitor sees it.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use oci_spec::runtime::LinuxIdMappingBuilder;

use super::error::{Result, RootfsError};
use super::idmap;
use super::resolve::c_string;
use super::sys::{self, resolve};

/// A user namespace whose ids from 0 on are `first` and up on the host: what files are mapped by for a process that has
/// those ids.
///
/// # Errors
///
/// [`RootfsError::Root`].
pub fn mapping(first: u32, count: u32) -> Result<OwnedFd> {
    let failed = |source| RootfsError::Root {
        action: "make a mapping for",
        path: Path::new("the virtual machine").to_owned(),
        source,
    };
    let map = LinuxIdMappingBuilder::default()
        .container_id(0_u32)
        .host_id(first)
        .size(count)
        .build()
        .map_err(|error| failed(std::io::Error::other(error)))?;
    idmap::namespace_with(&[map], &[map]).map_err(failed)
}

/// Mounts a detached tree on a file or directory; no link is followed.
///
/// # Errors
///
/// [`RootfsError::Root`].
pub fn attach_at(tree: BorrowedFd<'_>, place: &Path) -> Result<()> {
    let failed = |source| RootfsError::Root {
        action: "mount at",
        path: place.to_owned(),
        source,
    };
    let name = c_string(place.as_os_str().as_bytes()).map_err(failed)?;
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let target = sys::openat2(sys::cwd(), &name, flags, 0, resolve::NO_SYMLINKS).map_err(failed)?;
    sys::attach(tree, target.as_fd()).map_err(failed)
}
