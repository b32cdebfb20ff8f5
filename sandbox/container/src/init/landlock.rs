//! Opens the paths of a Landlock ruleset in the container, and restricts the process to it.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};

use cofferdam_profiles::access::AccessPath;
use cofferdam_profiles::landlock::{FILE_RIGHTS, PathRule, Ruleset};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstat};

use super::{At as _, Step};
use crate::error::Stage;
use crate::sys::landlock;

/// A ruleset that the kernel has and that does not hold yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    ruleset: OwnedFd,
    flags: u32,
}

impl Prepared {
    /// Hands the ruleset to the kernel. Needs the container's file system, and the right to look at all
    /// of it.
    pub(crate) fn new(wanted: &Ruleset) -> Step<Self> {
        let handled = landlock::Handled {
            fs: wanted.handled_fs,
            net: wanted.handled_net,
            scoped: wanted.scoped,
        };
        let ruleset = landlock::ruleset(handled).at(
            Stage::Landlock,
            format!("make a ruleset of ABI {}", wanted.abi),
        )?;
        for rule in &wanted.paths {
            allow(&ruleset, rule)?;
        }
        for rule in &wanted.ports {
            landlock::allow_port(&ruleset, rule.port, rule.access)
                .at(Stage::Landlock, format!("allow port {}", rule.port))?;
        }
        Ok(Self {
            ruleset,
            flags: wanted.flags,
        })
    }

    /// From now on it holds.
    pub(crate) fn restrict(self) -> Step {
        landlock::restrict(&self.ruleset, self.flags).at(Stage::Landlock, "restrict the process")
    }
}

/// Allows what the rule says, where there is something. A path that leads through a link that must not
/// be followed is left out: less is allowed then.
fn allow(ruleset: &OwnedFd, rule: &PathRule) -> Step {
    let Some(place) = open(rule)? else {
        return Ok(());
    };
    let status = fstat(&place).at(Stage::Landlock, format!("look at {}", rule.path))?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    let access = match kind {
        SFlag::S_IFDIR if rule.alone => rule.access & !FILE_RIGHTS,
        SFlag::S_IFDIR => rule.access,
        _ => rule.access & FILE_RIGHTS,
    };
    if access == 0 {
        return Ok(());
    }
    landlock::allow_path(ruleset, place.as_fd(), access)
        .at(Stage::Landlock, format!("allow {}", rule.path))
}

fn open(rule: &PathRule) -> Step<Option<OwnedFd>> {
    let mut resolve = ResolveFlag::RESOLVE_NO_MAGICLINKS;
    if !rule.follow {
        resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS;
    }
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(resolve);
    let open_one = |path: &AccessPath| {
        let text = CString::new(path.as_bytes()).map_err(|_| Errno::EINVAL)?;
        openat2(AT_FDCWD, text.as_c_str(), how)
    };
    // No further up: that would be a rule for more and more that nobody spoke of.
    let above = rule.path.parents().filter(|above| !above.is_root());
    for path in std::iter::once(rule.path.clone()).chain(above.take(rule.up.into())) {
        match open_one(&path) {
            Ok(place) => return Ok(Some(place)),
            Err(Errno::ENOENT) => {}
            Err(Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES | Errno::ENAMETOOLONG) => {
                return Ok(None);
            }
            Err(errno) => return Err(errno).at(Stage::Landlock, format!("open {path}")),
        }
    }
    Ok(None)
}
