//! What is asked: checked before anything of it is done.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cofferdam_container::{self as container, CgroupOpError, ContainerId, StateError};
use cofferdam_profiles::policy::ContainerRecord;
use nix::sys::reboot::{RebootMode, reboot};
use oci_spec::runtime::LinuxNamespaceType;
use ttrpc::proto::{
    Code, MESSAGE_LENGTH_MAX, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE, Request, Response,
};

use super::helper::{self, ROOT, chain};
use super::table::{Container, Inner, Table};
use crate::protocol::{
    Answer, Call, Configure, Create, Exec, Inspected, MAX_CONTAINERS, MAX_NAME, SERVICE, SHARE,
    SHARED_MEMORY, Status, Update, VERSION,
};
use crate::wire::{self, WireError};

/// Why something was not done: what containerd would call it, and the words.
type Failure = (Code, String);

fn failed(code: Code, why: impl Into<String>) -> Failure {
    (code, why.into())
}

/// Serves one connection, one call after the other.
pub(super) fn serve(mut stream: File, table: &Arc<Table>) {
    loop {
        let read = wire::read(&mut stream, MESSAGE_TYPE_REQUEST, MESSAGE_LENGTH_MAX);
        let (number, request): (u32, Request) = match read {
            Ok(message) => message,
            Err(WireError::Gone) => return,
            Err(error) => return super::say(&format!("a call: {}", chain(&error))),
        };
        let mut response = Response::new();
        let (code, message) = match answer(&request, table) {
            Ok(payload) => {
                response.payload = payload;
                (Code::OK, String::new())
            }
            Err(failure) => failure,
        };
        let status = response.status.mut_or_insert_default();
        status.code = code.into();
        status.message = message;
        if let Err(error) = wire::write(&mut stream, number, MESSAGE_TYPE_RESPONSE, &response) {
            return super::say(&format!("an answer: {}", chain(&error)));
        }
    }
}

fn answer(request: &Request, table: &Table) -> Result<Vec<u8>, Failure> {
    if request.service != SERVICE {
        return Err(failed(Code::UNIMPLEMENTED, "there is no such service"));
    }
    let call: Call = serde_json::from_slice(&request.payload)
        .map_err(|error| failed(Code::INVALID_ARGUMENT, format!("not a call: {error}")))?;
    if call.method() != request.method {
        return Err(failed(
            Code::INVALID_ARGUMENT,
            "the call is not the one that the method names",
        ));
    }
    check(&call, &table.lock())?;
    let answer = handle(call, table)?;
    serde_json::to_vec(&answer).map_err(|error| failed(Code::INTERNAL, error.to_string()))
}

/// The rules that hold before anything is done.
fn check(call: &Call, inner: &Inner) -> Result<(), Failure> {
    match (call, &inner.rules) {
        (Call::Configure(configure), None) => return check_configure(configure),
        (Call::Configure(_), Some(_)) => {
            return Err(failed(
                Code::FAILED_PRECONDITION,
                "the guest is configured already",
            ));
        }
        // Whoever has started it may end it whatever state it is in.
        (Call::Status(_) | Call::Shutdown(_), _) => return Ok(()),
        (_, None) => {
            return Err(failed(
                Code::FAILED_PRECONDITION,
                "the guest must be configured first",
            ));
        }
        (_, Some(rules)) => check_bounds(call, rules, inner)?,
    }
    let id = match call {
        Call::Create(create) => &create.id,
        Call::Exec(exec) => &exec.id,
        Call::SignalAll(signal) => &signal.id,
        Call::Update(update) => &update.id,
        Call::Pause(name)
        | Call::Resume(name)
        | Call::Stats(name)
        | Call::Processes(name)
        | Call::Inspect(name)
        | Call::Delete(name) => &name.id,
        Call::Configure(_) | Call::Network(_) | Call::Status(_) | Call::Shutdown(_) => {
            return Ok(());
        }
    };
    parse(id)?;
    let there = inner.containers.contains_key(id);
    match call {
        Call::Create(_) if there => Err(failed(
            Code::ALREADY_EXISTS,
            format!("there is a container {id} already"),
        )),
        Call::Create(_) => Ok(()),
        _ if there => Ok(()),
        _ => Err(failed(
            Code::NOT_FOUND,
            format!("there is no container {id}"),
        )),
    }
}

fn check_configure(configure: &Configure) -> Result<(), Failure> {
    if configure.version != VERSION {
        return Err(failed(
            Code::FAILED_PRECONDITION,
            format!(
                "the guest speaks version {VERSION}, the host {}; install one version of both",
                configure.version
            ),
        ));
    }
    if configure.hostname.len() > 64 || configure.containers > MAX_CONTAINERS {
        return Err(failed(
            Code::INVALID_ARGUMENT,
            "the host name or the number of containers is out of bounds",
        ));
    }
    Ok(())
}

fn check_bounds(call: &Call, rules: &Configure, inner: &Inner) -> Result<(), Failure> {
    match call {
        Call::Create(create) => {
            if inner.containers.len() >= rules.containers {
                return Err(failed(
                    Code::RESOURCE_EXHAUSTED,
                    "the pod has as many containers as it may",
                ));
            }
            check_record(&create.record)
        }
        // Later it would be changed under the containers.
        Call::Network(_) if !inner.containers.is_empty() => Err(failed(
            Code::FAILED_PRECONDITION,
            "the network comes before the first container",
        )),
        Call::Network(network) => network
            .check()
            .map_err(|error| failed(Code::INVALID_ARGUMENT, chain(&error))),
        Call::Exec(_) if !rules.exec => Err(failed(
            Code::PERMISSION_DENIED,
            "no process may join this pod's containers",
        )),
        Call::Exec(exec) if exec.exec.is_empty() || exec.exec.len() > MAX_NAME => Err(failed(
            Code::INVALID_ARGUMENT,
            "the process's name is out of bounds",
        )),
        Call::Exec(_) if !inner.has_room_for_exec() => Err(failed(
            Code::RESOURCE_EXHAUSTED,
            "the pod has as many joined processes as it may",
        )),
        _ => Ok(()),
    }
}

/// The host has hardened it; what would be no container in here is refused whoever asks.
fn check_record(record: &ContainerRecord) -> Result<(), Failure> {
    let refuse = |why: &str| Err(failed(Code::PERMISSION_DENIED, why));
    let Some(process) = record.spec.process() else {
        return refuse("the spec has no process");
    };
    if record.policy.no_new_privileges && process.no_new_privileges() != Some(true) {
        return refuse("the policy wants no new privileges, and the spec allows them");
    }
    let Some(linux) = record.spec.linux() else {
        return refuse("the spec has no Linux part");
    };
    if linux.seccomp().is_none() && record.report.summary.seccomp_allowed.is_some() {
        return refuse("the report tells of a seccomp filter, and the spec has none");
    }
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    for wanted in [LinuxNamespaceType::Mount, LinuxNamespaceType::Cgroup] {
        let own = |n: &&oci_spec::runtime::LinuxNamespace| n.typ() == wanted && n.path().is_none();
        if !namespaces.iter().any(|n| own(&n)) {
            return refuse("the spec lacks a mount or cgroup namespace of its own");
        }
    }
    if record.spec.hooks().is_some() {
        return refuse("hooks run on the host, not in the guest");
    }
    let Some(root) = record.spec.root() else {
        return refuse("the spec has no root");
    };
    if !is_shared(root.path()) {
        return refuse("the root is not in what the host shares");
    }
    if !namespaces
        .iter()
        .any(|n| n.typ() == LinuxNamespaceType::Pid)
    {
        return refuse("the spec has no pid namespace: it would see the guest's own processes");
    }
    for mount in record.spec.mounts().iter().flatten() {
        let options = mount.options().as_deref().unwrap_or_default();
        let bind = options.iter().any(|o| o == "bind" || o == "rbind")
            || mount.typ().as_deref() == Some("bind");
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        if bind && !is_shared(source) && source != Path::new(SHARED_MEMORY) {
            return refuse("a bind mount is of the guest's own files");
        }
    }
    Ok(())
}

/// Whether a path is below the share, without any way out.
fn is_shared(path: &Path) -> bool {
    let plain = path
        .components()
        .all(|part| !matches!(part, std::path::Component::ParentDir));
    plain && path.starts_with(SHARE) && path != Path::new(SHARE)
}

fn parse(id: &str) -> Result<ContainerId, Failure> {
    ContainerId::parse(id).map_err(|error| failed(Code::INVALID_ARGUMENT, chain(&error)))
}

fn handle(call: Call, table: &Table) -> Result<Answer, Failure> {
    match call {
        Call::Configure(configure) => begin(configure, table),
        Call::Network(network) => cofferdam_network::apply(&network)
            .map(|()| Answer::Done)
            .map_err(|error| failed(Code::INTERNAL, chain(&error))),
        Call::Create(create) => make(*create, table),
        Call::Exec(exec) => join(*exec, table),
        Call::SignalAll(signal) => {
            let number = container::Signal::from_number(signal.signal)
                .map_err(|error| failed(Code::INVALID_ARGUMENT, chain(&error)))?;
            let id = parse(&signal.id)?;
            match container::kill(Path::new(ROOT), &id, number, true) {
                Ok(()) => Ok(Answer::Done),
                Err(container::KillError::NotRunning) => {
                    Err(failed(Code::NOT_FOUND, "the container does not run"))
                }
                Err(error) => Err(failed(Code::INTERNAL, chain(&error))),
            }
        }
        Call::Pause(name) => done(container::pause(Path::new(ROOT), &parse(&name.id)?)),
        Call::Resume(name) => done(container::resume(Path::new(ROOT), &parse(&name.id)?)),
        Call::Update(update) => change(&update),
        Call::Stats(name) => {
            let stats = container::stats(Path::new(ROOT), &parse(&name.id)?).map_err(control)?;
            Ok(Answer::Stats(Box::new(stats)))
        }
        Call::Inspect(name) => inspect(&name.id),
        Call::Processes(name) => {
            let pids = container::ps(Path::new(ROOT), &parse(&name.id)?).map_err(control)?;
            let pids = pids.into_iter().map(nix::unistd::Pid::as_raw).collect();
            Ok(Answer::Processes(pids))
        }
        Call::Delete(name) => delete(&name.id, table),
        Call::Status(_) => status(table).map(Answer::Status),
        Call::Shutdown(_) => {
            // The answer goes first.
            drop(std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                nix::unistd::sync();
                let Err(errno) = reboot(RebootMode::RB_AUTOBOOT);
                super::say(&format!("cannot end: {errno}"));
            }));
            Ok(Answer::Done)
        }
    }
}

fn begin(configure: Configure, table: &Table) -> Result<Answer, Failure> {
    let time = Duration::from_nanos(configure.time);
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let time = nix::sys::time::TimeSpec::new(seconds, time.subsec_nanos().into());
    nix::time::clock_settime(nix::time::ClockId::CLOCK_REALTIME, time)
        .map_err(|errno| failed(Code::INTERNAL, format!("cannot set the clock: {errno}")))?;
    nix::unistd::sethostname(&configure.hostname)
        .map_err(|errno| failed(Code::INTERNAL, format!("cannot set the name: {errno}")))?;
    table.lock().rules = Some(configure);
    Ok(Answer::Done)
}

fn make(create: Create, table: &Table) -> Result<Answer, Failure> {
    let Create {
        id,
        mut record,
        parameters,
        pod,
    } = create;
    for (key, value) in &parameters {
        set_parameter(key, value)?;
    }
    reach(&record)?;
    if let Some(pod) = &pod {
        join_pod(&mut record, pod, table)?;
    }
    let process = record.spec.process().as_ref();
    let terminal = process.is_some_and(|process| process.terminal().unwrap_or(false));
    let request = |console: Option<PathBuf>| helper::Request::Create {
        id: id.clone(),
        record: Box::new(record),
        console,
    };
    let init = table
        .make(request, terminal)
        .map_err(|why| failed(Code::INTERNAL, why))?;
    let pid = init.pid;
    let container = Container {
        init,
        execs: std::collections::BTreeMap::new(),
        started: false,
    };
    table.lock().containers.insert(id, container);
    Ok(Answer::Process(pid))
}

/// Sets a parameter of the guest's network. The host's policy has allowed it.
fn set_parameter(key: &str, value: &str) -> Result<(), Failure> {
    let path = match key.find(['.', '/']) {
        // As sysctl has it: the first separator is the one that separates.
        Some(at) if key.get(at..=at) == Some("/") => key.to_owned(),
        _ => key.replace('.', "/"),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.');
    let parts = path
        .split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..");
    if !path.starts_with("net/") || !path.chars().all(plain) || !parts || value.len() > MAX_NAME {
        return Err(failed(
            Code::INVALID_ARGUMENT,
            format!("{key:?} is no parameter of the network"),
        ));
    }
    fs::write(Path::new("/proc/sys").join(&path), value).map_err(|error| {
        failed(
            Code::INVALID_ARGUMENT,
            format!("cannot set {key} to {value:?}: {error}"),
        )
    })
}

/// Goes into every directory of the share that the container will have: what the host has mounted there is mounted here
/// when somebody does.
fn reach(record: &ContainerRecord) -> Result<(), Failure> {
    let root = record.spec.root().as_ref().map(|root| root.path().clone());
    let mounts = record.spec.mounts().iter().flatten();
    let sources = mounts.filter_map(|mount| mount.source().clone());
    for path in root.into_iter().chain(sources).filter(|p| is_shared(p)) {
        let inside = path.join(".");
        match fs::metadata(&inside) {
            Ok(_) => {}
            // A file is not gone into.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => {
                return Err(failed(
                    Code::INTERNAL,
                    format!("cannot reach {}: {error}", path.display()),
                ));
            }
        }
    }
    Ok(())
}

/// The namespaces that the pod's containers have in common are those of its first.
fn join_pod(record: &mut ContainerRecord, pod: &str, table: &Table) -> Result<(), Failure> {
    let inner = table.lock();
    let first = inner
        .containers
        .get(pod)
        .ok_or_else(|| failed(Code::NOT_FOUND, format!("there is no container {pod}")))?;
    let pid = first.init.pid;
    if first.init.ended().is_some() {
        return Err(failed(
            Code::FAILED_PRECONDITION,
            "the pod's first container has ended",
        ));
    }
    let Some(linux) = record.spec.linux_mut() else {
        return Ok(());
    };
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    for namespace in &mut namespaces {
        // Any path says that it is the pod's; where that is in the guest only this end knows.
        if namespace.path().is_some() {
            let name = match namespace.typ() {
                LinuxNamespaceType::Ipc => "ipc",
                LinuxNamespaceType::Uts => "uts",
                LinuxNamespaceType::Pid => "pid",
                LinuxNamespaceType::User => "user",
                _ => {
                    return Err(failed(
                        Code::INVALID_ARGUMENT,
                        "of a pod's namespaces only ipc, uts, pid and user are shared",
                    ));
                }
            };
            namespace.set_path(Some(PathBuf::from(format!("/proc/{pid}/ns/{name}"))));
        }
    }
    linux.set_namespaces(Some(namespaces));
    Ok(())
}

fn join(exec: Exec, table: &Table) -> Result<Answer, Failure> {
    let Exec { id, exec, process } = exec;
    {
        let inner = table.lock();
        let container = inner.containers.get(&id);
        if container.is_some_and(|container| container.execs.contains_key(&exec)) {
            return Err(failed(
                Code::ALREADY_EXISTS,
                format!("there is a process {exec} already"),
            ));
        }
    }
    let terminal = process.terminal().unwrap_or(false);
    let request = |console: Option<PathBuf>| helper::Request::Exec {
        id: id.clone(),
        process: Box::new(process),
        console,
    };
    let joined = table
        .make(request, terminal)
        .map_err(|why| failed(Code::INTERNAL, why))?;
    let pid = joined.pid;
    match table.lock().containers.get_mut(&id) {
        Some(container) => {
            container.execs.insert(exec, joined);
            Ok(Answer::Process(pid))
        }
        // Deleted meanwhile, which has killed it.
        None => Err(failed(Code::NOT_FOUND, "the container has gone")),
    }
}

fn change(update: &Update) -> Result<Answer, Failure> {
    let id = parse(&update.id)?;
    done(container::update(Path::new(ROOT), &id, &update.resources))
}

fn delete(id: &str, table: &Table) -> Result<Answer, Failure> {
    let parsed = parse(id)?;
    container::delete(Path::new(ROOT), &parsed, true)
        .map_err(|error| failed(Code::INTERNAL, chain(&error)))?;
    table.lock().containers.remove(id);
    Ok(Answer::Done)
}

fn inspect(id: &str) -> Result<Answer, Failure> {
    let options = container::inspect::InspectOptions { filter: false };
    let found = container::inspect::inspect(Path::new(ROOT), &parse(id)?, options)
        .map_err(|error| failed(Code::INTERNAL, chain(&error)))?;
    let value =
        serde_json::to_value(&found).map_err(|error| failed(Code::INTERNAL, error.to_string()))?;
    Ok(Answer::Inspected(Box::new(Inspected {
        value,
        text: found.render(),
        weaker: found.weaker_than_recorded(),
    })))
}

fn done(outcome: Result<(), CgroupOpError>) -> Result<Answer, Failure> {
    outcome.map(|()| Answer::Done).map_err(control)
}

fn control(error: CgroupOpError) -> Failure {
    let code = match &error {
        CgroupOpError::State(StateError::Unknown { .. }) => Code::NOT_FOUND,
        CgroupOpError::Status { .. } => Code::FAILED_PRECONDITION,
        _ => Code::INTERNAL,
    };
    failed(code, chain(&error))
}

fn status(table: &Table) -> Result<Status, Failure> {
    let read = |path: &str| {
        fs::read_to_string(path)
            .map_err(|error| failed(Code::INTERNAL, format!("cannot read {path}: {error}")))
    };
    let memory = read("/proc/meminfo")?;
    let kib = |name: &str| {
        let line = memory.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0)
    };
    let uptime = read("/proc/uptime")?;
    let seconds: f64 = uptime
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0);
    let ids: Vec<String> = table.lock().containers.keys().cloned().collect();
    let mut killed = Vec::new();
    for id in &ids {
        let group = container::load(Path::new(ROOT), &parse(id)?)
            .ok()
            .and_then(|state| state.cgroup);
        let count = group
            .and_then(|location| container::cgroup::Cgroup::open(&location).ok())
            .and_then(|cgroup| cgroup.oom_watch().ok())
            .and_then(|watch| watch.count().ok().flatten());
        killed.push((id.clone(), count.unwrap_or(0)));
    }
    Ok(Status {
        kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        uptime: Duration::try_from_secs_f64(seconds)
            .map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0)),
        memory: (kib("MemTotal"), kib("MemAvailable")),
        containers: ids.len(),
        killed,
    })
}
