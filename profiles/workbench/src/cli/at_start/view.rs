//! The container's files as the container will see them: its root with its bind mounts, in a mount
//! namespace of our own that ends with this process. Nothing is executed there, nothing written, and no
//! device opened: every mount of the namespace is made so that it cannot be.

/// Mounts that no device and no program is opened in.
mod harmless;

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use cofferdam_profiles::generated::{Mount, Request};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// Why the files cannot be seen so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum ViewError {
    /// No namespace.
    #[error("cannot make a mount namespace to see the container's files in; be root")]
    Namespace(#[source] Errno),
    /// Devices could be opened.
    #[error("cannot shut off the devices and programs of the container's files; Linux 5.12 can")]
    Harmless(#[source] Errno),
    /// The root.
    #[error("cannot use the root file system {}", path.display())]
    Root {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// A mount.
    #[error("cannot see what is mounted at {}", destination.display())]
    Mount {
        /// Where, as seen from inside.
        destination: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
}

/// What was mounted where.
#[derive(Debug)]
pub(super) struct View {
    /// The root without anything mounted over it.
    pub(super) bare: OwnedFd,
    /// By place in the request's list: where the mount lies, symlinks resolved, as seen from outside;
    /// none if there is nothing to mount it on.
    pub(super) places: Vec<Option<PathBuf>>,
    /// The root is seen through an overlay.
    pub(super) covered: bool,
}

const DIRECTORY: OFlag = OFlag::O_PATH
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_DIRECTORY);

/// Makes the view; from now on this process sees it at the root's own path.
pub(super) fn make(request: &Request) -> Result<View, ViewError> {
    namespace()?;
    let failed = |source| ViewError::Root {
        path: request.root.clone(),
        source,
    };
    let bare = open(&request.root, DIRECTORY, Mode::empty()).map_err(failed)?;
    let bound = |mount: &Mount| mount.source.is_some();
    let mounts = &request.mounts;
    let hidden = |mount: &Mount| {
        let mut own = mounts.iter().filter(|other| !bound(other));
        own.any(|other| mount.destination.starts_with(&other.destination))
    };
    let missing = |mount: &Mount| is_missing(&bare, &mount.destination) || hidden(mount);
    let incomplete = mounts.iter().any(|mount| bound(mount) && missing(mount));
    if incomplete {
        // The runtime will make what mounts are missing to lie on; here it is made in memory.
        cover(&request.root, &bare).map_err(failed)?;
    }
    let root = open(&request.root, DIRECTORY, Mode::empty()).map_err(failed)?;
    let mut view = View {
        bare,
        places: Vec::new(),
        covered: incomplete,
    };
    for mount in mounts {
        let place = view.place(&root, request, mount, incomplete);
        let place = place.map_err(|source| ViewError::Mount {
            destination: mount.destination.clone(),
            source,
        })?;
        view.places.push(place);
    }
    Ok(view)
}

/// A mount namespace of our own; one of a user namespace, where we may not have it otherwise.
fn namespace() -> Result<(), ViewError> {
    let mounts = CloneFlags::CLONE_NEWNS;
    let made = match unshare(mounts) {
        Err(Errno::EPERM) => unshare(mounts | CloneFlags::CLONE_NEWUSER),
        other => other,
    };
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    made.and_then(|()| mount(None::<&str>, "/", None::<&str>, private, None::<&str>))
        .map_err(ViewError::Namespace)?;
    // What is bound from these mounts is so, too.
    harmless::all().map_err(ViewError::Harmless)
}

fn inside(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(root, path, how)
}

fn link(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

/// Puts an overlay over the root whose upper layer is in memory.
fn cover(path: &Path, bare: &OwnedFd) -> Result<(), Errno> {
    const NOTHING: Option<&str> = None;
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), path, Some("tmpfs"), safe, Some("size=16m"))?;
    let memory = open(path, DIRECTORY, Mode::empty())?;
    for name in ["upper", "work"] {
        mkdirat(&memory, name, Mode::S_IRWXU)?;
    }
    let (lower, memory) = (link(bare), link(&memory));
    let options = format!(
        "lowerdir={},upperdir={}/upper,workdir={}/work",
        lower.display(),
        memory.display(),
        memory.display()
    );
    mount(NOTHING, path, Some("overlay"), safe, Some(&*options))
}

fn is_missing(root: &OwnedFd, path: &Path) -> bool {
    inside(root, path).is_err_and(|error| error == Errno::ENOENT)
}

fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    let kind = SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT;
    Ok(kind == SFlag::S_IFDIR)
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

impl View {
    /// Mounts one, and says where. `make`: the root lies in memory, so what is missing can be made.
    fn place(
        &self,
        root: &OwnedFd,
        request: &Request,
        wanted: &Mount,
        make: bool,
    ) -> Result<Option<PathBuf>, Errno> {
        const NOTHING: Option<&str> = None;
        if make && wanted.source.is_some() && is_missing(root, &wanted.destination) {
            let is_file = wanted.source.as_ref().is_some_and(|path| !path.is_dir());
            self.create(root, request, &wanted.destination, is_file)?;
        }
        let found = match inside(root, &wanted.destination) {
            Ok(found) => found,
            // The runtime makes it in what is bound above it, which is not ours to change: whatever
            // is looked for there is not found.
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let target = link(&found);
        let place = std::fs::read_link(&target).map_err(|error| errno(&error))?;
        match &wanted.source {
            Some(source) => {
                let mut flags = MsFlags::MS_BIND;
                // In a user namespace what lies below others' mounts cannot be uncovered.
                if wanted.recursive || !nix::unistd::geteuid().is_root() {
                    flags |= MsFlags::MS_REC;
                }
                mount(Some(source), &target, NOTHING, flags, NOTHING)?;
            }
            None if is_directory(&found)? => {
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(
                    Some("tmpfs"),
                    &target,
                    Some("tmpfs"),
                    flags,
                    Some("size=1m"),
                )?;
            }
            None => {}
        }
        Ok(Some(place))
    }

    /// In which mount a path lies that is seen from outside: the last one at the longest place, and
    /// the path below it.
    pub(super) fn mount_of<'p>(&self, path: &'p Path) -> Option<(usize, &'p Path)> {
        let mut found = None;
        let mut longest = 0;
        for (at, place) in self.places.iter().enumerate() {
            let Some(place) = place else {
                continue;
            };
            let length = place.as_os_str().len();
            if let Ok(below) = path.strip_prefix(place)
                && length >= longest
            {
                found = Some((at, below));
                longest = length;
            }
        }
        found
    }

    /// Makes what is missing of a path inside the root: directories, and at its end an empty file if
    /// `is_file`. What is bound from the host is left as it is.
    fn create(
        &self,
        root: &OwnedFd,
        request: &Request,
        path: &Path,
        is_file: bool,
    ) -> Result<(), Errno> {
        let names: Vec<_> = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .collect();
        let mut so_far = PathBuf::from("/");
        for (at, name) in names.iter().enumerate() {
            let parent = inside(root, &so_far)?;
            so_far.push(name);
            if !is_missing(root, &so_far) {
                continue;
            }
            let real = std::fs::read_link(link(&parent)).map_err(|error| errno(&error))?;
            let mount = self
                .mount_of(&real)
                .and_then(|(at, _)| request.mounts.get(at));
            if mount.is_some_and(|mount| mount.source.is_some()) {
                return Ok(());
            }
            let name = Path::new(name.as_os_str());
            if is_file && at + 1 == names.len() {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                openat(&parent, name, flags, Mode::S_IRUSR)?;
            } else {
                mkdirat(&parent, name, Mode::S_IRWXU)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
