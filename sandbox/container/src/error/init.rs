//! What init reports when it cannot go on: a stage, a subject and a cause, as data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which step of a container's or a joined process's init failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stage {
    /// Talking to the parent.
    Sync,
    /// Entering the cgroup.
    Cgroup,
    /// `setsid` and what else makes the process its own.
    Session,
    /// Joining or making a namespace.
    Namespace,
    /// Becoming the user namespace's root.
    UserNamespace,
    /// A new session keyring.
    Keyring,
    /// Mounts, devices, pivot.
    Rootfs,
    /// The pty.
    Console,
    /// Host and domain name.
    Hostname,
    /// Kernel parameters of the container's namespaces.
    Sysctl,
    /// AppArmor or SELinux.
    Label,
    /// Resource limits.
    Rlimit,
    /// Scheduling, I/O priority, CPU affinity, memory policy, personality.
    Scheduling,
    /// `no_new_privs`.
    NoNewPrivileges,
    /// Capability sets.
    Capabilities,
    /// User, group and supplementary groups.
    User,
    /// The working directory.
    WorkingDirectory,
    /// Looking up the program.
    Executable,
    /// Closing what the program must not inherit.
    Descriptors,
    /// A hook that runs in the container.
    Hook,
    /// Landlock rules.
    Landlock,
    /// Seccomp filters.
    Seccomp,
    /// The last wait for start.
    Start,
    /// `execve` itself.
    Execve,
}

/// What stopped the stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A system call's errno.
    Os(i32),
    /// No directory of `PATH` has the program.
    NotInPath,
    /// An error that has a text of its own.
    Text(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The C library's words in lower case: Docker looks for them to choose 126 or 127.
            Self::Os(libc::ENOENT) => f.write_str("no such file or directory"),
            Self::Os(libc::EACCES) => f.write_str("permission denied"),
            Self::Os(libc::EPERM) => f.write_str("operation not permitted"),
            Self::Os(libc::ENOTDIR) => f.write_str("not a directory"),
            Self::Os(libc::EISDIR) => f.write_str("is a directory"),
            Self::Os(libc::ENOEXEC) => f.write_str("exec format error"),
            Self::Os(errno) => f.write_str(nix::errno::Errno::from_raw(*errno).desc()),
            Self::NotInPath => f.write_str("executable file not found in $PATH"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What init reports when it cannot go on: data, never matched by text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitFailure {
    /// The step.
    pub stage: Stage,
    /// What was being done, to what: `mount proc on /proc`, or the program's name.
    pub subject: String,
    /// Why it failed.
    pub cause: Cause,
}

impl InitFailure {
    pub(crate) fn new(stage: Stage, subject: impl Into<String>, cause: Cause) -> Self {
        Self {
            stage,
            subject: subject.into(),
            cause,
        }
    }

    /// The program does not exist (a shell would exit with 127).
    pub fn is_not_found(&self) -> bool {
        self.stage == Stage::Executable
            && matches!(
                self.cause,
                Cause::NotInPath | Cause::Os(libc::ENOENT | libc::ENOTDIR)
            )
    }

    /// The program cannot be executed (a shell would exit with 126).
    pub fn is_not_executable(&self) -> bool {
        matches!(self.stage, Stage::Executable | Stage::Execve) && !self.is_not_found()
    }
}

impl fmt::Display for InitFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            stage,
            subject,
            cause,
        } = self;
        match (stage, cause) {
            // The three phrases that Docker and Podman know from Go's exec package.
            (Stage::Executable, Cause::Os(libc::ENOENT | libc::ENOTDIR)) => {
                write!(f, "exec: {subject:?}: stat {subject}: {cause}")
            }
            (Stage::Executable, _) => write!(f, "exec: {subject:?}: {cause}"),
            (Stage::WorkingDirectory, _) => {
                write!(
                    f,
                    "chdir to cwd ({subject:?}) set in config.json failed: {cause}"
                )
            }
            (Stage::Execve, _) => write!(f, "exec {subject}: {cause}"),
            _ => write!(f, "{subject}: {cause}"),
        }
    }
}

impl std::error::Error for InitFailure {}
