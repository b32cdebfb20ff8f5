//! Signals.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::error::KillError;
use crate::id::ContainerId;
use crate::signal::Signal;
use crate::state::{self, State};
use crate::sys::pidfd;

/// Signals init, or with `all` every process of the container.
pub fn kill(root: &Path, id: &ContainerId, signal: Signal, all: bool) -> Result<(), KillError> {
    let state = state::load(root, id)?;
    if all {
        return signal_all(&state, signal);
    }
    let Some(init) = open_init(&state).map_err(KillError::System)? else {
        return Err(KillError::NotRunning);
    };
    sent(pidfd::signal(&init, signal.number()))
}

fn sent(result: io::Result<()>) -> Result<(), KillError> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(KillError::NotRunning),
        Err(error) => Err(KillError::System(error)),
    }
}

/// Init by descriptor, if it lives. The start time is compared after the open: then the descriptor
/// is of the process that was compared, and no later one.
pub(super) fn open_init(state: &State) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = state.pid else {
        return Ok(None);
    };
    let file = match pidfd::open(Pid::from_raw(pid)) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        // Not a thread group's leader: the number belongs to a thread of another process by now.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(state.live_pid().map(|_| file))
}

/// A container in its host's pid namespace may have processes left when init is gone.
fn signal_all(state: &State, signal: Signal) -> Result<(), KillError> {
    let Some(location) = &state.cgroup else {
        return match open_init(state).map_err(KillError::System)? {
            Some(init) => sent(pidfd::signal(&init, signal.number())),
            None => Err(KillError::NotRunning),
        };
    };
    let cgroup = Cgroup::open(location)?;
    let pids = cgroup.pids(true)?;
    if pids.is_empty() {
        return Err(KillError::NotRunning);
    }
    if signal == Signal::KILL {
        cgroup.kill_all()?;
        return Ok(());
    }
    let opened: Vec<(Pid, OwnedFd)> = pids
        .into_iter()
        .filter_map(|pid| Some((pid, pidfd::open(pid).ok()?)))
        .collect();
    // Opened first, then looked at again: what is still in the cgroup is what was opened.
    let still = cgroup.pids(true)?;
    for (_, process) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
        match pidfd::signal(process, signal.number()) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                return Err(KillError::System(error));
            }
            _ => {}
        }
    }
    Ok(())
}
