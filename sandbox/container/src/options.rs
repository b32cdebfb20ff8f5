//! What a caller chooses about one container or one joined process.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::cgroup;
use crate::denials::ListenerCommand;
use crate::id::ContainerId;

/// How to create a container.
#[derive(Debug)]
pub struct CreateOptions {
    /// The state root; the container's directory is made below it.
    pub root: PathBuf,
    /// The container's id.
    pub id: ContainerId,
    /// The directory that relative paths of the spec start from.
    pub bundle: PathBuf,
    /// Gets init's pid as this process sees it, once init is ready.
    pub pid_file: Option<PathBuf>,
    /// A connected `AF_UNIX` stream; the pty's master is sent over it (`SCM_RIGHTS`).
    pub console_socket: Option<OwnedFd>,
    /// How many descriptors from 3 upward the container inherits.
    pub preserve_fds: u32,
    /// Do not use `pivot_root`, for a root on the initial ramfs.
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// The root is an overlay whose lower layers are to be mapped for the spec's user namespace.
    pub map_layers: bool,
    /// Who makes the cgroup.
    pub cgroup_driver: cgroup::Driver,
    /// Where compiled seccomp filters are kept; `None` compiles every time.
    pub filter_cache: Option<PathBuf>,
    /// Go on without a cgroup when it cannot be made (`--rootless`).
    pub ignore_cgroup_errors: bool,
    /// Explains denied calls where the policy wants it; without one such a policy is an error.
    pub listener: Option<ListenerCommand>,
}

/// How to run one more process in a container.
#[derive(Debug, Default)]
pub struct ExecOptions {
    /// Gets the process's pid as this process sees it.
    pub pid_file: Option<PathBuf>,
    /// A connected `AF_UNIX` stream; the pty's master is sent over it (`SCM_RIGHTS`).
    pub console_socket: Option<OwnedFd>,
    /// How many descriptors from 3 upward the process inherits.
    pub preserve_fds: u32,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// Where compiled seccomp filters are kept (only used if the container had no stored program).
    pub filter_cache: Option<PathBuf>,
    /// Allow the process to join a paused container, where it waits frozen.
    pub ignore_paused: bool,
    /// A cgroup below the container's own, as `runc exec --cgroup` takes it.
    pub cgroup: Option<String>,
}
