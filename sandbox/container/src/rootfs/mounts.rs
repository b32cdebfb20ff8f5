//! The spec's `mounts`, one after the other.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::stat::fstat;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::binds::{apply, open_bind, open_source};
use super::error::{MountProblem, Result, RootfsError};
use super::options::MountOptions;
use super::resolve::{Kind, Place, lexical, open_or_make, open_ordinary};
use super::sys::{self, attr};
use super::{RootfsOptions, cgroups, copy_up, filesystem};

pub(super) type Outcome<T> = std::result::Result<T, MountProblem>;

/// Files of procfs that may be mounted over, as lxcfs and the like do; runc has the same list.
const MAY_COVER_IN_PROC: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// What the mounts leave behind for the later steps.
#[derive(Debug, Default)]
pub(super) struct Mounted {
    /// The container's own procfs.
    pub(super) proc: Option<OwnedFd>,
    /// The container's own devpts.
    pub(super) devpts: Option<OwnedFd>,
    /// Every mount in order: where it is, and whether what is in it belongs to the host.
    at: Vec<(PathBuf, bool)>,
    /// Mounts that become read-only once everything in them is there, and where they are.
    pub(super) late_read_only: Vec<(OwnedFd, PathBuf)>,
}

impl Mounted {
    /// Whether `path` is in something of the host's (a bind, devtmpfs), where nothing may be made.
    pub(super) fn is_hosts(&self, path: &Path) -> bool {
        // The last one: what was mounted below its place before, it hides.
        let top = self.at.iter().rfind(|(at, _)| path.starts_with(at));
        top.is_some_and(|(_, hosts)| *hosts)
    }
}

/// Makes the mounts of one spec.
pub(super) struct Mounter<'a> {
    pub(super) root: BorrowedFd<'a>,
    pub(super) options: &'a RootfsOptions,
    /// SELinux label of new file systems; empty for none.
    pub(super) label: &'a str,
    /// The container has a pid namespace of its own.
    own_pid_namespace: bool,
    pub(super) mounted: Mounted,
}

/// One entry of `mounts`, parsed.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) fstype: &'a str,
    pub(super) source: &'a Path,
    pub(super) destination: &'a Path,
    pub(super) options: MountOptions,
    pub(super) mount: &'a Mount,
}

impl<'a> Entry<'a> {
    pub(super) fn parse(mount: &'a Mount) -> Result<Self> {
        let fstype = mount.typ().as_deref().unwrap_or("none");
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        let failed = |problem| mount_error(fstype, source, mount.destination(), problem);
        let words = mount.options().as_deref().unwrap_or_default();
        let mut options = MountOptions::parse(fstype, words).map_err(failed)?;
        // A mapping without the option is the older way to ask for it.
        if options.idmap.is_none() && mount.uid_mappings().is_some() && options.bind.is_some() {
            options.idmap = Some(false);
        }
        Ok(Self {
            fstype: if options.bind.is_some() {
                "bind"
            } else {
                fstype
            },
            source,
            destination: mount.destination(),
            options,
            mount,
        })
    }

    pub(super) fn error(&self, problem: MountProblem) -> RootfsError {
        mount_error(self.fstype, self.source, self.destination, problem)
    }
}

fn mount_error(fstype: &str, from: &Path, to: &Path, problem: MountProblem) -> RootfsError {
    RootfsError::Mount {
        fstype: fstype.to_owned(),
        from: from.to_owned(),
        destination: to.to_owned(),
        source: Box::new(problem),
    }
}

impl<'a> Mounter<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, spec: &'a Spec, options: &'a RootfsOptions) -> Self {
        let linux = spec.linux().as_ref();
        let label = linux.and_then(|l| l.mount_label().as_deref());
        let namespaces = linux.and_then(|l| l.namespaces().as_deref());
        Self {
            root,
            options,
            label: label.unwrap_or_default(),
            own_pid_namespace: namespaces
                .unwrap_or_default()
                .iter()
                .any(|n| n.typ() == LinuxNamespaceType::Pid),
            mounted: Mounted::default(),
        }
    }

    pub(super) fn run(mut self, mounts: &[Mount]) -> Result<Mounted> {
        for (index, mount) in mounts.iter().enumerate() {
            let entry = Entry::parse(mount)?;
            self.one(index, &entry)
                .map_err(|problem| entry.error(problem))?;
        }
        Ok(self.mounted)
    }

    fn one(&mut self, index: usize, entry: &Entry<'_>) -> Outcome<()> {
        if entry.options.remount {
            return self.remount(entry);
        }
        if entry.options.bind.is_some() {
            return self.bind(index, entry);
        }
        match entry.fstype {
            "cgroup" | "cgroup2" => cgroups::mount(self, entry),
            _ => match self.options.sources.get(&index) {
                Some(made) => self.made(made.as_fd(), entry),
                None => self.file_system(entry),
            },
        }
    }

    /// A bind: the host's directory or file, with the options on the copy only.
    fn bind(&mut self, index: usize, entry: &Entry<'_>) -> Outcome<()> {
        let opened;
        let tree = match self.options.sources.get(&index) {
            Some(tree) => tree,
            None => {
                opened = open_bind(entry, self.options)?;
                &opened
            }
        };
        let place = self.place(entry, kind_of(tree.as_fd())?, Some(tree.as_fd()))?;
        attach(tree.as_fd(), &place)?;
        self.mounted.at.push((place.path, true));
        Ok(())
    }

    /// Adds to the attributes of the mount that is at the destination. Policy judged that mount by
    /// its own options, so nothing is lifted here.
    fn remount(&mut self, entry: &Entry<'_>) -> Outcome<()> {
        let target = open_ordinary(self.root, entry.destination)
            .map_err(MountProblem::system("open the destination"))?;
        let mut options = entry.options.clone();
        options.recursive.clear &= attr::ATIME;
        apply(target.as_fd(), &options)
    }

    /// A file system that the parent made.
    fn made(&mut self, tree: BorrowedFd<'_>, entry: &Entry<'_>) -> Outcome<()> {
        let place = self.place(entry, Kind::Directory, None)?;
        attach(tree, &place)?;
        self.mounted.at.push((place.path, false));
        Ok(())
    }

    fn file_system(&mut self, entry: &Entry<'_>) -> Outcome<()> {
        let place = self.place(entry, Kind::Directory, None)?;
        let tmpfs = entry.fstype == "tmpfs";
        let mode = if tmpfs && !place.made && !entry.options.has_data("mode") {
            // The image's own mode for, say, /tmp.
            let mode = fstat(&place.fd)
                .map_err(|e| MountProblem::system("look at the destination")(io::Error::from(e)))?;
            Some(mode.st_mode & 0o7777)
        } else {
            None
        };
        let mount = match filesystem::make(entry, self.label, mode) {
            Ok(mount) => mount,
            Err(problem) => match self.instead_of(entry, &problem) {
                Some(source) => return self.bind_instead(&source, &place, entry),
                None => return Err(problem),
            },
        };
        if entry.options.copy_up && tmpfs {
            copy_up::copy(place.fd.as_fd(), mount.as_fd())
                .map_err(MountProblem::system("copy the image's files"))?;
        }
        attach(mount.as_fd(), &place)?;
        let hosts = entry.fstype == "devtmpfs";
        self.mounted.at.push((place.path.clone(), hosts));
        match entry.fstype {
            "proc" if is_whole_proc(entry, &place) => self.mounted.proc = Some(mount),
            "devpts" if place.path == Path::new("/dev/pts") => self.mounted.devpts = Some(mount),
            _ if tmpfs && entry.options.alone().set & attr::RDONLY != 0 => {
                // Later mounts and the device nodes still need places made in it.
                self.mounted.late_read_only.push((mount, place.path));
            }
            _ => {}
        }
        Ok(())
    }

    /// What to bind where a user namespace may not mount the file system itself: sysfs wants to own
    /// the network namespace, procfs the pid namespace. The host's is the same where those are the
    /// host's.
    fn instead_of(&self, entry: &Entry<'_>, problem: &MountProblem) -> Option<PathBuf> {
        let MountProblem::System { source, .. } = problem else {
            return None;
        };
        if !self.options.has_userns || source.raw_os_error() != Some(libc::EPERM) {
            return None;
        }
        match entry.fstype {
            "sysfs" => Some(PathBuf::from("/sys")),
            "proc" if !self.own_pid_namespace => Some(PathBuf::from("/proc")),
            _ => None,
        }
    }

    fn bind_instead(&self, source: &Path, place: &Place, entry: &Entry<'_>) -> Outcome<()> {
        let tree = open_source(source)
            .and_then(|source| sys::clone_tree(source.as_fd(), true))
            .map_err(MountProblem::system("bind the host's instead"))?;
        let mut options = entry.options.clone();
        if entry.fstype == "sysfs" {
            // The host's sysfs shows the host's network devices: to look at, not to change.
            options.recursive.set |= attr::RDONLY;
        }
        apply(tree.as_fd(), &options)?;
        attach(tree.as_fd(), place)
    }

    /// Finds or makes the place to mount on, and checks that a mount may be there.
    pub(super) fn place(
        &self,
        entry: &Entry<'_>,
        kind: Kind,
        bound: Option<BorrowedFd<'_>>,
    ) -> Outcome<Place> {
        let destination = entry.destination;
        let place =
            open_or_make(self.root, destination, kind).map_err(|source| MountProblem::System {
                action: "make the destination in the container's root",
                detail: match source.raw_os_error() {
                    Some(libc::EROFS) => ", which is read-only: the image must have it".to_owned(),
                    Some(libc::ELOOP) => ": a link in it cannot be followed safely".to_owned(),
                    _ => String::new(),
                },
                source,
            })?;
        // What /proc and /sys say is trusted, so a link in the image must not choose their place.
        if matches!(entry.fstype, "proc" | "sysfs") && place.path != lexical(destination) {
            return Err(MountProblem::NotOrdinary);
        }
        if matches!(entry.fstype, "proc" | "sysfs") && kind_of(place.fd.as_fd())? != Kind::Directory
        {
            return Err(MountProblem::NotOrdinary);
        }
        if place.path == Path::new("/") {
            return Err(MountProblem::OverRoot);
        }
        if place.path.starts_with("/proc") && !may_be_in_proc(entry.fstype, &place.path, bound)? {
            return Err(MountProblem::InsideProc {
                path: place.path,
                allowed: MAY_COVER_IN_PROC.join(", "),
            });
        }
        Ok(place)
    }
}

/// Whether later steps can use this procfs: writable, and not only its processes.
fn is_whole_proc(entry: &Entry<'_>, place: &Place) -> bool {
    place.path == Path::new("/proc")
        && entry.options.alone().set & attr::RDONLY == 0
        && !entry.options.has_data("subset")
}

fn may_be_in_proc(fstype: &str, path: &Path, bound: Option<BorrowedFd<'_>>) -> Outcome<bool> {
    if path != Path::new("/proc") {
        return Ok(bound.is_some() && MAY_COVER_IN_PROC.iter().any(|&p| path == Path::new(p)));
    }
    let Some(bound) = bound else {
        return Ok(fstype == "proc");
    };
    // A bind of a whole procfs, not of a directory that looks like one or of a part of one.
    /// The kernel's `PROC_ROOT_INO`.
    const PROC_ROOT_INODE: u64 = 1;
    let failed =
        |errno: nix::errno::Errno| MountProblem::system("look at the source")(errno.into());
    let is_proc = fstatfs(bound).map_err(failed)?.filesystem_type() == PROC_SUPER_MAGIC;
    Ok(is_proc && fstat(bound).map_err(failed)?.st_ino == PROC_ROOT_INODE)
}

fn kind_of(source: BorrowedFd<'_>) -> Outcome<Kind> {
    let stat =
        fstat(source).map_err(|errno| MountProblem::system("look at the source")(errno.into()))?;
    Ok(match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => Kind::Directory,
        _ => Kind::File,
    })
}

pub(super) fn attach(mount: BorrowedFd<'_>, place: &Place) -> Outcome<()> {
    sys::attach(mount, place.fd.as_fd()).map_err(|source| MountProblem::System {
        action: "attach the mount",
        detail: if kind_of(mount).ok() == kind_of(place.fd.as_fd()).ok() {
            String::new()
        } else {
            // As the C library puts ENOTDIR, which mount(2) would have said; engines look for it.
            ": not a directory: Are you trying to mount a directory onto a file (or vice-versa)?"
                .to_owned()
        },
        source,
    })
}
