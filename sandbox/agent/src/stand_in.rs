//! A guest's process, on the host.
//!
//! It is itself the process of a hardened container that has no files but this program, the socket to the machine and the
//! monitor's last words, no capabilities and no privileges; what the guest sends is read here and nowhere else.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cofferdam_container::terminal;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use crate::client::{self, PATIENCE, harmless};
use crate::frames::{Attach, FromGuest, MAX_FRAME, ToGuest, WINDOW};
use crate::protocol::STREAMS;

/// Its own place in its root.
pub const PROGRAM: &str = "/stand-in";
/// What it has besides: a directory of the machine's.
pub const DOOR: &str = "/door";
/// The socket to the machine.
pub const SOCKET: &str = "/door/vsock";
/// What the monitor says at its end.
pub const REPORT: &str = "/door/report";

/// Between two questions whether the guest is there.
const TICK: Duration = Duration::from_secs(10);
/// So many questions without an answer, and it is not.
const MOST_MISSED: u32 = 6;
/// What is told of the monitor's last words, bytes.
const LAST_WORDS: usize = 4096;
/// The most events that a guest can have written down.
const MOST_EVENTS: u32 = 10_000;
/// How it ends where the machine has.
const MACHINE_ENDED: u8 = 137;
/// How it ends where the guest's process could not be started or reached.
const FAILED: u8 = 126;

/// Stands in for a process of the guest until that ends; gives the exit status.
pub fn run(id: &str, exec: Option<&str>, terminal: bool) -> u8 {
    let signals = match block_signals() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("cannot wait for signals: {error}")),
    };
    match attach(id, exec, terminal).and_then(|session| session.run(&signals)) {
        Ok(status) => status,
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(why: &str) -> u8 {
    say(why);
    FAILED
}

fn say(what: &str) {
    // Nobody may listen.
    drop(writeln!(io::stderr(), "cofferdam: {what}"));
}

/// All that can be blocked come by a descriptor, also to the first process of a pid namespace.
fn block_signals() -> nix::Result<SignalFd> {
    // A fault of its own ends it all the same.
    let set = SigSet::all();
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// The state of a session that both threads see.
struct Shared {
    /// Bytes of input that the guest has not taken.
    under_way: AtomicUsize,
    /// The guest has said something since it was asked.
    alive: AtomicBool,
    /// The machine sends no more.
    gone: AtomicBool,
    /// Somebody does not read what it said.
    writing: AtomicBool,
    /// How it ended, once it has.
    ended: Mutex<Option<u8>>,
    wake: EventFd,
}

struct Session {
    /// The container, of its first process.
    id: Option<String>,
    stream: UnixStream,
    terminal: bool,
    shared: Arc<Shared>,
}

fn attach(id: &str, exec: Option<&str>, terminal: bool) -> io::Result<Session> {
    let mut stream =
        client::connect(Path::new(SOCKET), STREAMS, PATIENCE).map_err(io::Error::other)?;
    let wanted = Attach {
        id: id.to_owned(),
        exec: exec.map(str::to_owned),
    };
    let wanted = serde_json::to_vec(&wanted).map_err(io::Error::other)?;
    ToGuest::Attach(wanted).write(&mut stream)?;
    if terminal {
        // Whatever is typed goes to the guest's terminal as it is.
        let mut modes = tcgetattr(io::stdin())?;
        cfmakeraw(&mut modes);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &modes)?;
    }
    match FromGuest::read(&mut stream)? {
        Some(FromGuest::Started) => {}
        Some(FromGuest::Failed(why)) => {
            return Err(io::Error::other(harmless(&String::from_utf8_lossy(&why))));
        }
        _ => {
            return Err(io::Error::other(
                "the virtual machine ended before the process ran",
            ));
        }
    }
    stream.set_read_timeout(None)?;
    Ok(Session {
        id: exec.is_none().then(|| id.to_owned()),
        stream,
        terminal,
        shared: Arc::new(Shared {
            under_way: AtomicUsize::new(0),
            alive: AtomicBool::new(true),
            gone: AtomicBool::new(false),
            writing: AtomicBool::new(false),
            ended: Mutex::new(None),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        }),
    })
}

impl Session {
    fn run(mut self, signals: &SignalFd) -> io::Result<u8> {
        let from = self.stream.try_clone()?;
        let shared = Arc::clone(&self.shared);
        let events = Events::open(self.id.as_deref());
        let reader = std::thread::Builder::new().name("output".to_owned());
        drop(reader.spawn(move || take(from, &shared, events))?);
        if self.terminal {
            self.tell_size()?;
        }
        let outcome = self.send_all(signals);
        let ended = self
            .shared
            .ended
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match (ended, outcome) {
            (Some(status), _) => Ok(status),
            (None, Ok(())) => {
                say("the virtual machine does not answer any more");
                Ok(MACHINE_ENDED)
            }
            (None, Err(error)) if is_end(&error) => {
                last_words();
                Ok(MACHINE_ENDED)
            }
            (None, Err(error)) => Err(error),
        }
    }

    /// Sends what comes from the engine until the process has ended, or the guest answers no more.
    fn send_all(&mut self, signals: &SignalFd) -> io::Result<()> {
        let stdin = io::stdin();
        let mut input = Some(unbuffered_stdin()?);
        let (mut asked, mut missed) = (Instant::now(), 0);
        loop {
            let room = WINDOW.saturating_sub(self.shared.under_way.load(Ordering::SeqCst));
            let listens = input.is_some() && room > 0;
            let events = if listens {
                PollFlags::POLLIN
            } else {
                PollFlags::empty()
            };
            let mut fds = vec![
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN),
            ];
            if listens {
                fds.push(PollFd::new(stdin.as_fd(), events));
            }
            let wait = TICK.saturating_sub(asked.elapsed());
            let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let readable = fds
                .get(2)
                .and_then(PollFd::revents)
                .is_some_and(|events| !events.is_empty());
            if self.shared.wake.read().is_ok() && self.is_over()? {
                return Ok(());
            }
            while let Some(signal) = signals.read_signal()? {
                self.pass_on(signal.ssi_signo)?;
            }
            if readable && let Some(file) = &mut input {
                let mut piece = vec![0; room.min(MAX_FRAME)];
                match file.read(&mut piece) {
                    // The terminal's other end has gone.
                    Ok(0) | Err(_) => {
                        input = None;
                        ToGuest::InputEnd.write(&mut self.stream)?;
                    }
                    Ok(count) => {
                        piece.truncate(count);
                        self.shared.under_way.fetch_add(count, Ordering::SeqCst);
                        ToGuest::Input(piece).write(&mut self.stream)?;
                    }
                }
            }
            if asked.elapsed() >= TICK {
                let writing = self.shared.writing.load(Ordering::SeqCst);
                missed = if self.shared.alive.swap(false, Ordering::SeqCst) || writing {
                    0
                } else {
                    missed + 1
                };
                if missed >= MOST_MISSED {
                    return Ok(());
                }
                asked = Instant::now();
                ToGuest::Ping.write(&mut self.stream)?;
            }
        }
    }

    /// Whether the process has ended; the machine's end is an error.
    fn is_over(&self) -> io::Result<bool> {
        let ended = self.shared.ended.lock();
        if ended.unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(true);
        }
        if self.shared.gone.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(false)
    }

    fn pass_on(&mut self, number: u32) -> io::Result<()> {
        let number = i32::try_from(number).unwrap_or(0);
        match number {
            libc::SIGCHLD | libc::SIGPIPE => Ok(()),
            libc::SIGWINCH if self.terminal => self.tell_size(),
            _ => ToGuest::Signal(number).write(&mut self.stream),
        }
    }

    fn tell_size(&mut self) -> io::Result<()> {
        // A terminal that has no size says nothing.
        if let Ok((rows, columns)) = terminal::size(io::stdin()) {
            ToGuest::Size(rows, columns).write(&mut self.stream)?;
        }
        Ok(())
    }
}

/// The standard library's own keeps what it has read too much of.
fn unbuffered_stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
    )
}

/// Writes out what the guest sends, until it says that the process has ended or sends no more.
fn take(mut from: UnixStream, shared: &Shared, mut events: Events) {
    let (mut stdout, mut stderr) = (whole(1), whole(2));
    let ended = loop {
        match FromGuest::read(&mut from) {
            // Nobody may read it any more; the process in the guest goes on.
            Ok(Some(FromGuest::Output(piece))) => put(shared, &mut stdout, &piece),
            Ok(Some(FromGuest::Error(piece))) => put(shared, &mut stderr, &piece),
            Ok(Some(FromGuest::Taken(count))) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                let left = |now: usize| Some(now.saturating_sub(count));
                let order = Ordering::SeqCst;
                let _ = shared.under_way.fetch_update(order, order, left);
                let _ = shared.wake.write(1);
            }
            Ok(Some(FromGuest::Ended(status))) => break Some(status),
            Ok(Some(FromGuest::OutOfMemory)) => events.note(),
            Ok(Some(FromGuest::Started | FromGuest::Alive)) => {}
            Ok(Some(FromGuest::Failed(_)) | None) | Err(_) => break None,
        }
        shared.alive.store(true, Ordering::SeqCst);
    };
    match ended {
        Some(status) => {
            *shared.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        }
        None => shared.gone.store(true, Ordering::SeqCst),
    }
    let _ = shared.wake.write(1);
}

/// The file by which the runtime learns of the container's events: a byte for each.
struct Events {
    file: Option<File>,
    left: u32,
}

impl Events {
    fn open(id: Option<&str>) -> Self {
        let path = id.map(|id| Path::new(DOOR).join(format!("{id}.events")));
        Self {
            file: path.and_then(|path| File::options().append(true).open(path).ok()),
            left: MOST_EVENTS,
        }
    }

    fn note(&mut self) {
        if let Some(left) = self.left.checked_sub(1)
            && let Some(file) = &mut self.file
        {
            self.left = left;
            drop(file.write_all(b"m"));
        }
    }
}

fn put(shared: &Shared, to: &mut Option<File>, piece: &[u8]) {
    shared.writing.store(true, Ordering::SeqCst);
    if let Some(file) = to {
        drop(file.write_all(piece));
    }
    shared.writing.store(false, Ordering::SeqCst);
}

/// A standard stream without a buffer; none if it is closed.
fn whole(number: i32) -> Option<File> {
    let fd = match number {
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    };
    fd.ok().map(File::from)
}

/// What the monitor has said last: why the machine ended.
fn last_words() {
    say("the virtual machine has ended");
    // It may be about to say it.
    std::thread::sleep(Duration::from_millis(200));
    let words = fs::read(REPORT).unwrap_or_default();
    let from = words.len().saturating_sub(LAST_WORDS);
    for line in String::from_utf8_lossy(words.get(from..).unwrap_or_default()).lines() {
        say(&harmless(line));
    }
}
