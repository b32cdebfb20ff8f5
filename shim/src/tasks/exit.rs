//! What happens when a process has ended.

use super::{Key, Phase, Table, TaskError, Tasks, Waiter, chain};
use crate::backend::{Backend, Task};
use crate::events::{Event, EventSink, Exit};
use crate::sync::lock;

impl<B: Backend, S: EventSink> Tasks<B, S> {
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
    pub(super) fn finish(&self, table: &mut Table, key: &Key, exit: Exit) -> Option<Task> {
        let exec_id = key.1.as_deref().unwrap_or_default();
        let process = table.process(&key.0, exec_id).ok()?;
        if process.phase == Phase::Starting {
            // Its start event comes first; whoever starts it calls again.
            process.exit = Some(exit);
            return None;
        }
        if let Some(stdio) = &process.stdio {
            stdio.flush();
        }
        let pid = process.pid;
        let name = key.1.clone().unwrap_or_else(|| key.0.clone());
        // The reason comes before the exit: engines ask for it when they hear of that.
        if let Ok(container) = table.container(&key.0)
            && let Some(oom) = &container.oom
        {
            oom.look();
        }
        self.sink.publish(Event::Exit {
            id: key.0.clone(),
            process: name,
            pid,
            exit,
        });
        table.process(&key.0, exec_id).ok()?.finish(exit);
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
}
