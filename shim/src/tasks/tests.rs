//! The life cycle against a backend that only keeps a diary: no root, no processes.

use std::sync::mpsc;
use std::thread;
use std::time::SystemTime;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use ttrpc::proto::Code;

use super::*;
use crate::backend::{BackendError, Created, NewProcess};
use crate::helper::{Failure, FailureKind, Target};
use crate::io::ChildStdio;
use crate::options::Options;

/// Called inside the backend, to make something happen at exactly that moment.
type Meanwhile = Box<dyn Fn() + Send>;

#[derive(Default)]
struct Diary {
    lines: Mutex<Vec<String>>,
    refuse: Mutex<Option<&'static str>>,
    meanwhile: Mutex<Option<Meanwhile>>,
    next_pid: Mutex<i32>,
}

struct Fake(Arc<Diary>);

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
        Ok(Vec::new())
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
struct Seen(Mutex<Vec<String>>);

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

struct World {
    diary: Arc<Diary>,
    seen: Arc<Seen>,
    tasks: Arc<Tasks<Fake, Seen>>,
}

fn world() -> World {
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
    fn create(&self, id: &str) -> Result<i32, TaskError> {
        let new = NewTask {
            id: id.to_owned(),
            bundle: "/b".into(),
            rootfs: Vec::new(),
            options: Options::default(),
        };
        self.tasks.create(new, StdioPaths::default())
    }

    fn add(&self, id: &str, exec_id: &str) -> Result<(), TaskError> {
        self.tasks
            .add_exec(id, exec_id, serde_json::json!({}), StdioPaths::default())
    }

    fn end(&self, pid: i32, status: u32) {
        end(&self.tasks, pid, status);
    }

    fn meanwhile(&self, work: impl Fn() + Send + 'static) {
        *lock(&self.diary.meanwhile) = Some(Box::new(work));
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.seen.0))
    }

    fn wait(&self, id: &str, exec_id: &str) -> mpsc::Receiver<u32> {
        let (tx, rx) = mpsc::channel();
        let waiter = Box::new(move |exit: Exit| tx.send(exit.status).unwrap_or_default());
        self.tasks.wait(id, exec_id, waiter).unwrap();
        rx
    }
}

fn end(tasks: &Tasks<Fake, Seen>, pid: i32, status: u32) {
    let mut exits = vec![(
        pid,
        Exit {
            status,
            at: SystemTime::now(),
        },
    )];
    tasks.reap(|| exits.pop());
}

fn code(error: TaskError) -> Code {
    error.code()
}

#[test]
fn a_whole_life() {
    let w = world();
    assert_eq!(w.create("c").unwrap(), 101);
    assert_eq!(w.tasks.start("c", "").unwrap(), 101);
    w.add("c", "e").unwrap();
    assert_eq!(w.tasks.start("c", "e").unwrap(), 102);
    let (init, exec) = (w.wait("c", ""), w.wait("c", "e"));
    w.tasks.pause("c").unwrap();
    assert!(w.tasks.state("c", "").unwrap().paused);
    w.tasks.resume("c").unwrap();
    w.end(102, 3);
    assert_eq!(exec.recv().unwrap(), 3);
    assert!(init.try_recv().is_err());
    assert_eq!(w.tasks.delete("c", "e").unwrap().0, 102);
    w.end(101, 137);
    assert_eq!(init.recv().unwrap(), 137);
    assert_eq!(w.wait("c", "").recv().unwrap(), 137);
    let (pid, exit) = w.tasks.delete("c", "").unwrap();
    assert_eq!((pid, exit.status), (101, 137));
    assert!(w.tasks.is_empty());
    assert_eq!(
        w.events(),
        [
            "create 101",
            "start 101",
            "exec-added e",
            "exec-started e 102",
            "paused c",
            "resumed c",
            "exit e 102 3",
            "exit c 101 137",
            "delete 101 137",
        ]
    );
}

#[test]
fn an_init_that_ends_while_being_started_exits_after_its_start() {
    let w = world();
    w.create("c").unwrap();
    let tasks = Arc::clone(&w.tasks);
    w.meanwhile(move || end(&tasks, 101, 7));
    w.tasks.start("c", "").unwrap();
    assert_eq!(w.events(), ["create 101", "start 101", "exit c 101 7"]);
    assert_eq!(w.wait("c", "").recv().unwrap(), 7);
}

#[test]
fn a_process_that_ends_before_its_pid_is_known_is_not_lost() {
    let w = world();
    let tasks = Arc::clone(&w.tasks);
    w.meanwhile(move || end(&tasks, 101, 1));
    w.create("c").unwrap();
    assert_eq!(w.events(), ["create 101", "exit c 101 1"]);

    w.create("d").unwrap();
    w.tasks.start("d", "").unwrap();
    w.add("d", "e").unwrap();
    w.events();
    let tasks = Arc::clone(&w.tasks);
    w.meanwhile(move || end(&tasks, 103, 2));
    w.tasks.start("d", "e").unwrap();
    assert_eq!(w.events(), ["exec-started e 103", "exit e 103 2"]);
    assert_eq!(w.wait("d", "e").recv().unwrap(), 2);
}

#[test]
fn exits_that_nobody_claims_are_forgotten() {
    let w = world();
    w.end(4242, 0);
    assert!(lock(&w.tasks.table).unclaimed.is_empty());
    let tasks = Arc::clone(&w.tasks);
    w.meanwhile(move || end(&tasks, 4242, 0));
    w.create("c").unwrap();
    assert!(lock(&w.tasks.table).unclaimed.is_empty());
    assert_eq!(w.events(), ["create 101"]);
}

#[test]
fn a_failed_create_leaves_nothing() {
    let w = world();
    *lock(&w.diary.refuse) = Some("create");
    let error = w.create("c").unwrap_err();
    assert_eq!(error.to_string(), "create refused");
    assert_eq!(code(error), Code::FAILED_PRECONDITION);
    assert!(w.tasks.is_empty());
    assert!(w.events().is_empty());
    *lock(&w.diary.refuse) = None;
    w.create("c").unwrap();
}

#[test]
fn a_failed_exec_ends_its_waiters() {
    let w = world();
    w.create("c").unwrap();
    w.tasks.start("c", "").unwrap();
    w.add("c", "e").unwrap();
    let waiting = w.wait("c", "e");
    *lock(&w.diary.refuse) = Some("exec");
    assert!(w.tasks.start("c", "e").is_err());
    assert_eq!(waiting.recv().unwrap(), 255);
    w.tasks.delete("c", "e").unwrap();
    w.add("c", "e").unwrap();
}

#[test]
fn a_failed_start_can_be_deleted() {
    let w = world();
    w.create("c").unwrap();
    *lock(&w.diary.refuse) = Some("start");
    assert!(w.tasks.start("c", "").is_err());
    *lock(&w.diary.refuse) = None;
    let tasks = Arc::clone(&w.tasks);
    w.meanwhile(move || {
        let tasks = Arc::clone(&tasks);
        thread::spawn(move || end(&tasks, 101, 137));
    });
    w.tasks.delete("c", "").unwrap();
    let lines = lock(&w.diary.lines).clone();
    assert_eq!(lines, ["create c", "start c", "signal 101 9", "delete c"]);
}

#[test]
fn a_failed_delete_can_be_repeated() {
    let w = world();
    w.create("c").unwrap();
    w.tasks.start("c", "").unwrap();
    w.end(101, 0);
    *lock(&w.diary.refuse) = Some("delete");
    assert!(w.tasks.delete("c", "").is_err());
    assert_eq!(w.tasks.state("c", "").unwrap().phase, Phase::Stopped);
    *lock(&w.diary.refuse) = None;
    w.tasks.delete("c", "").unwrap();
}

#[test]
fn requests_in_the_wrong_phase() {
    let w = world();
    w.create("c").unwrap();
    assert_eq!(code(w.create("c").unwrap_err()), Code::ALREADY_EXISTS);
    assert_eq!(
        code(w.tasks.pause("c").unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    w.tasks.start("c", "").unwrap();
    assert_eq!(
        code(w.tasks.start("c", "").unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    assert_eq!(
        code(w.tasks.delete("c", "").unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    w.add("c", "e").unwrap();
    assert_eq!(code(w.add("c", "e").unwrap_err()), Code::ALREADY_EXISTS);
    assert_eq!(code(w.add("c", "").unwrap_err()), Code::INVALID_ARGUMENT);
    assert_eq!(
        code(w.tasks.kill("c", "e", 9, false).unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    w.end(101, 0);
    assert_eq!(
        code(w.tasks.start("c", "e").unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    let finished = w.tasks.kill("c", "", 9, false).unwrap_err();
    assert_eq!(finished.to_string(), "process already finished: not found");
    assert_eq!(code(finished), Code::NOT_FOUND);
    assert_eq!(
        code(w.tasks.pause("c").unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    for missing in [
        w.tasks.start("x", "").map(drop),
        w.tasks.start("c", "x").map(drop),
        w.tasks.kill("x", "", 9, true),
        w.tasks.delete("x", "").map(drop),
        w.tasks.delete("c", "x").map(drop),
        w.tasks.state("x", "").map(drop),
        w.tasks.state("c", "x").map(drop),
        w.tasks.wait("x", "", Box::new(|_| {})),
        w.tasks.pids("x").map(drop),
        w.tasks.resize("x", "", 1, 1),
        w.tasks.close_stdin("c", "x"),
        w.tasks.update("x", serde_json::json!({})),
        w.tasks.stats("x").map(drop),
    ] {
        assert_eq!(code(missing.unwrap_err()), Code::NOT_FOUND);
    }
}

#[test]
fn killing_a_frozen_container_thaws_it() {
    let w = world();
    w.create("c").unwrap();
    w.tasks.start("c", "").unwrap();
    w.tasks.pause("c").unwrap();
    w.tasks.kill("c", "", libc::SIGTERM, false).unwrap();
    assert!(w.tasks.state("c", "").unwrap().paused);
    w.tasks.kill("c", "", libc::SIGKILL, false).unwrap();
    assert!(!w.tasks.state("c", "").unwrap().paused);
    let lines = lock(&w.diary.lines).clone();
    assert_eq!(lines[3..], ["signal 101 15", "signal 101 9", "resume c"]);
}

#[test]
fn memory_running_out_is_an_event() {
    let w = world();
    *lock(&w.diary.refuse) = Some("memory");
    w.create("c").unwrap();
    assert_eq!(w.events(), ["create 101", "oom c"]);
}
