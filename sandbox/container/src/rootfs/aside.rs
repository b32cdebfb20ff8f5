//! A mount namespace that nobody else is in, and that is gone when this process leaves it.
//!
//! Before Linux 6.15 the kernel copies no part of what is mounted nowhere, and an overlay of those kernels
//! takes layers by their paths only: there, both are done in here.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;

use super::error::MountProblem;
use super::mounts::Outcome;
use super::sys::{self, MountAttr};
use crate::namespaces;
use crate::sys::namespace;

/// Any directory that every host has; it is hidden in the new mount namespace only.
const PLACE: &str = "/proc";

fn failed<E: Into<io::Error>>(action: &'static str) -> impl Fn(E) -> MountProblem {
    move |error| MountProblem::system(action)(error.into())
}

/// Brings this thread back to where it came from.
struct Return {
    namespace: File,
    directory: OwnedFd,
}

impl Return {
    fn here() -> Outcome<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self {
            namespace: File::open("/proc/thread-self/ns/mnt")
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

/// Runs `work` while the detached mount `tree` is attached in a mount namespace of its own. Afterwards
/// `tree` is mounted nowhere again, and cannot be attached any more; copies of its parts can.
pub(super) fn within<T>(tree: BorrowedFd<'_>, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let back = Return::here()?;
    namespace::unshare(namespaces::MOUNT).map_err(failed("make a mount namespace"))?;
    let result = attach(tree).and_then(|()| work());
    // Whatever happened: what follows must not run in there.
    if back.go().is_err() {
        std::process::abort();
    }
    result
}

fn attach(tree: BorrowedFd<'_>) -> Outcome<()> {
    let private = MountAttr {
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    sys::set_attributes_at(sys::cwd(), c"/", &private, true)
        .map_err(failed("cut the mount namespace off"))?;
    let place = open(PLACE, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(failed("open a place for a mount"))?;
    sys::attach(tree, place.as_fd()).map_err(failed("mount in a namespace of its own"))
}

/// Whether the kernel copies no part of a mount that is mounted nowhere.
pub(super) fn is_needed(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}
