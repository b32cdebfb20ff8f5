//! A container's cgroups: v1, v2 and hybrid by our own hand, systemd through libcgroups.
//!
//! Joining is the expensive part. Moving another process takes the kernel's
//! `cgroup_threadgroup_rwsem` for writing, that is an RCU grace period: 7 to 11 ms here for ten
//! hierarchies, and the next exit on the machine is slow as well. A single-threaded process that
//! writes `0` to a v1 `tasks` file moves without that lock, and `CLONE_INTO_CGROUP` is born in
//! the right v2 cgroup: 0.2 ms together. `clone_into` and `join_self` are that way in.

mod create;
pub(crate) mod devices;
mod error;
mod file;
mod freeze;
pub(crate) mod host;
mod join;
mod location;
mod oom;
mod path;
mod procs;
mod readback;
mod remove;
mod resources;
/// What a container used.
pub mod stats;
mod systemd;
#[cfg(test)]
mod tests;

use std::os::fd::BorrowedFd;

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};

pub use error::{Error, Unenforced};
pub use host::Mode;
use join::Entry;
pub use location::{Dir, Location, Unit};
pub use oom::OomWatch;
pub use readback::Limits;
pub use stats::Stats;

/// Who makes the cgroup directories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// We do, with mkdir(2).
    #[default]
    Fs,
    /// systemd does, as a scope of its own.
    Systemd,
}

/// A container's cgroups.
#[derive(Debug)]
pub struct Cgroup {
    location: Location,
    /// What `join_self` writes to, opened before the clone.
    entry: Option<Entry>,
    /// Limits that wait for `add`: systemd makes a scope only around a process.
    pending: Option<LinuxResources>,
}

impl Cgroup {
    /// Where the cgroups of this spec will be. Makes nothing: the location can be stored before
    /// `create`, so that a crash between the two leaves nothing that nobody knows of.
    pub fn plan(driver: Driver, spec: &Spec, id: &str) -> Result<Location, Error> {
        match driver {
            Driver::Fs => Location::plan(spec, id),
            Driver::Systemd => systemd::plan(spec, id),
        }
    }

    /// Makes the planned cgroups and sets the spec's limits and device list. What cannot be
    /// enforced is an error. On failure what was made is removed again.
    pub fn create(location: Location, spec: &Spec) -> Result<Self, Error> {
        let (cgroup, unenforced) = Self::create_best_effort(location, spec)?;
        fail_closed(unenforced).inspect_err(|_| {
            // The first error is the one to report.
            let _ = cgroup.remove();
        })?;
        Ok(cgroup)
    }

    /// As `create`, but limits that this host does not know are returned instead of refused.
    pub fn create_best_effort(
        location: Location,
        spec: &Spec,
    ) -> Result<(Self, Vec<Unenforced>), Error> {
        let resources = spec.linux().as_ref().and_then(|l| l.resources().clone());
        let resources = resources.unwrap_or_default();
        if location.driver == Driver::Systemd {
            let cgroup = Self {
                location,
                entry: None,
                pending: Some(resources),
            };
            return Ok((cgroup, vec![]));
        }
        create::make(&location)?;
        let ready = apply_all(&location, &resources)
            .and_then(|unenforced| Ok((Entry::into(&location)?, unenforced)));
        match ready {
            Ok((entry, unenforced)) => Ok((
                Self {
                    location,
                    entry: Some(entry),
                    pending: None,
                },
                unenforced,
            )),
            Err(error) => {
                // The first error is the one to report.
                let _ = remove::remove(&location);
                Err(error)
            }
        }
    }

    /// The cgroups of an existing container.
    pub fn open(location: &Location) -> Result<Self, Error> {
        if location.dirs.is_empty() {
            return Err(Error::NoHierarchy);
        }
        Ok(Self {
            location: location.clone(),
            entry: None,
            pending: None,
        })
    }

    /// The cgroups of a running container, ready for a process that joins its `init`: in the
    /// nested cgroup `below`, if given (`exec --cgroup`).
    pub fn open_to_join(
        location: &Location,
        init: Pid,
        below: Option<&str>,
    ) -> Result<Self, Error> {
        let mut cgroup = Self::open(location)?;
        cgroup.entry = Some(join::exec_entry(location, init, below)?);
        Ok(cgroup)
    }

    /// Where they are.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Whether `add` is the only way in: systemd makes the cgroup around its first process. That
    /// process must wait until `add`, which then sets the limits too, has returned.
    pub fn must_add(&self) -> bool {
        self.pending.is_some()
    }

    /// Moves the calling process in, all but the hierarchy of `clone_into`. It must have one
    /// thread and must not have unshared its cgroup namespace yet. Much cheaper than `add`. The
    /// files were opened by `create` or `open_to_join`, so that it works in any mount or user
    /// namespace; after `open` they are opened now.
    pub fn join_self(&self) -> Result<(), Error> {
        if self.must_add() {
            return Err(Error::SystemdUnavailable {
                reason: "a process cannot join by itself before systemd has made the scope",
            });
        }
        match &self.entry {
            Some(entry) => entry.join(),
            None => Entry::into(&self.location)?.join(),
        }
    }

    /// The directory to hand to `clone3(CLONE_INTO_CGROUP)`, where there is a v2 hierarchy.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.entry.as_ref().and_then(Entry::clone_fd)
    }

    /// Moves a process in, the slow way. With `must_add` this also makes the cgroup and sets the
    /// limits; what cannot be enforced is an error.
    pub fn add(&self, pid: Pid) -> Result<(), Error> {
        if let (Some(resources), Some(unit)) = (&self.pending, &self.location.unit) {
            systemd::add(&self.location, unit, pid)?;
            return self.apply(resources);
        }
        match &self.entry {
            Some(entry) => entry.add(pid),
            None => Entry::into(&self.location)?.add(pid),
        }
    }

    /// Moves a process into a cgroup below this one (`exec --cgroup`).
    pub fn add_below(&self, below: &str, pid: Pid) -> Result<(), Error> {
        join::exec_entry(&self.location, pid, Some(below))?.add(pid)
    }

    /// Sets limits and the device list; what cannot be enforced is an error.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.tell_systemd(resources)?;
        fail_closed(apply_all(&self.location, resources)?)
    }

    /// Changes the limits of a running container. Devices stay as they are, as with runc: an
    /// update must not be a way to get at more of them.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.tell_systemd(resources)?;
        fail_closed(resources::apply(&self.location, resources)?)
    }

    /// Stops every process where it is; returns when all have stopped.
    pub fn freeze(&self) -> Result<(), Error> {
        freeze::freeze(&self.location)
    }

    /// Lets the processes run again.
    pub fn thaw(&self) -> Result<(), Error> {
        freeze::thaw(&self.location)
    }

    /// Whether the processes are stopped, or being stopped, by `freeze`.
    pub fn frozen(&self) -> Result<bool, Error> {
        freeze::frozen(&self.location)
    }

    /// The processes inside, with those of nested cgroups when `recursive`.
    pub fn pids(&self, recursive: bool) -> Result<Vec<Pid>, Error> {
        procs::pids(&self.location, recursive)
    }

    /// Whether no process is inside or in a nested cgroup, not even one that this pid namespace has no
    /// number for.
    pub fn is_empty(&self) -> Result<bool, Error> {
        self.location.membership().map_or(Ok(true), procs::is_empty)
    }

    /// Sends SIGKILL to every process inside, those being forked meanwhile included, and waits
    /// until they are dead (not until they are reaped).
    pub fn kill_all(&self) -> Result<(), Error> {
        procs::kill_all(&self.location)
    }

    /// Removes what `create` made: kills what is left inside, removes nested cgroups first, and
    /// tries again for some seconds while the kernel is busy. What is gone already is no error.
    pub fn remove(&self) -> Result<(), Error> {
        let Some(unit) = &self.location.unit else {
            return remove::remove(&self.location);
        };
        // Killed by us first, so that stopping the unit does not wait for SIGTERM to be obeyed.
        procs::kill_all(&self.location)?;
        systemd::stop(&self.location, unit)?;
        remove::remove(&self.location)
    }

    fn tell_systemd(&self, resources: &LinuxResources) -> Result<(), Error> {
        match &self.location.unit {
            Some(unit) => systemd::tell(&self.location, unit, resources),
            None => Ok(()),
        }
    }

    /// The figures.
    pub fn stats(&self) -> Result<Stats, Error> {
        stats::stats(&self.location)
    }

    /// The limits in force.
    pub fn limits(&self) -> Result<Limits, Error> {
        readback::limits(&self.location)
    }

    /// Watches for processes killed for lack of memory.
    pub fn oom_watch(&self) -> Result<OomWatch, Error> {
        OomWatch::new(&self.location)
    }
}

fn apply_all(location: &Location, resources: &LinuxResources) -> Result<Vec<Unenforced>, Error> {
    devices::apply(location, resources.devices().as_deref().unwrap_or_default())?;
    resources::apply(location, resources)
}

fn fail_closed(unenforced: Vec<Unenforced>) -> Result<(), Error> {
    match unenforced.into_iter().next() {
        Some(first) => Err(Error::Unenforced(first)),
        None => Ok(()),
    }
}
