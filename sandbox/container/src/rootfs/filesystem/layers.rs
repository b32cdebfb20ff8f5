//! Layers of an overlay whose list is longer than an option may be.
//!
//! Linux 6.8 takes one layer after the other. Earlier kernels want one text: they get the layers by the
//! names that their descriptors have in procfs, which are short.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir};

use super::Context;
use crate::rootfs::error::MountProblem;
use crate::rootfs::mounts::Outcome;
use crate::rootfs::sys;

/// Where the names of descriptors are found.
const PLACE: &str = "/proc/thread-self";

/// Layers that were told to a context by names which are resolved when it makes the file system.
pub(super) struct Named {
    _layers: Vec<OwnedFd>,
}

/// Tells a context the layers of `list`, as `lowerdir=` has it.
pub(super) fn set(context: &Context, list: &str) -> Outcome<Option<Named>> {
    let layers = split(list);
    if are_taken_one_by_one()? {
        for layer in &layers {
            context.set("lowerdir+", Some(layer))?;
        }
        return Ok(None);
    }
    let mut opened = Vec::new();
    for layer in &layers {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let layer =
            open(layer.as_str(), flags, Mode::empty()).map_err(|errno| MountProblem::System {
                action: "open the layer",
                detail: format!(" {layer}"),
                source: errno.into(),
            })?;
        opened.push(layer);
    }
    let names: Vec<_> = opened
        .iter()
        .map(|layer| format!("fd/{}", layer.as_raw_fd()))
        .collect();
    context.set("lowerdir", Some(&names.join(":")))?;
    Ok(Some(Named { _layers: opened }))
}

impl Named {
    /// Runs `make`, which resolves the names.
    pub(super) fn resolved<T>(&self, make: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let back = open(".", flags, Mode::empty())
            .map_err(|errno| MountProblem::system("open the working directory")(errno.into()))?;
        chdir(PLACE).map_err(|errno| {
            MountProblem::system("enter procfs to name the layers")(errno.into())
        })?;
        let made = make();
        fchdir(&back).map_err(|errno| {
            MountProblem::system("go back to the working directory")(errno.into())
        })?;
        made
    }
}

/// Whether this kernel's overlay takes `lowerdir+`. Those before 6.5 take any option without a look at it,
/// and say no when the file system is made.
fn are_taken_one_by_one() -> Outcome<bool> {
    let context = Context::open("overlay")?;
    let takes_anything = sys::fsconfig_flag(context.fd.as_fd(), c"no-such-option").is_ok();
    Ok(!takes_anything && context.set_value(c"lowerdir+", b"/").is_ok())
}

/// The layers of a list; a colon in a name has a backslash before it.
fn split(list: &str) -> Vec<String> {
    let mut layers = vec![String::new()];
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        let plain = match character {
            ':' => {
                layers.push(String::new());
                continue;
            }
            '\\' => characters.next().unwrap_or('\\'),
            other => other,
        };
        if let Some(layer) = layers.last_mut() {
            layer.push(plain);
        }
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_colons_are_kept_together() {
        for (list, expected) in [
            ("/a", vec!["/a"]),
            ("/a:/b:/c", vec!["/a", "/b", "/c"]),
            (r"/a\:b:/c\\d", vec!["/a:b", r"/c\d"]),
            // What only lends data; refused by the kernel as an empty name.
            ("/a::/b", vec!["/a", "", "/b"]),
            (r"/a\", vec![r"/a\"]),
        ] {
            assert_eq!(split(list), expected, "{list}");
        }
    }
}
