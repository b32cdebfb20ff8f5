//! Races: names that are exchanged without end, and runtimes that trust a name they looked at.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
};

use crate::Outcome;

/// How long a race is run before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// Exchanges two names until this process is killed, or gives up after a minute.
pub(crate) fn swap(first: &str, second: &str) -> Outcome {
    // It must not outlive a test that is killed.
    set_pdeathsig(Signal::SIGKILL).map_err(|e| e.to_string())?;
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        for _ in 0..1000 {
            let exchange = RenameFlags::RENAME_EXCHANGE;
            // Whoever mounts there at this moment can make it fail: the next one will do.
            let _ = renameat2(AT_FDCWD, first, AT_FDCWD, second, exchange);
        }
    }
    Err("nobody ended the race".to_owned())
}

/// What a naive runtime does: looks whether the parent of `place` is a directory, then mounts on it
/// by path. In a mount namespace of its own; works if the mount lands on `outside`.
pub(crate) fn mount_by_path(place: &Path, outside: &Path) -> Outcome {
    let words = |error: nix::errno::Errno| error.to_string();
    unshare(CloneFlags::CLONE_NEWNS).map_err(words)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).map_err(words)?;
    let device = |path: &Path| {
        fs::metadata(path)
            .map(|m| m.dev())
            .map_err(|e| e.to_string())
    };
    let before = device(outside)?;
    let parent = place.parent().unwrap_or(Path::new("/"));
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let looks_fine = fs::symlink_metadata(parent).is_ok_and(|m| m.is_dir());
        let flags = MsFlags::empty();
        let tmpfs = Some("tmpfs");
        if !looks_fine || mount(tmpfs, place, tmpfs, flags, None::<&str>).is_err() {
            continue;
        }
        if device(outside)? != before {
            return Ok("the mount landed outside".to_owned());
        }
        let _ = umount2(place, MntFlags::MNT_DETACH);
    }
    Err("the race was never won".to_owned())
}

/// The same with the root itself: looks whether `root` is a directory, then opens it by path. Works
/// if what is opened is another directory than the one that is meant (its marker says "outside").
pub(crate) fn chroot_by_path(root: &Path) -> Outcome {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if fs::symlink_metadata(root).is_ok_and(|m| m.is_dir())
            && fs::read_to_string(root.join("marker")).is_ok_and(|text| text == "outside")
        {
            return Ok("the root is another directory".to_owned());
        }
    }
    Err("the race was never won".to_owned())
}
