//! The Task service: from a request's bytes to the task table and back.
//!
//! Both names of the service are served with the same messages: `containerd.task.v2.Task`
//! (containerd 1.6 and 1.7) and `containerd.task.v3.Task` (2.x), which is a renamed copy.

use std::sync::Arc;

use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest,
    StatsResponse, Status as TaskStatus, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::ProcessDetails;
use ttrpc::proto::{Code, Request};

use crate::backend::{Backend, NewTask};
use crate::events::{EventSink, Exit, timestamp, wire_pid};
use crate::io::StdioPaths;
use crate::options::Options;
use crate::rpc::{Handler, Reply, Status};
use crate::sync::in_background;
use crate::tasks::{Phase, ProcessView, TaskError, Tasks};

/// The names under which the service is called.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// Serves the task table.
pub struct Service<B, S> {
    tasks: Arc<Tasks<B, S>>,
    /// Called when containerd asks an empty shim to end.
    shutdown: Box<dyn Fn() + Send + Sync>,
}

impl<B: Backend, S: EventSink> Service<B, S> {
    /// A service over `tasks`; `shutdown` ends the daemon once its events are out.
    pub fn new(tasks: Arc<Tasks<B, S>>, shutdown: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { tasks, shutdown }
    }

    /// Answers at once, on the loop's thread.
    fn now<Q: Message, A: Message>(
        &self,
        payload: &[u8],
        reply: Reply,
        work: impl FnOnce(&Arc<Tasks<B, S>>, Q) -> Result<A, TaskError>,
    ) {
        reply.send(decode(payload).and_then(|q| encode(work(&self.tasks, q)?)));
    }

    /// Answers from a thread of its own, for work that may block.
    fn later<Q: Message, A: Message>(
        &self,
        method: &str,
        payload: &[u8],
        reply: Reply,
        work: impl FnOnce(&Arc<Tasks<B, S>>, Q) -> Result<A, TaskError> + Send + 'static,
    ) {
        let request = match decode(payload) {
            Ok(request) => request,
            Err(status) => return reply.send(Err(status)),
        };
        let tasks = Arc::clone(&self.tasks);
        let started = in_background(method, move || {
            let answer = work(&tasks, request).map_err(Status::from).and_then(encode);
            reply.send(answer);
        });
        if let Err(error) = started {
            // The reply went with the closure and has told the caller.
            tracing::error!(%error, method, "cannot start a thread");
        }
    }

    fn wait(&self, payload: &[u8], reply: Reply) {
        let request: WaitRequest = match decode(payload) {
            Ok(request) => request,
            Err(status) => return reply.send(Err(status)),
        };
        // The waiter owns the reply; on an error it is handed back through this slot.
        let slot = Arc::new(std::sync::Mutex::new(Some(reply)));
        let taken = Arc::clone(&slot);
        let waiter = Box::new(move |exit: Exit| {
            if let Some(reply) = crate::sync::lock(&taken).take() {
                let mut answer = WaitResponse::new();
                answer.exit_status = exit.status;
                answer.exited_at = timestamp(exit.at);
                reply.send(encode(answer));
            }
        });
        if let Err(e) = self.tasks.wait(&request.id, &request.exec_id, waiter)
            && let Some(reply) = crate::sync::lock(&slot).take()
        {
            reply.send(Err(e.into()));
        }
    }

    fn shutdown(&self, payload: &[u8], reply: Reply) {
        let request: Result<ShutdownRequest, Status> = decode(payload);
        let answer = request.and_then(|_| encode(Empty::new()));
        let ok = answer.is_ok();
        reply.send(answer);
        // A pod's shim is asked once for each container and ends with the last.
        if ok && self.tasks.is_empty() {
            (self.shutdown)();
        }
    }
}

impl<B: Backend, S: EventSink> Handler for Service<B, S> {
    fn call(&self, request: Request, reply: Reply) {
        let method = request.method.as_str();
        let payload = request.payload.as_slice();
        if !SERVICES.contains(&request.service.as_str()) {
            let message = format!("the service {:?} is not served here", request.service);
            return reply.send(Err(Status {
                code: Code::UNIMPLEMENTED,
                message,
            }));
        }
        tracing::debug!(method, "request");
        match method {
            "State" => self.now(payload, reply, state),
            "Create" => self.later(method, payload, reply, create),
            "Start" => self.later(method, payload, reply, start),
            "Delete" => self.later(method, payload, reply, delete),
            "Pids" => self.now(payload, reply, pids),
            "Pause" => self.later(method, payload, reply, |t, q: PauseRequest| {
                t.pause(&q.id).map(|()| Empty::new())
            }),
            "Resume" => self.later(method, payload, reply, |t, q: ResumeRequest| {
                t.resume(&q.id).map(|()| Empty::new())
            }),
            "Checkpoint" => self.now(payload, reply, |_, _: CheckpointTaskRequest| {
                Err::<Empty, _>(TaskError::Unimplemented(
                    "cofferdam does not checkpoint containers: their confinement could not be \
                     restored",
                ))
            }),
            "Kill" => self.later(method, payload, reply, kill),
            "Exec" => self.now(payload, reply, exec),
            "ResizePty" => self.now(payload, reply, resize),
            "CloseIO" => self.now(payload, reply, close_io),
            "Update" => self.later(method, payload, reply, update),
            "Wait" => self.wait(payload, reply),
            "Stats" => self.later(method, payload, reply, stats),
            "Connect" => self.now(payload, reply, connect),
            "Shutdown" => self.shutdown(payload, reply),
            _ => {
                let message = format!("the method {method:?} is not served here");
                reply.send(Err(Status {
                    code: Code::UNIMPLEMENTED,
                    message,
                }));
            }
        }
    }
}

fn decode<Q: Message>(payload: &[u8]) -> Result<Q, Status> {
    Q::parse_from_bytes(payload).map_err(|e| Status {
        code: Code::INVALID_ARGUMENT,
        message: format!("cannot decode the request: {e}"),
    })
}

fn encode<A: Message>(answer: A) -> Result<Vec<u8>, Status> {
    answer.write_to_bytes().map_err(|e| Status {
        code: Code::INTERNAL,
        message: format!("cannot encode the answer: {e}"),
    })
}

type Table<B, S> = Arc<Tasks<B, S>>;

fn state<B: Backend, S: EventSink>(
    tasks: &Table<B, S>,
    q: StateRequest,
) -> Result<StateResponse, TaskError> {
    let view = tasks.state(&q.id, &q.exec_id)?;
    let mut answer = StateResponse::new();
    answer.status = status(&view).into();
    answer.id = if q.exec_id.is_empty() {
        q.id
    } else {
        q.exec_id.clone()
    };
    answer.exec_id = q.exec_id;
    answer.bundle = view.bundle;
    answer.pid = wire_pid(view.pid);
    answer.stdin = view.paths.stdin;
    answer.stdout = view.paths.stdout;
    answer.stderr = view.paths.stderr;
    answer.terminal = view.paths.terminal;
    if let Some(exit) = view.exit {
        answer.exit_status = exit.status;
        answer.exited_at = timestamp(exit.at);
    }
    Ok(answer)
}

fn status(view: &ProcessView) -> TaskStatus {
    match view.phase {
        Phase::Creating | Phase::Created | Phase::Starting => TaskStatus::CREATED,
        Phase::Running if view.paused => TaskStatus::PAUSED,
        Phase::Running => TaskStatus::RUNNING,
        Phase::Stopped | Phase::Deleting => TaskStatus::STOPPED,
    }
}

fn create<B: Backend, S: EventSink>(
    tasks: &Table<B, S>,
    q: CreateTaskRequest,
) -> Result<CreateTaskResponse, TaskError> {
    if !q.checkpoint.is_empty() || !q.parent_checkpoint.is_empty() {
        return Err(TaskError::Unimplemented(
            "cofferdam does not restore checkpoints",
        ));
    }
    let paths = StdioPaths {
        stdin: q.stdin,
        stdout: q.stdout,
        stderr: q.stderr,
        terminal: q.terminal,
    };
    let options = Options::from_any(q.options.as_ref())?;
    let new = NewTask {
        id: q.id,
        bundle: q.bundle.into(),
        rootfs: q.rootfs,
        options,
    };
    let mut answer = CreateTaskResponse::new();
    answer.pid = wire_pid(tasks.create(new, paths)?);
    Ok(answer)
}

fn start<B: Backend, S: EventSink>(
    tasks: &Table<B, S>,
    q: StartRequest,
) -> Result<StartResponse, TaskError> {
    let mut answer = StartResponse::new();
    answer.pid = wire_pid(tasks.start(&q.id, &q.exec_id)?);
    Ok(answer)
}

fn delete<B: Backend, S: EventSink>(
    tasks: &Table<B, S>,
    q: DeleteRequest,
) -> Result<DeleteResponse, TaskError> {
    let (pid, exit) = tasks.delete(&q.id, &q.exec_id)?;
    let mut answer = DeleteResponse::new();
    answer.pid = wire_pid(pid);
    answer.exit_status = exit.status;
    answer.exited_at = timestamp(exit.at);
    Ok(answer)
}

fn pids<B: Backend, S: EventSink>(
    tasks: &Table<B, S>,
    q: PidsRequest,
) -> Result<PidsResponse, TaskError> {
    let mut answer = PidsResponse::new();
    for (pid, exec_id) in tasks.pids(&q.id)? {
        let mut info = ProcessInfo::new();
        info.pid = wire_pid(pid);
        if let Some(exec_id) = exec_id {
            let details = ProcessDetails {
                exec_id,
                ..Default::default()
            };
            let value = details
                .write_to_bytes()
                .map_err(invalid("process details"))?;
            let type_url = "containerd.runc.v1.ProcessDetails".to_owned();
            info.info = MessageField::some(Any {
                type_url,
                value,
                ..Default::default()
            });
        }
        answer.processes.push(info);
    }
    Ok(answer)
}

fn kill<B: Backend, S: EventSink>(tasks: &Table<B, S>, q: KillRequest) -> Result<Empty, TaskError> {
    let signal = i32::try_from(q.signal).map_err(invalid("signal"))?;
    tasks.kill(&q.id, &q.exec_id, signal, q.all)?;
    Ok(Empty::new())
}

fn exec<B: Backend, S: EventSink>(
    tasks: &Table<B, S>,
    q: ExecProcessRequest,
) -> Result<Empty, TaskError> {
    let spec = json(q.spec.as_ref(), "spec")?;
    let paths = StdioPaths {
        stdin: q.stdin,
        stdout: q.stdout,
        stderr: q.stderr,
        terminal: q.terminal,
    };
    tasks.add_exec(&q.id, &q.exec_id, spec, paths)?;
    Ok(Empty::new())
}

fn resize<B: Backend, S: EventSink>(
    tasks: &Table<B, S>,
    q: ResizePtyRequest,
) -> Result<Empty, TaskError> {
    let columns = u16::try_from(q.width).map_err(invalid("width"))?;
    let rows = u16::try_from(q.height).map_err(invalid("height"))?;
    tasks.resize(&q.id, &q.exec_id, columns, rows)?;
    Ok(Empty::new())
}

fn close_io<B: Backend, S: EventSink>(
    tasks: &Table<B, S>,
    q: CloseIORequest,
) -> Result<Empty, TaskError> {
    if q.stdin {
        tasks.close_stdin(&q.id, &q.exec_id)?;
    }
    Ok(Empty::new())
}

fn update<B: Backend, S: EventSink>(
    tasks: &Table<B, S>,
    q: UpdateTaskRequest,
) -> Result<Empty, TaskError> {
    tasks.update(&q.id, json(q.resources.as_ref(), "resources")?)?;
    Ok(Empty::new())
}

fn stats<B: Backend, S: EventSink>(
    tasks: &Table<B, S>,
    q: StatsRequest,
) -> Result<StatsResponse, TaskError> {
    let mut answer = StatsResponse::new();
    answer.stats = MessageField::some(tasks.stats(&q.id)?);
    Ok(answer)
}

fn connect<B: Backend, S: EventSink>(
    tasks: &Table<B, S>,
    q: ConnectRequest,
) -> Result<ConnectResponse, TaskError> {
    let mut answer = ConnectResponse::new();
    answer.shim_pid = std::process::id();
    // containerd also connects to a shim that has no such container (yet).
    if let Ok(view) = tasks.state(&q.id, "") {
        answer.task_pid = wire_pid(view.pid);
    }
    answer.version = "2".to_owned();
    Ok(answer)
}

/// The JSON that containerd puts into an `Any` for parts of the OCI spec.
fn json(any: Option<&Any>, field: &'static str) -> Result<serde_json::Value, TaskError> {
    let any = any.ok_or(TaskError::Missing(field))?;
    serde_json::from_slice(&any.value).map_err(invalid(field))
}

fn invalid<E: std::error::Error + Send + Sync + 'static>(
    field: &'static str,
) -> impl FnOnce(E) -> TaskError {
    move |source| TaskError::Invalid {
        field,
        source: Box::new(source),
    }
}
