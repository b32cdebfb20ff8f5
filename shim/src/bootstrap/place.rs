//! What the daemon inherits from `start`: its socket, its cgroup, its out-of-memory score.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use sha2::{Digest, Sha256};

/// Where shims put their sockets; containerd's own choice for every runtime.
pub(super) const SOCKETS: &str = "/run/containerd/s";

/// What the names of our sockets begin with: the directory holds those of other shims too.
const PREFIX: &str = "cofferdam-";

/// A socket path is a name of at most 107 bytes, hence the hash.
pub(super) fn socket_path(containerd: &str, namespace: &str, group: &str) -> PathBuf {
    let mut hash = Sha256::new();
    for part in [containerd, namespace, group] {
        // The length in front keeps ("a", "bc") and ("ab", "c") apart.
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut name = String::from(PREFIX);
    for byte in hash.finalize() {
        name.push_str(&format!("{byte:02x}"));
    }
    Path::new(SOCKETS).join(name)
}

/// A socket of our own, or somebody who serves there already.
pub(super) enum Bound {
    /// Nobody served there; now we do.
    New(UnixListener),
    /// The daemon of this container's group serves there.
    Served,
}

/// Binds the socket. One that nobody serves any more is replaced.
pub(super) fn bind(path: &Path) -> io::Result<Bound> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(parent)?;
    }
    let _lock = path.parent().map(lock).transpose()?;
    match listen(path) {
        Err(e) if e.kind() == ErrorKind::AddrInUse => {}
        other => return other.map(Bound::New),
    }
    if is_served(path)? {
        return Ok(Bound::Served);
    }
    remove_socket(path)?;
    listen(path).map(Bound::New)
}

/// Whether somebody serves there. Does not wait: with the lock held, one daemon that takes no
/// connections would keep every shim of the machine from starting.
fn is_served(path: &Path) -> io::Result<bool> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let asking = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match socket::connect(asking.as_raw_fd(), &UnixAddr::new(path)?) {
        // EAGAIN: more wait there already than the daemon takes at once.
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        // EPROTOTYPE: a socket of another kind, which is none of a shim's.
        Err(Errno::ECONNREFUSED | Errno::ENOENT | Errno::EPROTOTYPE) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Keeps others from binding and sweeping: between the look at a stale socket and its removal the name
/// could become a new daemon's.
fn lock(directory: &Path) -> io::Result<Flock<File>> {
    Flock::lock(File::open(directory)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

/// Removes the sockets of shims that were killed before containerd knew them: it calls nobody to clear
/// up after those, and nobody else would until their id is used again. One that cannot be removed does
/// not keep the others.
pub(super) fn sweep_sockets(directory: &Path) -> io::Result<()> {
    sweep_with(directory, remove_stale)
}

fn sweep_with(directory: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let path = entry.path();
        let swept = entry.file_type().and_then(|kind| {
            if kind.is_socket() {
                remove(&path)
            } else {
                Ok(())
            }
        });
        if let Err(error) = swept {
            tracing::warn!(%error, path = %path.display(), "cannot remove the socket of a dead shim");
        }
    }
    Ok(())
}

/// Removes a socket that nobody has any more.
pub(super) fn remove_stale(path: &Path) -> io::Result<()> {
    if !is_stale(path) {
        return Ok(());
    }
    let _lock = path.parent().map(lock).transpose()?;
    if is_stale(path) {
        remove_socket(path)?;
    }
    Ok(())
}

/// Whether nobody has the socket any more, neither a daemon nor a `start` on its way to one. A datagram
/// does not reach a stream socket, so the kernel tells that there is one and nobody is woken.
fn is_stale(path: &Path) -> bool {
    let asked = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    asked.is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
}

/// Removes a socket; one that is gone is no error.
pub(super) fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes the kernel prefer the shim over containerd when memory is short: one above its parent, as
/// containerd's own shims do. Lowering the score would need a capability; raising never fails.
pub(super) fn raise_oom_score() -> io::Result<()> {
    let parent = std::os::unix::process::parent_id();
    let score: i32 = fs::read_to_string(format!("/proc/{parent}/oom_score_adj"))?
        .trim()
        .parse()
        .map_err(io::Error::other)?;
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")?
        .trim()
        .parse()
        .map_err(io::Error::other)?;
    let raised = (score + 1).min(1000);
    if raised > own {
        fs::write("/proc/self/oom_score_adj", raised.to_string())?;
    }
    Ok(())
}

/// Moves this process, and so the daemon, into an existing cgroup: on v1 in every hierarchy.
pub(super) fn join_cgroup(cgroup: &str) -> io::Result<()> {
    let relative = Path::new(cgroup.trim_start_matches('/'));
    if relative
        .components()
        .any(|part| !matches!(part, std::path::Component::Normal(_)))
    {
        return Err(ErrorKind::InvalidInput.into());
    }
    let root = Path::new("/sys/fs/cgroup");
    let mut candidates = vec![root.to_owned()];
    for entry in fs::read_dir(root)? {
        candidates.push(entry?.path());
    }
    let mut joined = false;
    for candidate in candidates {
        match fs::write(candidate.join(relative).join("cgroup.procs"), "0") {
            Ok(()) => joined = true,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(e) => return Err(e),
        }
    }
    if joined {
        Ok(())
    } else {
        Err(ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use nix::sys::socket::Backlog;

    use super::*;

    #[test]
    fn socket_paths_fit_and_differ() {
        let path = socket_path("/run/a", "ns", "g");
        assert!(path.as_os_str().len() < 108);
        assert_eq!(path, socket_path("/run/a", "ns", "g"));
        assert_ne!(path, socket_path("/run/a", "n", "sg"));
        assert_ne!(path, socket_path("/run/b", "ns", "g"));
    }

    #[test]
    fn a_served_socket_is_found_and_a_stale_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/s");
        let Bound::New(listener) = bind(&path).unwrap() else {
            panic!("nobody serves there")
        };
        assert!(matches!(bind(&path).unwrap(), Bound::Served));
        drop(listener);
        assert!(matches!(bind(&path).unwrap(), Bound::New(_)));
        remove_socket(&path).unwrap();
        remove_socket(&path).unwrap();
    }

    #[test]
    fn a_sweep_takes_stale_sockets_of_ours_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let live = listen(&path("cofferdam-live")).unwrap();
        let early = socket::socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        let address = UnixAddr::new(&path("cofferdam-bound")).unwrap();
        socket::bind(early.as_raw_fd(), &address).unwrap();
        for name in ["cofferdam-stale", "of-another-shim"] {
            drop(listen(&path(name)).unwrap());
        }
        fs::write(path("cofferdam-file"), "").unwrap();
        sweep_sockets(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        let others = ["cofferdam-file", "of-another-shim"];
        assert_eq!(
            left,
            ["cofferdam-bound", others[0], "cofferdam-live", others[1]]
        );
        drop((live, early));
        sweep_sockets(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), others.len());
    }

    /// One daemon that took no connections kept every `start` waiting for the directory.
    #[test]
    fn a_daemon_that_takes_no_connections_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let hung = socket::socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
        .unwrap();
        socket::bind(hung.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        socket::listen(&hung, Backlog::new(0).unwrap()).unwrap();
        let waiting = UnixStream::connect(&path).unwrap();
        let (tell, told) = mpsc::channel();
        let asked = path.clone();
        thread::spawn(move || tell.send(matches!(bind(&asked), Ok(Bound::Served))));
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));
        drop((waiting, hung));
        assert!(matches!(bind(&path).unwrap(), Bound::New(_)));
    }

    #[test]
    fn a_sweep_goes_on_after_one_that_cannot_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["cofferdam-a", "cofferdam-b", "cofferdam-c"] {
            drop(listen(&dir.path().join(name)).unwrap());
        }
        let tried = std::cell::Cell::new(0);
        sweep_with(dir.path(), |path| {
            tried.set(tried.get() + 1);
            if tried.get() == 1 {
                return Err(ErrorKind::PermissionDenied.into());
            }
            remove_stale(path)
        })
        .unwrap();
        assert_eq!(tried.get(), 3);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_cgroup_path_cannot_climb() {
        for bad in ["../x", "a/../../x", "./x"] {
            assert_eq!(
                join_cgroup(bad).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{bad}"
            );
        }
    }
}
