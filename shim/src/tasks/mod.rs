//! The task table: every container of this shim, its processes, and the order of what happens.
//!
//! Generic over the backend and the event sink, so that the whole life cycle is tested without root.
//! The table's lock is held for bookkeeping only, never across a call that may block; a phase marks
//! what is under way. Two orders matter:
//! - a process that ends while it is being made or started is remembered, so its exit event comes
//!   after its start event;
//! - a process is signalled and reaped under the lock, so a pid is never signalled after it was
//!   given to someone else.

mod error;
mod process;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use containerd_shim_protos::protobuf::well_known_types::any::Any;

pub use error::{TaskError, chain};
pub use process::{Phase, Process, Waiter};
pub use view::ProcessView;

use crate::backend::{Backend, NewProcess, NewTask, OomGuard, Task};
use crate::events::{Event, EventSink, Exit};
use crate::io::{self, Owner, StdioPaths};
use crate::reactor::Reactor;
use crate::sync::lock;

/// How long delete waits for the exit of an init that it killed.
const REAP_TIMEOUT: Duration = Duration::from_secs(10);

/// The status of a process whose start failed.
const START_FAILED: u32 = 255;

/// A container's process by name: `None` is init.
type Key = (String, Option<String>);

struct Container {
    /// `None` while it is being created.
    task: Option<Task>,
    init: Process,
    execs: BTreeMap<String, Process>,
    paused: bool,
    oom: Option<OomGuard>,
}

#[derive(Default)]
struct Table {
    containers: BTreeMap<String, Container>,
    by_pid: HashMap<i32, Key>,
    /// Creates and starts whose pid is not known yet.
    in_flight: usize,
    /// Exits of pids that nobody has claimed; kept only while something is in flight.
    unclaimed: HashMap<i32, Exit>,
}

/// Every container of this shim.
pub struct Tasks<B, S> {
    namespace: String,
    backend: B,
    sink: Arc<S>,
    reactor: Arc<Reactor>,
    table: Mutex<Table>,
    /// Signalled whenever a process ends.
    ended: Condvar,
}

impl Table {
    fn container(&mut self, id: &str) -> Result<&mut Container, TaskError> {
        self.containers
            .get_mut(id)
            .ok_or_else(|| TaskError::NoContainer(id.to_owned()))
    }

    fn process(&mut self, id: &str, exec_id: &str) -> Result<&mut Process, TaskError> {
        let container = self.container(id)?;
        if exec_id.is_empty() {
            return Ok(&mut container.init);
        }
        container
            .execs
            .get_mut(exec_id)
            .ok_or_else(|| TaskError::NoProcess {
                id: id.to_owned(),
                exec_id: exec_id.to_owned(),
            })
    }

    /// The task of a container whose init is past creation.
    fn task(&mut self, id: &str, action: &'static str) -> Result<Task, TaskError> {
        let container = self.container(id)?;
        let phase = container.init.phase.name();
        container
            .task
            .clone()
            .ok_or(TaskError::Phase { action, phase })
    }

    fn landed(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.unclaimed = HashMap::new();
        }
    }

    /// Notes a pid for the reaper; it may have got there before us.
    fn claim(&mut self, pid: i32, key: Key) -> Option<Exit> {
        let exit = self.unclaimed.remove(&pid);
        if exit.is_none() {
            self.by_pid.insert(pid, key);
        }
        exit
    }
}

impl<B: Backend, S: EventSink> Tasks<B, S> {
    /// An empty table.
    pub fn new(namespace: String, backend: B, sink: Arc<S>, reactor: Arc<Reactor>) -> Self {
        Self {
            namespace,
            backend,
            sink,
            reactor,
            table: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// No container is left.
    pub fn is_empty(&self) -> bool {
        lock(&self.table).containers.is_empty()
    }

    /// Creates a container; returns init's pid. Blocks.
    pub fn create(self: &Arc<Self>, new: NewTask, paths: StdioPaths) -> Result<i32, TaskError> {
        let id = new.id.clone();
        {
            let mut table = lock(&self.table);
            if table.containers.contains_key(&id) {
                return Err(TaskError::Exists(id));
            }
            let init = Process::new(Phase::Creating, paths.clone());
            let execs = BTreeMap::new();
            let container = Container {
                task: None,
                init,
                execs,
                paused: false,
                oom: None,
            };
            table.containers.insert(id.clone(), container);
            table.in_flight += 1;
        }
        let made = self.make(&new, &paths);
        let mut table = lock(&self.table);
        let (task, pid, held) = match made {
            Ok(made) => made,
            Err(e) => {
                table.landed();
                table.containers.remove(&id);
                return Err(e);
            }
        };
        let early = table.claim(pid, (id.clone(), None));
        table.landed();
        let container = table.container(&id)?;
        container.task = Some(task.clone());
        container.init.pid = pid;
        container.init.stdio = Some(held);
        container.init.phase = Phase::Created;
        let bundle = new.bundle.to_string_lossy().into_owned();
        let rootfs = new.rootfs;
        self.sink.publish(Event::Create {
            id: id.clone(),
            bundle,
            rootfs,
            io: paths,
            pid,
        });
        if let Some(exit) = early {
            self.finish(&mut table, &(id.clone(), None), exit);
        }
        drop(table);
        self.watch_oom(&id, &task);
        Ok(pid)
    }

    fn make(
        &self,
        new: &NewTask,
        paths: &StdioPaths,
    ) -> Result<(Task, i32, io::HeldStdio), TaskError> {
        let owner = Owner {
            id: &new.id,
            namespace: &self.namespace,
        };
        let (child, mut held) = io::open(paths, owner)?;
        let created = self.backend.create(new, &child)?;
        drop(child);
        if let Err(e) = held.attach(&self.reactor, created.init.console) {
            // Without its terminal the container is of no use to whoever asked for it.
            self.backend.delete(&created.task)?;
            return Err(e.into());
        }
        Ok((created.task, created.init.pid, held))
    }

    fn watch_oom(self: &Arc<Self>, id: &str, task: &Task) {
        let tasks = Arc::downgrade(self);
        let name = id.to_owned();
        let notify = Box::new(move || {
            if let Some(tasks) = tasks.upgrade() {
                tasks.sink.publish(Event::Oom { id: name.clone() });
            }
        });
        match self.backend.watch_oom(task, &self.reactor, notify) {
            Ok(guard) => {
                if let Ok(container) = lock(&self.table).container(id) {
                    container.oom = guard;
                }
            }
            Err(error) => {
                tracing::warn!(id, error = %chain(&error), "out-of-memory events are not watched");
            }
        }
    }

    /// Starts init, or a process that was announced by [`Tasks::add_exec`]. Returns its pid. Blocks.
    pub fn start(&self, id: &str, exec_id: &str) -> Result<i32, TaskError> {
        let key: Key = (
            id.to_owned(),
            (!exec_id.is_empty()).then(|| exec_id.to_owned()),
        );
        let mut table = lock(&self.table);
        let task = table.task(id, "start")?;
        let init = table.container(id)?.init.phase;
        let process = table.process(id, exec_id)?;
        if process.phase != Phase::Created {
            let phase = process.phase.name();
            return Err(TaskError::Phase {
                action: "start",
                phase,
            });
        }
        process.phase = Phase::Starting;
        if key.1.is_none() {
            let pid = process.pid;
            drop(table);
            let started = self.backend.start(&task);
            return self.started(&key, pid, started.map_err(Into::into));
        }
        if !matches!(init, Phase::Created | Phase::Starting | Phase::Running) {
            process.phase = Phase::Created;
            let phase = init.name();
            return Err(TaskError::Phase {
                action: "run another process beside",
                phase,
            });
        }
        let (spec, paths) = (process.spec.take(), process.paths.clone());
        table.in_flight += 1;
        drop(table);
        let launched = self.launch(&task, spec.unwrap_or_default(), &paths);
        self.launched(&key, launched)
    }

    /// Records the outcome of starting init.
    fn started(
        &self,
        key: &Key,
        pid: i32,
        started: Result<(), TaskError>,
    ) -> Result<i32, TaskError> {
        let mut table = lock(&self.table);
        let process = table.process(&key.0, "")?;
        let exit = process.exit;
        let outcome = match started {
            Ok(()) => {
                process.phase = Phase::Running;
                self.sink.publish(Event::Start {
                    id: key.0.clone(),
                    pid,
                });
                Ok(pid)
            }
            Err(e) => {
                process.phase = Phase::Created;
                Err(e)
            }
        };
        if let Some(exit) = exit {
            self.finish(&mut table, key, exit);
        }
        outcome
    }

    fn launch(
        &self,
        task: &Task,
        spec: serde_json::Value,
        paths: &StdioPaths,
    ) -> Result<(NewProcess, io::HeldStdio), TaskError> {
        let owner = Owner {
            id: &task.target.id,
            namespace: &self.namespace,
        };
        let (child, held) = io::open(paths, owner)?;
        Ok((self.backend.exec(task, spec, &child)?, held))
    }

    /// Records the outcome of launching a further process.
    fn launched(
        &self,
        key: &Key,
        launched: Result<(NewProcess, io::HeldStdio), TaskError>,
    ) -> Result<i32, TaskError> {
        let (id, exec_id) = (&key.0, key.1.clone().unwrap_or_default());
        let mut table = lock(&self.table);
        let (made, mut held) = match launched {
            Ok(launched) => launched,
            Err(e) => {
                table.landed();
                if let Ok(process) = table.process(id, &exec_id) {
                    let at = std::time::SystemTime::now();
                    process.finish(Exit {
                        status: START_FAILED,
                        at,
                    });
                }
                self.ended.notify_all();
                return Err(e);
            }
        };
        let early = table.claim(made.pid, key.clone());
        table.landed();
        let attached = held.attach(&self.reactor, made.console);
        let process = table.process(id, &exec_id)?;
        if let (Ok(()), Some((columns, rows))) = (&attached, process.window) {
            held.resize(columns, rows).unwrap_or_default();
        }
        process.pid = made.pid;
        process.stdio = Some(held);
        process.phase = Phase::Running;
        let pid = made.pid;
        self.sink.publish(Event::ExecStarted {
            id: id.clone(),
            exec_id,
            pid,
        });
        if let Some(exit) = early {
            self.finish(&mut table, key, exit);
        }
        drop(table);
        if let Err(e) = attached {
            self.backend.signal(pid, libc::SIGKILL)?;
            return Err(e.into());
        }
        Ok(pid)
    }

    /// Announces a further process, given as an OCI `Process`.
    pub fn add_exec(
        &self,
        id: &str,
        exec_id: &str,
        spec: serde_json::Value,
        paths: StdioPaths,
    ) -> Result<(), TaskError> {
        if exec_id.is_empty() {
            return Err(TaskError::Missing("exec_id"));
        }
        let mut table = lock(&self.table);
        table.task(id, "add a process to")?;
        let container = table.container(id)?;
        if container.execs.contains_key(exec_id) {
            return Err(TaskError::Exists(exec_id.to_owned()));
        }
        let mut process = Process::new(Phase::Created, paths);
        process.spec = Some(spec);
        container.execs.insert(exec_id.to_owned(), process);
        self.sink.publish(Event::ExecAdded {
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
        });
        Ok(())
    }

    /// Signals a process, or with `all` every process of the container. Only `all` may block.
    pub fn kill(&self, id: &str, exec_id: &str, signal: i32, all: bool) -> Result<(), TaskError> {
        let mut table = lock(&self.table);
        let paused = table.container(id)?.paused;
        let task = table.task(id, "signal")?;
        let process = table.process(id, exec_id)?;
        match process.phase {
            _ if all && exec_id.is_empty() => {
                drop(table);
                self.backend.signal_all(&task, signal)?;
            }
            Phase::Stopped | Phase::Deleting => return Err(TaskError::Finished),
            phase if process.pid == 0 => {
                return Err(TaskError::Phase {
                    action: "signal",
                    phase: phase.name(),
                });
            }
            _ if process.exit.is_some() => return Err(TaskError::Finished),
            _ => {
                let pid = process.pid;
                self.backend.signal(pid, signal)?;
                drop(table);
            }
        }
        if paused && signal == libc::SIGKILL {
            // A frozen process dies only once it is thawed.
            self.backend.resume(&task)?;
            lock(&self.table).container(id)?.paused = false;
        }
        Ok(())
    }

    /// Removes a process that has ended, or for init the whole container. Blocks.
    pub fn delete(&self, id: &str, exec_id: &str) -> Result<(i32, Exit), TaskError> {
        if !exec_id.is_empty() {
            return self.delete_exec(id, exec_id);
        }
        let mut table = lock(&self.table);
        let task = table.task(id, "delete")?;
        let init = &mut table.container(id)?.init;
        match init.phase {
            Phase::Stopped => {}
            Phase::Created => {
                let pid = init.pid;
                self.backend.signal(pid, libc::SIGKILL)?;
                table = self.wait_stopped(table, id)?;
            }
            phase => {
                return Err(TaskError::Phase {
                    action: "delete",
                    phase: phase.name(),
                });
            }
        }
        let container = table.container(id)?;
        container.init.phase = Phase::Deleting;
        let (pid, exit) = (container.init.pid, container.init.exit);
        let oom = container.oom.take();
        drop(table);
        drop(oom);

        let deleted = self.backend.delete(&task);
        let mut table = lock(&self.table);
        if let Err(e) = deleted {
            table.container(id)?.init.phase = Phase::Stopped;
            return Err(e.into());
        }
        table.containers.remove(id);
        table.by_pid.retain(|_, key| key.0 != id);
        let at = std::time::SystemTime::now();
        let exit = exit.unwrap_or(Exit {
            status: START_FAILED,
            at,
        });
        self.sink.publish(Event::Delete {
            id: id.to_owned(),
            pid,
            exit,
        });
        Ok((pid, exit))
    }

    fn delete_exec(&self, id: &str, exec_id: &str) -> Result<(i32, Exit), TaskError> {
        let mut table = lock(&self.table);
        let process = table.process(id, exec_id)?;
        let pid = process.pid;
        let at = std::time::SystemTime::now();
        let exit = match (process.phase, process.exit) {
            (Phase::Created, _) => Exit { status: 0, at },
            (Phase::Stopped, Some(exit)) => exit,
            (phase, _) => {
                return Err(TaskError::Phase {
                    action: "delete",
                    phase: phase.name(),
                });
            }
        };
        for waiter in process.waiters.drain(..) {
            waiter(exit);
        }
        let removed = table.container(id)?.execs.remove(exec_id);
        drop(table);
        drop(removed);
        Ok((pid, exit))
    }

    fn wait_stopped<'a>(
        &self,
        mut table: std::sync::MutexGuard<'a, Table>,
        id: &str,
    ) -> Result<std::sync::MutexGuard<'a, Table>, TaskError> {
        let deadline = Instant::now() + REAP_TIMEOUT;
        loop {
            let phase = table.container(id)?.init.phase;
            if phase == Phase::Stopped {
                return Ok(table);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TaskError::Phase {
                    action: "delete",
                    phase: phase.name(),
                });
            }
            table = self
                .ended
                .wait_timeout(table, left)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(table, _)| table);
        }
    }

    /// Takes every exit that `next` yields. Reaping happens under the table's lock.
    pub fn reap(&self, mut next: impl FnMut() -> Option<(i32, Exit)>) {
        let mut table = lock(&self.table);
        let mut inits = Vec::new();
        while let Some((pid, exit)) = next() {
            let Some(key) = table.by_pid.remove(&pid) else {
                // A helper, a logger, a hook's orphan, or a process whose maker has not told us yet.
                if table.in_flight > 0 {
                    table.unclaimed.insert(pid, exit);
                }
                continue;
            };
            if let Some(task) = self.finish(&mut table, &key, exit) {
                inits.push(task);
            }
        }
        drop(table);
        for task in inits {
            self.kill_rest(&task);
        }
    }

    /// Records an exit. Returns the task if it was its init that ended.
    fn finish(&self, table: &mut Table, key: &Key, exit: Exit) -> Option<Task> {
        let exec_id = key.1.as_deref().unwrap_or_default();
        let process = table.process(&key.0, exec_id).ok()?;
        if process.phase == Phase::Starting {
            // Its start event comes first; whoever starts it calls again.
            process.exit = Some(exit);
            return None;
        }
        let pid = process.pid;
        let name = key.1.clone().unwrap_or_else(|| key.0.clone());
        self.sink.publish(Event::Exit {
            id: key.0.clone(),
            process: name,
            pid,
            exit,
        });
        process.finish(exit);
        self.ended.notify_all();
        if key.1.is_some() {
            return None;
        }
        let container = table.container(&key.0).ok()?;
        container.paused = false;
        container.task.clone()
    }

    /// Without a pid namespace of its own, a container's processes outlive its init unless killed.
    fn kill_rest(&self, task: &Task) {
        match self.backend.pids(task) {
            Ok(pids) if !pids.is_empty() => {
                if let Err(error) = self.backend.signal_all(task, libc::SIGKILL) {
                    let (id, error) = (&task.target.id, chain(&error));
                    tracing::warn!(id, error, "processes of an ended container may be left");
                }
            }
            // A container without a cgroup has nothing that could be listed.
            Ok(_) | Err(_) => {}
        }
    }

    /// Calls `waiter` once the process has ended; at once if it already has.
    pub fn wait(&self, id: &str, exec_id: &str, waiter: Waiter) -> Result<(), TaskError> {
        let mut table = lock(&self.table);
        let process = table.process(id, exec_id)?;
        match process.exit {
            Some(exit) if matches!(process.phase, Phase::Stopped | Phase::Deleting) => {
                drop(table);
                waiter(exit);
            }
            _ => process.waiters.push(waiter),
        }
        Ok(())
    }

    /// Freezes the container. Blocks.
    pub fn pause(&self, id: &str) -> Result<(), TaskError> {
        let task = self.running(id, "pause")?;
        self.backend.pause(&task)?;
        lock(&self.table).container(id)?.paused = true;
        self.sink.publish(Event::Paused { id: id.to_owned() });
        Ok(())
    }

    /// Thaws the container. Blocks.
    pub fn resume(&self, id: &str) -> Result<(), TaskError> {
        let task = self.running(id, "resume")?;
        self.backend.resume(&task)?;
        lock(&self.table).container(id)?.paused = false;
        self.sink.publish(Event::Resumed { id: id.to_owned() });
        Ok(())
    }

    fn running(&self, id: &str, action: &'static str) -> Result<Task, TaskError> {
        let mut table = lock(&self.table);
        let task = table.task(id, action)?;
        match table.container(id)?.init.phase {
            Phase::Running => Ok(task),
            phase => Err(TaskError::Phase {
                action,
                phase: phase.name(),
            }),
        }
    }

    /// Changes resource limits, given as an OCI `LinuxResources`. Blocks.
    pub fn update(&self, id: &str, resources: serde_json::Value) -> Result<(), TaskError> {
        let task = lock(&self.table).task(id, "update")?;
        Ok(self.backend.update(&task, resources)?)
    }

    /// Resource usage as containerd reads it.
    pub fn stats(&self, id: &str) -> Result<Any, TaskError> {
        let task = lock(&self.table).task(id, "measure")?;
        Ok(self.backend.stats(&task)?)
    }
}
