//! Letting init go.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::error::StartError;
use crate::hooks::{self, Point};
use crate::id::ContainerId;
use crate::signal::Signal;
use crate::state::{self, FIFO, Status};

/// How long init may take from start to its program, in milliseconds; its hooks have limits of their
/// own. After that `start` returns without knowing.
const PATIENCE: u16 = 10_000;

/// Lets init execute the container's program; returns when it has (or has failed and exited).
pub fn start(root: &Path, id: &ContainerId) -> Result<(), StartError> {
    let state = state::load(root, id)?;
    let not_created = || StartError::NotCreated {
        status: match state.status() {
            // It was waiting a moment ago, and somebody else has started it.
            Status::Created => Status::Running,
            other => other,
        },
    };
    if state.status() != Status::Created {
        return Err(not_created());
    }
    let failed = |source| StartError::System {
        action: "signal init to start",
        source,
    };
    let path = state.directory.join(FIFO);
    let opened = fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(&path);
    let fifo = match opened {
        Ok(fifo) => fifo,
        // Nobody reads: init is past it, or gone.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Err(not_created()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(not_created()),
        Err(error) => return Err(failed(error)),
    };
    // Of several starters one wins: the others find the name gone once they have the lock.
    let fifo = Flock::lock(fifo, FlockArg::LockExclusive).map_err(|(_, e)| failed(e.into()))?;
    if !path.exists() {
        return Err(not_created());
    }
    nix::unistd::write(&*fifo, &[0]).map_err(|errno| failed(errno.into()))?;
    fs::remove_file(&path).map_err(failed)?;
    wait_for_program(&fifo).map_err(failed)?;
    if state.late_hooks {
        poststart(root, id, &state)?;
    }
    Ok(())
}

/// Init's end of the FIFO is closed by `execve`, or when init ends.
fn wait_for_program(fifo: &fs::File) -> io::Result<()> {
    loop {
        let mut fds = [PollFd::new(fifo.as_fd(), PollFlags::empty())];
        match nix::poll::poll(&mut fds, PollTimeout::from(PATIENCE)) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// A failing poststart hook stops the container (runtime spec 1.2, life cycle step 10).
fn poststart(root: &Path, id: &ContainerId, state: &state::State) -> Result<(), StartError> {
    let record = state::load_record(root, id)?;
    let pid = state.live_pid();
    hooks::run(
        Point::Poststart,
        record.spec.hooks().as_ref(),
        state,
        Status::Running,
        pid,
    )
    .map_err(|error| {
        if let Err(error) = super::kill(root, id, Signal::KILL, true) {
            tracing::warn!(container = %id, %error, "cannot stop the container");
        }
        StartError::Hook {
            index: error.index,
            path: error.path,
            source: error.source,
        }
    })
}
