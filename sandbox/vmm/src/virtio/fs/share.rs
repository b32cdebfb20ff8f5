//! What serves a directory: the server of the crate `virtiofsd`.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, umask};
use virtio_queue::DescriptorChain;
use virtiofsd::descriptor_utils::{Reader, Writer};
use virtiofsd::filesystem::FileSystem;
use virtiofsd::passthrough::read_only::PassthroughFsRo;
use virtiofsd::passthrough::{CachePolicy, Config, NegotiationMode, PassthroughFs};
use virtiofsd::server::Server;

use super::desk::View;
use crate::config::ShareConfig;

/// File descriptors that are left for the process itself.
const RESERVED: u64 = 256;

/// This process's directory of its open files, which the server opens files again by. A jail without a proc file
/// system has it opened before it is entered, by the process that then serves.
#[derive(Debug)]
pub struct OwnFiles(File);

impl OwnFiles {
    /// Opens `/proc/self/fd`.
    ///
    /// # Errors
    ///
    /// Where there is no proc file system.
    pub fn open() -> io::Result<Self> {
        let mut options = File::options();
        options
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY);
        options.open("/proc/self/fd").map(Self)
    }
}

impl From<OwnedFd> for OwnFiles {
    fn from(directory: OwnedFd) -> Self {
        Self(directory.into())
    }
}

/// Gives the calling thread a working directory and a file mode mask of its own, which the server changes.
///
/// # Errors
///
/// Where the call is forbidden.
pub fn prepare_thread() -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS)?;
    umask(Mode::empty());
    Ok(())
}

/// A directory and its server.
pub struct Share(Access);

enum Access {
    Writable(Box<Server<PassthroughFs>>),
    ReadOnly(Box<Server<PassthroughFsRo>>),
}

impl Share {
    /// Serves a directory; its path is looked up again when the guest mounts it.
    ///
    /// # Errors
    ///
    /// Where it is no directory, or may not be used.
    pub fn open(wanted: &ShareConfig, own: &OwnFiles) -> io::Result<Self> {
        let mut options = File::options();
        options
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW);
        options.open(&wanted.path)?;
        let config = config(wanted, own)?;
        // In a thread, for the server's constructor changes the file mode mask.
        let made = thread::scope(|scope| {
            let making = scope.spawn(|| {
                prepare_thread()?;
                Ok(Self(if wanted.read_only {
                    Access::ReadOnly(Box::new(Server::new(PassthroughFsRo::new(config)?)))
                } else {
                    Access::Writable(Box::new(Server::new(PassthroughFs::new(config)?)))
                }))
            });
            making.join()
        });
        made.unwrap_or_else(|_| Err(io::Error::other("the server cannot be made")))
    }

    /// Answers a request; how many bytes the answer has. The error is one for the guest.
    pub(super) fn handle(&self, view: &View, chain: DescriptorChain<&View>) -> Result<usize, i32> {
        match &self.0 {
            Access::Writable(server) => handle(server, view, chain),
            Access::ReadOnly(server) => handle(server, view, chain),
        }
    }

    /// Closes all that the guest has opened.
    pub(super) fn forget(&self) {
        let _ = match &self.0 {
            Access::Writable(server) => server.destroy(),
            Access::ReadOnly(server) => server.destroy(),
        };
    }
}

fn handle<F: FileSystem + Sync>(
    server: &Server<F>,
    view: &View,
    chain: DescriptorChain<&View>,
) -> Result<usize, i32> {
    let reader = Reader::new(view, chain.clone()).map_err(|_| libc::EINVAL)?;
    let writer = Writer::new(view, chain).map_err(|_| libc::EINVAL)?;
    // There is no other side to ask for a mapping.
    let nobody: Option<&mut ()> = None;
    server
        .handle_message(reader, writer, nobody)
        .map_err(|_| libc::EINVAL)
}

fn config(wanted: &ShareConfig, own: &OwnFiles) -> io::Result<Config> {
    let root = wanted
        .path
        .to_str()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "its path is not UTF-8"))?;
    let validity = Duration::from_millis(wanted.validity.into());
    let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(Config {
        entry_timeout: validity,
        attr_timeout: validity,
        // What was read is kept over the closing of a file, else programs are read anew at each start. When its time
        // or size is found changed (`FUSE_AUTO_INVAL_DATA`), it is thrown away.
        cache_policy: CachePolicy::Always,
        root_dir: root.to_owned(),
        xattr: true,
        proc_sfd_rawfd: Some(own.0.try_clone()?),
        // Other file systems are mounted below: their inode numbers mean other files.
        announce_submounts: true,
        // Else the guest asks for file capabilities before each write.
        killpriv_v2: true,
        posix_acl: NegotiationMode::Auto,
        guest_fd_limit: descriptors.saturating_sub(RESERVED),
        ..Config::default()
    })
}
