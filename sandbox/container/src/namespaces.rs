//! The namespaces of a spec: which are made, which are joined.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use nix::unistd::Pid;
use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType, LinuxTimeOffset};

use crate::error::CreateError;
use crate::init::sync;
use crate::process::Unacceptable;
use crate::sys::clone::{self, Side};
use crate::sys::{namespace, pidfd};

/// `CLONE_NEW*` of linux/sched.h.
pub(crate) const TIME: u64 = 0x80;
/// See [`TIME`].
pub(crate) const MOUNT: u64 = 0x2_0000;
/// See [`TIME`].
pub(crate) const CGROUP: u64 = 0x200_0000;
/// See [`TIME`].
pub(crate) const USER: u64 = 0x1000_0000;
/// See [`TIME`].
pub(crate) const PID: u64 = 0x2000_0000;
/// See [`TIME`].
pub(crate) const NETWORK: u64 = 0x4000_0000;
/// See [`TIME`].
pub(crate) const UTS: u64 = 0x400_0000;
/// See [`TIME`].
pub(crate) const IPC: u64 = 0x800_0000;

/// A namespace to join, opened and checked.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) kind: u64,
    pub(crate) file: OwnedFd,
}

/// What to make and what to join.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// `CLONE_NEW*` bits of the namespaces to make.
    pub(crate) new: u64,
    /// The namespaces to join, in the order of the spec.
    pub(crate) joins: Vec<Join>,
    /// The contents of `uid_map` and `gid_map` for a new user namespace.
    pub(crate) id_maps: Option<(String, String)>,
    /// The contents of `timens_offsets` for a new time namespace.
    pub(crate) time_offsets: Option<String>,
}

impl Namespaces {
    /// Reads the spec and opens what is to be joined, so that nothing can change it afterwards.
    /// The policy judged a path, which may lead elsewhere by now (a pid that was used again): what
    /// was opened is the caller's own namespace only where `may_share` says so.
    ///
    /// With `own_ids` the maps of a new user namespace come later.
    pub(crate) fn open(
        linux: &Linux,
        own_ids: bool,
        may_share: impl Fn(LinuxNamespaceType) -> bool,
    ) -> Result<Self, CreateError> {
        let mut all = Self::default();
        for wanted in linux.namespaces().iter().flatten() {
            let kind = bit(wanted.typ());
            if (all.new | all.joined()) & kind != 0 {
                return Err(Unacceptable::new(
                    "linux.namespaces",
                    format!("{} is listed twice", name(kind)),
                )
                .into());
            }
            match wanted.path() {
                None => all.new |= kind,
                Some(path) if path.as_os_str().is_empty() => all.new |= kind,
                Some(path) => all.joins.push(Join {
                    kind,
                    file: open(kind, path)
                        .and_then(|file| refuse_hosts(file, kind, may_share(wanted.typ())))
                        .map_err(|source| CreateError::Namespace {
                            kind: name(kind),
                            path: path.clone(),
                            source,
                        })?,
                }),
            }
        }
        if !own_ids {
            all.check_mappings(linux)?;
        }
        if let Some(offsets) = linux.time_offsets().as_ref().filter(|o| !o.is_empty()) {
            if all.new & TIME == 0 {
                return Err(Unacceptable::new(
                    "linux.timeOffsets",
                    "needs a new time namespace in linux.namespaces",
                )
                .into());
            }
            all.time_offsets = Some(time_offsets(offsets)?);
        }
        Ok(all)
    }

    fn check_mappings(&mut self, linux: &Linux) -> Result<(), Unacceptable> {
        let uids = linux.uid_mappings().as_deref().unwrap_or_default();
        let gids = linux.gid_mappings().as_deref().unwrap_or_default();
        if self.new & USER != 0 {
            if uids.is_empty() || gids.is_empty() {
                return Err(Unacceptable::new(
                    "linux.uidMappings",
                    "a new user namespace needs uidMappings and gidMappings",
                ));
            }
            self.id_maps = Some((id_map(uids), id_map(gids)));
        } else if self.joined() & USER == 0 && !(uids.is_empty() && gids.is_empty()) {
            return Err(Unacceptable::new(
                "linux.uidMappings",
                "mappings need a user namespace in linux.namespaces",
            ));
        }
        Ok(())
    }

    /// `CLONE_NEW*` bits of what is joined.
    pub(crate) fn joined(&self) -> u64 {
        self.joins.iter().fold(0, |bits, join| bits | join.kind)
    }

    /// Whether the container has a user namespace of its own, made or joined.
    pub(crate) fn has_user(&self) -> bool {
        (self.new | self.joined()) & USER != 0
    }

    /// Whether the container does not share the caller's namespace of this kind.
    pub(crate) fn has(&self, kind: u64) -> bool {
        (self.new | self.joined()) & kind != 0
    }

    /// Whether joining must be done by a process between the caller and init. Joining another
    /// container's namespaces takes the privilege of the user namespace that owns them, which init
    /// does not have once it is in its own; and who joined a user namespace cannot leave it.
    pub(crate) fn need_intermediate(&self) -> bool {
        self.joined() & USER != 0
    }

    /// What the parent joins for its children. A process in between joins the pid namespace itself:
    /// were it in there already, it would see init's pid as it is in there.
    pub(crate) fn joined_by_parent(&self) -> u64 {
        if self.need_intermediate() {
            TIME
        } else {
            TIME | PID
        }
    }

    /// The user namespace that will be joined.
    pub(crate) fn user(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.join_of(USER)
    }

    /// A namespace that will be joined.
    pub(crate) fn join_of(&self, kind: u64) -> Option<std::os::fd::BorrowedFd<'_>> {
        let join = self.joins.iter().find(|join| join.kind == kind);
        join.map(|join| join.file.as_fd())
    }

    /// Goes without the user namespace that was to be.
    pub(crate) fn without_user(&mut self) {
        self.new &= !USER;
        self.joins.retain(|join| join.kind != USER);
        self.id_maps = None;
    }

    /// Joins this user namespace instead of making one.
    pub(crate) fn join_user(&mut self, file: OwnedFd) {
        self.without_user();
        let kind = USER;
        self.joins.push(Join { kind, file });
    }

    /// Makes the new user namespace, if one is asked for, with a process that lives only until its
    /// maps are written. From then on it is one to join: id-mapped mounts need it before init.
    pub(crate) fn make_user(&mut self) -> Result<(), CreateError> {
        let Some((uids, gids)) = self.id_maps.take() else {
            return Ok(());
        };
        let failed = |source| CreateError::System {
            action: "make the user namespace",
            source,
        };
        let (parent, init) = sync::pair().map_err(failed)?;
        let (pid, _pidfd) = match clone::clone(USER, false, None).map_err(failed)? {
            Side::Child => {
                drop(parent);
                let _ = init.wait();
                clone::exit(0);
            }
            Side::Parent(pid, pidfd) => (pid, pidfd),
        };
        let made = fs::File::open(format!("/proc/{pid}/ns/user")).map_err(failed);
        let mapped = write_id_maps(pid, &uids, &gids);
        drop(parent);
        drop(init);
        pidfd::reap(pid);
        mapped?;
        self.new &= !USER;
        self.joins.push(Join {
            kind: USER,
            file: made?.into(),
        });
        Ok(())
    }
}

fn write_id_maps(pid: Pid, uids: &str, gids: &str) -> Result<(), CreateError> {
    for (file, map) in [("uid_map", uids), ("gid_map", gids)] {
        fs::write(format!("/proc/{pid}/{file}"), map).map_err(|source| CreateError::System {
            action: "write the user namespace's id maps",
            source,
        })?;
    }
    Ok(())
}

/// The `CLONE_NEW*` bits of every namespace that a container does not share with the host.
pub(crate) fn of_container(linux: &Linux) -> u64 {
    let listed = linux.namespaces().iter().flatten();
    listed.fold(0, |bits, namespace| bits | bit(namespace.typ()))
}

/// A kind's bit.
fn bit(kind: LinuxNamespaceType) -> u64 {
    match kind {
        LinuxNamespaceType::Mount => MOUNT,
        LinuxNamespaceType::Cgroup => CGROUP,
        LinuxNamespaceType::Uts => UTS,
        LinuxNamespaceType::Ipc => IPC,
        LinuxNamespaceType::User => USER,
        LinuxNamespaceType::Pid => PID,
        LinuxNamespaceType::Network => NETWORK,
        LinuxNamespaceType::Time => TIME,
    }
}

/// The spec's name of a kind.
pub(crate) fn name(kind: u64) -> &'static str {
    match kind {
        MOUNT => "mount",
        CGROUP => "cgroup",
        UTS => "uts",
        IPC => "ipc",
        USER => "user",
        PID => "pid",
        NETWORK => "network",
        _ => "time",
    }
}

/// Opens a namespace and checks that it is one, of the right kind: a path can name anything, and a
/// FIFO or a device must not be waited for.
fn open(kind: u64, path: &std::path::Path) -> io::Result<OwnedFd> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let found = namespace::kind_of(&file).map_err(|_| io::Error::other("it is not a namespace"))?;
    if found != kind {
        return Err(io::Error::other(format!(
            "it is a {} namespace",
            name(found)
        )));
    }
    Ok(file.into())
}

/// Refuses a namespace of the host's, unless it `may` be shared.
fn refuse_hosts(file: OwnedFd, kind: u64, may: bool) -> io::Result<OwnedFd> {
    if !may && is_hosts(&file, kind)? {
        let message = "it is the host's own, and was another one when the policy judged it";
        return Err(io::Error::other(message));
    }
    Ok(file)
}

/// The number that Linux 6.18 and newer give the network namespace of the machine's start
/// (`NET_NS_INIT_INO` of linux/nsfs.h).
const FIRST_NETWORK: u64 = 0xefff_fff9;

/// Whether a namespace is the host's: this process's own, or that of the first process, which an engine
/// with namespaces of its own does not share.
pub(crate) fn is_hosts(file: impl AsFd, kind: u64) -> io::Result<bool> {
    let found = nix::sys::stat::fstat(file)?;
    if kind == NETWORK && found.st_ino == FIRST_NETWORK {
        return Ok(true);
    }
    let short = match kind {
        NETWORK => "net",
        MOUNT => "mnt",
        kind => name(kind),
    };
    for of in ["self", "1"] {
        let hosts = match fs::metadata(format!("/proc/{of}/ns/{short}")) {
            // Who has less privileges than the first process cannot see its namespaces.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
            other => other?,
        };
        if (hosts.dev(), hosts.ino()) == (found.st_dev, found.st_ino) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn id_map(mappings: &[LinuxIdMapping]) -> String {
    mappings
        .iter()
        .map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()))
        .collect()
}

fn time_offsets(offsets: &HashMap<String, LinuxTimeOffset>) -> Result<String, Unacceptable> {
    let mut text = String::new();
    for (clock, offset) in offsets {
        if clock != "monotonic" && clock != "boottime" {
            return Err(Unacceptable::new(
                "linux.timeOffsets",
                format!("{clock:?} is neither monotonic nor boottime"),
            ));
        }
        let (secs, nanosecs) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        text.push_str(&format!("{clock} {secs} {nanosecs}\n"));
    }
    Ok(text)
}

/// Sets the calling process's namespaces *for children*, and puts them back when dropped.
///
/// pid and time namespaces hold for children only, so the caller itself goes on undisturbed; but a
/// hook that it runs later must not land in them.
#[derive(Debug)]
pub(crate) struct ForChildren {
    restore: Vec<(u64, OwnedFd)>,
}

impl ForChildren {
    /// Joins the pid and time namespaces of `namespaces`, and makes the new time namespace: its
    /// offsets can be written only while no process is in it.
    pub(crate) fn enter(namespaces: &Namespaces) -> io::Result<Self> {
        let mut guard = Self {
            restore: Vec::new(),
        };
        for join in &namespaces.joins {
            if join.kind & namespaces.joined_by_parent() != 0 {
                guard.keep(join.kind)?;
                namespace::join(&join.file, join.kind)?;
            }
        }
        if namespaces.new & TIME != 0 {
            guard.keep(TIME)?;
            namespace::unshare(TIME)?;
            if let Some(offsets) = &namespaces.time_offsets {
                fs::write("/proc/self/timens_offsets", offsets)?;
            }
        }
        Ok(guard)
    }

    /// Joins only the pid namespace `file`.
    pub(crate) fn enter_pid(file: impl std::os::fd::AsFd) -> io::Result<Self> {
        let mut guard = Self {
            restore: Vec::new(),
        };
        guard.keep(PID)?;
        namespace::join(file, PID)?;
        Ok(guard)
    }

    fn keep(&mut self, kind: u64) -> io::Result<()> {
        let path = if kind == PID {
            "/proc/thread-self/ns/pid"
        } else {
            "/proc/thread-self/ns/time"
        };
        let file = fs::File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other("the kernel has no time namespaces"),
            _ => error,
        })?;
        self.restore.push((kind, file.into()));
        Ok(())
    }
}

impl Drop for ForChildren {
    fn drop(&mut self) {
        for (kind, file) in &self.restore {
            // Going back to the namespace that this process is in is always allowed.
            if let Err(error) = namespace::join(file, *kind) {
                tracing::warn!(%error, kind = name(*kind), "cannot leave a namespace for children");
            }
        }
    }
}

/// This thread in another network namespace, until dropped.
#[derive(Debug)]
pub(crate) struct InNetwork {
    own: fs::File,
}

impl InNetwork {
    pub(crate) fn enter(network: impl std::os::fd::AsFd) -> io::Result<Self> {
        let own = fs::File::open("/proc/thread-self/ns/net")?;
        namespace::join(network, NETWORK)?;
        Ok(Self { own })
    }
}

impl Drop for InNetwork {
    fn drop(&mut self) {
        if let Err(error) = namespace::join(&self.own, NETWORK) {
            // Going on would make the container's devices out of the wrong namespace.
            tracing::error!(%error, "cannot leave the container's network namespace");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path was judged when it led to a pod's namespace and opened when it led to the host's.
    #[test]
    fn a_path_that_leads_to_the_host_by_now_is_refused() {
        for (typ, path) in [
            ("network", "/proc/self/ns/net"),
            ("pid", "/proc/self/ns/pid"),
            ("uts", "/proc/self/ns/uts"),
        ] {
            let list = serde_json::json!({"namespaces": [{"type": typ, "path": path}]});
            let linux: Linux = serde_json::from_value(list).expect("a spec");
            assert!(Namespaces::open(&linux, false, |_| true).is_ok(), "{typ}");
            let refused = Namespaces::open(&linux, false, |_| false);
            assert!(
                matches!(refused, Err(CreateError::Namespace { .. })),
                "{typ}: {refused:?}"
            );
        }
    }
}
