//! What the engines ask of a container, wherever it runs: on the host's kernel as `cofferdam-container` has it, in a
//! machine of the guest as well.

use std::path::Path;

use cofferdam_agent::client::{Client, ClientError};
use cofferdam_agent::protocol::{self, Answer, Call, Name, Update};
use cofferdam_container::cgroup::Stats;
use cofferdam_container::{self as container, ContainerId, Signal};
use cofferdam_profiles::policy::ContainerRecord;
use oci_spec::runtime::LinuxResources;

use super::machine::{Machine, name_of};
use super::{Guest, MachineError, guest_of};
use crate::failure::Kinded;
use crate::helper::FailureKind;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum OpError<E: std::error::Error + 'static> {
    /// On the host.
    #[error(transparent)]
    Host(E),
    /// In the machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl<E: std::error::Error + Kinded> Kinded for OpError<E> {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Host(error) => error.kind(),
            Self::Machine(error) => error.kind(),
        }
    }
}

fn client(guest: &Guest) -> Result<Client, MachineError> {
    Client::connect(&guest.machine.join("door/vsock")).map_err(|error| match error {
        ClientError::Connect { .. } | ClientError::Refused => MachineError::Gone {
            pod: guest.name.clone(),
        },
        other => other.into(),
    })
}

/// How long figures may take: they are asked for again and again.
const STATS: std::time::Duration = std::time::Duration::from_secs(10);

fn name(guest: &Guest) -> Name {
    Name {
        id: guest.name.clone(),
    }
}

/// Removes a container, and with a pod's first its machine.
pub(crate) fn delete(
    root: &Path,
    id: &ContainerId,
    force: bool,
) -> Result<(), OpError<container::DeleteError>> {
    // First what may still hold the machine's lock: an init whose creator was killed. Its file in the machine is
    // there until the end.
    container::delete(root, id, force).map_err(OpError::Host)?;
    let machine = Machine::of_member(root, id)?;
    if let Some(mut machine) = machine {
        machine.leave(&name_of(root, id.as_str()))?;
    }
    Ok(())
}

/// Signals a container.
pub(crate) fn kill(
    root: &Path,
    id: &ContainerId,
    signal: Signal,
    all: bool,
) -> Result<(), OpError<container::KillError>> {
    // Of a killed stand-in the guest's process is killed.
    if all
        && signal != Signal::KILL
        && let Some(guest) = guest_of(root, id)?
    {
        let signal = protocol::Signal {
            id: guest.name.clone(),
            signal: signal.number(),
        };
        return Ok(client(&guest)?
            .done(&Call::SignalAll(signal))
            .map_err(MachineError::from)?);
    }
    container::kill(root, id, signal, all).map_err(OpError::Host)
}

/// Freezes a container: in the guest first, so that nothing of it is lost on its way.
pub(crate) fn pause(
    root: &Path,
    id: &ContainerId,
) -> Result<(), OpError<container::CgroupOpError>> {
    if let Some(guest) = guest_of(root, id)? {
        client(&guest)?
            .done(&Call::Pause(name(&guest)))
            .map_err(MachineError::from)?;
    }
    container::pause(root, id).map_err(OpError::Host)
}

/// Thaws a container.
pub(crate) fn resume(
    root: &Path,
    id: &ContainerId,
) -> Result<(), OpError<container::CgroupOpError>> {
    container::resume(root, id).map_err(OpError::Host)?;
    if let Some(guest) = guest_of(root, id)? {
        let mut client = match client(&guest) {
            // Nothing is left that could go on.
            Err(MachineError::Gone { .. }) => return Ok(()),
            other => other?,
        };
        match client.done(&Call::Resume(name(&guest))) {
            // Nothing was frozen there.
            Err(ClientError::Failed {
                code: ttrpc::proto::Code::FAILED_PRECONDITION,
                ..
            })
            | Ok(()) => {}
            Err(error) => return Err(MachineError::from(error).into()),
        }
    }
    Ok(())
}

/// Changes limits: in a machine the guest's, within what the machine has.
pub(crate) fn update(
    root: &Path,
    id: &ContainerId,
    resources: &LinuxResources,
) -> Result<(), OpError<container::CgroupOpError>> {
    let Some(guest) = guest_of(root, id)? else {
        return container::update(root, id, resources).map_err(OpError::Host);
    };
    let memory = Machine::at(&guest.machine)?.map_or(0, |machine| machine.record.memory);
    let asked = resources
        .memory()
        .as_ref()
        .and_then(|memory| memory.limit());
    if let Some(asked) = asked
        && asked >> 20 > i64::from(memory)
    {
        return Err(MachineError::Size(format!(
            "a limit of {} MiB: the machine was started with {memory} MiB; start the container \
             again with the new limit",
            asked >> 20
        ))
        .into());
    }
    let mut resources = resources.clone();
    if let Some(cpu) = resources.cpu_mut() {
        // The host's numbers.
        cpu.set_cpus(None).set_mems(None);
    }
    let update = Update {
        id: guest.name.clone(),
        resources,
    };
    let told = client(&guest)?.done(&Call::Update(Box::new(update)));
    Ok(told.map_err(MachineError::from)?)
}

/// What a container uses: in a machine what the guest counts.
pub(crate) fn stats(
    root: &Path,
    id: &ContainerId,
) -> Result<Stats, OpError<container::CgroupOpError>> {
    let Some(guest) = guest_of(root, id)? else {
        return container::stats(root, id).map_err(OpError::Host);
    };
    let answer = client(&guest)?
        .within(STATS)
        .call(&Call::Stats(name(&guest)));
    match answer.map_err(MachineError::from)? {
        Answer::Stats(stats) => Ok(*stats),
        _ => Err(MachineError::from(ClientError::Answer { method: "Stats" }).into()),
    }
}

/// What was granted to a container, wherever it runs.
pub(crate) fn record(
    root: &Path,
    id: &ContainerId,
) -> Result<(ContainerRecord, Option<Guest>), OpError<container::StateError>> {
    match guest_of(root, id)? {
        Some(guest) => Ok((guest.record.clone(), Some(guest))),
        None => container::load_record(root, id)
            .map(|record| (record, None))
            .map_err(OpError::Host),
    }
}
