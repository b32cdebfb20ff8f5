//! What happened to tasks, in the form containerd takes it.

use std::time::SystemTime;

use cofferdam_container::denials::Line;
use containerd_shim_protos::events::container::ContainerUpdate;
use containerd_shim_protos::events::task::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM, TaskPaused,
    TaskResumed, TaskStart,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{self, Message, MessageField};
use containerd_shim_protos::{api::Mount, topics};

use crate::io::StdioPaths;

/// Takes events; never blocks and never fails the caller.
pub trait EventSink: Send + Sync + 'static {
    /// Queues an event behind those queued before.
    fn publish(&self, event: Event);
}

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, or 128 plus the signal that ended it.
    pub status: u32,
    /// When it was reaped.
    pub at: SystemTime,
}

/// Something that happened to a task. The fields are those of containerd's events: `id` is the
/// container, `exec_id` a further process, `process` either.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are explained once, above")]
pub enum Event {
    /// The container exists, init waits.
    Create {
        id: String,
        bundle: String,
        rootfs: Vec<Mount>,
        io: StdioPaths,
        pid: i32,
    },
    /// Init executes its program.
    Start { id: String, pid: i32 },
    /// A further process was announced.
    ExecAdded { id: String, exec_id: String },
    /// A further process runs.
    ExecStarted {
        id: String,
        exec_id: String,
        pid: i32,
    },
    /// A process ended; for init `process` is the container's id.
    Exit {
        id: String,
        process: String,
        pid: i32,
        exit: Exit,
    },
    /// The container is gone.
    Delete { id: String, pid: i32, exit: Exit },
    /// A process of the container was killed for want of memory.
    Oom { id: String },
    /// A system call was denied, or several were.
    Denied { id: String, denial: Denial },
    /// Every process is frozen.
    Paused { id: String },
    /// Every process is thawed.
    Resumed { id: String },
}

/// The topic of denied calls; containerd has none for them.
pub const DENIED_TOPIC: &str = "/cofferdam/denied";

/// A denied call, or how many were, as an event: labels of a `ContainerUpdate`. Clients of containerd
/// (`ctr events` too) show only types that they know; this is the one that takes words of ours. Who
/// acts on events goes by their topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Denial(Vec<(&'static str, String)>);

impl Denial {
    /// What an event says of a line of the log; the log itself says more.
    pub fn of(line: &Line) -> Self {
        Self(match line {
            Line::Denied(denied) => {
                let shown = denied.arguments.iter().map(|argument| {
                    let value = argument.meaning.as_ref().unwrap_or(&argument.value);
                    format!("{}={value}", argument.name)
                });
                let shown = shown.collect::<Vec<_>>().join(", ");
                let edit = denied.cause.edit.as_ref();
                vec![
                    ("executable", denied.executable.clone()),
                    ("pid", denied.pid.to_string()),
                    ("syscall", denied.syscall.clone()),
                    ("call", format!("{}({shown})", denied.syscall)),
                    ("errno", denied.errno.clone()),
                    ("why", denied.cause.text.clone()),
                    (
                        "to-allow",
                        edit.map_or_else(String::new, |edit| edit.text.clone()),
                    ),
                    ("total", denied.total.to_string()),
                ]
            }
            Line::Suppressed(counted) => vec![
                ("executable", counted.executable.clone()),
                ("syscall", counted.syscall.clone()),
                ("count", counted.count.to_string()),
                ("total", counted.total.to_string()),
            ],
            Line::Apparmor(denied) => vec![
                ("apparmor", denied.profile.clone()),
                ("pid", denied.pid.to_string()),
                ("tried", denied.meaning.tried.clone()),
                ("allowed", denied.allowed.to_string()),
                ("why", denied.meaning.why.clone()),
                ("to-allow", denied.meaning.edit.clone()),
                ("total", denied.total.to_string()),
            ],
            Line::ApparmorSuppressed(counted) => vec![
                ("apparmor", "several".to_owned()),
                ("count", counted.count.to_string()),
                ("total", counted.total.to_string()),
            ],
        })
    }

    fn encode(self, id: String) -> protobuf::Result<Vec<u8>> {
        let labels = self.0.into_iter();
        ContainerUpdate {
            id,
            labels: labels.map(|(name, text)| (name.to_owned(), text)).collect(),
            ..Default::default()
        }
        .write_to_bytes()
    }
}

/// An event ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The topic it is published under.
    pub topic: &'static str,
    /// The event.
    pub any: Any,
    /// When it happened.
    pub at: SystemTime,
}

/// A time in the protocol's form; times before 1970 become 1970.
pub fn timestamp(at: SystemTime) -> MessageField<Timestamp> {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    MessageField::some(Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        ..Default::default()
    })
}

/// A pid in the protocol's form.
pub fn wire_pid(pid: i32) -> u32 {
    u32::try_from(pid).unwrap_or(0)
}

impl Event {
    /// Encodes the event. A message that cannot be encoded is a defect of the generated code.
    pub fn encode(self) -> protobuf::Result<Encoded> {
        let at = SystemTime::now();
        let (topic, name, value) = match self {
            Self::Create {
                id,
                bundle,
                rootfs,
                io,
                pid,
            } => {
                let mut event = TaskCreate {
                    container_id: id,
                    bundle,
                    ..Default::default()
                };
                event.pid = wire_pid(pid);
                event.io = MessageField::some(TaskIO {
                    stdin: io.stdin,
                    stdout: io.stdout,
                    stderr: io.stderr,
                    terminal: io.terminal,
                    ..Default::default()
                });
                for mount in rootfs {
                    // The same message, generated twice.
                    event
                        .rootfs
                        .push(Message::parse_from_bytes(&mount.write_to_bytes()?)?);
                }
                let value = event.write_to_bytes()?;
                (
                    topics::TASK_CREATE_EVENT_TOPIC,
                    "containerd.events.TaskCreate",
                    value,
                )
            }
            Self::Start { id, pid } => {
                let mut event = TaskStart {
                    container_id: id,
                    ..Default::default()
                };
                event.pid = wire_pid(pid);
                let value = event.write_to_bytes()?;
                (
                    topics::TASK_START_EVENT_TOPIC,
                    "containerd.events.TaskStart",
                    value,
                )
            }
            Self::ExecAdded { id, exec_id } => {
                let event = TaskExecAdded {
                    container_id: id,
                    exec_id,
                    ..Default::default()
                };
                let value = event.write_to_bytes()?;
                (
                    topics::TASK_EXEC_ADDED_EVENT_TOPIC,
                    "containerd.events.TaskExecAdded",
                    value,
                )
            }
            Self::ExecStarted { id, exec_id, pid } => {
                let mut event = TaskExecStarted {
                    container_id: id,
                    exec_id,
                    ..Default::default()
                };
                event.pid = wire_pid(pid);
                let value = event.write_to_bytes()?;
                (
                    topics::TASK_EXEC_STARTED_EVENT_TOPIC,
                    "containerd.events.TaskExecStarted",
                    value,
                )
            }
            Self::Exit {
                id,
                process,
                pid,
                exit,
            } => {
                let mut event = TaskExit {
                    container_id: id,
                    id: process,
                    ..Default::default()
                };
                event.pid = wire_pid(pid);
                event.exit_status = exit.status;
                event.exited_at = timestamp(exit.at);
                let value = event.write_to_bytes()?;
                (
                    topics::TASK_EXIT_EVENT_TOPIC,
                    "containerd.events.TaskExit",
                    value,
                )
            }
            Self::Delete { id, pid, exit } => {
                let mut event = TaskDelete {
                    container_id: id.clone(),
                    id,
                    ..Default::default()
                };
                event.pid = wire_pid(pid);
                event.exit_status = exit.status;
                event.exited_at = timestamp(exit.at);
                let value = event.write_to_bytes()?;
                (
                    topics::TASK_DELETE_EVENT_TOPIC,
                    "containerd.events.TaskDelete",
                    value,
                )
            }
            Self::Oom { id } => {
                let value = TaskOOM {
                    container_id: id,
                    ..Default::default()
                }
                .write_to_bytes()?;
                (
                    topics::TASK_OOM_EVENT_TOPIC,
                    "containerd.events.TaskOOM",
                    value,
                )
            }
            Self::Denied { id, denial } => {
                let value = denial.encode(id)?;
                (DENIED_TOPIC, "containerd.events.ContainerUpdate", value)
            }
            Self::Paused { id } => {
                let value = TaskPaused {
                    container_id: id,
                    ..Default::default()
                }
                .write_to_bytes()?;
                (
                    topics::TASK_PAUSED_EVENT_TOPIC,
                    "containerd.events.TaskPaused",
                    value,
                )
            }
            Self::Resumed { id } => {
                let value = TaskResumed {
                    container_id: id,
                    ..Default::default()
                }
                .write_to_bytes()?;
                (
                    topics::TASK_RESUMED_EVENT_TOPIC,
                    "containerd.events.TaskResumed",
                    value,
                )
            }
        };
        let any = Any {
            type_url: name.to_owned(),
            value,
            ..Default::default()
        };
        Ok(Encoded { topic, any, at })
    }
}
