//! Containers in a virtual machine, one machine for a pod.
//!
//! On the host such a container is a hardened container as others are, whose process stands in for the one in the guest
//! (`cofferdam_agent::stand_in`): so signals, exit codes, terminals, hooks, cgroups and whatever engines do with pids
//! work as ever. Beside it there is the pod's machine ([`machine`]): a directory below [`DIRECTORY`] with what its
//! monitor is told, the directory it shares with the guest, and a file for each container that is in it.
//!
//! A machine is made with the pod's first container and goes with it. Whoever deletes a container looks for its file
//! first, so that a runtime that was killed at any step leaves nothing that a later `delete` does not find.

/// Making a container, and joining it.
mod create;
/// Whether this host can run one.
pub(crate) mod doctor;
/// Why it did not work.
mod error;
/// What a machine is made of, and where that is installed.
mod files;
/// What a container in one is made of.
pub(crate) mod inspect;
/// A pod's machine.
mod machine;
/// The pod's network.
mod network;
/// What the engines ask of a container, wherever it runs.
mod operate;
/// What the guest sees of the host's files.
mod share;
/// How large a machine is.
mod size;

use std::path::PathBuf;

use cofferdam_container::{ContainerId, State};
use cofferdam_profiles::policy::ContainerRecord;
use serde::{Deserialize, Serialize};

pub(crate) use create::{create, exec, pod_is_in_machine, wanted};
pub(crate) use error::MachineError;
pub(crate) use operate::{OpError, delete, kill, pause, record, resume, stats, update};

/// Where machines are kept.
pub(crate) const DIRECTORY: &str = "/run/cofferdam/.vm";

/// The file in a container's state directory that says that it is in a machine.
const GUEST: &str = "guest.json";

/// What [`GUEST`] says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Guest {
    /// The machine's directory.
    pub(crate) machine: PathBuf,
    /// The container's name in there.
    pub(crate) name: String,
    /// What the guest was told.
    pub(crate) record: ContainerRecord,
}

/// The file that gets a byte for each process of the container that a guest's kernel kills for lack of memory; none for
/// a container that is in no machine.
pub(crate) fn events_of(state: &State) -> Option<PathBuf> {
    let guest: Guest = error::read_json(&state.directory.join(GUEST)).ok()??;
    let name = format!("{}.events", guest.name);
    Some(guest.machine.join("door").join(name))
}

/// What is kept about a container's machine; none if it is in none.
pub(crate) fn guest_of(
    root: &std::path::Path,
    id: &ContainerId,
) -> Result<Option<Guest>, MachineError> {
    let path = id.directory(root).join(GUEST);
    error::read_json(&path)
}
