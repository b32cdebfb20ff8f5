//! What a container is while it is being made, and how it vanishes again.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Pid;

use crate::apparmor;
use crate::cgroup::Cgroup;
use crate::denials;
use crate::error::{CreateError, StateError};
use crate::id::ContainerId;
use crate::state::{Prepared, State};

use super::own_ids;
use super::recipe::start_time;
use crate::sys::pidfd;

/// Whoever holds it is the only one to change a container's state directory.
pub(super) type Lock = Flock<fs::File>;

/// Locks a state directory; `None` if another process has it.
pub(super) fn lock(directory: &Path) -> io::Result<Option<Lock>> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(directory)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// A half-made container. Dropped before [`Making::done`], it takes everything back, or leaves it all to
/// `delete` where processes may be left.
#[derive(Debug)]
pub(super) struct Making {
    pub(super) state: State,
    pub(super) cgroup: Option<Cgroup>,
    /// Processes that belong to it and are our children.
    pub(super) children: Vec<(Pid, OwnedFd)>,
    /// What explains denied calls.
    pub(super) listener: Option<(Pid, OwnedFd)>,
    done: bool,
    _lock: Lock,
}

impl Making {
    /// Takes the id and writes down what is about to be made, so that a later `delete` finds it even
    /// if this process is killed in the next instant.
    pub(super) fn begin(root: &Path, id: &ContainerId, state: State) -> Result<Self, CreateError> {
        let directory = &state.directory;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| {
                CreateError::State(StateError::Io {
                    action: "make",
                    path,
                    source,
                })
            }
        };
        let mut builder = fs::DirBuilder::new();
        let made = match builder.mode(0o700).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o711)
                    .create(root)
                    .map_err(failed(root))?;
                builder.create(directory)
            }
            other => other,
        };
        made.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CreateError::Exists { id: id.to_string() },
            _ => failed(directory)(source),
        })?;
        // Nobody can have it yet, but a concurrent `delete --force` may take it now.
        let lock = lock(directory)
            .and_then(|lock| lock.ok_or_else(|| io::ErrorKind::ResourceBusy.into()))
            .map_err(|source| {
                let _ = fs::remove_dir(directory);
                failed(directory)(source)
            })?;
        let making = Self {
            state,
            cgroup: None,
            children: Vec::new(),
            listener: None,
            done: false,
            _lock: lock,
        };
        making.state.store_intent()?;
        Ok(making)
    }

    /// Writes the state of a created container with this init, for nobody to see yet.
    pub(super) fn prepare_state(&mut self, init: Pid) -> Result<Prepared, CreateError> {
        self.state.pid = Some(init.as_raw());
        self.state.pid_start_time = start_time(init)?;
        self.state.creator = None;
        Ok(self.state.prepare()?)
    }

    /// Keeps it.
    pub(super) fn done(mut self) -> State {
        self.done = true;
        self.state.clone()
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        for (pid, file) in &self.children {
            // It may have ended by itself: its failure is why we are here.
            let _ = pidfd::signal(file, libc::SIGKILL);
            pidfd::reap(*pid);
        }
        if let Some((pid, file)) = &self.listener {
            // Asked first: it has a child of its own, which would take its place.
            if let Some(listener) = &self.state.denials {
                let keeper = (listener.pid, listener.start_time);
                let _ = denials::end(&self.state.directory, keeper);
            }
            let _ = pidfd::signal(file, libc::SIGKILL);
            pidfd::reap(*pid);
        }
        if let Some(cgroup) = &self.cgroup
            && let Err(error) = cgroup.kill_all().and_then(|()| cgroup.remove())
        {
            // Processes may be left: the ids stay theirs, and the state stays for who removes both.
            tracing::warn!(container = %self.state.id, %error,
                "cannot remove the cgroup; `delete --force` removes what is left of the container");
            return;
        }
        // Last: nothing with these ids may run any more.
        if let Err(error) = own_ids::give_up(&mut self.state) {
            tracing::warn!(container = %self.state.id, %error, "cannot give the user ids back");
        }
        if let Err(error) = apparmor::release(&self.state.directory) {
            tracing::warn!(container = %self.state.id, %error, "cannot give the profile back");
        }
        if let Err(error) = fs::remove_dir_all(&self.state.directory)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(container = %self.state.id, %error, "cannot remove the state directory");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids;
    use cofferdam_profiles::userns::Ranges;

    /// Whether the state directory and the holder of the ids are there after a half-made container with
    /// this cgroup was dropped.
    fn left_of(path: &Path, place: &Path) -> (bool, bool) {
        let state = serde_json::json!({
            "oci_version": "1.0.2", "id": "c", "pid": null, "pid_start_time": 0, "creator": null,
            "bundle": "/b", "rootfs": "/r", "created": "", "owner": "root", "seccomp": [],
            "cgroup": {"driver": "fs", "mode": "v2", "dirs": [{
                "controllers": [], "mount": place, "path": path, "created_from": path,
            }]},
            "annotations": {}, "late_hooks": false,
        });
        let mut state: State = serde_json::from_value(state).unwrap();
        let root = place.join("state");
        state.directory = root.join("c");
        let directory = state.directory.clone();
        let id = ContainerId::parse("c").unwrap();
        let mut making = Making::begin(&root, &id, state).unwrap();
        let text = "cofferdam:1000000:65536\n";
        let ranges = Ranges::of(text, text).unwrap();
        let held = place.join("ids");
        making.state.ids = Some(ids::take(&held, &ranges, &directory, "1-1").unwrap());
        let location = making.state.cgroup.clone().unwrap();
        making.cgroup = Some(Cgroup::open(&location).unwrap());
        drop(making);
        let ids = ids::held_by(&held, &directory).unwrap();
        (directory.join("intent.json").exists(), !ids.is_empty())
    }

    /// The ids were given to the next container while processes that could not be killed had them.
    #[test]
    fn ids_stay_where_processes_may_be_left() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent");
        assert_eq!(left_of(&absent, dir.path()), (false, false));
        // Nothing can be killed in what is no cgroup.
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(left_of(&file, dir.path()), (true, true));
    }
}
