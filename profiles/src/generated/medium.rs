//! File systems whose inodes tell a change: this host numbers them and keeps their times, and nobody
//! else. An image in a file (EROFS, SquashFS) brings its own inodes and times with it, a FUSE server
//! or a remote one says what it likes, and the numbers of such devices are used again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::OFlag;
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC,
    TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};

use super::layers::mounted;

/// Numbered and dated by this host. Ext2 and ext3 have the number of ext4.
const OWN: [FsType; 5] = [
    EXT4_SUPER_MAGIC,
    XFS_SUPER_MAGIC,
    BTRFS_SUPER_MAGIC,
    TMPFS_MAGIC,
    F2FS_SUPER_MAGIC,
];

/// Whether identities of files can be relied on, remembered by mount: for one pass over some files.
#[derive(Debug, Default)]
pub struct Media {
    overlays: Mutex<BTreeMap<u64, bool>>,
}

impl Media {
    /// Whether an [`Identity`](super::Identity) of this file tells it from all others and each of its
    /// states from the next. An overlay's does if all its layers' do.
    pub fn tell(&self, file: impl AsFd) -> io::Result<bool> {
        let kind = fstatfs(&file)?.filesystem_type();
        if kind != OVERLAYFS_SUPER_MAGIC {
            return Ok(OWN.contains(&kind));
        }
        let mount = mount_of(&file)?;
        let mut overlays = self.overlays.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = overlays.get(&mount) {
            return Ok(*known);
        }
        let list = fs::read("/proc/self/mountinfo")?;
        // A layer that cannot be looked at may be anything.
        let told = mounted(&list, mount).is_some_and(|overlay| overlay.all(is_own));
        overlays.insert(mount, told);
        Ok(told)
    }
}

/// Whether a directory lies on a file system of the host's own; an overlay's layer does not count if
/// it is an overlay itself.
pub(super) fn is_own(directory: &Path) -> bool {
    // What our own descriptors lead to is not what it was when it was mounted.
    if directory.starts_with("/proc") {
        return false;
    }
    let open = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits())
        .open(directory);
    let kind = open.and_then(|file| Ok(fstatfs(&file)?.filesystem_type()));
    kind.is_ok_and(|kind| OWN.contains(&kind))
}

/// The number of the mount that a file was opened in, by proc_pid_fdinfo(5).
fn mount_of(file: &impl AsFd) -> io::Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd());
    let text = fs::read_to_string(path)?;
    let mut lines = text.lines();
    lines
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The error where a file's identity says nothing.
pub(super) fn untold() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "its file system may say of a changed file that it is the same",
    )
}

/// The identity of an open file, if it says anything.
pub(super) fn identity(media: &Media, file: &File) -> io::Result<super::Identity> {
    if !media.tell(file)? {
        return Err(untold());
    }
    Ok(super::Identity::of(&file.metadata()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_makes_up_is_not_relied_on() {
        let media = Media::default();
        for (path, expected) in [("/proc/self/status", false), ("/sys/kernel", false)] {
            assert_eq!(media.tell(File::open(path).unwrap()).unwrap(), expected);
        }
        assert!(!is_own(Path::new("/proc/self")) && !is_own(Path::new("/none")));
        // What a user names is looked up again; a path below /proc is not, wherever it leads.
        assert!(is_own(Path::new("/dev/shm")));
        let shm = File::open("/dev/shm").unwrap();
        assert!(media.tell(&shm).unwrap());
        assert!(!is_own(Path::new(&format!(
            "/proc/self/fd/{}",
            shm.as_raw_fd()
        ))));
    }
}
