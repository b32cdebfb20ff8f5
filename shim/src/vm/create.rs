//! Making a container in a machine, and joining it.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cofferdam_agent::client::{Client, ClientError};
use cofferdam_agent::protocol::{
    Answer, Call, Configure, Create, Exec, MAX_CONTAINERS, SHARE, SHARED_MEMORY, VERSION,
};
use cofferdam_agent::stand_in;
use cofferdam_container::{self as container, ContainerId, CreateOptions, ExecOptions, State};
use cofferdam_profiles::policy::Hardened;
use cofferdam_profiles::policy::microvm::{self, Places, Plan, StandIn};
use cofferdam_profiles::policy::model::Isolation;
use nix::unistd::{Gid, Pid, Uid, chown};
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use super::error::at;
use super::files::Files;
use super::machine::{Machine, name_of};
use super::size::Size;
use super::{GUEST, Guest, MachineError, network, share};

/// Whether a container is to be in a machine.
pub(crate) fn wanted(spec: &Hardened<Spec>) -> bool {
    spec.policy().isolation == Isolation::Microvm
}

/// Makes a container in its pod's machine, which is made with the first one; its init waits. Standard streams and
/// options are as [`container::create`] has them.
///
/// The caller must be single-threaded.
pub(crate) fn create(spec: &Hardened<Spec>, options: CreateOptions) -> Result<State, MachineError> {
    let (root, id) = (options.root.clone(), options.id.clone());
    let outcome = attempt(spec, options);
    let taken = matches!(
        outcome,
        Err(MachineError::Create(container::CreateError::Exists { .. }))
    );
    if outcome.is_err()
        && !taken
        && let Err(error) = super::delete(&root, &id, true)
    {
        tracing::warn!(container = %id, "a failed create left something: {}", crate::cli::chain(&error));
    }
    outcome
}

fn attempt(spec: &Hardened<Spec>, options: CreateOptions) -> Result<State, MachineError> {
    let (root, id, bundle) = (
        options.root.clone(),
        options.id.clone(),
        options.bundle.clone(),
    );
    if id.directory(&root).exists() {
        let id = id.to_string();
        return Err(container::CreateError::Exists { id }.into());
    }
    let name = name_of(&root, id.as_str());
    let pod = pod_of(spec.get());
    let joins = pod.as_ref().filter(|pod| *pod != id.as_str());
    let files = Files::find()?;
    if joins.is_none() {
        kvm()?;
    }
    let places = Places {
        share: &Path::new(SHARE).join(&name),
        shared_memory: Path::new(SHARED_MEMORY),
        joins_pod: joins.is_some(),
    };
    let plan = microvm::for_guest(spec, places)?;
    let mut machine = match joins {
        Some(pod) => Machine::open(&root, pod)?,
        None => Machine::begin(
            &root,
            id.as_str(),
            Size::of(spec.get())?,
            network_of(spec.get()),
        )?,
    };
    if joins.is_some() {
        same_network(spec.get(), &machine)?;
    }
    machine.join(&name, id.as_str())?;
    let driver = options.cgroup_driver;
    let state = make_stand_in(spec, &plan, &machine, &name, &files, options)?;
    let guest = Guest {
        machine: machine.dir.clone(),
        name: name.clone(),
        record: plan.record.clone(),
    };
    write_guest(&state, &guest)?;
    share::fill(&machine, &name, (spec, &plan), (&state.directory, &bundle))?;
    let mut client = if joins.is_some() {
        Client::connect(&machine.socket())?
    } else {
        start(&mut machine, &files, driver, spec.get())?
    };
    let create = Create {
        id: name,
        record: plan.record,
        parameters: plan.parameters,
        pod: joins.map(|pod| name_of(&root, pod)),
    };
    client.call(&Call::Create(Box::new(create)))?;
    Ok(state)
}

/// Whether the spec is of a container in a pod whose first container is in a machine: it must be too.
pub(crate) fn pod_is_in_machine(root: &Path, spec: &Spec) -> bool {
    let pod = pod_of(spec);
    pod.is_some_and(|pod| {
        Path::new(super::DIRECTORY)
            .join(name_of(root, &pod))
            .exists()
    })
}

/// Who joins a machine must join the pod's network too, as the engine has it: an annotation alone makes no pod.
fn same_network(spec: &Spec, machine: &Machine) -> Result<(), MachineError> {
    let identity = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    let own = network_of(spec).and_then(|path| identity(&path));
    if own.is_some() && own == identity(&machine.record.network) {
        return Ok(());
    }
    Err(microvm::GuestError::Unsupported {
        field: "linux.namespaces",
        problem: "has not the network namespace of the pod that its annotation names".to_owned(),
        remedy: "Let the engine make the pod",
    }
    .into())
}

/// Kubernetes' pod, by containerd's or CRI-O's word; a container of anybody else is a pod of its own.
fn pod_of(spec: &Spec) -> Option<String> {
    let none = HashMap::new();
    let annotations = spec.annotations().as_ref().unwrap_or(&none);
    let keys = [
        "io.kubernetes.cri.sandbox-id",
        "io.kubernetes.cri-o.SandboxID",
    ];
    keys.iter().find_map(|key| annotations.get(*key).cloned())
}

/// The network namespace that the spec joins; none if it is to be made.
fn network_of(spec: &Spec) -> Option<PathBuf> {
    let linux = spec.linux().as_ref()?;
    let namespaces = linux.namespaces().iter().flatten();
    let mut network = namespaces.filter(|n| n.typ() == LinuxNamespaceType::Network);
    let path = network.next()?.path().clone();
    path.filter(|path| !path.as_os_str().is_empty())
}

/// Whether there is a KVM at all; whether it boots our kernel shows when it does.
pub(super) fn kvm() -> Result<(), MachineError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map(drop)
        .map_err(|error| MachineError::NoKvm(format!("cannot open /dev/kvm: {error}")))
}

fn make_stand_in(
    spec: &Hardened<Spec>,
    plan: &Plan,
    machine: &Machine,
    name: &str,
    files: &Files,
    mut options: CreateOptions,
) -> Result<State, MachineError> {
    let process = spec.get().process().as_ref();
    let terminal = process.is_some_and(|process| process.terminal().unwrap_or(false));
    let user = machine.stand_in_user();
    let events = machine.dir.join("door").join(format!("{name}.events"));
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&events)
        .map_err(at("make", &events))?;
    chown(
        &events,
        Some(Uid::from_raw(user)),
        Some(Gid::from_raw(user)),
    )
    .map_err(|errno| at("give away", &events)(errno.into()))?;
    let host = microvm::stand_in(
        spec,
        plan,
        StandIn {
            arguments: arguments(name, None, terminal),
            user,
            root: machine.dir.join("root"),
            files: vec![
                (files.stand_in.clone(), stand_in::PROGRAM.into(), false),
                (machine.dir.join("door"), stand_in::DOOR.into(), true),
            ],
            network: machine.record.network.clone(),
        },
    )?;
    options.listener = None;
    options.map_layers = false;
    options.preserve_fds = 0;
    Ok(container::create(&host, options)?)
}

fn arguments(name: &str, exec: Option<&str>, terminal: bool) -> Vec<String> {
    let mut words = vec![stand_in::PROGRAM, name, exec.unwrap_or("-")];
    if terminal {
        words.push("terminal");
    }
    words.into_iter().map(str::to_owned).collect()
}

fn write_guest(state: &State, guest: &Guest) -> Result<(), MachineError> {
    let path = state.directory.join(GUEST);
    let damaged = |source| MachineError::Damaged {
        path: path.clone(),
        source,
    };
    let text = serde_json::to_vec(guest).map_err(damaged)?;
    fs::write(&path, text).map_err(at("write", &path))
}

/// Starts the pod's machine, and tells its guest what holds.
fn start(
    machine: &mut Machine,
    files: &Files,
    driver: container::cgroup::Driver,
    spec: &Spec,
) -> Result<Client, MachineError> {
    // The engine's hooks have made it, if nobody else had.
    let (network, cards) = network::join(&machine.record.network)?;
    machine.start(files, driver, spec, &cards)?;
    let mut client = machine.await_guest()?;
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = time.map_or(0, |time| time.as_nanos());
    let hostname = spec.hostname().clone().unwrap_or_default();
    client.done(&Call::Configure(Configure {
        version: VERSION,
        time: u64::try_from(time).unwrap_or(0),
        hostname: hostname.chars().take(64).collect(),
        exec: true,
        containers: MAX_CONTAINERS,
    }))?;
    client.done(&Call::Network(Box::new(network)))?;
    Ok(client)
}

/// Runs one more process in a container of a machine. What stands in for it has the caller's standard streams.
///
/// The caller must be single-threaded.
pub(crate) fn exec(
    root: &Path,
    id: &ContainerId,
    guest: &Guest,
    process: &Hardened<Process>,
    options: ExecOptions,
) -> Result<Pid, MachineError> {
    if options.preserve_fds > 0 || options.cgroup.is_some() {
        return Err(microvm::GuestError::Unsupported {
            field: "exec",
            problem: "is given descriptors or a cgroup of the host's".to_owned(),
            remedy: "Leave out --preserve-fds, LISTEN_FDS and --cgroup",
        }
        .into());
    }
    let socket = guest.machine.join("door/vsock");
    let gone = |error: ClientError| match error {
        ClientError::Connect { .. } | ClientError::Refused => MachineError::Gone {
            pod: id.to_string(),
        },
        other => other.into(),
    };
    // All that can fail here goes before the process there.
    let record = container::load_record(root, id)?;
    let mut client = Client::connect(&socket).map_err(gone)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.map_or(0, |time| time.as_nanos());
    let exec = format!("{}-{since}", std::process::id());
    let terminal = process.get().terminal().unwrap_or(false);
    let words = arguments(&guest.name, Some(&exec), terminal);
    let host = microvm::stand_in_exec(&record, words, process.get())?;
    let answer = client.call(&Call::Exec(Box::new(Exec {
        id: guest.name.clone(),
        exec: exec.clone(),
        process: process.get().clone(),
    })))?;
    if !matches!(answer, Answer::Process(_)) {
        return Err(ClientError::Answer { method: "Exec" }.into());
    }
    let made = container::exec(root, id, &host, options);
    if made.is_err() {
        // Whoever takes its streams and goes ends it.
        drop(abandon(&socket, &guest.name, &exec));
    }
    Ok(made?)
}

fn abandon(socket: &Path, id: &str, exec: &str) -> std::io::Result<()> {
    use cofferdam_agent::{client, frames, protocol};
    let mut stream = client::connect(socket, protocol::STREAMS, client::PATIENCE)
        .map_err(std::io::Error::other)?;
    let wanted = frames::Attach {
        id: id.to_owned(),
        exec: Some(exec.to_owned()),
    };
    frames::ToGuest::Attach(serde_json::to_vec(&wanted)?).write(&mut stream)
}
