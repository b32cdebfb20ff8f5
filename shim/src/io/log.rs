//! Copies what a process writes into a log file.
//!
//! On a thread of its own for each log: a file's writes cannot be waited for by polling, and a slow disk must
//! stop neither the event loop nor other logs.
//!
//! The process gets a pipe, not the file: it may open a pipe again (`/dev/stdout`) as whatever user it is,
//! and neither read, rewrite nor truncate what is already logged.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::pipe2;

use super::fifo;
use crate::sync::{in_background, lock};

/// Bytes that are copied at least before those who wait for a flush are told.
const TURN: usize = 256 << 10;

/// Bytes per read.
const CHUNK: usize = 8 << 10;

/// A log before anything is copied to it.
#[derive(Debug)]
pub(super) struct Ends {
    pipe: File,
    file: File,
}

impl Ends {
    /// A log file and the writing end of the pipe that leads to it.
    pub(super) fn to(file: OwnedFd) -> io::Result<(OwnedFd, Self)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        let pipe = File::from(reader);
        fifo::make_nonblocking(&pipe)?;
        let file = file.into();
        Ok((writer, Self { pipe, file }))
    }

    /// Copies what the pipe holds, and some of what comes meanwhile.
    fn copy(&mut self, failing: &mut bool) -> Round {
        let mut chunk = [0_u8; CHUNK];
        let mut left = self.turn();
        while left > 0 {
            match self.pipe.read(&mut chunk) {
                Ok(0) => return Round::Ended,
                Ok(n) => {
                    left = left.saturating_sub(n);
                    self.keep(chunk.get(..n).unwrap_or_default(), failing);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Round::Waiting,
                Err(_) => return Round::Ended,
            }
        }
        Round::More
    }

    /// Bytes to copy at one go: a full pipe at least. A process may have made its pipe larger.
    fn turn(&self) -> usize {
        let size = fcntl(&self.pipe, FcntlArg::F_GETPIPE_SZ).unwrap_or_default();
        usize::try_from(size).unwrap_or_default().max(TURN)
    }

    /// What a full disk does not take is lost: a log must not stop the process that writes it.
    fn keep(&mut self, bytes: &[u8], failing: &mut bool) {
        match self.file.write_all(bytes) {
            Ok(()) => *failing = false,
            Err(error) if !*failing => {
                tracing::warn!(%error, "cannot write to a container's log; its output is lost");
                *failing = true;
            }
            Err(_) => {}
        }
    }
}

/// What one round of copying came to.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// Nothing more until something is written.
    Waiting,
    /// There is more, but who waits for a flush shall hear.
    More,
    /// Nobody can write to the pipe any more.
    Ended,
}

/// What is asked of the copying thread, and what it has done.
#[derive(Debug, Default)]
struct Progress {
    /// Flushes that were asked for, and how many of them are done.
    asked: u64,
    done: u64,
    /// It is to end after one more round.
    closing: bool,
    /// It has ended, and the file is closed.
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    progress: Mutex<Progress>,
    /// Signalled when a flush is done and when it has ended.
    moved: Condvar,
    waker: EventFd,
}

/// A log that is being written.
#[derive(Debug)]
pub(super) struct Log(Arc<Shared>);

impl Log {
    /// Starts copying.
    pub(super) fn attach(ends: Ends) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            progress: Mutex::default(),
            moved: Condvar::new(),
            waker: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        });
        let copier = Arc::clone(&shared);
        in_background("log", move || copier.run(ends))?;
        Ok(Self(shared))
    }

    /// Waits until what is in the pipe has been copied; a process that goes on writing does not keep it.
    pub(super) fn flush(&self) {
        self.0.ask(|progress| {
            progress.asked += 1;
            progress.asked
        });
    }

    /// Copies what is left and closes both.
    pub(super) fn close(&self) {
        self.0.ask(|progress| {
            progress.closing = true;
            u64::MAX
        });
    }
}

impl Shared {
    /// Asks for something and waits until that many flushes are done, or until it has ended.
    fn ask(&self, what: impl FnOnce(&mut Progress) -> u64) {
        let mut progress = lock(&self.progress);
        let count = what(&mut progress);
        if let Err(errno) = self.waker.write(1) {
            tracing::warn!(%errno, "cannot wake the thread that copies a container's output");
            return;
        }
        while !progress.ended && progress.done < count {
            let woken = self.moved.wait(progress);
            progress = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, mut ends: Ends) {
        let mut failing = false;
        while let Ok(()) = self.wait(&ends) {
            // Looked at first: what was written before somebody asked is in the pipe by now.
            let (asked, closing) = {
                let progress = lock(&self.progress);
                (progress.asked, progress.closing)
            };
            let round = ends.copy(&mut failing);
            lock(&self.progress).done = asked;
            self.moved.notify_all();
            if closing || round == Round::Ended {
                break;
            }
        }
        // Closed before anybody hears of it.
        drop(ends);
        lock(&self.progress).ended = true;
        self.moved.notify_all();
    }

    /// Waits until there is something to copy or to answer.
    fn wait(&self, ends: &Ends) -> nix::Result<()> {
        let mut fds = [
            PollFd::new(ends.pipe.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.waker.as_fd(), PollFlags::POLLIN),
        ];
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    tracing::warn!(%errno, "cannot go on copying a container's output to its log");
                    return Err(errno);
                }
                Ok(_) => break,
            }
        }
        match self.waker.read() {
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use super::*;

    fn log() -> (tempfile::NamedTempFile, OwnedFd, Ends) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (writer, ends) = Ends::to(file.reopen().unwrap().into()).unwrap();
        (file, writer, ends)
    }

    fn ended(log: &Log) -> bool {
        lock(&log.0.progress).ended
    }

    fn eventually(what: &str, condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(10), "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn everything_arrives_while_it_is_written() {
        const SIZE: usize = 3 << 20;
        let (file, writer, ends) = log();
        let log = Log::attach(ends).unwrap();
        // More than the pipe holds.
        let mut writer = File::from(writer);
        writer.write_all(&vec![b'x'; SIZE]).unwrap();
        drop(writer);
        eventually("it ends with its writers", || ended(&log));
        assert_eq!(fs::read(file.path()).unwrap(), vec![b'x'; SIZE]);
        // Nobody waits for one that has ended.
        log.flush();
        log.close();
    }

    #[test]
    fn what_was_written_is_there_after_a_flush_and_after_the_end() {
        let (file, writer, ends) = log();
        let log = Log::attach(ends).unwrap();
        let mut writer = File::from(writer);
        for round in 0..500 {
            write!(writer, "{round} ").unwrap();
            log.flush();
            let text = fs::read_to_string(file.path()).unwrap();
            assert!(text.ends_with(&format!("{round} ")), "{round}: {text}");
        }
        // Somebody in the container may still have it open.
        writer.write_all(b"two").unwrap();
        log.close();
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(
            text.starts_with("0 1 2 ") && text.ends_with("499 two"),
            "{text}"
        );
        assert!(ended(&log));
    }

    /// A process may enlarge its pipe, fill it and exit.
    #[test]
    fn a_flush_takes_all_that_an_enlarged_pipe_holds() {
        const SIZE: usize = 900 << 10;
        let (file, writer, ends) = log();
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        let log = Log::attach(ends).unwrap();
        File::from(writer).write_all(&vec![b'x'; SIZE]).unwrap();
        log.flush();
        assert_eq!(fs::read(file.path()).unwrap().len(), SIZE);
    }

    /// A slow disk stopped the event loop, and with it every container of the shim. A pipe that nobody reads
    /// takes as long as the slowest disk.
    #[test]
    fn a_slow_disk_does_not_stop_other_logs() {
        let (stuck, disk) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let size = fcntl(&disk, FcntlArg::F_GETPIPE_SZ).unwrap();
        let size = usize::try_from(size).unwrap();
        let (slow_writer, slow_ends) = Ends::to(disk).unwrap();
        let slow = Log::attach(slow_ends).unwrap();
        let mut slow_writer = File::from(slow_writer);
        slow_writer.write_all(&vec![b's'; size + 1]).unwrap();
        let (file, writer, ends) = log();
        let log = Log::attach(ends).unwrap();
        File::from(writer).write_all(b"quick").unwrap();
        log.flush();
        log.close();
        assert_eq!(fs::read(file.path()).unwrap(), b"quick");
        // The control: the other one is stuck indeed, and loses nothing by it.
        let closing = std::thread::spawn(move || slow.close());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!closing.is_finished());
        let mut text = vec![0; size + 1];
        File::from(stuck).read_exact(&mut text).unwrap();
        closing.join().unwrap();
        assert_eq!(text, vec![b's'; size + 1]);
    }

    #[test]
    fn a_full_disk_does_not_stop_the_writer() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (writer, mut ends) = Ends::to(full.into()).unwrap();
        let mut writer = File::from(writer);
        let mut failing = false;
        for _ in 0..4 {
            writer.write_all(&[b'x'; CHUNK]).unwrap();
            assert_eq!(ends.copy(&mut failing), Round::Waiting);
            assert!(failing);
        }
    }
}
