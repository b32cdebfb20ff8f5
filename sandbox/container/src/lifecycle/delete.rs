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

/// How long processes get to end after SIGKILL, and a creator to let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Removes what is left of a container that is stopped or was never started; with `force`, kills it first and does not mind one
/// that is half made or does not exist.
pub fn delete(root: &Path, id: &ContainerId, force: bool) -> Result<(), DeleteError> {
    let directory = id.directory(root);
    if let Some(state) = readable(root, id, &directory, force)? {
        stop(&state, force)?;
    } else if !directory.exists() {
        return Ok(());
    }
    let Some(_lock) = take_lock(&directory, force)? else {
        return Ok(());
    };
    // Whoever had the lock may have gone on from what was read above.
    let state = readable(root, id, &directory, force)?;
    if let Some(state) = &state {
        stop(state, force)?;
        remove_cgroup(state)?;
        end_listener(state)?;
        let give_up = match state.pid {
            Some(_) => own_ids::give_up(&mut state.clone()),
            // Its creator died before it could write down which ids it had taken.
            None => ids::release_of(Path::new(ids::DIRECTORY), &directory),
        };
        give_up.map_err(failed("give the user ids back"))?;
        if state.late_hooks {
            poststop(root, id, state);
        }
    }
    // Also of a container that was half made, of which there may be no state.
    apparmor::release(&directory)?;
    remove_directory(&directory)
}

/// The container's state; `None` if there is none that can be read, but it is right to go on: a
/// directory without a state is what a killed `create` or `delete` left, and `force` takes a damaged
/// or an absent one too.
fn readable(
    root: &Path,
    id: &ContainerId,
    directory: &Path,
    force: bool,
) -> Result<Option<State>, DeleteError> {
    match state::load(root, id) {
        Ok(state) => Ok(Some(state)),
        Err(StateError::Unknown { .. }) if force || directory.exists() => Ok(None),
        Err(StateError::Damaged { .. }) if force => Ok(None),
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

/// A creator or another `delete` that holds the lock is given time; one that was killed has let go.
fn take_lock(directory: &Path, force: bool) -> Result<Option<Lock>, DeleteError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match making::lock(directory) {
            Ok(Some(lock)) => return Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("lock the state directory")(error)),
            Ok(None) if force && Instant::now() < deadline => {
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
fn end_listener(state: &State) -> Result<(), DeleteError> {
    let Some(listener) = &state.denials else {
        return Ok(());
    };
    denials::end(&state.directory, (listener.pid, listener.start_time))
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
