//! A backend that only keeps a diary, and who hears the events.

use std::sync::mpsc;
use std::time::SystemTime;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use ttrpc::proto::Code;

use super::super::*;
use crate::backend::{BackendError, Created, NewProcess};
use crate::helper::{Failure, FailureKind, Target};
use crate::io::ChildStdio;
use crate::options::Options;

/// Called inside the backend, to make something happen at exactly that moment.
pub(super) type Meanwhile = Box<dyn Fn() + Send>;

#[derive(Default)]
pub(super) struct Diary {
    pub(super) lines: Mutex<Vec<String>>,
    pub(super) refuse: Mutex<Option<&'static str>>,
    pub(super) meanwhile: Mutex<Option<Meanwhile>>,
    pub(super) next_pid: Mutex<i32>,
    /// What is in the container's cgroup.
    pub(super) pids: Mutex<Vec<i32>>,
}

pub(super) struct Fake(Arc<Diary>);

impl Fake {
    fn note(&self, what: &str, id: &str) -> Result<(), BackendError> {
        lock(&self.0.lines).push(format!("{what} {id}"));
        if let Some(meanwhile) = lock(&self.0.meanwhile).take() {
            meanwhile();
        }
        if *lock(&self.0.refuse) == Some(what) {
            let (kind, message) = (FailureKind::Refused, format!("{what} refused"));
            return Err(Failure { kind, message }.into());
        }
        Ok(())
    }

    fn process(&self) -> NewProcess {
        let mut next = lock(&self.0.next_pid);
        *next += 1;
        NewProcess {
            pid: 100 + *next,
            console: None,
        }
    }
}

impl Backend for Fake {
    fn create(&self, new: &NewTask, _: &ChildStdio) -> Result<Created, BackendError> {
        let init = self.process();
        self.note("create", &new.id)?;
        let target = Target {
            root: "/r".into(),
            id: new.id.clone(),
        };
        let task = Task {
            target,
            bundle: new.bundle.clone(),
            mounted: false,
            options: Options::default(),
            start_hooks: false,
            delete_hooks: false,
        };
        Ok(Created {
            init,
            task,
            denials: None,
        })
    }

    fn start(&self, task: &Task) -> Result<(), BackendError> {
        self.note("start", &task.target.id)
    }

    fn exec(
        &self,
        task: &Task,
        _: serde_json::Value,
        _: &ChildStdio,
    ) -> Result<NewProcess, BackendError> {
        let process = self.process();
        self.note("exec", &task.target.id)?;
        Ok(process)
    }

    fn signal(&self, pid: i32, signal: i32) -> Result<(), BackendError> {
        self.note("signal", &format!("{pid} {signal}"))
    }

    fn signal_all(&self, task: &Task, _: i32) -> Result<(), BackendError> {
        self.note("signal_all", &task.target.id)
    }

    fn delete(&self, task: &Task) -> Result<(), BackendError> {
        self.note("delete", &task.target.id)
    }

    fn pause(&self, task: &Task) -> Result<(), BackendError> {
        self.note("pause", &task.target.id)
    }

    fn resume(&self, task: &Task) -> Result<(), BackendError> {
        self.note("resume", &task.target.id)
    }

    fn update(&self, task: &Task, _: serde_json::Value) -> Result<(), BackendError> {
        self.note("update", &task.target.id)
    }

    fn stats(&self, _: &Task) -> Result<Any, BackendError> {
        Ok(Any::new())
    }

    fn pids(&self, _: &Task) -> Result<Vec<i32>, BackendError> {
        Ok(lock(&self.0.pids).clone())
    }

    fn watch_oom(
        &self,
        _: &Task,
        _: &Arc<Reactor>,
        notify: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Option<OomGuard>, BackendError> {
        if *lock(&self.0.refuse) == Some("memory") {
            notify();
        }
        Ok(None)
    }
}

#[derive(Default)]
pub(super) struct Seen(Mutex<Vec<String>>);

impl EventSink for Seen {
    fn publish(&self, event: Event) {
        let line = match event {
            Event::Create { pid, .. } => format!("create {pid}"),
            Event::Denied { .. } => "denied".to_owned(),
            Event::Start { pid, .. } => format!("start {pid}"),
            Event::ExecAdded { exec_id, .. } => format!("exec-added {exec_id}"),
            Event::ExecStarted { exec_id, pid, .. } => format!("exec-started {exec_id} {pid}"),
            Event::Exit {
                process, pid, exit, ..
            } => {
                format!("exit {process} {pid} {}", exit.status)
            }
            Event::Delete { pid, exit, .. } => format!("delete {pid} {}", exit.status),
            Event::Oom { id } => format!("oom {id}"),
            Event::Paused { id } => format!("paused {id}"),
            Event::Resumed { id } => format!("resumed {id}"),
        };
        lock(&self.0).push(line);
    }
}

pub(super) struct World {
    pub(super) diary: Arc<Diary>,
    pub(super) seen: Arc<Seen>,
    pub(super) tasks: Arc<Tasks<Fake, Seen>>,
}

pub(super) fn world() -> World {
    let (diary, seen) = (Arc::new(Diary::default()), Arc::new(Seen::default()));
    let reactor = Arc::new(Reactor::new().unwrap());
    let fake = Fake(Arc::clone(&diary));
    let tasks = Arc::new(Tasks::new(
        "ns".to_owned(),
        fake,
        Arc::clone(&seen),
        reactor,
    ));
    World { diary, seen, tasks }
}

impl World {
    pub(super) fn create(&self, id: &str) -> Result<i32, TaskError> {
        let new = NewTask {
            id: id.to_owned(),
            bundle: "/b".into(),
            rootfs: Vec::new(),
            options: Options::default(),
        };
        self.tasks.create(new, StdioPaths::default())
    }

    pub(super) fn add(&self, id: &str, exec_id: &str) -> Result<(), TaskError> {
        self.tasks
            .add_exec(id, exec_id, serde_json::json!({}), StdioPaths::default())
    }

    pub(super) fn end(&self, pid: i32, status: u32) {
        end(&self.tasks, pid, status);
    }

    pub(super) fn meanwhile(&self, work: impl Fn() + Send + 'static) {
        *lock(&self.diary.meanwhile) = Some(Box::new(work));
    }

    pub(super) fn events(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen.0))
    }

    pub(super) fn wait(&self, id: &str, exec_id: &str) -> mpsc::Receiver<u32> {
        let (tx, rx) = mpsc::channel();
        let waiter = Box::new(move |exit: Exit| tx.send(exit.status).unwrap_or_default());
        self.tasks.wait(id, exec_id, waiter).unwrap();
        rx
    }
}

pub(super) fn end(tasks: &Arc<Tasks<Fake, Seen>>, pid: i32, status: u32) {
    let mut exits = vec![(
        pid,
        Exit {
            status,
            at: SystemTime::now(),
        },
    )];
    tasks.reap(|| exits.pop());
}

pub(super) fn code(error: TaskError) -> Code {
    error.code()
}
