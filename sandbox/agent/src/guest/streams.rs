//! A process's standard streams, to and from what stands in for it on the host.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use cofferdam_container::cgroup::{Cgroup, OomWatch};
use cofferdam_container::{self as container, ContainerId, terminal};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::helper::{ROOT, chain};
use super::table::{Process, Streams, Table, lock};
use crate::frames::{Attach, FromGuest, ToGuest, WINDOW};
use crate::protocol::MAX_NAME;

/// What is read of an output at once, bytes.
const PIECE: usize = 32 << 10;

/// Serves one connection: the first frame says which process.
pub(super) fn serve(mut stream: File, table: &Arc<Table>) {
    let (process, attach) = match attach(&mut stream, table) {
        Ok(found) => found,
        Err(why) => {
            let mut why = why.into_bytes();
            why.truncate(4096);
            drop(FromGuest::Failed(why).write(&mut stream));
            return;
        }
    };
    let (process, streams) = process;
    // Of the container's first process alone: the others' ends say nothing of the container.
    let memory = match attach.exec {
        None => Memory::of(&attach.id),
        Some(_) => None,
    };
    if let Err(error) = relay(stream, &process, streams, memory) {
        super::say(&format!("the streams of {}: {error}", attach.id));
    }
    // Who stood in for it has gone, or it has ended.
    drop(process.signal(libc::SIGKILL));
    // In a shared pid namespace the others would go on.
    if attach.exec.is_none()
        && let Ok(id) = ContainerId::parse(&attach.id)
    {
        drop(container::kill(
            Path::new(ROOT),
            &id,
            container::Signal::KILL,
            true,
        ));
    }
    if let Some(exec) = &attach.exec {
        table.forget(&attach.id, exec);
    }
}

type Taken = (Arc<Process>, Streams);

/// Finds the process, takes its streams, and lets it go if it is an init.
fn attach(stream: &mut File, table: &Table) -> Result<(Taken, Attach), String> {
    let first = ToGuest::read(stream).map_err(|error| format!("cannot read: {error}"))?;
    let Some(ToGuest::Attach(wanted)) = first else {
        return Err("the first frame must say which process is wanted".to_owned());
    };
    let wanted: Attach = serde_json::from_slice(&wanted)
        .map_err(|error| format!("cannot tell which process is wanted: {error}"))?;
    if wanted.id.len() > MAX_NAME || wanted.exec.as_ref().is_some_and(|e| e.len() > MAX_NAME) {
        return Err("the name is too long".to_owned());
    }
    let process = table
        .process(&wanted.id, wanted.exec.as_deref())
        .ok_or_else(|| format!("there is no process of container {}", wanted.id))?;
    let streams = lock(&process.streams)
        .take()
        .ok_or_else(|| "somebody has its streams".to_owned())?;
    if wanted.exec.is_none() {
        let id = ContainerId::parse(&wanted.id).map_err(|error| chain(&error))?;
        container::start(Path::new(ROOT), &id).map_err(|error| chain(&error))?;
        if let Some(container) = table.lock().containers.get_mut(&wanted.id) {
            container.started = true;
        }
    }
    FromGuest::Started
        .write(stream)
        .map_err(|error| format!("cannot answer: {error}"))?;
    Ok(((process, streams), wanted))
}

/// Both directions, until the process has ended or the host has gone.
fn relay(
    mut stream: File,
    process: &Arc<Process>,
    streams: Streams,
    memory: Option<Memory>,
) -> io::Result<()> {
    let to_host = Arc::new(Mutex::new(stream.try_clone()?));
    let (input, outputs, master) = match streams {
        Streams::Pipes([input, output, error]) => (input, vec![output, error], None),
        Streams::Terminal(master) => {
            let (other, third) = (master.try_clone()?, master.try_clone()?);
            (other, vec![master], Some(third))
        }
    };
    let queue = Arc::new(Queue::default());
    {
        let (queue, to_host) = (Arc::clone(&queue), Arc::clone(&to_host));
        let writer = thread::Builder::new().stack_size(128 << 10);
        drop(writer.spawn(move || write_input(&queue, input, &to_host))?);
    }
    let hears = Arc::clone(process);
    let ends = Arc::clone(&queue);
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let asked = Arc::new(EventFd::from_flags(flags)?);
    let asks = Arc::clone(&asked);
    let reader = thread::Builder::new().stack_size(128 << 10);
    let hear = move || {
        // Its end is the process's, whatever it was.
        drop(obey(&mut stream, &hears, &ends, master.as_ref(), &asks));
        ends.close();
        if hears.ended().is_none() {
            drop(hears.signal(libc::SIGKILL));
        }
    };
    drop(reader.spawn(hear)?);
    let sent = send_outputs(outputs, process, (&asked, memory), &to_host);
    queue.close();
    let status = process.ended().unwrap_or(255);
    sent.and_then(|()| FromGuest::Ended(status).write(&mut *lock(&to_host)))
}

/// Input that waits for the process to read it: as much as the host may have under way.
#[derive(Debug, Default)]
struct Queue {
    pieces: Mutex<(VecDeque<Vec<u8>>, usize, bool)>,
    changed: Condvar,
}

impl Queue {
    /// Whether there was room for it.
    fn put(&self, piece: Vec<u8>) -> bool {
        let mut pieces = lock(&self.pieces);
        if pieces.1 + piece.len() > WINDOW {
            return false;
        }
        pieces.1 += piece.len();
        pieces.0.push_back(piece);
        self.changed.notify_all();
        true
    }

    fn close(&self) {
        lock(&self.pieces).2 = true;
        self.changed.notify_all();
    }

    /// The next piece; none at the end.
    fn next(&self) -> Option<Vec<u8>> {
        let mut pieces = lock(&self.pieces);
        loop {
            if let Some(piece) = pieces.0.pop_front() {
                pieces.1 -= piece.len();
                return Some(piece);
            }
            if pieces.2 {
                return None;
            }
            pieces = self
                .changed
                .wait(pieces)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// Hands input on to the process; closes it at the end.
fn write_input(queue: &Queue, input: OwnedFd, to_host: &Mutex<File>) {
    let mut input = File::from(input);
    while let Some(piece) = queue.next() {
        // It may have closed its input: what comes is taken and dropped, as a pipe's writer would learn.
        drop(input.write_all(&piece));
        let count = u32::try_from(piece.len()).unwrap_or(0);
        drop(FromGuest::Taken(count).write(&mut *lock(to_host)));
    }
}

/// Does what the host says until it says no more.
fn obey(
    stream: &mut File,
    process: &Process,
    queue: &Queue,
    master: Option<&OwnedFd>,
    asked: &EventFd,
) -> io::Result<()> {
    let beyond = || io::Error::other("more input than was asked for");
    while let Some(frame) = ToGuest::read(stream)? {
        match frame {
            ToGuest::Input(piece) => {
                if !queue.put(piece) {
                    return Err(beyond());
                }
            }
            // A terminal has no end of input but the one that is typed.
            ToGuest::InputEnd if master.is_none() => queue.close(),
            ToGuest::InputEnd => {}
            ToGuest::Signal(number) => drop(process.signal(number)),
            ToGuest::Size(rows, columns) => {
                if let Some(master) = master {
                    drop(terminal::set_size(master, rows, columns));
                }
            }
            // Answered by who writes: a host that reads nothing must still be able to send signals.
            ToGuest::Ping => {
                let _ = asked.write(1);
            }
            ToGuest::Attach(_) => return Err(io::Error::other("attached twice")),
        }
    }
    Ok(())
}

/// A container's kills for lack of memory.
struct Memory {
    watch: OomWatch,
    seen: u64,
}

impl Memory {
    fn of(id: &str) -> Option<Self> {
        let id = ContainerId::parse(id).ok()?;
        let location = container::load(Path::new(ROOT), &id).ok()?.cgroup?;
        let watch = Cgroup::open(&location).ok()?.oom_watch().ok()?;
        Some(Self { watch, seen: 0 })
    }

    /// Whether there were more since it was asked last.
    fn has_run_out(&mut self) -> bool {
        let count = match self.watch.drain().and_then(|()| self.watch.count()) {
            Ok(Some(count)) => count,
            // The cgroup has gone.
            Ok(None) | Err(_) => return false,
        };
        let more = count > self.seen;
        self.seen = self.seen.max(count);
        more
    }
}

/// Sends what the process writes, and what is left of that when it has ended.
fn send_outputs(
    outputs: Vec<OwnedFd>,
    process: &Process,
    (asked, mut memory): (&EventFd, Option<Memory>),
    to_host: &Mutex<File>,
) -> io::Result<()> {
    let mut outputs: Vec<Option<File>> = outputs
        .into_iter()
        .map(|output| Some(File::from(output)))
        .collect();
    let mut piece = vec![0; PIECE];
    loop {
        let over = process.ended().is_some();
        let open: Vec<(usize, &File)> = outputs
            .iter()
            .enumerate()
            .filter_map(|(index, output)| Some((index, output.as_ref()?)))
            .collect();
        if open.is_empty() && over {
            if memory.as_mut().is_some_and(Memory::has_run_out) {
                FromGuest::OutOfMemory.write(&mut *lock(to_host))?;
            }
            return Ok(());
        }
        let mut fds: Vec<PollFd<'_>> = open
            .iter()
            .map(|(_, output)| PollFd::new(output.as_fd(), PollFlags::POLLIN))
            .collect();
        fds.push(PollFd::new(asked.as_fd(), PollFlags::POLLIN));
        if let Some(memory) = &memory {
            fds.push(PollFd::new(memory.watch.as_fd(), PollFlags::POLLIN));
        }
        fds.push(PollFd::new(process.end.as_fd(), PollFlags::POLLIN));
        let timeout = if over {
            fds.pop();
            PollTimeout::ZERO
        } else {
            PollTimeout::NONE
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<usize> = open
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| fd.revents().is_some_and(|events| !events.is_empty()))
            .map(|((index, _), _)| *index)
            .collect();
        if over && ready.is_empty() {
            // What is still open has another process; that is not waited for.
            if memory.as_mut().is_some_and(Memory::has_run_out) {
                FromGuest::OutOfMemory.write(&mut *lock(to_host))?;
            }
            return Ok(());
        }
        if memory.as_mut().is_some_and(Memory::has_run_out) {
            FromGuest::OutOfMemory.write(&mut *lock(to_host))?;
        }
        if asked.read().is_ok() {
            FromGuest::Alive.write(&mut *lock(to_host))?;
        }
        for index in ready {
            send_piece(index, &mut outputs, &mut piece, to_host)?;
        }
    }
}

fn send_piece(
    index: usize,
    outputs: &mut [Option<File>],
    piece: &mut [u8],
    to_host: &Mutex<File>,
) -> io::Result<()> {
    let Some(slot) = outputs.get_mut(index) else {
        return Ok(());
    };
    let count = match slot.as_mut().map(|output| output.read(piece)) {
        Some(Ok(count)) => count,
        Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
        // A terminal without a process is an error to read.
        _ => 0,
    };
    if count == 0 {
        *slot = None;
        return Ok(());
    }
    let piece = piece.get(..count).unwrap_or_default().to_vec();
    let frame = match index {
        0 => FromGuest::Output(piece),
        _ => FromGuest::Error(piece),
    };
    frame.write(&mut *lock(to_host))
}
