//! Freezing, thawing, limiting and measuring a container.

use containerd_shim_protos::protobuf::well_known_types::any::Any;

use super::{Phase, TaskError, Tasks};
use crate::backend::{Backend, Task};
use crate::events::{Event, EventSink};
use crate::sync::lock;

impl<B: Backend, S: EventSink> Tasks<B, S> {
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
