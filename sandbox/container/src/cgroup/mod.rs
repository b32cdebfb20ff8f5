//! Control groups: v1, v2 and through systemd.

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};

/// Who makes the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Driver {
    /// We write to the cgroup file systems.
    #[default]
    Fs,
    /// systemd makes a transient scope.
    Systemd,
}

/// Where a container's cgroup is, as stored in its state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Location {}

/// What cannot be done to a cgroup.
#[derive(Debug, thiserror::Error)]
#[error("cgroup error")]
pub struct Error;

/// Figures of one container's cgroup.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stats {}

/// A container's cgroup.
#[derive(Debug)]
pub struct Cgroup {
    location: Location,
}

impl Cgroup {
    /// Where the cgroup of this spec will be; makes nothing, so that an intent can be written down.
    pub fn plan(_driver: Driver, _spec: &Spec, _id: &str) -> Result<Location, Error> {
        Ok(Location {})
    }

    /// Makes the planned cgroup and applies the spec's resources.
    pub fn create(location: Location, _spec: &Spec) -> Result<Self, Error> {
        Ok(Self { location })
    }

    /// The cgroup of an existing container.
    pub fn open(location: &Location) -> Result<Self, Error> {
        Ok(Self {
            location: location.clone(),
        })
    }

    /// What to store.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Moves the calling process in; it must be single-threaded. Much cheaper than [`Cgroup::add`]
    /// on v1: a thread that writes `0` to `tasks` itself does not take the global
    /// `cgroup_threadgroup_rwsem`. The files must have been opened by `create`/`open`: init calls
    /// this in its own namespaces.
    pub fn join_self(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The directory to hand to `clone3(CLONE_INTO_CGROUP)`, where the hierarchy is v2.
    pub fn clone_into(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    /// Moves a process in.
    pub fn add(&self, _pid: Pid) -> Result<(), Error> {
        Ok(())
    }

    /// Moves a process into a cgroup below this one (`exec --cgroup`).
    pub fn add_below(&self, _below: &str, _pid: Pid) -> Result<(), Error> {
        Err(Error)
    }

    /// Sets limits.
    pub fn apply(&self, _resources: &LinuxResources) -> Result<(), Error> {
        Err(Error)
    }

    /// Stops every process of the cgroup from running.
    pub fn freeze(&self) -> Result<(), Error> {
        Err(Error)
    }

    /// Undoes [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<(), Error> {
        Err(Error)
    }

    /// Whether the cgroup is frozen.
    pub fn frozen(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// The processes in it, and with `recursive` in those below it.
    pub fn pids(&self, _recursive: bool) -> Result<Vec<Pid>, Error> {
        Ok(Vec::new())
    }

    /// SIGKILLs every process in it and below.
    pub fn kill_all(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Removes it; one that is gone already is no error.
    pub fn remove(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The figures.
    pub fn stats(&self) -> Result<Stats, Error> {
        Err(Error)
    }
}
