//! Signalling processes, and removing those that have ended.

use std::sync::MutexGuard;
use std::time::{Duration, Instant, SystemTime};

use super::{Phase, START_FAILED, Table, TaskError, Tasks};
use crate::backend::Backend;
use crate::events::{Event, EventSink, Exit};
use crate::sync::lock;

/// How long delete waits for the exit of an init that it killed.
const REAP_TIMEOUT: Duration = Duration::from_secs(10);

impl<B: Backend, S: EventSink> Tasks<B, S> {
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
        // Their last output is written, which takes as long as the disk does. It is in the table meanwhile: a
        // daemon without a container may end.
        let stdio = table.container(id)?.take_stdio();
        drop(table);
        drop(stdio);
        let mut table = lock(&self.table);
        table.containers.remove(id);
        table.by_pid.retain(|_, key| key.0 != id);
        let at = SystemTime::now();
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
        let at = SystemTime::now();
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
        mut table: MutexGuard<'a, Table>,
        id: &str,
    ) -> Result<MutexGuard<'a, Table>, TaskError> {
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
}
