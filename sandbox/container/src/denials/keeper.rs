//! Holds the listeners, and starts the worker again.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, accept4, recvmsg, sendmsg,
};
use nix::unistd::Pid;

use super::log::Log;
use super::setup::{self, Plan, READY};
use super::worker::{self, Ended};
use crate::init::handover;
use crate::sys::clone::{self, Side};
use crate::sys::notify::{self, Desk};
use crate::sys::{inherit, pidfd, sched};

/// How often the worker is looked after while there are listeners, in milliseconds.
const ROUND: u16 = 1000;
/// How long calls may wait without progress before the worker is taken to hang, in milliseconds.
const HANGING: u64 = 4000;
/// How long the worker may take to write down what it has left.
const ENDING: Duration = Duration::from_secs(2);
/// Connections at once; more wait in the socket's queue.
const MOST_CHANNELS: usize = 64;

/// What the keeper tells the worker, and `delete` the keeper: that is all.
pub(super) const QUIT: &[u8] = b"Q";

/// Why the listener cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct ServeError {
    /// What was being done.
    action: &'static str,
    /// Why it failed.
    #[source]
    source: io::Error,
}

/// What both processes know.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Plan,
    /// The program whose errnos are answered.
    pub(super) program: Vec<u8>,
    pub(super) desk: Desk,
    pub(super) events: Option<OwnedFd>,
}

struct Keeper {
    shared: Shared,
    /// Where `exec` and `delete` connect.
    door: OwnedFd,
    /// Connections of processes that will send a listener.
    channels: Vec<OwnedFd>,
    listeners: BTreeMap<u32, OwnedFd>,
    next: u32,
    /// Since when calls wait while none is received, in milliseconds, and how many had been.
    stuck: Option<(u64, u64)>,
}

struct Worker {
    pid: Pid,
    file: OwnedFd,
    channel: OwnedFd,
}

/// Serves the container of the state directory `directory` until it has ended. `control` is the
/// descriptor that [`super::ListenerCommand`] speaks of.
///
/// To be called first in a single-threaded process: all other descriptors are closed, unseen.
pub fn serve(control: RawFd, directory: &Path) -> Result<(), ServeError> {
    let failed = |action| move |source: io::Error| ServeError { action, source };
    let (plan, program) = setup::read(directory).map_err(failed("read the listener's plan"))?;
    let wanted = [Some(control), plan.events];
    let mut taken = inherit::take_and_close_others(&wanted)
        .map_err(failed("take the descriptors"))?
        .into_iter();
    let (Some(Some(control)), Some(events)) = (taken.next(), taken.next()) else {
        return Err(failed("take the descriptors")(
            io::ErrorKind::NotFound.into(),
        ));
    };
    // Not of the caller's session or priority: it has no part in what becomes of it.
    let _ = nix::unistd::setsid();
    sched::set_nice(worker::QUIET_NICE);
    inherit::reset_signals().map_err(failed("reset the signals"))?;
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| failed("become undumpable")(errno.into()))?;
    drop(Log::create(&plan.log).map_err(failed("make the log"))?);
    let door = setup::listen(directory).map_err(failed("make the socket"))?;
    let desk = Desk::new().map_err(failed("map a page"))?;
    nix::unistd::write(&control, READY).map_err(|e| failed("say that it is ready")(e.into()))?;
    let shared = Shared {
        plan,
        program,
        desk,
        events,
    };
    Keeper {
        shared,
        door,
        channels: vec![control],
        listeners: BTreeMap::new(),
        next: 1,
        stuck: None,
    }
    .keep()
    .map_err(failed("keep the listeners"))
}

enum Round {
    Again,
    WorkerEnded,
    Over,
}

impl Keeper {
    fn keep(mut self) -> io::Result<()> {
        loop {
            let Some(worker) = self.start_worker()? else {
                // This process was the worker, and its keeper is gone: it takes its place.
                continue;
            };
            loop {
                match self.round(&worker)? {
                    Round::Again => {}
                    Round::WorkerEnded => {
                        pidfd::reap(worker.pid);
                        break;
                    }
                    Round::Over => return finish(&worker),
                }
            }
        }
    }

    /// The new worker; `None` in a worker that must become the keeper.
    fn start_worker(&mut self) -> io::Result<Option<Worker>> {
        let (channel, theirs) = setup::pair()?;
        match clone::clone(0, false, None)? {
            Side::Parent(pid, file) => Ok(Some(Worker { pid, file, channel })),
            Side::Child => {
                drop(channel);
                match worker::run(&self.shared, &theirs, &mut self.listeners) {
                    Ok(Ended::Asked) => clone::exit(0),
                    Ok(Ended::Alone) => {
                        let newest = self.listeners.keys().next_back();
                        self.next = newest.map_or(self.next, |newest| newest + 1);
                        Ok(None)
                    }
                    Err(_) => clone::exit(1),
                }
            }
        }
    }

    fn round(&mut self, worker: &Worker) -> io::Result<Round> {
        let mut fds = vec![
            PollFd::new(worker.file.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.door.as_fd(), PollFlags::POLLIN),
        ];
        let channels = self.channels.iter();
        fds.extend(channels.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        // Only their end is of interest here.
        let listeners = self.listeners.values();
        fds.extend(listeners.map(|fd| PollFd::new(fd.as_fd(), PollFlags::empty())));
        let timeout = if self.listeners.is_empty() {
            PollTimeout::NONE
        } else {
            PollTimeout::from(ROUND)
        };
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Round::Again),
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        drop(fds);
        let [ended, knocked, rest @ ..] = ready.as_slice() else {
            return Ok(Round::Again);
        };
        if *ended {
            return Ok(Round::WorkerEnded);
        }
        self.look_after(worker);
        let (channels, listeners) = rest.split_at(self.channels.len().min(rest.len()));
        let gone: Vec<u32> = self
            .listeners
            .keys()
            .zip(listeners)
            .filter_map(|(serial, ended)| ended.then_some(*serial))
            .collect();
        for serial in gone {
            self.listeners.remove(&serial);
        }
        let channels = channels.to_vec();
        if self.receive(&channels, worker)? {
            return Ok(Round::Over);
        }
        if *knocked && self.channels.len() < MOST_CHANNELS {
            match accept4(self.door.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                Ok(fd) => self.channels.push(inherit::owned(fd)),
                Err(Errno::EINTR | Errno::ECONNABORTED | Errno::EAGAIN) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if self.channels.is_empty() && self.listeners.is_empty() {
            return Ok(Round::Over);
        }
        Ok(Round::Again)
    }

    /// Takes what has come over the channels; `true` if it is the end.
    fn receive(&mut self, ready: &[bool], worker: &Worker) -> io::Result<bool> {
        let channels = std::mem::take(&mut self.channels);
        let mut over = false;
        for (at, channel) in channels.into_iter().enumerate() {
            if !ready.get(at).copied().unwrap_or(false) {
                self.channels.push(channel);
                continue;
            }
            match message(&channel) {
                Ok(Some((text, Some(listener))))
                    if text == handover::MESSAGE && notify::is_listener(&listener) =>
                {
                    self.take(listener, worker)?;
                    self.channels.push(channel);
                }
                Ok(Some((text, None))) if text == QUIT => {
                    over = true;
                    // Kept open until the very end, which is what the other side waits for.
                    self.channels.push(channel);
                }
                // The end, or something else than was agreed on.
                _ => {}
            }
        }
        Ok(over)
    }

    fn take(&mut self, listener: OwnedFd, worker: &Worker) -> io::Result<()> {
        notify::wake_quickly(&listener);
        let serial = self.next;
        self.next += 1;
        let bytes = serial.to_ne_bytes();
        let descriptors = [listener.as_raw_fd()];
        let sent = sendmsg::<()>(
            worker.channel.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            &[ControlMessage::ScmRights(&descriptors)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        self.listeners.insert(serial, listener);
        match sent {
            // It is ending: its successor inherits the listener.
            Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Ends a worker that makes no progress although a call waits, such as on memory that never
    /// comes; its successor answers the call in hand without looking at it.
    fn look_after(&mut self, worker: &Worker) {
        let (now, total) = (worker::now(), self.shared.desk.total());
        if !self.shared.desk.is_busy() && !self.somebody_waits() {
            self.stuck = None;
            return;
        }
        match self.stuck {
            Some((since, before)) if before == total => {
                if now.saturating_sub(since) > HANGING {
                    let _ = pidfd::signal(&worker.file, libc::SIGKILL);
                    self.stuck = None;
                }
            }
            _ => self.stuck = Some((now, total)),
        }
    }

    /// Whether a call has not been received yet.
    fn somebody_waits(&self) -> bool {
        let listeners = self.listeners.values();
        let mut fds: Vec<PollFd<'_>> = listeners
            .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
            .collect();
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
            && fds.iter().any(|fd| {
                fd.revents()
                    .is_some_and(|flags| flags.contains(PollFlags::POLLIN))
            })
    }
}

/// Lets the worker write down what it has left.
fn finish(worker: &Worker) -> io::Result<()> {
    let told = nix::sys::socket::send(worker.channel.as_raw_fd(), QUIT, MsgFlags::MSG_NOSIGNAL);
    if told.is_err() || !pidfd::wait_end(&worker.file, ENDING)? {
        let _ = pidfd::signal(&worker.file, libc::SIGKILL);
    }
    pidfd::reap(worker.pid);
    Ok(())
}

/// A message and the descriptor that came with it; `None` at the end.
pub(super) fn message(channel: &OwnedFd) -> io::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut bytes = [0; 16];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let (length, fd) = {
        let mut data = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(
            channel.as_raw_fd(),
            &mut data,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let mut fd = None;
        for control in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                fd = fds.first().map(|fd| inherit::owned(*fd));
            }
        }
        (received.bytes, fd)
    };
    let text = bytes.get(..length).unwrap_or_default().to_vec();
    Ok((length > 0).then_some((text, fd)))
}
