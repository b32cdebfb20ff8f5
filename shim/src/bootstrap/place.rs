//! What the daemon inherits from `start`: its socket, its cgroup, its out-of-memory score.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where shims put their sockets; containerd's own choice for every runtime.
const SOCKETS: &str = "/run/containerd/s";

/// A socket path is a name of at most 107 bytes, hence the hash.
pub(super) fn socket_path(containerd: &str, namespace: &str, group: &str) -> PathBuf {
    let mut hash = Sha256::new();
    for part in [containerd, namespace, group] {
        // The length in front keeps ("a", "bc") and ("ab", "c") apart.
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    let mut name = String::with_capacity(64);
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
    match listen(path) {
        Err(e) if e.kind() == ErrorKind::AddrInUse => {}
        other => return other.map(Bound::New),
    }
    if UnixStream::connect(path).is_ok() {
        return Ok(Bound::Served);
    }
    remove_socket(path)?;
    listen(path).map(Bound::New)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
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
