//! What happens when a process has ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Key, Phase, Table, TaskError, Tasks, Waiter, chain};
use crate::backend::{Backend, Task};
use crate::events::{Event, EventSink, Exit};
use crate::io::{HeldStdio, Logs};
use crate::sync::{in_background, lock};

/// The exits of a container that wait for logs, in their order. Whoever puts the first one in takes care of
/// all; it stays until it is told. Changed with the table locked only.
pub(super) type Ending = Arc<Mutex<VecDeque<(Key, Exit)>>>;

impl<B: Backend, S: EventSink> Tasks<B, S> {
    /// Takes every exit that `next` yields. Reaping happens under the table's lock.
    pub fn reap(self: &Arc<Self>, mut next: impl FnMut() -> Option<(i32, Exit)>) {
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

    /// Records exits, and kills what ended inits have left behind. Where there are logs, that happens in the
    /// background once they are complete, for a disk may be slow; exits of one container keep their order.
    pub(super) fn finish(
        self: &Arc<Self>,
        mut table: MutexGuard<'_, Table>,
        ended: &[(Key, Exit)],
    ) {
        let (mut inits, mut waiting) = (Vec::new(), Vec::new());
        for (key, exit) in ended {
            let exec_id = key.1.as_deref().unwrap_or_default();
            let Ok(process) = table.process(&key.0, exec_id) else {
                continue;
            };
            // From here on nobody signals its pid, which may be another's.
            process.exit = Some(*exit);
            let logs = process.stdio.as_ref().and_then(HeldStdio::logs);
            let Ok(ending) = table.container(&key.0).map(|c| Arc::clone(&c.ending)) else {
                continue;
            };
            let mut queue = lock(&ending);
            if logs.is_none() && queue.is_empty() {
                drop(queue);
                inits.extend(self.finish_one(&mut table, key, *exit));
                continue;
            }
            queue.push_back((key.clone(), *exit));
            if queue.len() == 1 {
                drop(queue);
                waiting.push(ending);
            }
        }
        drop(table);
        for task in inits {
            self.kill_rest(&task);
        }
        for ending in waiting {
            let (tasks, theirs) = (Arc::clone(self), Arc::clone(&ending));
            if let Err(error) = in_background("exit", move || tasks.complete(&theirs)) {
                tracing::warn!(%error, "cannot start a thread; waiting for a container's logs");
                self.complete(&ending);
            }
        }
    }

    /// Tells the exits of a container, each after its logs.
    fn complete(&self, ending: &Ending) {
        loop {
            let mut table = lock(&self.table);
            let Some((key, exit)) = lock(ending).front().cloned() else {
                return;
            };
            if let Some(logs) = logs_of(&mut table, &key) {
                drop(table);
                logs.flush();
                table = lock(&self.table);
            }
            // It may have been removed meanwhile, and another be there by its name.
            let container = table.container(&key.0);
            if !container.is_ok_and(|container| Arc::ptr_eq(&container.ending, ending)) {
                return;
            }
            let init = self.finish_one(&mut table, &key, exit);
            let more = {
                let mut queue = lock(ending);
                queue.pop_front();
                !queue.is_empty()
            };
            drop(table);
            if let Some(task) = init {
                self.kill_rest(&task);
            }
            if !more {
                return;
            }
        }
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

fn logs_of(table: &mut Table, (id, exec_id): &Key) -> Option<Logs> {
    let process = table.process(id, exec_id.as_deref().unwrap_or_default());
    process.ok()?.stdio.as_ref().and_then(HeldStdio::logs)
}
