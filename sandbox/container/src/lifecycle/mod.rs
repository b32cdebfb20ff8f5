//! create, start, exec, kill, delete and the cgroup verbs.

use std::path::Path;

use cofferdam_profiles::policy::Hardened;
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxResources, Process, Spec};

use crate::cgroup;
use crate::error::{
    CgroupOpError, CreateError, DeleteError, ExecError, KillError, StartError, StateError,
};
use crate::{ContainerId, CreateOptions, ExecOptions, Signal, State};

fn unknown(id: &ContainerId) -> StateError {
    StateError::Unknown { id: id.to_string() }
}

/// Makes the container: its init is confined and waits for [`start`]. Descriptors 0, 1 and 2 of the
/// caller become the container's. On an error nothing is left.
pub fn create(_spec: &Hardened<Spec>, options: CreateOptions) -> Result<State, CreateError> {
    Err(unknown(&options.id).into())
}

/// Lets init execute the container's program; returns when it has (or has failed and exited).
pub fn start(_root: &Path, id: &ContainerId) -> Result<(), StartError> {
    Err(unknown(id).into())
}

/// Runs one more process in the container, confined as init is. It runs at once, with the caller's
/// descriptors 0, 1 and 2, and becomes the child of the caller's subreaper when the caller exits.
pub fn exec(
    _root: &Path,
    id: &ContainerId,
    _process: &Hardened<Process>,
    _options: ExecOptions,
) -> Result<Pid, ExecError> {
    Err(unknown(id).into())
}

/// Signals init, or with `all` every process of the container.
pub fn kill(_root: &Path, id: &ContainerId, _signal: Signal, _all: bool) -> Result<(), KillError> {
    Err(unknown(id).into())
}

/// Removes what is left of a stopped container; with `force`, kills it first and does not mind one
/// that is half made or does not exist.
pub fn delete(_root: &Path, id: &ContainerId, _force: bool) -> Result<(), DeleteError> {
    Err(unknown(id).into())
}

/// Freezes every process of the container.
pub fn pause(_root: &Path, id: &ContainerId) -> Result<(), CgroupOpError> {
    Err(unknown(id).into())
}

/// Undoes [`pause`].
pub fn resume(_root: &Path, id: &ContainerId) -> Result<(), CgroupOpError> {
    Err(unknown(id).into())
}

/// Changes the limits of a container that is not stopped.
pub fn update(
    _root: &Path,
    id: &ContainerId,
    _resources: &LinuxResources,
) -> Result<(), CgroupOpError> {
    Err(unknown(id).into())
}

/// The container's processes, as pids of the caller's pid namespace.
pub fn ps(_root: &Path, id: &ContainerId) -> Result<Vec<Pid>, CgroupOpError> {
    Err(unknown(id).into())
}

/// The container's figures.
pub fn stats(_root: &Path, id: &ContainerId) -> Result<cgroup::Stats, CgroupOpError> {
    Err(unknown(id).into())
}
