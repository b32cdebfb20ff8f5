//! What can be asked about a process without changing it, and its terminal and stdin.

use super::{Phase, TaskError, Tasks};
use crate::backend::Backend;
use crate::events::{EventSink, Exit};
use crate::io::StdioPaths;
use crate::sync::lock;

/// A process as containerd sees it.
#[derive(Debug, Clone)]
pub struct ProcessView {
    /// The bundle of its container.
    pub bundle: String,
    /// Its pid; 0 before it was started.
    pub pid: i32,
    /// Where it is in its life.
    pub phase: Phase,
    /// The container is frozen.
    pub paused: bool,
    /// Its stdio.
    pub paths: StdioPaths,
    /// How it ended.
    pub exit: Option<Exit>,
}

impl<B: Backend, S: EventSink> Tasks<B, S> {
    /// The state of init or of a further process.
    pub fn state(&self, id: &str, exec_id: &str) -> Result<ProcessView, TaskError> {
        let mut table = lock(&self.table);
        let container = table.container(id)?;
        let bundle = container
            .task
            .as_ref()
            .map(|task| task.bundle.to_string_lossy().into_owned());
        let paused = container.paused;
        let process = table.process(id, exec_id)?;
        Ok(ProcessView {
            bundle: bundle.unwrap_or_default(),
            pid: process.pid,
            phase: process.phase,
            paused,
            paths: process.paths.clone(),
            exit: process.exit,
        })
    }

    /// Every process of the container, with the id under which the table knows it.
    pub fn pids(&self, id: &str) -> Result<Vec<(i32, Option<String>)>, TaskError> {
        let task = lock(&self.table).task(id, "list")?;
        let pids = self.backend.pids(&task)?;
        let mut table = lock(&self.table);
        let execs = &table.container(id)?.execs;
        let name = |pid: i32| {
            let known = execs.iter().find(|(_, process)| process.pid == pid);
            (pid, known.map(|(exec_id, _)| exec_id.clone()))
        };
        Ok(pids.into_iter().map(name).collect())
    }

    /// Sets the size of a process's terminal, in character cells.
    pub fn resize(
        &self,
        id: &str,
        exec_id: &str,
        columns: u16,
        rows: u16,
    ) -> Result<(), TaskError> {
        let mut table = lock(&self.table);
        let process = table.process(id, exec_id)?;
        if process.phase == Phase::Stopped {
            return Err(TaskError::Finished);
        }
        process.window = Some((columns, rows));
        match &process.stdio {
            Some(stdio) => stdio
                .resize(columns, rows)
                .map_err(|e| TaskError::Io(e.into())),
            None => Ok(()),
        }
    }

    /// Lets a process see the end of its stdin.
    pub fn close_stdin(&self, id: &str, exec_id: &str) -> Result<(), TaskError> {
        let mut table = lock(&self.table);
        table.process(id, exec_id)?.close_stdin();
        Ok(())
    }
}
