//! What the shim daemon and its short-lived helper process say to each other.
//!
//! The daemon executes `cofferdam shim-helper` with
//! - fds 0, 1, 2: what the container's process gets as its stdio,
//! - fd [`CHANNEL_FD`]: one end of a stream socket; the daemon writes one request, shuts its writing
//!   side, and reads one response, each a line of JSON,
//! - fd [`CONSOLE_FD`], only when `console` is set: a connected Unix socket over which the pty
//!   master is sent by `SCM_RIGHTS`,
//! - fd [`EVENTS_FD`], only with [`Create::events`]: a socket for the listener that explains denied
//!   calls, if the policy wants one.
//!
//! The helper exits with status 0 after any response, a [`Response::Failed`] included; a helper that
//! dies without a response is an internal error. The container's init, orphaned by the helper's exit,
//! becomes the daemon's child because the daemon is a child subreaper.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The hidden verb of the `cofferdam` binary.
pub const VERB: &str = "shim-helper";

/// The file descriptor of the request and response channel in the helper.
pub const CHANNEL_FD: i32 = 3;

/// The file descriptor of the console socket in the helper.
pub const CONSOLE_FD: i32 = 4;

/// The file descriptor of the socket for lines about denied calls in the helper.
pub const EVENTS_FD: i32 = 5;

/// Bytes of one message that are read at most; a larger one is refused.
pub const MAX_MESSAGE: u64 = 32 << 20;

/// What the daemon asks of the helper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Reads the bundle, hardens its spec and creates the container; init waits for start.
    Create(Create),
    /// Hardens a process and runs it in a created or running container.
    Exec(Exec),
    /// Starts a created container. Used only when the spec has hooks to run at start.
    Start(Target),
    /// Deletes a container: kills what is left when `force`, runs poststop hooks, removes its cgroup
    /// and state. A container that does not exist is not an error when `force`.
    Delete {
        /// The container.
        target: Target,
        /// Kill what still runs.
        force: bool,
    },
    /// Changes the resource limits of a container.
    Update {
        /// The container.
        target: Target,
        /// An OCI `LinuxResources` object.
        resources: serde_json::Value,
        /// Whether cgroups go through systemd.
        systemd_cgroup: bool,
    },
}

/// A container by its state root and id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The state root, such as `/run/containerd/cofferdam/k8s.io`.
    pub root: PathBuf,
    /// The container's id, unchecked.
    pub id: String,
}

/// The fields of a create request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// The container.
    pub target: Target,
    /// The bundle's absolute path.
    pub bundle: PathBuf,
    /// The policy of the runtime handler's options, if it named one.
    pub policy: Option<String>,
    /// Whether cgroups go through systemd.
    pub systemd_cgroup: bool,
    /// Use `MS_MOVE` in place of `pivot_root`.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// The runtime's name asks for a virtual machine.
    #[serde(default)]
    pub microvm: bool,
    /// containerd wants the lower layers of the root mapped for the spec's user namespace.
    #[serde(default)]
    pub map_layers: bool,
    /// The process gets a terminal; fd [`CONSOLE_FD`] is there.
    pub console: bool,
    /// fd [`EVENTS_FD`] is there.
    #[serde(default)]
    pub events: bool,
}

/// The fields of an exec request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// The container.
    pub target: Target,
    /// An OCI `Process` object as containerd sent it, not yet hardened.
    pub process: serde_json::Value,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// The process gets a terminal; fd [`CONSOLE_FD`] is there.
    pub console: bool,
}

/// The helper's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The container is created.
    Created(Created),
    /// The process runs.
    Execed {
        /// Its pid as the host sees it.
        pid: i32,
    },
    /// Start, delete or update is done.
    Done,
    /// Nothing was left behind.
    Failed(Failure),
}

/// What the daemon must know about a container it just had created.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The pid of init as the host sees it.
    pub pid: i32,
    /// The spec has hooks that run at start, so start must go through the helper.
    pub start_hooks: bool,
    /// The spec has hooks that run at delete, so delete must go through the helper.
    pub delete_hooks: bool,
    /// The name of the policy in force, for the log.
    pub policy: String,
    /// Denied calls are explained, and told on the events' socket.
    #[serde(default)]
    pub explained: bool,
}

/// Why the helper could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure, for the status code towards containerd.
    pub kind: FailureKind,
    /// The whole chain of causes, joined once; no secrets.
    pub message: String,
}

/// The kinds of failure that containerd tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The bundle, the spec or an option is malformed.
    InvalidArgument,
    /// The policy refuses what was asked.
    Refused,
    /// No such container.
    NotFound,
    /// The id is taken.
    AlreadyExists,
    /// The container is in the wrong state for the request.
    FailedPrecondition,
    /// Anything else: a system call failed, the kernel lacks something.
    Internal,
}

/// Why a message could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The channel failed.
    #[error("cannot exchange a message with the helper process")]
    Channel(#[from] io::Error),
    /// The other side closed without a message.
    #[error("the helper process ended without an answer")]
    Closed,
    /// The message is longer than [`MAX_MESSAGE`].
    #[error("a message to or from the helper process exceeds {MAX_MESSAGE} bytes")]
    TooLong,
    /// The message is not what this version speaks.
    #[error("the helper process and the shim do not understand each other")]
    Malformed(#[from] serde_json::Error),
}

/// Reads one message: everything up to a newline or the end of the stream.
pub fn receive<T: DeserializeOwned>(channel: &mut impl Read) -> Result<T, MessageError> {
    let mut line = Vec::new();
    let mut chunk = [0_u8; 4096];
    while line.last() != Some(&b'\n') {
        let n = match channel.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        line.extend_from_slice(chunk.get(..n).unwrap_or_default());
        if line.len() as u64 > MAX_MESSAGE {
            return Err(MessageError::TooLong);
        }
    }
    if line.is_empty() {
        return Err(MessageError::Closed);
    }
    Ok(serde_json::from_slice(&line)?)
}

/// Writes one message and its newline.
pub fn send<T: Serialize>(channel: &mut impl Write, message: &T) -> Result<(), MessageError> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    if line.len() as u64 > MAX_MESSAGE {
        return Err(MessageError::TooLong);
    }
    channel.write_all(&line)?;
    Ok(channel.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let request = Request::Delete {
            target: Target {
                root: "/run/x".into(),
                id: "a\nb".into(),
            },
            force: true,
        };
        let mut wire = Vec::new();
        send(&mut wire, &request).unwrap();
        assert_eq!(wire.iter().filter(|b| **b == b'\n').count(), 1);
        assert_eq!(receive::<Request>(&mut wire.as_slice()).unwrap(), request);
    }

    #[test]
    fn bad_messages_are_errors() {
        let closed = receive::<Response>(&mut &b""[..]);
        assert!(matches!(closed, Err(MessageError::Closed)));
        for bad in [&b"\n"[..], b"{}", b"{\"Created\":", b"\xff\xfe\n"] {
            let got = receive::<Response>(&mut &bad[..]);
            assert!(
                matches!(got, Err(MessageError::Malformed(_))),
                "{bad:?}: {got:?}"
            );
        }
    }

    #[test]
    fn an_endless_message_is_refused() {
        let got = receive::<Response>(&mut io::repeat(b'x'));
        assert!(matches!(got, Err(MessageError::TooLong)));
    }
}
