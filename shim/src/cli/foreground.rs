//! Waits for a process in the foreground: passes signals on, relays its terminal, and returns the
//! exit status a shell would see.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use cofferdam_container::Signal;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{self, SigSet, SigmaskHow};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, SetArg, Termios};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{CliError, sys};

/// Bytes relayed at once; a pty hands out at most one page.
const CHUNK: usize = 4096;

/// Signals that are ours alone: those of a fault in this process, and what concerns only its own
/// children, output and sockets.
const NOT_PASSED_ON: &[signal::Signal] = &[
    signal::Signal::SIGCHLD,
    signal::Signal::SIGPIPE,
    signal::Signal::SIGURG,
    signal::Signal::SIGTTIN,
    signal::Signal::SIGTTOU,
];
const FAULTS: &[signal::Signal] = &[
    signal::Signal::SIGSEGV,
    signal::Signal::SIGBUS,
    signal::Signal::SIGFPE,
    signal::Signal::SIGILL,
    signal::Signal::SIGABRT,
    signal::Signal::SIGTRAP,
    signal::Signal::SIGSYS,
];

/// A process in the foreground, prepared before it is made so that no signal is lost.
pub(super) struct Foreground {
    signals: SignalFd,
    /// Our end of the socket over which the terminal's master comes.
    console: Option<UnixStream>,
}

impl Foreground {
    /// Collects signals from now on. With `terminal`, also returns the console socket to create the
    /// process with.
    pub(super) fn prepare(
        terminal: bool,
        subreaper: bool,
    ) -> Result<(Self, Option<OwnedFd>), CliError> {
        if subreaper {
            crate::sys::become_subreaper().map_err(|source| CliError::System {
                action: "become a child subreaper",
                source,
            })?;
        }
        let mut caught = SigSet::all();
        for &fault in FAULTS {
            caught.remove(fault);
        }
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&caught), None)
            .and_then(|()| SignalFd::with_flags(&caught, flags))
            .map_err(|errno| system("collect signals", errno))?;
        let mut console = None;
        let mut theirs = None;
        if terminal {
            let pair = UnixStream::pair().map_err(|source| CliError::System {
                action: "make a console socket",
                source,
            })?;
            console = Some(pair.0);
            theirs = Some(pair.1.into());
        }
        Ok((Self { signals, console }, theirs))
    }

    /// Takes the terminal that the process was made with. Its output may begin before this call,
    /// which loses nothing: the pty keeps it.
    pub(super) fn attach(mut self) -> Result<Attached, CliError> {
        let relay = match self.console.take() {
            Some(socket) => Some(Relay::open(&socket)?),
            None => None,
        };
        Ok(Attached {
            signals: self.signals,
            relay,
        })
    }
}

/// A process in the foreground whose terminal, if any, is at hand.
pub(super) struct Attached {
    signals: SignalFd,
    relay: Option<Relay>,
}

impl Attached {
    /// Waits for `pid`, a child of this process, and returns what a shell would: its exit status, or
    /// 128 and the number of the signal that ended it.
    pub(super) fn wait(mut self, pid: Pid) -> Result<u8, CliError> {
        // It may have ended before its SIGCHLD was looked for.
        if let Some(status) = reap(pid)? {
            return self.finish(status);
        }
        loop {
            let ready = self.poll()?;
            if ready.signals {
                while let Some(info) = self
                    .signals
                    .read_signal()
                    .map_err(|errno| system("read signals", errno))?
                {
                    self.pass_on(pid, info.ssi_signo);
                }
                if let Some(status) = reap(pid)? {
                    return self.finish(status);
                }
            }
            if let Some(relay) = &mut self.relay {
                relay.work(ready.input, ready.output);
            }
        }
    }

    fn finish(mut self, status: u8) -> Result<u8, CliError> {
        if let Some(relay) = &mut self.relay {
            relay.drain();
        }
        Ok(status)
    }

    fn poll(&self) -> Result<Ready, CliError> {
        let stdin = io::stdin();
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if let Some(relay) = &self.relay {
            // A master whose slaves are all closed reports a hang-up without end.
            if relay.output_open {
                fds.push(PollFd::new(relay.master.as_fd(), relay.wanted()));
            }
            if relay.input_open && relay.pending.is_empty() {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(system("wait for the process", errno)),
                Ok(_) => break,
            }
        }
        let any = |fd: BorrowedFd<'_>| {
            fds.iter()
                .find(|p| p.as_fd().as_raw_fd() == fd.as_raw_fd())
                .is_some_and(|p| p.any().unwrap_or(true))
        };
        Ok(Ready {
            signals: any(self.signals.as_fd()),
            input: any(stdin.as_fd()),
            output: self.relay.as_ref().is_some_and(|r| any(r.master.as_fd())),
        })
    }

    fn pass_on(&self, pid: Pid, number: u32) {
        let is = |signal: &signal::Signal| *signal as u32 == number;
        if number == signal::Signal::SIGWINCH as u32 {
            if let Some(relay) = &self.relay {
                relay.resize();
            }
            return;
        }
        if NOT_PASSED_ON.iter().any(is) {
            return;
        }
        let signal = i32::try_from(number)
            .ok()
            .and_then(|n| Signal::from_number(n).ok());
        if let Some(signal) = signal
            && let Err(error) = sys::kill(pid, signal.number())
        {
            // The process is our unreaped child, so at worst it is a zombie already.
            tracing::debug!("cannot pass on signal {signal}: {error}");
        }
    }
}

struct Ready {
    signals: bool,
    input: bool,
    output: bool,
}

/// Reaps every child that has ended; the exit status if `pid` was one of them.
fn reap(pid: Pid) -> Result<Option<u8>, CliError> {
    let mut status = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(ended, code)) if ended == pid => {
                status = Some(u8::try_from(code).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == pid => {
                status = Some(128 | signal as u8);
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(status),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(system("wait for the process", errno)),
        }
    }
}

/// Between our standard streams and the terminal of the process.
struct Relay {
    master: File,
    /// Input that the terminal did not take yet.
    pending: Vec<u8>,
    input_open: bool,
    output_open: bool,
    /// Restores our own terminal when the relay ends.
    _raw: Option<RawMode>,
}

impl Relay {
    fn open(socket: &UnixStream) -> Result<Self, CliError> {
        let master = sys::receive_descriptor(socket).map_err(|source| CliError::System {
            action: "receive the container's terminal",
            source,
        })?;
        // Reads and writes must not block: the process may neither read nor write for long.
        sys::set_nonblocking(&master).map_err(|source| CliError::System {
            action: "prepare the container's terminal",
            source,
        })?;
        let relay = Self {
            master: File::from(master),
            pending: Vec::new(),
            input_open: true,
            output_open: true,
            _raw: RawMode::enter(),
        };
        relay.resize();
        Ok(relay)
    }

    /// Gives the process's terminal the size of ours.
    fn resize(&self) {
        // Without a terminal of our own there is no size to give.
        if let Ok(size) = sys::window_size(io::stdin())
            && let Err(error) = sys::set_window_size(&self.master, &size)
        {
            tracing::debug!("cannot resize the container's terminal: {error}");
        }
    }

    fn wanted(&self) -> PollFlags {
        if self.pending.is_empty() {
            PollFlags::POLLIN
        } else {
            PollFlags::POLLIN | PollFlags::POLLOUT
        }
    }

    fn work(&mut self, input: bool, output: bool) {
        if input {
            let mut chunk = [0; CHUNK];
            match nix::unistd::read(io::stdin(), &mut chunk) {
                Ok(0) => self.input_open = false,
                Ok(n) => self
                    .pending
                    .extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => self.input_open = false,
            }
        }
        if !self.pending.is_empty() {
            match self.master.write(&self.pending) {
                Ok(n) => drop(self.pending.drain(..n)),
                Err(error) if is_temporary(&error) => {}
                Err(_) => {
                    self.pending.clear();
                    self.input_open = false;
                }
            }
        }
        if output {
            self.copy_out();
        }
    }

    /// Copies one chunk of output; whether there may be more at once.
    fn copy_out(&mut self) -> bool {
        let mut chunk = [0; CHUNK];
        match self.master.read(&mut chunk) {
            Ok(n) if n > 0 => {
                let mut out = io::stdout().lock();
                // A reader that went away does not end the process.
                let _ = out
                    .write_all(chunk.get(..n).unwrap_or_default())
                    .and_then(|()| out.flush());
                true
            }
            Err(error) if is_temporary(&error) => false,
            // End of file, or EIO: every slave is closed.
            _ => {
                self.output_open = false;
                false
            }
        }
    }

    /// Copies what the process wrote before it ended.
    fn drain(&mut self) {
        while self.output_open && self.copy_out() {}
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Our own terminal in raw mode, until dropped.
struct RawMode(Termios);

impl RawMode {
    /// `None` when the standard input is no terminal.
    fn enter() -> Option<Self> {
        let before = termios::tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // If it fails, the terminal is gone.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

fn system(action: &'static str, errno: Errno) -> CliError {
    CliError::System {
        action,
        source: errno.into(),
    }
}
