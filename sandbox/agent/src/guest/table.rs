//! The pod's containers and their processes.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cofferdam_container::Signal;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::helper::{self, Answer, Request};
use super::reap;
use crate::protocol::{Configure, MAX_EXECS};

/// The longest answer of the helper, bytes.
const MAX_ANSWER: u64 = 64 << 10;
/// How long the helper may take.
const PATIENCE: Duration = Duration::from_secs(50);
/// Where its sockets are.
const SOCKETS: &str = "/run/cofferdam/helpers";

/// A process's standard streams, until somebody takes them.
#[derive(Debug)]
pub(super) enum Streams {
    /// Pipes to its input and from its output and error output.
    Pipes([OwnedFd; 3]),
    /// The master of its terminal.
    Terminal(OwnedFd),
}

/// What is known of a process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// None once they were taken.
    pub(super) streams: Mutex<Option<Streams>>,
    ended: Mutex<Option<u8>>,
    /// Readable once it has ended.
    pub(super) end: EventFd,
}

impl Process {
    pub(super) fn ended(&self) -> Option<u8> {
        *lock(&self.ended)
    }

    /// Signals it, unless it was reaped.
    pub(super) fn signal(&self, number: i32) -> io::Result<()> {
        // Reaped under this lock: the number is still its own.
        let ended = lock(&self.ended);
        if ended.is_some() {
            return Err(Errno::ESRCH.into());
        }
        let signal = Signal::from_number(number).map_err(io::Error::other)?;
        signal.send(self.pid)
    }
}

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) init: Arc<Process>,
    pub(super) execs: BTreeMap<String, Arc<Process>>,
    /// Whether its init was let go.
    pub(super) started: bool,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) rules: Option<Configure>,
    pub(super) containers: BTreeMap<String, Container>,
    by_pid: HashMap<i32, Arc<Process>>,
    /// Helpers at work: who ends meanwhile may be theirs.
    in_flight: usize,
    unclaimed: HashMap<i32, u8>,
}

/// Everything the guest runs.
#[derive(Debug, Default)]
pub(super) struct Table {
    inner: Mutex<Inner>,
    /// One container is made or joined at a time.
    making: Mutex<u64>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Reaps every process that ends: all orphans of the guest come here.
    pub(super) fn reap_for_ever(&self) -> io::Result<()> {
        loop {
            // Looked at first and reaped under the lock: until then the number is nobody else's.
            match reap::next() {
                Ok(pid) => self.reap(pid),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing runs: helpers and containers come later.
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn reap(&self, pid: i32) {
        let mut inner = self.lock();
        let known = inner.by_pid.remove(&pid);
        let mut ended = known.as_ref().map(|process| lock(&process.ended));
        let Ok(code) = reap::take(pid) else {
            return;
        };
        if let Some(ended) = &mut ended {
            **ended = Some(code);
        } else if inner.in_flight > 0 {
            inner.unclaimed.insert(pid, code);
        }
        drop(ended);
        if let Some(process) = known {
            let _ = process.end.write(1);
        }
    }

    /// Runs the helper, and gives the process it made.
    pub(super) fn make(
        &self,
        request: impl FnOnce(Option<PathBuf>) -> Request,
        terminal: bool,
    ) -> Result<Arc<Process>, String> {
        let mut making = lock(&self.making);
        *making += 1;
        self.lock().in_flight += 1;
        let made = ask(*making, request, terminal);
        let mut inner = self.lock();
        let outcome = made.and_then(|(pid, streams)| {
            let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
            let end =
                EventFd::from_flags(flags).map_err(|e| format!("cannot make an event: {e}"))?;
            let ended = inner.unclaimed.remove(&pid);
            let process = Arc::new(Process {
                pid,
                streams: Mutex::new(Some(streams)),
                ended: Mutex::new(ended),
                end,
            });
            if ended.is_some() {
                let _ = process.end.write(1);
            } else {
                inner.by_pid.insert(pid, Arc::clone(&process));
            }
            Ok(process)
        });
        inner.in_flight -= 1;
        if inner.in_flight == 0 {
            inner.unclaimed.clear();
        }
        outcome
    }

    /// A process by its container and its own name.
    pub(super) fn process(&self, id: &str, exec: Option<&str>) -> Option<Arc<Process>> {
        let inner = self.lock();
        let container = inner.containers.get(id)?;
        match exec {
            None => Some(Arc::clone(&container.init)),
            Some(exec) => container.execs.get(exec).cloned(),
        }
    }

    /// Forgets a joined process that has ended and whose streams were read.
    pub(super) fn forget(&self, id: &str, exec: &str) {
        if let Some(container) = self.lock().containers.get_mut(id) {
            container.execs.remove(exec);
        }
    }
}

impl Inner {
    /// How many processes have joined all containers.
    pub(super) fn has_room_for_exec(&self) -> bool {
        let all = self.containers.values();
        all.map(|container| container.execs.len()).sum::<usize>() < MAX_EXECS
    }
}

/// One request to a helper: the new process's number and streams.
fn ask(
    number: u64,
    request: impl FnOnce(Option<PathBuf>) -> Request,
    terminal: bool,
) -> Result<(i32, Streams), String> {
    let failed = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    std::fs::create_dir_all(SOCKETS).map_err(failed("make the helpers' directory"))?;
    let path = PathBuf::from(format!("{SOCKETS}/{number}"));
    let listener = UnixListener::bind(&path).map_err(failed("listen for the helper"))?;
    let _remove = Remove(path.clone());
    let console = terminal.then(|| PathBuf::from(format!("{SOCKETS}/{number}.console")));
    let console = match console {
        None => None,
        Some(path) => {
            let listener = UnixListener::bind(&path).map_err(failed("listen for the terminal"))?;
            Some((listener, Remove(path)))
        }
    };
    let mut command = Command::new("/proc/self/exe");
    command.arg0("/init").arg(helper::VERB).arg(&path);
    let streams = if terminal {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        None
    } else {
        Some(pipes(&mut command).map_err(failed("make pipes"))?)
    };
    // Reaped by the one thread that reaps; it need not be waited for.
    drop(
        command
            .spawn()
            .map_err(failed("execute the helper process"))?,
    );
    drop(command);
    let mut socket = accept(&listener).map_err(failed("hear from the helper"))?;
    socket
        .set_read_timeout(Some(PATIENCE))
        .map_err(failed("limit the helper"))?;
    let request = request(console.as_ref().map(|(_, path)| path.0.clone()));
    let mut line = serde_json::to_vec(&request)
        .map_err(|error| format!("cannot write the request down: {error}"))?;
    line.push(b'\n');
    socket.write_all(&line).map_err(failed("ask the helper"))?;
    let mut answer = String::new();
    BufReader::new((&mut socket).take(MAX_ANSWER))
        .read_line(&mut answer)
        .map_err(failed("hear from the helper"))?;
    let answer: Answer = serde_json::from_str(&answer)
        .map_err(|_| "the helper ended without an answer".to_owned())?;
    let pid = answer?;
    let streams = match (streams, &console) {
        (Some(streams), _) => Streams::Pipes(streams),
        (None, Some((listener, _))) => {
            let socket = accept(listener).map_err(failed("get the terminal"))?;
            let master = cofferdam_container::terminal::receive(&socket)
                .map_err(failed("get the terminal"))?;
            Streams::Terminal(master)
        }
        (None, None) => return Err("there is no terminal".to_owned()),
    };
    Ok((pid, streams))
}

/// The next connection, if it comes in time.
fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, timeout)? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(listener.accept()?.0),
    }
}

fn pipes(command: &mut Command) -> io::Result<[OwnedFd; 3]> {
    let (input, to_input) = io::pipe()?;
    let (from_output, output) = io::pipe()?;
    let (from_error, error) = io::pipe()?;
    command.stdin(input).stdout(output).stderr(error);
    Ok([to_input.into(), from_output.into(), from_error.into()])
}

/// Removes a file at the end.
struct Remove(PathBuf);

impl Drop for Remove {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}
