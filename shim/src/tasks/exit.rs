//! What happens when a process has ended.

use std::sync::MutexGuard;

use super::{Key, Phase, Table, TaskError, Tasks, Waiter, chain};
use crate::backend::{Backend, Task};
use crate::events::{Event, EventSink, Exit};
use crate::io::{HeldStdio, Logs};
use crate::sync::lock;

impl<B: Backend, S: EventSink> Tasks<B, S> {
    /// Takes every exit that `next` yields. Reaping happens under the table's lock.
    pub fn reap(&self, mut next: impl FnMut() -> Option<(i32, Exit)>) {
        let mut table = lock(&self.table);
        let mut ended = Vec::new();
        while let Some((pid, exit)) = next() {
            match table.by_pid.remove(&pid) {
                Some(key) => ended.push((key, exit)),
                // A helper, a logger, a hook's orphan, or a process whose maker has not told us yet.
                None if table.in_flight > 0 => {
                    table.unclaimed.insert(pid, exit);
                }
                None => {}
            }
        }
        self.finish(table, &ended);
    }

    /// Records exits, and kills what ended inits have left behind.
    pub(super) fn finish(&self, table: MutexGuard<'_, Table>, ended: &[(Key, Exit)]) {
        let (table, inits) = self.record(table, ended);
        drop(table);
        for task in inits {
            self.kill_rest(&task);
        }
    }

    /// Records exits. Their logs are completed first, without the table, for a disk may be slow. Returns the
    /// tasks whose init has ended.
    fn record<'a>(
        &'a self,
        mut table: MutexGuard<'a, Table>,
        ended: &[(Key, Exit)],
    ) -> (MutexGuard<'a, Table>, Vec<Task>) {
        let mut logs = Vec::new();
        for ((id, exec_id), exit) in ended {
            if let Ok(process) = table.process(id, exec_id.as_deref().unwrap_or_default()) {
                // From here on nobody signals its pid, which may be another's.
                process.exit = Some(*exit);
                logs.extend(process.stdio.as_ref().and_then(HeldStdio::logs));
            }
        }
        if !logs.is_empty() {
            drop(table);
            logs.iter().for_each(Logs::flush);
            table = lock(&self.table);
        }
        let inits = ended.iter();
        let inits = inits.filter_map(|(key, exit)| self.finish_one(&mut table, key, *exit));
        let inits = inits.collect();
        (table, inits)
    }

    fn finish_one(&self, table: &mut Table, key: &Key, exit: Exit) -> Option<Task> {
        let exec_id = key.1.as_deref().unwrap_or_default();
        let process = table.process(&key.0, exec_id).ok()?;
        match process.phase {
            // Its start event comes first; whoever starts it calls again.
            Phase::Starting => return None,
            // Who started it was quicker.
            Phase::Stopped | Phase::Deleting => return None,
            _ => {}
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
