//! The backend that runs containers on the host's kernel.
//!
//! create and exec clone without executing, which only a single-threaded process can do safely, so
//! they happen in the helper process. What only writes to a FIFO or a cgroup file is done here.

use std::env;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cofferdam_container::{self as container, ContainerId};
use containerd_shim_protos::protobuf::well_known_types::any::Any;

use crate::backend::{Backend, BackendError, Created, NewProcess, NewTask, OomGuard, Task};
use crate::console;
use crate::denial_events;
use crate::failure::Kinded;
use crate::helper::{
    self, CHANNEL_FD, CONSOLE_FD, EVENTS_FD, FailureKind, Request, Response, Target,
};
use crate::io::ChildStdio;
use crate::metrics;
use crate::mounts;
use crate::oom;
use crate::reactor::Reactor;
use crate::sys;
use crate::vm::{self, OpError};

/// The name of the binary that has the helper verb; it is installed beside the shim.
const HELPER: &str = "cofferdam";

/// Where a namespace's state directories are, unless options or [`ROOT_VARIABLE`] say otherwise.
pub const DEFAULT_ROOT: &str = "/run/containerd/cofferdam";

/// Overrides [`DEFAULT_ROOT`].
pub const ROOT_VARIABLE: &str = "COFFERDAM_ROOT";

/// Runs containers on the host's kernel.
pub struct HostBackend {
    namespace: String,
    helper: Helper,
}

/// The helper's executable.
struct Helper {
    path: PathBuf,
    /// The executable on a read-only mount of its own, so that neither we nor the helper has to copy
    /// it before a container could reach it through `/proc`. Absent where the kernel refuses.
    clone: Option<OwnedFd>,
}

/// The state root of a namespace.
pub fn state_root(namespace: &str, chosen: Option<&Path>) -> PathBuf {
    let default = || env::var_os(ROOT_VARIABLE).map_or_else(|| DEFAULT_ROOT.into(), PathBuf::from);
    chosen.map_or_else(default, Path::to_owned).join(namespace)
}

impl Helper {
    fn find() -> io::Result<Self> {
        let beside = env::current_exe()?.with_file_name(HELPER);
        let path = if beside.exists() {
            beside
        } else {
            search_path(HELPER)?
        };
        let clone = match sys::read_only_clone(&path) {
            Ok(clone) => Some(clone),
            Err(error) => {
                // The helper protects itself then, by executing itself once more.
                tracing::debug!(%error, "no read-only clone of the helper");
                None
            }
        };
        Ok(Self { path, clone })
    }

    fn program(&self) -> io::Result<CString> {
        match &self.clone {
            Some(fd) => sys::c_string(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_bytes()),
            None => sys::c_string(self.path.as_os_str().as_encoded_bytes()),
        }
    }

    /// One request, one response.
    fn ask(
        &self,
        request: &Request,
        stdio: Option<&ChildStdio>,
        console: Option<&OwnedFd>,
        events: Option<&OwnedFd>,
    ) -> Result<Response, BackendError> {
        let failed = |source| BackendError::Spawn {
            program: self.path.clone(),
            source,
        };
        let null: OwnedFd;
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let theirs = OwnedFd::from(theirs);
        let mut fds: Vec<(&OwnedFd, i32)> = match stdio {
            Some(stdio) => vec![(&stdio.stdin, 0), (&stdio.stdout, 1), (&stdio.stderr, 2)],
            None => {
                let open = std::fs::File::options()
                    .read(true)
                    .write(true)
                    .open("/dev/null");
                null = open.map_err(failed)?.into();
                vec![(&null, 0), (&null, 1), (&null, 2)]
            }
        };
        fds.push((&theirs, CHANNEL_FD));
        fds.extend(console.map(|console| (console, CONSOLE_FD)));
        fds.extend(events.map(|events| (events, EVENTS_FD)));
        // Its copy has no place of its own; by its name it finds the programs beside it.
        let name = self.path.as_os_str().as_encoded_bytes();
        let args = [name, helper::VERB.as_bytes()].map(sys::c_string);
        let args = args
            .into_iter()
            .collect::<io::Result<Vec<CString>>>()
            .map_err(failed)?;
        let program: CString = self.program().map_err(failed)?;
        let program: &CStr = &program;
        sys::spawn(program, &args, &sys::environment(), &fds).map_err(failed)?;
        drop(theirs);
        let mut channel = ours;
        helper::send(&mut channel, request)?;
        channel
            .shutdown(std::net::Shutdown::Write)
            .map_err(helper::MessageError::from)?;
        match helper::receive(&mut channel)? {
            Response::Failed(failure) => Err(failure.into()),
            response => Ok(response),
        }
    }
}

fn search_path(name: &str) -> io::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            let text = format!("{name} is neither beside the shim nor in PATH");
            io::Error::new(io::ErrorKind::NotFound, text)
        })
}

fn unexpected(expected: &'static str, got: &Response) -> BackendError {
    BackendError::Unexpected {
        expected,
        got: format!("{got:?}"),
    }
}

fn container_id(target: &Target, action: &'static str) -> Result<ContainerId, BackendError> {
    ContainerId::parse(&target.id).map_err(|source| BackendError::Container {
        action,
        id: target.id.clone(),
        kind: FailureKind::InvalidArgument,
        source: Box::new(source),
    })
}

fn failed<E: Kinded + std::error::Error + Send + Sync + 'static>(
    action: &'static str,
    target: &Target,
) -> impl FnOnce(E) -> BackendError {
    let id = target.id.clone();
    move |source| BackendError::Container {
        action,
        id,
        kind: source.kind(),
        source: Box::new(source),
    }
}

fn internal<E: std::error::Error + Send + Sync + 'static>(
    action: &'static str,
    target: &Target,
) -> impl FnOnce(E) -> BackendError {
    let id = target.id.clone();
    move |source| BackendError::Container {
        action,
        id,
        kind: FailureKind::Internal,
        source: Box::new(source),
    }
}

/// Removes everything a container may have left, whether or not it was ever whole.
pub fn sweep(target: &Target, bundle: &Path) -> Result<(), BackendError> {
    let id = container_id(target, "delete")?;
    let deleted = vm::delete(&target.root, &id, true);
    // Unmounting comes last, but also when deleting failed: it does not depend on the state.
    let unmounted = mounts::unmount_all(&bundle.join("rootfs"));
    deleted.map_err(failed("delete", target))?;
    Ok(unmounted?)
}

impl HostBackend {
    /// A backend for the containers of one namespace.
    pub fn new(namespace: String) -> io::Result<Self> {
        Ok(Self {
            namespace,
            helper: Helper::find()?,
        })
    }

    fn make(
        &self,
        new: &NewTask,
        target: &Target,
        map_layers: bool,
        stdio: &ChildStdio,
    ) -> Result<(helper::Created, Option<OwnedFd>, Option<OwnedFd>), BackendError> {
        let request = Request::Create(helper::Create {
            target: target.clone(),
            bundle: new.bundle.clone(),
            policy: new.options.policy.clone(),
            systemd_cgroup: new.options.systemd_cgroup,
            no_pivot: new.options.no_pivot,
            no_new_keyring: new.options.no_new_keyring,
            microvm: crate::launch::is_called_vm(),
            map_layers,
            console: stdio.terminal,
            events: true,
        });
        let console = console::Socket::new(stdio.terminal)?;
        // Before the helper runs it is not known whether the policy wants denied calls explained.
        let (events, theirs) = denial_events::channel().map_err(internal("create", target))?;
        match self
            .helper
            .ask(&request, Some(stdio), console.theirs(), Some(&theirs))?
        {
            Response::Created(created) => {
                let denials = created.explained.then_some(events);
                Ok((created, console.receive()?, denials))
            }
            other => Err(unexpected("Created", &other)),
        }
    }

    fn done(&self, request: &Request) -> Result<(), BackendError> {
        match self.helper.ask(request, None, None, None)? {
            Response::Done => Ok(()),
            other => Err(unexpected("Done", &other)),
        }
    }
}

impl Backend for HostBackend {
    fn create(&self, new: &NewTask, stdio: &ChildStdio) -> Result<Created, BackendError> {
        let root = state_root(&self.namespace, new.options.root.as_deref());
        let target = Target {
            root,
            id: new.id.clone(),
        };
        container_id(&target, "create")?;
        if new.options.root.is_some() {
            let written = std::fs::write(
                new.bundle.join(crate::bootstrap::ROOT_FILE),
                target.root.as_os_str().as_encoded_bytes(),
            );
            written.map_err(internal("create", &target))?;
        }
        let mounted = !new.rootfs.is_empty();
        let rootfs = new.bundle.join("rootfs");
        let mut map_layers = false;
        if mounted {
            map_layers = mounts::mount_all(&new.rootfs, &rootfs)?;
        }
        match self.make(new, &target, map_layers, stdio) {
            Ok((created, console, denials)) => {
                let id = &new.id;
                tracing::info!(id, policy = created.policy, pid = created.pid, "created");
                Ok(Created {
                    init: NewProcess {
                        pid: created.pid,
                        console,
                    },
                    task: Task {
                        target,
                        bundle: new.bundle.clone(),
                        mounted,
                        options: new.options.clone(),
                        start_hooks: created.start_hooks,
                        delete_hooks: created.delete_hooks,
                    },
                    denials,
                })
            }
            Err(e) => {
                // A helper that reports its failure has cleaned up; one that vanished has not. An
                // id that is taken belongs to someone else.
                if !matches!(e, BackendError::Helper(_))
                    && let Err(error) = sweep(&target, &new.bundle)
                {
                    tracing::warn!(id = new.id, %error, "a failed create left something");
                }
                if mounted {
                    mounts::unmount_all(&rootfs)?;
                }
                Err(e)
            }
        }
    }

    fn start(&self, task: &Task) -> Result<(), BackendError> {
        if task.start_hooks {
            return self.done(&Request::Start(task.target.clone()));
        }
        let id = container_id(&task.target, "start")?;
        container::start(&task.target.root, &id).map_err(failed("start", &task.target))
    }

    fn exec(
        &self,
        task: &Task,
        process: serde_json::Value,
        stdio: &ChildStdio,
    ) -> Result<NewProcess, BackendError> {
        let request = Request::Exec(helper::Exec {
            target: task.target.clone(),
            process,
            no_new_keyring: task.options.no_new_keyring,
            console: stdio.terminal,
        });
        let console = console::Socket::new(stdio.terminal)?;
        match self
            .helper
            .ask(&request, Some(stdio), console.theirs(), None)?
        {
            Response::Execed { pid } => Ok(NewProcess {
                pid,
                console: console.receive()?,
            }),
            other => Err(unexpected("Execed", &other)),
        }
    }

    fn signal(&self, pid: i32, signal: i32) -> Result<(), BackendError> {
        sys::kill(pid, signal).map_err(|source| BackendError::Signal {
            signal,
            pid,
            source,
        })
    }

    fn signal_all(&self, task: &Task, signal: i32) -> Result<(), BackendError> {
        let id = container_id(&task.target, "signal")?;
        let signal =
            container::Signal::from_number(signal).map_err(|source| BackendError::Container {
                action: "signal",
                id: task.target.id.clone(),
                kind: FailureKind::InvalidArgument,
                source: Box::new(source),
            })?;
        vm::kill(&task.target.root, &id, signal, true).map_err(|source| {
            // containerd takes "not found" for "has ended", and then goes on with removing it.
            let kind = match source {
                OpError::Host(container::KillError::NotRunning) => FailureKind::NotFound,
                OpError::Machine(vm::MachineError::Gone { .. }) => FailureKind::NotFound,
                OpError::Machine(ref error) => error.kind(),
                _ => FailureKind::Internal,
            };
            BackendError::Container {
                action: "signal",
                id: task.target.id.clone(),
                kind,
                source: Box::new(source),
            }
        })
    }

    fn delete(&self, task: &Task) -> Result<(), BackendError> {
        if task.delete_hooks || task.options.systemd_cgroup {
            self.done(&Request::Delete {
                target: task.target.clone(),
                force: true,
            })?;
        } else {
            let id = container_id(&task.target, "delete")?;
            vm::delete(&task.target.root, &id, true).map_err(failed("delete", &task.target))?;
        }
        if task.mounted {
            mounts::unmount_all(&task.bundle.join("rootfs"))?;
        }
        Ok(())
    }

    fn pause(&self, task: &Task) -> Result<(), BackendError> {
        let id = container_id(&task.target, "pause")?;
        vm::pause(&task.target.root, &id).map_err(failed("pause", &task.target))
    }

    fn resume(&self, task: &Task) -> Result<(), BackendError> {
        let id = container_id(&task.target, "resume")?;
        vm::resume(&task.target.root, &id).map_err(failed("resume", &task.target))
    }

    fn update(&self, task: &Task, resources: serde_json::Value) -> Result<(), BackendError> {
        self.done(&Request::Update {
            target: task.target.clone(),
            resources,
            systemd_cgroup: task.options.systemd_cgroup,
        })
    }

    fn stats(&self, task: &Task) -> Result<Any, BackendError> {
        let id = container_id(&task.target, "measure")?;
        let stats = vm::stats(&task.target.root, &id).map_err(failed("measure", &task.target))?;
        metrics::encode(&stats).map_err(internal("measure", &task.target))
    }

    fn pids(&self, task: &Task) -> Result<Vec<i32>, BackendError> {
        let id = container_id(&task.target, "list the processes of")?;
        let pids = container::ps(&task.target.root, &id)
            .map_err(failed("list the processes of", &task.target))?;
        Ok(pids.into_iter().map(nix::unistd::Pid::as_raw).collect())
    }

    fn watch_oom(
        &self,
        task: &Task,
        reactor: &Arc<Reactor>,
        notify: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Option<OomGuard>, BackendError> {
        let id = container_id(&task.target, "watch")?;
        let state =
            container::load(&task.target.root, &id).map_err(failed("watch", &task.target))?;
        oom::watch(&state, reactor, notify).map_err(internal("watch", &task.target))
    }
}
