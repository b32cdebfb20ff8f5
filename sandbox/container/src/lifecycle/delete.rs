//! Removing what is left.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::kill::open_init;
use super::making::{self, Lock};
use super::own_ids;
use crate::apparmor;
use crate::cgroup::Cgroup;
use crate::denials;
use crate::error::{DeleteError, StateError};
use crate::hooks::{self, Point};
use crate::id::ContainerId;
use crate::ids;
use crate::state::{self, STATE, State, Status};
use crate::sys::pidfd;

/// The processes of a container whose state is lost.
mod unknown;

/// How long processes get to end after SIGKILL, and a creator to let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the init of a creator that was killed may take to notice.
const MOMENT: Duration = Duration::from_secs(1);

/// Removes what is left of a container that is stopped or was never started; with `force`, kills it first and does not mind one
/// that is half made or does not exist.
pub fn delete(root: &Path, id: &ContainerId, force: bool) -> Result<(), DeleteError> {
    let directory = id.directory(root);
    if let Some(found) = readable(root, id, &directory, force)? {
        stop(found.state(), force)?;
    } else if !directory.exists() {
        return Ok(());
    }
    let Some(_lock) = take_lock(&directory, force)? else {
        return Ok(());
    };
    // Whoever had the lock may have gone on from what was read above.
    let found = readable(root, id, &directory, force)?;
    if let Some(found) = &found {
        stop(found.state(), force)?;
    }
    if !matches!(found, Some(Found::Whole(_))) {
        // Which process was init is lost.
        unknown::end(&directory, found.as_ref().map(Found::state))?;
    }
    if let Some(found) = &found {
        remove_cgroup(found.state())?;
        if let Some(lease) = &found.state().ids {
            unknown::end_left(Path::new(ids::DIRECTORY), &directory, lease.first)?;
        }
    }
    end_listener(&directory, found.as_ref().map(Found::state))?;
    give_up(&directory, found.as_ref().map(Found::state))
        .map_err(failed("give the user ids back"))?;
    if let Some(Found::Whole(state)) = &found
        && state.late_hooks
    {
        poststop(root, id, state);
    }
    // Also of a container that was half made, of which there may be no state.
    apparmor::release(&directory)?;
    remove_directory(&directory)
}

/// Gives back what the container has of the host's. What it holds is looked for where the state does
/// not say it: its creator may have died before it could write that down.
fn give_up(directory: &Path, state: Option<&State>) -> io::Result<()> {
    match state {
        Some(state) if state.pid.is_some() => own_ids::give_up(&mut state.clone()),
        _ => {
            own_ids::remove_work(directory)?;
            ids::release_of(Path::new(ids::DIRECTORY), directory)
        }
    }
}

/// What can be read of a container.
enum Found {
    /// Its state.
    Whole(State),
    /// Its state is damaged; this is what was about to be made.
    Intent(State),
}

impl Found {
    fn state(&self) -> &State {
        match self {
            Self::Whole(state) | Self::Intent(state) => state,
        }
    }
}

/// The container's state; `None` if there is none that can be read, but it is right to go on: a
/// directory without a state is what a killed `create` or `delete` left, and `force` takes a damaged
/// or an absent one too.
fn readable(
    root: &Path,
    id: &ContainerId,
    directory: &Path,
    force: bool,
) -> Result<Option<Found>, DeleteError> {
    match state::load(root, id) {
        Ok(state) => Ok(Some(Found::Whole(state))),
        Err(StateError::Unknown { .. }) if force || directory.exists() => Ok(None),
        Err(StateError::Damaged { .. }) if force => {
            Ok(state::load_intent(root, id).ok().map(Found::Intent))
        }
        Err(error) => Err(error.into()),
    }
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> DeleteError {
    move |source| DeleteError::System { action, source }
}

/// Makes sure that neither init nor a creator runs.
fn stop(state: &State, force: bool) -> Result<(), DeleteError> {
    let status = state.status();
    if status == Status::Stopped {
        return Ok(());
    }
    // One that was never started has nothing to lose: runc deletes it too, and shims count on it.
    if !force && status != Status::Created {
        return Err(DeleteError::NotStopped {
            id: state.id.clone(),
            status,
        });
    }
    if let Some((pid, start)) = state.creator
        && pid != Pid::this().as_raw()
        && let Ok(creator) = pidfd::open(Pid::from_raw(pid))
        && state::is_running(pid, start)
    {
        end(&state.id, creator)?;
    }
    match open_init(state).map_err(failed("open init"))? {
        Some(init) => end(&state.id, init),
        None => Ok(()),
    }
}

fn end(id: &str, process: std::os::fd::OwnedFd) -> Result<(), DeleteError> {
    match pidfd::signal(&process, libc::SIGKILL) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
            return Err(failed("kill a process")(error));
        }
        _ => {}
    }
    if pidfd::wait_end(&process, PATIENCE).map_err(failed("wait for a process"))? {
        Ok(())
    } else {
        Err(DeleteError::Unkillable { id: id.to_owned() })
    }
}

/// A creator or another `delete` that holds the lock is given time; one that was killed has let go, once the
/// init that it had begun has ended as well.
fn take_lock(directory: &Path, force: bool) -> Result<Option<Lock>, DeleteError> {
    let deadline = Instant::now() + if force { PATIENCE } else { MOMENT };
    loop {
        match making::lock(directory) {
            Ok(Some(lock)) => return Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("lock the state directory")(error)),
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(None) => {
                return Err(failed("lock the state directory")(
                    io::ErrorKind::ResourceBusy.into(),
                ));
            }
        }
    }
}

fn remove_cgroup(state: &State) -> Result<(), DeleteError> {
    let Some(location) = &state.cgroup else {
        return Ok(());
    };
    let cgroup = Cgroup::open(location)?;
    cgroup.remove()?;
    Ok(())
}

/// Nothing can be denied any more.
fn end_listener(directory: &Path, state: Option<&State>) -> Result<(), DeleteError> {
    let Some(listener) = state.and_then(|state| state.denials.as_ref()) else {
        denials::ask_to_end(directory);
        return Ok(());
    };
    denials::end(directory, (listener.pid, listener.start_time))
        .map_err(failed("end the process that explains denied calls"))
}

/// The spec wants a failing poststop hook logged and the rest to go on.
fn poststop(root: &Path, id: &ContainerId, state: &State) {
    let record = match state::load_record(root, id) {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!(container = %id, %error, "cannot read the poststop hooks");
            return;
        }
    };
    let hooks = record.spec.hooks().as_ref();
    for index in 0..Point::Poststop.of(hooks).len() {
        if let Err(error) =
            hooks::run_at(Point::Poststop, index, hooks, state, Status::Stopped, None)
        {
            tracing::warn!(container = %id, hook = %error.path.display(), error = %error.source,
                "a poststop hook failed");
        }
    }
}

/// The state file goes last: until then a `delete` that is cut short can be done again.
fn remove_directory(directory: &Path) -> Result<(), DeleteError> {
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name() != STATE {
                fs::remove_file(entry.path())?;
            }
        }
        if let Err(error) = fs::remove_file(directory.join(STATE))
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        fs::remove_dir(directory)
    };
    match remove() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("remove the state directory")(error))
        }
        _ => Ok(()),
    }
}
