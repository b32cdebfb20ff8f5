//! Starting init, and announcing and starting further processes.

use std::sync::Arc;

use super::{Key, Phase, Process, START_FAILED, TaskError, Tasks};
use crate::backend::{Backend, NewProcess, Task};
use crate::events::{Event, EventSink, Exit};
use crate::io::{self, Owner, StdioPaths};
use crate::sync::lock;

impl<B: Backend, S: EventSink> Tasks<B, S> {
    /// Starts init, or a process that was announced by [`Tasks::add_exec`]. Returns its pid. Blocks.
    pub fn start(self: &Arc<Self>, id: &str, exec_id: &str) -> Result<i32, TaskError> {
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
        self: &Arc<Self>,
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
            self.finish(table, &[(key.clone(), exit)]);
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
        self: &Arc<Self>,
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
        if let Err(e) = table.process(id, &exec_id).map(drop) {
            // Its container was removed. Dropping what is held of its stdio may wait for a disk.
            drop(table);
            return Err(e);
        }
        let attached = held.attach(&self.reactor, made.console);
        let process = table.process(id, &exec_id)?;
        if let (Ok(()), Some((columns, rows))) = (&attached, process.window) {
            held.resize(columns, rows).unwrap_or_default();
        }
        process.pid = made.pid;
        process.hold(held);
        process.phase = Phase::Running;
        let pid = made.pid;
        self.sink.publish(Event::ExecStarted {
            id: id.clone(),
            exec_id,
            pid,
        });
        match early {
            Some(exit) => self.finish(table, &[(key.clone(), exit)]),
            None => drop(table),
        }
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
}
