//! Answers calls: each with the errno that the original program has for it, whatever else happens.
//! What it cannot read, write or explain changes the log, never the answer.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use cofferdam_profiles::seccomp::denial::{Explainer, Explanation, Unreadable, errno_name};
use cofferdam_profiles::seccomp::errno_of;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::time::{ClockId, clock_gettime};

use super::audit::Watch;
use super::event::{Denied, Line, Suppressed};
use super::keeper::{QUIT, Shared, message};
use super::log::Log;
use super::memory::{self, Caller};
use super::streak::{Asked, Streaks};
use super::tally::{Key, Tally};
use crate::clock;
use crate::sys::notify::{self, Pending};
use crate::sys::sched;

/// How soon suppressed calls are written down, in milliseconds.
const FLUSH: u16 = 1000;
/// So many calls between two flushes are a flood.
const FLOOD: u64 = 5000;
/// How much others go first: somebody waits for an answer, but of a flood nobody else shall notice.
pub(super) const QUIET_NICE: u8 = 1;
const FLOOD_NICE: u8 = 10;
/// How many calls of one listener are answered before the others are looked at.
const BATCH: usize = 64;

/// Why the worker's work is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The keeper said so.
    Asked,
    /// The keeper is gone.
    Alone,
}

/// Milliseconds of the monotonic clock.
pub(super) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000);
    u64::try_from(time).unwrap_or(0)
}

/// Serves the listeners until the keeper says so or is gone.
pub(super) fn run(
    shared: &Shared,
    keeper: &OwnedFd,
    listeners: &mut BTreeMap<u32, OwnedFd>,
) -> io::Result<Ended> {
    let mut worker = Worker {
        shared,
        log: Log::append(&shared.plan.log).ok(),
        tally: Tally::new(now()),
        streaks: Streaks::new(),
        explainer: None,
        // Without it the calls are explained all the same; who started us has said so.
        apparmor: shared
            .plan
            .apparmor
            .as_deref()
            .and_then(|profile| Watch::new(profile, &shared.plan.id, now()).ok()),
        flushed: now(),
        weighed: shared.desk.total(),
        flooded: false,
    };
    // Its predecessor may have met a flood.
    sched::set_nice(QUIET_NICE);
    // What its predecessor, if there was one, counted and could not write down any more.
    worker.tally.count_others(shared.desk.unaccounted());
    if let Some((serial, pending)) = shared.desk.left()
        && let Some(listener) = listeners.get(&serial)
        && notify::is_pending(listener, pending.id)
    {
        // Counted already, and not read this time: reading may be what its predecessor died of.
        let errno = errno_of(&shared.program, &pending.call);
        let _ = notify::deny(listener, pending.id, errno);
    }
    shared.desk.clear();
    loop {
        match worker.round(keeper, listeners) {
            Ok(None) => {}
            Ok(Some(ended)) => {
                worker.listen();
                worker.flush();
                return Ok(ended);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether a call waits at a listener.
fn waits(listener: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
        && fds.iter().any(|fd| {
            fd.revents()
                .is_some_and(|flags| flags.contains(PollFlags::POLLIN))
        })
}

struct Worker<'a> {
    shared: &'a Shared,
    log: Option<Log>,
    tally: Tally,
    streaks: Streaks,
    explainer: Option<Explainer>,
    apparmor: Option<Watch>,
    flushed: u64,
    /// How many calls there had been at the last flush.
    weighed: u64,
    flooded: bool,
}

impl Worker<'_> {
    fn round(
        &mut self,
        keeper: &OwnedFd,
        listeners: &mut BTreeMap<u32, OwnedFd>,
    ) -> io::Result<Option<Ended>> {
        let mut fds = vec![PollFd::new(keeper.as_fd(), PollFlags::POLLIN)];
        let watch = self.apparmor.as_ref();
        fds.extend(watch.map(|watch| PollFd::new(watch.as_fd(), PollFlags::POLLIN)));
        let before = fds.len();
        let all = listeners.values();
        fds.extend(all.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
        let timeout = if self.pending() {
            PollTimeout::from(FLUSH)
        } else {
            PollTimeout::NONE
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<PollFlags> = fds
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()))
            .collect();
        drop(fds);
        if before > 1 && ready.get(1).is_some_and(|flags| !flags.is_empty()) {
            self.listen();
        }
        let mut gone = Vec::new();
        for ((serial, listener), flags) in listeners.iter().zip(ready.iter().skip(before)) {
            if flags.contains(PollFlags::POLLIN) {
                self.serve(*serial, listener);
            } else if flags
                .intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL)
            {
                gone.push(*serial);
            }
        }
        for serial in gone {
            listeners.remove(&serial);
        }
        if self.pending() && now().saturating_sub(self.flushed) >= u64::from(FLUSH) {
            self.flush();
        }
        if ready.first().is_some_and(|flags| !flags.is_empty()) {
            return self.hear(keeper, listeners);
        }
        Ok(None)
    }

    /// Whether there is something to be written down in time.
    fn pending(&self) -> bool {
        let apparmor = self.apparmor.as_ref().is_some_and(Watch::pending);
        self.tally.pending() || self.flooded || apparmor
    }

    /// Writes down what AppArmor has denied.
    fn listen(&mut self) {
        let lines = match &mut self.apparmor {
            Some(watch) => watch.read(now()),
            None => Vec::new(),
        };
        for line in lines {
            self.write(&line);
        }
    }

    fn hear(
        &mut self,
        keeper: &OwnedFd,
        listeners: &mut BTreeMap<u32, OwnedFd>,
    ) -> io::Result<Option<Ended>> {
        match message(keeper) {
            Ok(Some((text, None))) if text == QUIT => Ok(Some(Ended::Asked)),
            Ok(Some((text, Some(listener)))) => {
                if let Ok(serial) = text.as_slice().try_into() {
                    listeners.insert(u32::from_ne_bytes(serial), listener);
                }
                Ok(None)
            }
            Ok(Some((_, None))) => Ok(None),
            Ok(None) => Ok(Some(Ended::Alone)),
            Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => Ok(Some(Ended::Alone)),
            Err(error) => Err(error),
        }
    }

    /// The calls that wait at one listener, up to [`BATCH`]. To receive where none waits would block.
    fn serve(&mut self, serial: u32, listener: &OwnedFd) {
        for _ in 0..BATCH {
            // An error: the caller was killed meanwhile, or all callers are gone.
            let Ok(pending) = self.shared.desk.receive(listener, serial) else {
                return;
            };
            self.answer(listener, &pending);
            self.shared.desk.clear();
            if !waits(listener) {
                return;
            }
        }
    }

    fn answer(&mut self, listener: &OwnedFd, pending: &Pending) {
        let errno = errno_of(&self.shared.program, &pending.call);
        let asked = Asked {
            pid: pending.pid,
            audit: pending.call.audit,
            number: pending.call.number,
        };
        if self.streaks.counts(asked) {
            self.tally.remember();
            // ENOENT: the caller was killed, and nobody waits for an answer any more.
            let _ = notify::deny(listener, pending.id, errno);
            return;
        }
        let executable = memory::executable(pending.pid);
        let key = Key {
            executable,
            audit: pending.call.audit,
            number: pending.call.number,
        };
        let line = self
            .tally
            .admit(&key, now())
            .then(|| self.describe(listener, pending, &key.executable, errno));
        let _ = notify::deny(listener, pending.id, errno);
        match line {
            Some(line) => self.write(&line),
            None => {
                if let Some((key, count)) = self.streaks.suppressed(asked, key) {
                    self.tally.count(&key, count);
                }
            }
        }
    }

    /// What is to be said of a call, while the caller waits.
    fn describe(
        &mut self,
        listener: &OwnedFd,
        pending: &Pending,
        executable: &str,
        errno: u16,
    ) -> Line {
        let plan = &self.shared.plan;
        if self.explainer.is_none() {
            self.explainer = Explainer::new(plan.profile.clone()).ok();
        }
        let call = &pending.call;
        let command = memory::command(pending.pid);
        let (name, arguments, complete, cause) = match &self.explainer {
            Some(explainer) => {
                let mut arguments = explainer.arguments(call, &Caller::of(listener, pending));
                let complete = notify::is_pending(listener, pending.id);
                if !complete {
                    arguments = explainer.arguments(call, &Unreadable);
                }
                let cause = explainer.explain(call);
                (explainer.name(call), arguments, complete, cause)
            }
            None => (
                cofferdam_profiles::seccomp::denial::name(call),
                Vec::new(),
                false,
                Explanation::unknown(),
            ),
        };
        Line::Denied(Box::new(Denied {
            time: clock::now(),
            container: plan.id.clone(),
            pid: pending.pid,
            command,
            executable: executable.to_owned(),
            architecture: name.architecture,
            syscall: name.syscall,
            number: call.number,
            arguments,
            complete,
            errno: errno_name(errno),
            cause,
            profile: plan.origin.clone(),
            place: plan.place.clone(),
            total: self.shared.desk.total(),
        }))
    }

    /// Steps back while there is a flood: what asks that much can wait, others cannot.
    fn weigh(&mut self) {
        let total = self.shared.desk.total();
        let flooded = total.saturating_sub(self.weighed) > FLOOD;
        self.weighed = total;
        if flooded != self.flooded {
            self.flooded = flooded;
            sched::set_nice(if flooded { FLOOD_NICE } else { QUIET_NICE });
        }
    }

    /// Writes down how many calls were not written down.
    fn flush(&mut self) {
        self.flushed = now();
        self.weigh();
        if let Some(line) = self.apparmor.as_mut().and_then(Watch::flush) {
            self.write(&line);
        }
        for (key, count) in self.streaks.end() {
            self.tally.count(&key, count);
        }
        for (key, count) in self.tally.flush(self.flushed) {
            let syscall = key.as_ref().map_or_else(String::new, |key| {
                let call = cofferdam_profiles::seccomp::Call {
                    audit: key.audit,
                    number: key.number,
                    args: [0; 6],
                };
                cofferdam_profiles::seccomp::denial::name(&call).syscall
            });
            self.write(&Line::Suppressed(Suppressed {
                time: clock::now(),
                container: self.shared.plan.id.clone(),
                executable: key.map_or_else(String::new, |key| key.executable),
                syscall,
                count,
                total: self.shared.desk.total(),
            }));
        }
    }

    /// To the log, and to whoever else wants to know, if there is room.
    fn write(&mut self, line: &Line) {
        let Ok(mut text) = serde_json::to_vec(line) else {
            return;
        };
        if let Some(events) = &self.shared.events {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            let _ = send(events.as_raw_fd(), &text, flags);
        }
        text.push(b'\n');
        // A full disk costs the log, not the container: the next line tries again.
        let written = self.log.as_mut().map(|log| log.write(&text));
        if !matches!(written, Some(Ok(()))) {
            self.log = Log::append(&self.shared.plan.log).ok();
        }
        self.shared.desk.account(match line {
            Line::Denied(_) => 1,
            Line::Suppressed(counted) => counted.count,
            // These are no calls that were asked about.
            Line::Apparmor(_) | Line::ApparmorSuppressed(_) => 0,
        });
    }
}
