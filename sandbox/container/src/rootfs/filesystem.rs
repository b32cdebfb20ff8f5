//! New file systems: tmpfs, proc, sysfs, devpts, mqueue, overlay and whatever else the spec names.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use super::error::MountProblem;
use super::mounts::{Entry, Outcome};
use super::options::Propagation;
use super::resolve::c_string;
use super::sys::{self, MountAttr, attr};

/// Layers of an overlay that are too many for one option.
mod layers;

/// The kernel takes at most this many bytes as the value of an option (`fsconfig(2)`: 256 with the
/// final nul).
const MAX_VALUE: usize = 255;

/// File systems that are one with the kernel or fresh for each mount: read-only is a matter of the
/// mount. The superblock of all others becomes read-only too, so that no journal is replayed.
fn read_only_by_mount(fstype: &str) -> bool {
    matches!(
        fstype,
        "tmpfs" | "proc" | "sysfs" | "mqueue" | "devpts" | "cgroup" | "cgroup2" | "ramfs"
    )
}

/// File systems that take the SELinux `context=` option.
fn takes_label(fstype: &str) -> bool {
    !matches!(
        fstype,
        "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2" | "securityfs" | "debugfs"
    )
}

/// Opens a file system context, with errors that say what the file system said.
pub(super) struct Context {
    fd: OwnedFd,
}

impl Context {
    pub(super) fn open(fstype: &str) -> Outcome<Self> {
        let name = c_string(fstype.as_bytes()).map_err(MountProblem::system("read the type"))?;
        let fd = sys::fsopen(&name).map_err(|source| MountProblem::System {
            action: "open the file system",
            detail: if source.raw_os_error() == Some(libc::ENODEV) {
                format!(": this kernel has no file system {fstype:?}")
            } else {
                String::new()
            },
            source,
        })?;
        Ok(Self { fd })
    }

    fn failed(&self, action: &'static str, what: &str, source: io::Error) -> MountProblem {
        let said = sys::fs_messages(self.fd.as_fd());
        let mut detail = String::new();
        for part in [what, &said] {
            if !part.is_empty() {
                detail.push_str(": ");
                detail.push_str(part);
            }
        }
        MountProblem::System {
            action,
            detail,
            source,
        }
    }

    pub(super) fn set(&self, key: &str, value: Option<&str>) -> Outcome<()> {
        self.try_set(key, value).map_err(|source| {
            let what = match value {
                Some(value) if value.len() > MAX_VALUE => {
                    format!("{key}= is longer than the kernel's limit of {MAX_VALUE} bytes")
                }
                Some(value) => format!("{key}={value}"),
                None => key.to_owned(),
            };
            self.failed("set the option", &what, source)
        })
    }

    fn try_set(&self, key: &str, value: Option<&str>) -> io::Result<()> {
        let c_key = c_string(key.as_bytes())?;
        match value {
            None => sys::fsconfig_flag(self.fd.as_fd(), &c_key),
            // The quotes of mount(8), which keep the commas of a label together.
            Some(label) if key.ends_with("context") => {
                self.set_value(&c_key, label.trim_matches('"').as_bytes())
            }
            Some(value) => self.set_value(&c_key, value.as_bytes()),
        }
    }

    fn set_value(&self, key: &std::ffi::CStr, value: &[u8]) -> io::Result<()> {
        sys::fsconfig_string(self.fd.as_fd(), key, &c_string(value)?)
    }

    /// Sets an option to what a descriptor refers to.
    pub(super) fn set_descriptor(
        &self,
        key: &std::ffi::CStr,
        value: BorrowedFd<'_>,
    ) -> Outcome<()> {
        sys::fsconfig_descriptor(self.fd.as_fd(), key, value)
            .map_err(|source| self.failed("set the option", &key.to_string_lossy(), source))
    }

    pub(super) fn source(&self, source: &[u8]) -> Outcome<()> {
        if source.is_empty() {
            return Ok(());
        }
        self.set_value(c"source", source)
            .map_err(|error| self.failed("set the source", "", error))
    }

    /// Makes the superblock and a detached mount of it.
    pub(super) fn mount(&self, attributes: u64) -> Outcome<OwnedFd> {
        sys::fsconfig_create(self.fd.as_fd())
            .map_err(|source| self.failed("make the file system", "", source))?;
        sys::fsmount(self.fd.as_fd(), attributes)
            .map_err(|source| self.failed("mount the file system", "", source))
    }
}

/// Makes the file system of `entry`, detached. A tmpfs comes writable in any case; the caller makes
/// it read-only when it is filled.
pub(super) fn make(entry: &Entry<'_>, label: &str, mode: Option<u32>) -> Outcome<OwnedFd> {
    let options = &entry.options;
    let context = Context::open(entry.fstype)?;
    context.source(entry.source.as_os_str().as_bytes())?;
    let mut attributes = options.alone().set;
    if attributes & attr::RDONLY != 0 && !read_only_by_mount(entry.fstype) {
        context.set("ro", None)?;
    }
    if entry.fstype == "tmpfs" {
        attributes &= !attr::RDONLY;
    }
    for flag in &options.superblock {
        context.set(flag, None)?;
    }
    if let Some(mode) = mode {
        context.set("mode", Some(&format!("{mode:o}")))?;
    }
    let mut layers = None;
    for (key, value) in &options.data {
        match value {
            Some(list) if key == "lowerdir" && list.len() > MAX_VALUE => {
                layers = layers::set(&context, list)?;
            }
            _ => context.set(key, value.as_deref())?,
        }
    }
    if !label.is_empty() && takes_label(entry.fstype) && !options.has_data("context") {
        context.set("context", Some(label))?;
    }
    let mount = match layers {
        Some(named) => named.resolved(|| context.mount(attributes))?,
        None => context.mount(attributes)?,
    };
    propagate(mount.as_fd(), options.propagation)?;
    Ok(mount)
}

/// Makes a sysfs that shows the devices of the network namespace `network`. In it root of the host is
/// the owner, so that a container in a user namespace can only look.
pub(super) fn make_in(network: BorrowedFd<'_>, entry: &Entry<'_>) -> Outcome<OwnedFd> {
    let _inside = crate::namespaces::InNetwork::enter(network)
        .map_err(MountProblem::system("enter the network namespace"))?;
    make(entry, "", None)
}

/// A new mount is private; anything else is set.
fn propagate(mount: BorrowedFd<'_>, propagation: Option<(Propagation, bool)>) -> Outcome<()> {
    let Some((kind, recursive)) = propagation else {
        return Ok(());
    };
    if kind == Propagation::Private {
        return Ok(());
    }
    let attributes = MountAttr {
        propagation: kind.flag(),
        ..MountAttr::default()
    };
    sys::set_attributes(mount, &attributes, recursive)
        .map_err(MountProblem::system("set the mount's propagation"))
}
