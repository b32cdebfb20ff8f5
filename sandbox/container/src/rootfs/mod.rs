//! The container's file system: mounts, devices, pivot, masked and read-only paths.
//!
//! Called by the container's init, single-threaded, as root of its user namespace, in its new mount
//! namespace and after it has entered its cgroup. The steps, in this order: [`Rootfs::prepare`],
//! [`Rootfs::pivot`], [`Rootfs::sysctl`], [`Rootfs::finish`].
//!
//! Rules that every file here keeps:
//! - Mounts are made detached, given all their options, and only then attached: no moment at which
//!   a mount is in place without its `ro` or `nosuid`.
//! - A destination is a descriptor found below the root's descriptor, never a path of the host.
//! - A source is opened without following links; policy has approved the canonical path.

/// Why the file system could not be made.
mod error;

/// Mount options in words -> attributes and data.
mod options;

/// Paths inside the root.
mod resolve;

/// The root itself: bind, pivot, propagation.
mod root;

/// The entries of `mounts`.
mod mounts;

/// Binds of the host's files.
mod binds;

/// What is mounted below a bind's source.
mod submounts;

/// New file systems by fsopen.
mod filesystem;

/// `/sys/fs/cgroup`.
mod cgroups;

/// Id-mapped binds.
mod idmap;

/// The root file system with the owners of a user namespace.
mod mapped;

/// A joined network namespace that belongs to the host.
mod network;

/// A mount namespace for a moment.
mod aside;

/// Filling a tmpfs from the image.
mod copy_up;

/// Nodes and links in `/dev`.
mod devices;

/// Masked and read-only paths.
mod protect;

/// Kernel parameters.
mod sysctl;

/// Files for a virtual machine.
mod shared;

/// The system calls.
mod sys;

pub use binds::{Because, Unmapped};
pub use error::{MountProblem, RootfsError};
pub use mapped::Layers;
pub use network::{Standing, prepare_network};
pub use shared::{attach_at, mapping};

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use error::Result;
use options::Propagation;
use sys::{MountAttr, attr};

/// One hierarchy of the container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupDir {
    /// As in `/proc/PID/cgroup`: `cpu,cpuacct`, `name=systemd`, or empty for v2.
    pub controllers: String,
    /// The container's directory in it, a path of the host.
    pub path: PathBuf,
}

/// What the file system depends on besides the spec.
#[derive(Debug, Default)]
pub struct RootfsOptions {
    /// Move the root instead of pivoting (for hosts that run from an initramfs).
    pub no_pivot: bool,
    /// The container has a user namespace of its own.
    pub has_userns: bool,
    /// The container has a cgroup namespace of its own.
    pub has_cgroupns: bool,
    /// The bundle: relative mount sources are below it.
    pub bundle: PathBuf,
    /// The root file system on the host.
    pub rootfs: PathBuf,
    /// The container's cgroup; empty to find it in `/proc/self/cgroup`.
    pub cgroups: Vec<CgroupDir>,
    /// Mounts by index in `mounts` that the parent made with [`open_sources`].
    pub sources: BTreeMap<usize, OwnedFd>,
    /// Device nodes by their paths in the container that the parent made with [`open_sources`].
    pub nodes: BTreeMap<PathBuf, OwnedFd>,
    /// The parent has set the parameters of the network namespace, with [`prepare_network`].
    pub network_prepared: bool,
    /// The root file system, mapped, that the parent made with [`open_root`].
    pub root: Option<OwnedFd>,
}

/// Whose owners files get that the engine has not mapped.
#[derive(Debug, Clone, Copy)]
pub struct Owners<'a> {
    /// The container's user namespace.
    pub user: BorrowedFd<'a>,
    /// The id on the host of its root, if the user namespace is of our making: then everything is
    /// mapped, whatever the spec says.
    pub first: Option<u32>,
    /// A volume that cannot be mapped is mounted all the same.
    pub may_be_unmapped: bool,
    /// The network namespace, if it is joined and not the user namespace's own: its sysfs can be
    /// mounted by the parent only.
    pub network: Option<BorrowedFd<'a>>,
}

/// What [`open_sources`] opened.
#[derive(Debug, Default)]
pub struct Sources {
    /// By index in `mounts`.
    pub mounts: BTreeMap<usize, OwnedFd>,
    /// Device nodes with the spec's owners, by their paths in the container.
    pub nodes: BTreeMap<PathBuf, OwnedFd>,
    /// Devices that are the host's nodes, with the host's owners and modes.
    pub hosts_nodes: Vec<PathBuf>,
    /// What could not be mapped.
    pub unmapped: Vec<Unmapped>,
}

/// A container's file system while it is being made.
#[derive(Debug)]
pub struct Rootfs<'a> {
    spec: &'a Spec,
    root: OwnedFd,
    mounted: mounts::Mounted,
    propagation: Option<(Propagation, bool)>,
    /// A detached mount of the real null device, if something is masked.
    null: Option<OwnedFd>,
    sysctls: sysctl::Checked,
    no_pivot: bool,
    /// It lies over the host's root already.
    in_place: bool,
}

/// Opens, in the host's namespaces and with the host's rights, what the container's init could not
/// open or map itself: all binds, if it has a user namespace, and the spec's devices. The descriptors go to
/// init as [`RootfsOptions::sources`] and [`RootfsOptions::nodes`].
pub fn open_sources(
    spec: &Spec,
    options: &RootfsOptions,
    owners: Option<Owners<'_>>,
) -> Result<Sources> {
    let mut sources = Sources::default();
    let Some(owners) = owners else {
        return Ok(sources);
    };
    let devices = spec.linux().as_ref().and_then(|l| l.devices().as_deref());
    if owners.first.is_some() {
        let made = devices::mapped::make(devices.unwrap_or_default(), owners.user)?;
        (sources.nodes, sources.hosts_nodes) = (made.nodes, made.hosts);
    }
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let entry = mounts::Entry::parse(mount)?;
        let failed = |problem| entry.error(problem);
        if entry.options.bind.is_some() && !entry.options.remount {
            let (tree, unmapped) = binds::open_mapped(&entry, options, owners).map_err(failed)?;
            sources.mounts.insert(index, tree);
            sources.unmapped.extend(unmapped);
        } else if let ("sysfs", Some(network)) = (entry.fstype, owners.network) {
            let tree = filesystem::make_in(network, &entry).map_err(failed)?;
            sources.mounts.insert(index, tree);
        }
    }
    Ok(sources)
}

/// Opens the root file system with the owners of the user namespace, whose root is `first` on the
/// host. The descriptor goes to init as [`RootfsOptions::root`]. `note` becomes a link to a directory
/// that is to be removed after it, if one has to be made.
pub fn open_root(
    rootfs: &Path,
    user: BorrowedFd<'_>,
    first: u32,
    layers: Layers,
    note: &Path,
) -> Result<OwnedFd> {
    mapped::open(rootfs, user, first, layers, note)
}

/// Everything here changes the mount namespace it is called in: it must not be somebody else's.
fn own_mount_namespace(spec: &Spec) -> Result<()> {
    let namespaces = spec
        .linux()
        .as_ref()
        .and_then(|l| l.namespaces().as_deref());
    let mut mount = namespaces
        .unwrap_or_default()
        .iter()
        .filter(|n| n.typ() == LinuxNamespaceType::Mount);
    match mount.next() {
        Some(namespace) if namespace.path().is_none() => Ok(()),
        _ => Err(RootfsError::Spec {
            field: "linux.namespaces",
            problem:
                "a container needs a new mount namespace: `{\"type\": \"mount\"}` without a path"
                    .to_owned(),
        }),
    }
}

/// A procfs of this process's pid namespace that is mounted nowhere: nothing can lie over it.
fn detached_proc() -> std::result::Result<OwnedFd, MountProblem> {
    filesystem::Context::open("proc")?.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)
}

/// Puts the umask back when dropped.
struct Umask(Mode);

impl Umask {
    fn zero() -> Self {
        Self(umask(Mode::empty()))
    }
}

impl Drop for Umask {
    fn drop(&mut self) {
        umask(self.0);
    }
}

impl<'a> Rootfs<'a> {
    /// Cuts the mount namespace off, binds the root file system, makes the spec's mounts, the
    /// devices and the links in `/dev`. Nothing of it is visible to the host.
    pub fn prepare(spec: &'a Spec, options: &RootfsOptions) -> Result<Self> {
        own_mount_namespace(spec)?;
        let linux = spec.linux().as_ref();
        let asked = linux.and_then(|l| l.rootfs_propagation().as_deref());
        let (kind, recursive) = root::propagation(asked)?;
        let sysctls = match linux.and_then(|l| l.sysctl().as_ref()) {
            Some(parameters) => {
                let own_ids = options.root.is_some();
                sysctl::Checked::new(parameters, spec, options.network_prepared, own_ids)?
            }
            None => sysctl::Checked::default(),
        };
        let masks = linux.and_then(|l| l.masked_paths().as_ref());
        let null = match masks {
            Some(paths) if !paths.is_empty() => Some(devices::host_null()?),
            _ => None,
        };

        // Before anything is mounted, so that nothing mounted here reaches the host.
        root::isolate(kind, &options.rootfs)?;
        let null = null.map(|null| protect::null_cover(null.as_fd()));
        let null = null.transpose().map_err(|source| RootfsError::Device {
            action: "copy the mount of",
            path: PathBuf::from("/dev/null"),
            source,
        })?;
        let root = match &options.root {
            Some(tree) => root::place(tree.as_fd())?,
            None => root::bind(&options.rootfs)?,
        };
        let _umask = Umask::zero();
        let mounter = mounts::Mounter::new(root.as_fd(), spec, options);
        let mounted = mounter.run(spec.mounts().as_deref().unwrap_or_default())?;
        let maker = devices::Maker {
            root: root.as_fd(),
            bind: options.has_userns,
            nodes: &options.nodes,
            mounted: &mounted,
        };
        maker.run(
            linux
                .and_then(|l| l.devices().as_deref())
                .unwrap_or_default(),
        )?;
        Ok(Self {
            spec,
            root,
            mounted,
            propagation: asked.map(|_| (kind, recursive)),
            null,
            sysctls,
            no_pivot: options.no_pivot,
            in_place: options.root.is_some(),
        })
    }

    /// Makes it the root of the mount namespace; the host's file systems are gone afterwards. The
    /// working directory is `/`.
    pub fn pivot(&mut self) -> Result<()> {
        let root = self.root.as_fd();
        if self.no_pivot {
            root::move_root(root, self.in_place)?;
        } else {
            let shared = matches!(self.propagation, Some((Propagation::Shared, _)));
            root::pivot(root, shared)?;
        }
        match self.propagation {
            Some((kind, recursive)) => root::propagate(root, kind, recursive),
            None => Ok(()),
        }
    }

    /// Writes the spec's kernel parameters. After [`Rootfs::pivot`], before [`Rootfs::finish`].
    pub fn sysctl(&mut self) -> Result<()> {
        if self.sysctls.is_empty() {
            return Ok(());
        }
        let sysctls = std::mem::take(&mut self.sysctls);
        sysctls.write(self.proc()?)
    }

    /// The container's procfs, or one of our own where it has none: the way to write `/proc/self/*`
    /// that nothing in the container can redirect.
    pub fn proc(&mut self) -> Result<BorrowedFd<'_>> {
        let proc = match self.mounted.proc.take() {
            Some(proc) => proc,
            None => detached_proc().map_err(|problem| RootfsError::Mount {
                fstype: "proc".to_owned(),
                from: PathBuf::from("proc"),
                destination: PathBuf::from("(detached)"),
                source: Box::new(problem),
            })?,
        };
        Ok((*self.mounted.proc.insert(proc)).as_fd())
    }

    /// The container's own devpts, if the spec mounts one at `/dev/pts`.
    pub fn devpts(&self) -> Option<BorrowedFd<'_>> {
        self.mounted.devpts.as_ref().map(AsFd::as_fd)
    }

    /// Puts the pty `terminal` at `/dev/console`. The mount is made from the descriptor itself, on
    /// a file that is made if it is not there and never reached through a link (CVE-2025-52565).
    pub fn console(&self, terminal: BorrowedFd<'_>) -> Result<()> {
        let path = Path::new("/dev/console");
        let failed = |action| {
            move |source| RootfsError::Device {
                action,
                path: path.to_owned(),
                source,
            }
        };
        let place = resolve::open_or_make(self.root.as_fd(), path, resolve::Kind::File)
            .map_err(failed("make the place of"))?;
        if place.path != path {
            return Err(failed("mount")(std::io::Error::from_raw_os_error(
                libc::ELOOP,
            )));
        }
        let tree = sys::clone_tree(terminal, false).map_err(failed("copy the terminal for"))?;
        sys::attach(tree.as_fd(), place.fd.as_fd()).map_err(failed("mount"))
    }

    /// Read-only and masked paths, then the read-only root: the last change to the file system.
    pub fn finish(&mut self) -> Result<()> {
        let root = self.root.as_fd();
        let linux = self.spec.linux().as_ref();
        for (mount, path) in self.mounted.late_read_only.drain(..) {
            let attributes = MountAttr {
                set: attr::RDONLY,
                ..MountAttr::default()
            };
            sys::set_attributes(mount.as_fd(), &attributes, false).map_err(|source| {
                RootfsError::Protect {
                    action: "make read-only",
                    path,
                    source,
                }
            })?;
        }
        if self
            .spec
            .root()
            .as_ref()
            .is_some_and(|r| r.readonly() == Some(true))
        {
            root::read_only(root)?;
        }
        for path in linux
            .and_then(|l| l.readonly_paths().as_ref())
            .into_iter()
            .flatten()
        {
            protect::read_only(root, Path::new(path))?;
        }
        let Some(null) = self.null.take() else {
            return Ok(());
        };
        let label = linux
            .and_then(|l| l.mount_label().as_deref())
            .unwrap_or_default();
        let mut masker = protect::Masker::new(root, null, label);
        for path in linux
            .and_then(|l| l.masked_paths().as_ref())
            .into_iter()
            .flatten()
        {
            masker.mask(Path::new(path))?;
        }
        Ok(())
    }
}
