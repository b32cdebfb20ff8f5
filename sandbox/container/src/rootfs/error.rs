//! What can go wrong with the container's file system.

use std::io;
use std::path::PathBuf;

/// Why the container's file system could not be made. Nothing is started after such an error; the
/// mounts made so far go away with the mount namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootfsError {
    /// The spec lacks something or contradicts itself.
    #[error("{field}: {problem}")]
    Spec {
        /// The field, such as `root.path`.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The root file system itself.
    #[error("cannot {action} {}", path.display())]
    Root {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The root file system cannot be shown with the owners of a user namespace.
    #[error(
        "cannot give the files of {} the owners of the container's own user namespace; \
         user_namespace = \"engine\", or best_effort = [\"user-namespace\"], does without",
        path.display()
    )]
    Unmappable {
        /// The root file system.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<MountProblem>,
    },
    /// An entry of `mounts`.
    #[error("cannot mount {fstype} {} on {}", from.display(), destination.display())]
    Mount {
        /// Its type, `bind` for binds.
        fstype: String,
        /// Its source.
        from: PathBuf,
        /// Where it goes in the container.
        destination: PathBuf,
        /// Why.
        #[source]
        source: Box<MountProblem>,
    },
    /// A device node or one of the links in `/dev`.
    #[error("cannot {action} {}", path.display())]
    Device {
        /// What was being done.
        action: &'static str,
        /// The path in the container.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is something else where a device should be.
    #[error(
        "{} is not the device {expected}: the image or a mount puts something else there; remove it \
         or let /dev be a tmpfs",
        path.display()
    )]
    FakeDevice {
        /// The path.
        path: PathBuf,
        /// Type, major and minor, such as `c 1:3`.
        expected: String,
    },
    /// The host's node, which is all that can be bound, lets others do what the spec's would not.
    #[error(
        "the host's {} has mode {hosts:03o}, more than the {asked:03o} that the spec asks for, and this \
         kernel or process cannot make the container a node of its own; narrow the host's, or ask for \
         fileMode {hosts:03o}",
        path.display()
    )]
    WiderDevice {
        /// The path.
        path: PathBuf,
        /// Permission bits of the host's node.
        hosts: u32,
        /// Permission bits of the spec's.
        asked: u32,
    },
    /// A device node that would be made in a directory of the host's, and stay there.
    #[error(
        "the device {} would be made in the host's directory that is mounted at {}; ask for it \
         below /dev, or bind the host's own node",
        path.display(), directory.display()
    )]
    DeviceInBind {
        /// The path of the node, as the spec has it.
        path: PathBuf,
        /// Where it leads in the container.
        directory: PathBuf,
    },
    /// A masked or a read-only path.
    #[error("cannot {action} {}; the container would see what it must not", path.display())]
    Protect {
        /// `mask` or `make read-only`.
        action: &'static str,
        /// The path in the container.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kernel parameter that this container must not set.
    #[error("sysctl {key} is refused: {problem}")]
    SysctlRefused {
        /// The parameter.
        key: String,
        /// Why, and what would make it possible.
        problem: &'static str,
    },
    /// A kernel parameter could not be written.
    #[error("cannot set sysctl {key} to {value:?}")]
    Sysctl {
        /// The parameter.
        key: String,
        /// The value.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why one mount could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountProblem {
    /// An option that is not known for binds, or takes another form.
    #[error("option {option:?}: {problem}")]
    Option {
        /// The option as the spec has it.
        option: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Only a few files of procfs may be mounted over: what a container reads and what init writes
    /// there must be the kernel's own (CVE-2019-16884, CVE-2025-31133, CVE-2025-52881).
    #[error("{} is inside /proc; only a proc file system or one of {allowed} may be there", path.display())]
    InsideProc {
        /// Where the destination leads.
        path: PathBuf,
        /// The files that may be mounted over.
        allowed: String,
    },
    /// The destination is the root itself.
    #[error("the destination is the container's root; set root.path instead")]
    OverRoot,
    /// `/proc` or `/sys` is a link or a file in the image.
    #[error("the destination must be an ordinary directory, the image has a link or a file there")]
    NotOrdinary,
    /// An overlay whose layers cannot be mounted again.
    #[error("cannot mount its layers again: {problem}")]
    Layers {
        /// What about it.
        problem: String,
    },
    /// A volume that cannot be shown with the owners of a user namespace.
    #[error(
        "the file system {kind} of the source cannot be id-mapped for the container's own user \
         namespace; mounts.unmapped = \"allow\" mounts it with all its files belonging to nobody"
    )]
    Unmappable {
        /// The file system's type.
        kind: String,
    },
    /// A mount cannot be id-mapped, by its file system or because it is mapped already.
    #[error("cannot id-map the mount: {problem}")]
    IdMap {
        /// Why, as far as the kernel tells.
        problem: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A system call failed.
    #[error("cannot {action}{detail}")]
    System {
        /// What was being done.
        action: &'static str,
        /// What the file system said, or what to do about it; starts with a separator.
        detail: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl RootfsError {
    /// Whether it is a file system that cannot show its files with the owners of a user namespace.
    pub(crate) fn is_unmappable(&self) -> bool {
        matches!(self, Self::Unmappable { source, .. } | Self::Mount { source, .. }
            if source.is_unmappable())
    }
}

impl MountProblem {
    /// Whether it is a file system that cannot show its files with the owners of a user namespace.
    pub(crate) fn is_unmappable(&self) -> bool {
        matches!(self, Self::IdMap { .. } | Self::Unmappable { .. })
    }

    pub(super) fn system(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System {
            action,
            detail: String::new(),
            source,
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, RootfsError>;
