//! The verbs that are a call to the container's cgroup.

use std::path::Path;

use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use crate::cgroup::{self, Cgroup};
use crate::error::CgroupOpError;
use crate::id::ContainerId;
use crate::state::{self, State, Status};

/// The cgroup of a container; one that has none cannot be controlled.
fn open(state: &State) -> Result<Cgroup, CgroupOpError> {
    match &state.cgroup {
        Some(location) => Ok(Cgroup::open(location)?),
        None => Err(CgroupOpError::NoCgroup),
    }
}

fn wrong(action: &'static str, status: Status) -> CgroupOpError {
    CgroupOpError::Status { action, status }
}

/// Freezes every process of the container.
pub fn pause(root: &Path, id: &ContainerId) -> Result<(), CgroupOpError> {
    let state = state::load(root, id)?;
    match state.status() {
        Status::Created | Status::Running => Ok(open(&state)?.freeze()?),
        other => Err(wrong("pause", other)),
    }
}

/// Undoes [`pause`].
pub fn resume(root: &Path, id: &ContainerId) -> Result<(), CgroupOpError> {
    let state = state::load(root, id)?;
    let cgroup = open(&state)?;
    // A container that was paused before its start reads as created.
    match state.status() {
        Status::Paused => Ok(cgroup.thaw()?),
        Status::Created if cgroup.frozen()? => Ok(cgroup.thaw()?),
        other => Err(wrong("resume", other)),
    }
}

/// Changes the limits of a container that is not stopped.
pub fn update(
    root: &Path,
    id: &ContainerId,
    resources: &LinuxResources,
) -> Result<(), CgroupOpError> {
    let state = state::load(root, id)?;
    match state.status() {
        status @ (Status::Stopped | Status::Creating) => Err(wrong("update", status)),
        _ => Ok(open(&state)?.update(resources)?),
    }
}

/// The container's processes, as pids of the caller's pid namespace.
pub fn ps(root: &Path, id: &ContainerId) -> Result<Vec<Pid>, CgroupOpError> {
    let state = state::load(root, id)?;
    Ok(open(&state)?.pids(true)?)
}

/// The container's figures.
pub fn stats(root: &Path, id: &ContainerId) -> Result<cgroup::Stats, CgroupOpError> {
    let state = state::load(root, id)?;
    Ok(open(&state)?.stats()?)
}
