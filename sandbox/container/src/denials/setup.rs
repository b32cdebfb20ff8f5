//! How the listener is started, found and ended.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cofferdam_profiles::policy::Hardened;
use cofferdam_profiles::policy::model::{Denials, SeccompChoice};
use cofferdam_profiles::seccomp::{CompileError, notifying};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, send, socket, socketpair,
};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxSeccomp, Spec};
use serde::{Deserialize, Serialize};

use super::audit;
use super::keeper::QUIT;
use crate::error::StateError;
use crate::seccomp::Program;
use crate::state;
use crate::sys::pidfd;

/// The name of the file with what the listener must know.
const PLAN: &str = "denials.json";
/// The name of the file with the program whose errnos the listener answers.
const PROGRAM: &str = "denials.bpf";
/// The name of the socket on which the listener takes the listeners of joined processes.
const SOCKET: &str = "denials.sock";

/// How long the listener may take to begin, in milliseconds.
const BEGINNING: u16 = 10_000;
/// How long it may take to write down what it has left, once all is over, in milliseconds.
const ENDING: u16 = 3000;
/// How long a process may take from its last line to its end.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// The listener says so when it can take listeners.
pub(super) const READY: &[u8] = b"R";

/// How to run the listener: `program arguments... CONTROL STATE`, where CONTROL is the number of a
/// descriptor and STATE the container's state directory. It must call [`super::serve`].
#[derive(Debug)]
pub struct ListenerCommand {
    /// The executable.
    pub program: PathBuf,
    /// What comes before the two arguments above.
    pub arguments: Vec<OsString>,
    /// The log.
    pub log: PathBuf,
    /// A datagram socket that gets a copy of each line of the log, as far as it has room.
    pub events: Option<OwnedFd>,
}

/// What the listener must know, in the container's state directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The container.
    pub(crate) id: String,
    /// The log.
    pub(crate) log: PathBuf,
    /// The descriptor of the events' socket.
    pub(crate) events: Option<i32>,
    /// The profile that denies.
    pub(crate) profile: LinuxSeccomp,
    /// Where it comes from, in words.
    pub(crate) origin: String,
    /// Where an edit goes, in words.
    pub(crate) place: String,
    /// The container's own AppArmor profile, if it has one.
    #[serde(default)]
    pub(crate) apparmor: Option<String>,
}

/// Why the listener could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The policy wants denials explained, but the caller cannot.
    #[error("the policy wants denied calls explained, but this caller has no listener to do it")]
    NoListener,
    /// The filter with the listener is too long.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The state directory does not take its files.
    #[error(transparent)]
    State(#[from] StateError),
    /// The process cannot be started.
    #[error("cannot start the process that explains denials, {}", program.display())]
    Spawn {
        /// The executable.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended, or did not answer in time.
    #[error("the process that explains denials did not begin; is {} writable?", log.display())]
    NotReady {
        /// Its log.
        log: PathBuf,
    },
}

/// A running listener and our end of its channel, over which init hands its seccomp listener over.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    pub(crate) file: OwnedFd,
    pub(crate) handover: OwnedFd,
}

/// Starts the listener of a container whose policy wants one, and makes its filter ask; `None` if
/// there is nothing to explain.
///
/// Of two stacked programs the lower one asks: the upper one's errnos win over a question, as they
/// won over the lower one's errnos, so every answer stays what it was.
pub(crate) fn start(
    spec: &Hardened<Spec>,
    id: &str,
    directory: &Path,
    programs: &mut [Program],
    command: Option<ListenerCommand>,
) -> Result<Option<(Started, PathBuf)>, SetupError> {
    if spec.policy().denials == Denials::Silent {
        return Ok(None);
    }
    let own = spec.get().linux().as_ref();
    let own = own.and_then(|linux| linux.seccomp().as_ref());
    let (Some(first), Some(profile)) = (programs.first_mut(), spec.stacked_seccomp().or(own))
    else {
        return Ok(None);
    };
    let Some(asking) = notifying(&first.filter())? else {
        return Ok(None);
    };
    let command = command.ok_or(SetupError::NoListener)?;
    let plan = Plan {
        id: id.to_owned(),
        log: command.log.clone(),
        events: command.events.as_ref().map(|fd| fd.as_raw_fd()),
        profile: profile.clone(),
        origin: spec.report().summary.seccomp.clone(),
        place: place(spec.policy().seccomp).to_owned(),
        apparmor: spec.apparmor().map(|profile| profile.name.clone()),
    };
    if plan.apparmor.is_some()
        && let Err(error) = audit::open()
    {
        tracing::warn!(container = id, %error, "what AppArmor denies cannot be listened to");
    }
    let text = serde_json::to_vec(&plan).map_err(|source| StateError::Damaged {
        path: PathBuf::from(PLAN),
        source,
    })?;
    state::write_new(&directory.join(PLAN), &text)?;
    state::write_new(&directory.join(PROGRAM), &first.program)?;
    *first = Program::of(asking);
    let log = command.log.clone();
    spawn(command, directory).map(|started| Some((started, log)))
}

/// Where an edit of the profile goes.
fn place(choice: SeccompChoice) -> &'static str {
    match choice {
        SeccompChoice::Engine => "the profile that the engine gives the container",
        SeccompChoice::Intersect => {
            "the profile that the engine gives the container; if the built-in default denies the call \
             too, the policy must also say seccomp = \"engine\""
        }
        SeccompChoice::Generate => {
            "a recording of the workload, which the policy names with seccomp_recordings; else the \
             policy must say seccomp = \"intersect\", and where the engine's profile denies the call \
             too, that profile"
        }
        SeccompChoice::Default => {
            "a profile of your own that the engine gives the container, under a policy that says \
             seccomp = \"engine\""
        }
    }
}

fn spawn(command: ListenerCommand, directory: &Path) -> Result<Started, SetupError> {
    let program = command.program.clone();
    let failed = |source: io::Error| SetupError::Spawn {
        program: program.clone(),
        source,
    };
    let (ours, theirs) = pair().map_err(&failed)?;
    for fd in [Some(&theirs), command.events.as_ref()]
        .into_iter()
        .flatten()
    {
        // This process is single-threaded and executes nothing else meanwhile.
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|errno| failed(errno.into()))?;
    }
    let child = Command::new(&command.program)
        .args(&command.arguments)
        .arg(theirs.as_raw_fd().to_string())
        .arg(directory)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(&failed)?;
    drop(theirs);
    let pid = Pid::from_raw(child.id().cast_signed());
    // Our child, not waited for yet: the number is its own.
    let file = pidfd::open(pid).map_err(&failed)?;
    if is_ready(&ours) {
        return Ok(Started {
            pid,
            file,
            handover: ours,
        });
    }
    let _ = pidfd::signal(&file, libc::SIGKILL);
    pidfd::reap(pid);
    Err(SetupError::NotReady { log: command.log })
}

fn is_ready(channel: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    let mut answer = [0; 1];
    matches!(poll(&mut fds, PollTimeout::from(BEGINNING)), Ok(1))
        && matches!(nix::unistd::read(channel, &mut answer), Ok(1))
        && answer == READY
}

/// The plan and the program of the listener in `directory`.
pub(super) fn read(directory: &Path) -> io::Result<(Plan, Vec<u8>)> {
    let plan = std::fs::read(directory.join(PLAN))?;
    let plan = serde_json::from_slice(&plan).map_err(io::Error::other)?;
    Ok((plan, std::fs::read(directory.join(PROGRAM))?))
}

/// The address of the socket in a state directory. The path may be longer than an address: it is
/// reached through the directory's descriptor, which must stay open meanwhile.
fn address(directory: &Path) -> io::Result<(File, UnixAddr)> {
    let directory = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(directory)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
    Ok((directory, UnixAddr::new(path.as_str())?))
}

/// Two ends of a channel that keeps messages apart.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        flags,
    )?)
}

fn new_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

/// The socket on which the listener takes more listeners. Nobody but root reaches the directory.
pub(super) fn listen(directory: &Path) -> io::Result<OwnedFd> {
    let (_open, address) = address(directory)?;
    let socket = new_socket()?;
    nix::sys::socket::bind(socket.as_raw_fd(), &address)?;
    nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(16)?)?;
    Ok(socket)
}

/// A channel to the listener of a running container.
pub(crate) fn connect(directory: &Path) -> io::Result<OwnedFd> {
    let (_open, address) = address(directory)?;
    let socket = new_socket()?;
    nix::sys::socket::connect(socket.as_raw_fd(), &address)?;
    Ok(socket)
}

/// Asks the listener to end, if there is one, and waits until it has. Over the socket, because another
/// process may have taken the keeper's place.
pub(crate) fn ask_to_end(directory: &Path) {
    if let Ok(channel) = connect(directory)
        && send(channel.as_raw_fd(), QUIT, MsgFlags::MSG_NOSIGNAL).is_ok()
    {
        let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(ENDING));
    }
}

/// Ends the listener of a container whose processes have ended, once it has written everything down;
/// one that does not end is killed. `keeper` is its process at creation and when that started.
pub(crate) fn end(directory: &Path, keeper: (i32, u64)) -> io::Result<()> {
    ask_to_end(directory);
    let (pid, start) = keeper;
    let Ok(file) = pidfd::open(Pid::from_raw(pid)) else {
        return Ok(());
    };
    // Compared after the open, so the descriptor is of the process that was compared.
    if !state::is_running(pid, start) || pidfd::wait_end(&file, LAST_MOMENT)? {
        return Ok(());
    }
    match pidfd::signal(&file, libc::SIGKILL) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
        _ => {}
    }
    if pidfd::wait_end(&file, LAST_MOMENT)? {
        return Ok(());
    }
    Err(io::ErrorKind::TimedOut.into())
}
