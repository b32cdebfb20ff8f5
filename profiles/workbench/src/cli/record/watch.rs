//! Waits for the end of what is recorded, and hears the user meanwhile.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use cofferdam_recorder::process;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::means::Running;
use super::{Arguments, RecordError};

/// How often it is looked whether everything has ended, where there is nothing to wait on.
const LOOK: Duration = Duration::from_millis(50);

/// Signals are collected from its making on.
pub(super) struct Watch {
    signals: SignalFd,
    /// When the serving phase begins at the latest, if it did not yet.
    serving: Option<Instant>,
}

/// What the wait was for.
enum Event {
    Ended,
    Late,
    Asked(Signal),
}

impl Watch {
    pub(super) fn prepare(arguments: &Arguments) -> Result<Self, RecordError> {
        let after = arguments.serving_after.map(Duration::from_secs);
        let set = signals();
        set.thread_block()
            .and_then(|()| {
                SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            })
            .map(|signals| Self {
                signals,
                serving: after.and_then(|after| Instant::now().checked_add(after)),
            })
            .map_err(wait)
    }

    /// Whether a process has ended.
    pub(super) fn has_ended(handle: &OwnedFd) -> Result<bool, RecordError> {
        let mut fds = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, PollTimeout::ZERO).map_err(wait)? != 0)
    }

    /// Waits for a child. SIGINT and SIGTERM are passed on to it; a terminal sends it SIGINT itself.
    pub(super) fn child(
        &mut self,
        recorder: &Running,
        child: &mut Child,
        arguments: &Arguments,
    ) -> Result<Option<u8>, RecordError> {
        let pid = child.id();
        let handle = process::handle(pid).map_err(RecordError::Wait)?;
        let deadline = arguments.duration().map(|d| Instant::now() + d);
        let from_terminal = nix::unistd::tcgetpgrp(io::stdin()).is_ok();
        loop {
            match self.next(recorder, Some(&handle), deadline)? {
                Event::Ended => break,
                Event::Late => return Ok(None),
                Event::Asked(Signal::SIGINT) if from_terminal => {}
                Event::Asked(signal) => {
                    let pid = i32::try_from(pid).unwrap_or(0);
                    kill(Pid::from_raw(pid), signal).map_err(wait)?;
                }
            }
        }
        let status = child.wait().map_err(RecordError::Wait)?;
        if arguments.until_all_exit {
            self.all(recorder, deadline)?;
        }
        Ok(Some(shell_status(status)))
    }

    /// Waits until nothing is followed any more, the deadline, or a signal.
    fn all(&mut self, recorder: &Running, deadline: Option<Instant>) -> Result<(), RecordError> {
        while recorder.following()? != 0 {
            let soon = Instant::now() + LOOK;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            if let Event::Asked(_) = self.next(recorder, None, Some(soon))? {
                break;
            }
        }
        Ok(())
    }

    /// Waits for a process that need not be a child, the deadline, or a signal that says to end.
    pub(super) fn process(
        &mut self,
        recorder: &Running,
        handle: &OwnedFd,
        duration: Option<Duration>,
    ) -> Result<(), RecordError> {
        let deadline = duration.map(|d| Instant::now() + d);
        self.next(recorder, Some(handle), deadline).map(drop)
    }

    /// The next event but the user's mark, which is heeded here.
    fn next(
        &mut self,
        recorder: &Running,
        handle: Option<&OwnedFd>,
        deadline: Option<Instant>,
    ) -> Result<Event, RecordError> {
        loop {
            if self.serving.is_some_and(|begin| Instant::now() >= begin) {
                self.serving = None;
                recorder.mark_serving()?;
            }
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            fds.extend(handle.map(|handle| PollFd::new(handle.as_fd(), PollFlags::POLLIN)));
            let next = [deadline, self.serving].into_iter().flatten().min();
            let timeout = match next {
                None => PollTimeout::NONE,
                // Rounded up, so that the deadline has passed afterwards.
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    PollTimeout::try_from(left + Duration::from_millis(1))
                        .unwrap_or(PollTimeout::MAX)
                }
            };
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(wait(errno)),
                Ok(0) if deadline.is_some_and(|d| Instant::now() >= d) => return Ok(Event::Late),
                Ok(_) => {}
            }
            if fds.get(1).is_some_and(|fd| fd.any().unwrap_or(true)) {
                return Ok(Event::Ended);
            }
            while let Some(info) = self.signals.read_signal().map_err(wait)? {
                let number = i32::try_from(info.ssi_signo).unwrap_or(0);
                match Signal::try_from(number) {
                    Ok(Signal::SIGUSR1) => recorder.mark_serving()?,
                    Ok(signal) => return Ok(Event::Asked(signal)),
                    Err(_) => {}
                }
            }
        }
    }
}

/// The signals that are collected.
fn signals() -> SigSet {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1] {
        set.add(signal);
    }
    set
}

/// Signals do what they usually do again.
pub(super) fn release() -> Result<(), RecordError> {
    signals().thread_unblock().map_err(wait)
}

fn wait(errno: Errno) -> RecordError {
    RecordError::Wait(errno.into())
}

/// The exit status, or 128 and the number of the signal.
fn shell_status(status: std::process::ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let number = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    number.and_then(|n| u8::try_from(n).ok()).unwrap_or(u8::MAX)
}
