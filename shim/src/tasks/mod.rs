//! The task table: every container of this shim, its processes, and the order of what happens.
//!
//! Generic over the backend and the event sink, so that the whole life cycle is tested without root.
//! The table's lock is held for bookkeeping only, never across a call that may block; a phase marks
//! what is under way. Two orders matter:
//! - a process that ends while it is being made or started is remembered, so its exit event comes
//!   after its start event;
//! - a process is signalled and reaped under the lock, so a pid is never signalled after it was
//!   given to someone else.

/// Freezing, thawing, limiting and measuring a container.
mod control;
/// Signalling processes, and removing those that have ended.
mod delete;
/// Why a request failed.
mod error;
/// What happens when a process has ended.
mod exit;
/// One process of a container.
mod process;
/// Starting init, and announcing and starting further processes.
mod start;
#[cfg(test)]
mod tests;
/// What can be asked about a process without changing it.
mod view;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex};

pub use error::{TaskError, chain};
pub use process::{Phase, Process, Waiter};
pub use view::ProcessView;

use crate::backend::{Backend, NewTask, OomGuard, Task};
use crate::denial_events;
use crate::events::{Event, EventSink, Exit};
use crate::io::{self, HeldStdio, Owner, StdioPaths};
use crate::reactor::Reactor;
use crate::sync::lock;

/// The status of a process whose start failed.
const START_FAILED: u32 = 255;

/// A container's process by name: `None` is init.
type Key = (String, Option<String>);

/// A container that the backend has just made.
struct Made {
    task: Task,
    pid: i32,
    denials: Option<OwnedFd>,
}

struct Container {
    /// `None` while it is being created.
    task: Option<Task>,
    init: Process,
    execs: BTreeMap<String, Process>,
    paused: bool,
    oom: Option<OomGuard>,
    ending: exit::Ending,
}

impl Container {
    /// What is held of its processes' stdio.
    fn take_stdio(&mut self) -> Vec<HeldStdio> {
        let execs = self.execs.values_mut();
        let all = std::iter::once(&mut self.init).chain(execs);
        all.filter_map(|process| process.stdio.take()).collect()
    }
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
                ending: exit::Ending::default(),
            };
            table.containers.insert(id.clone(), container);
            table.in_flight += 1;
        }
        let made = self.make(&new, &paths);
        let mut table = lock(&self.table);
        let (made, held) = match made {
            Ok(made) => made,
            Err(e) => {
                table.landed();
                table.containers.remove(&id);
                return Err(e);
            }
        };
        let Made { task, pid, denials } = made;
        let early = table.claim(pid, (id.clone(), None));
        table.landed();
        let container = table.container(&id)?;
        container.task = Some(task.clone());
        container.init.pid = pid;
        container.init.hold(held);
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
        match early {
            Some(exit) => self.finish(table, &[((id.clone(), None), exit)]),
            None => drop(table),
        }
        self.watch_oom(&id, &task);
        if let Some(denials) = denials {
            self.watch_denials(&id, denials);
        }
        Ok(pid)
    }

    fn make(&self, new: &NewTask, paths: &StdioPaths) -> Result<(Made, io::HeldStdio), TaskError> {
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
        let made = Made {
            task: created.task,
            pid: created.init.pid,
            denials: created.denials,
        };
        Ok((made, held))
    }

    fn watch_denials(self: &Arc<Self>, id: &str, channel: OwnedFd) {
        let sink = Arc::downgrade(&self.sink);
        let name = id.to_owned();
        let notify = Box::new(move |denial| {
            if let Some(sink) = sink.upgrade() {
                let id = name.clone();
                sink.publish(Event::Denied { id, denial });
            }
        });
        if let Err(error) = denial_events::watch(channel, &self.reactor, notify) {
            tracing::warn!(id, %error, "denied calls are not published");
        }
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
}
