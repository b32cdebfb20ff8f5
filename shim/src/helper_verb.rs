//! The hidden verb that the shim daemon executes: one request in, one answer out, as data.
//!
//! The standard streams are the container's, so this process prints and logs nothing.

use std::fs::File;
use std::os::fd::OwnedFd;

use cofferdam_container as container;
use cofferdam_container::cgroup::Driver;
use cofferdam_container::{
    CgroupOpError, ContainerId, CreateError, CreateOptions, DeleteError, ExecError, ExecOptions,
    StartError, StateError, self_exe,
};
use oci_spec::runtime::{LinuxResources, Process, Spec};

use crate::cli::flags::Words;
use crate::cli::verbs::create::make;
use crate::cli::verbs::{PLAIN, Verb};
use crate::cli::{CliError, Context, chain};
use crate::denials_verb;
use crate::failure::Kinded as _;
use crate::helper::{
    self, CHANNEL_FD, CONSOLE_FD, Created, EVENTS_FD, Failure, FailureKind, Request, Response,
    Target, VERB as NAME,
};
use crate::launch::{self, Bundle, LaunchError, PolicyChoice};
use crate::sys;
use crate::vm;

pub(crate) const VERB: Verb = Verb {
    name: NAME,
    arguments: "",
    count: (0, 0),
    summary: "answer one request of the containerd shim",
    description: "Not for people: reads a request from descriptor 3 and answers it there.",
    example: "cofferdam shim-helper 3<>/path/to/channel",
    hidden: true,
    run,
    ..PLAIN
};

fn run(context: &Context, _: &Words) -> Result<u8, CliError> {
    let failed = |action| move |source| CliError::System { action, source };
    self_exe::protect().map_err(failed("protect the runtime's own executable"))?;
    let channel = sys::inherited(CHANNEL_FD).map_err(failed("use the shim's channel"))?;
    let mut channel = File::from(channel);
    let answer = match helper::receive(&mut channel) {
        Ok(request) => answer(&context.policy, request).unwrap_or_else(|error| {
            Response::Failed(Failure {
                kind: kind(&error),
                message: chain(&error),
            })
        }),
        Err(error) => Response::Failed(Failure {
            kind: FailureKind::Internal,
            message: chain(&error),
        }),
    };
    helper::send(&mut channel, &answer)
        .map_err(std::io::Error::other)
        .map_err(failed("answer the shim"))?;
    Ok(0)
}

fn answer(policy: &PolicyChoice, request: Request) -> Result<Response, CliError> {
    match request {
        Request::Create(request) => create(policy, request),
        Request::Exec(request) => exec(request),
        Request::Start(target) => {
            container::start(&target.root, &id(&target)?)?;
            Ok(Response::Done)
        }
        Request::Delete { target, force } => {
            vm::delete(&target.root, &id(&target)?, force)?;
            Ok(Response::Done)
        }
        Request::Update {
            target, resources, ..
        } => {
            let resources: LinuxResources = from_json(resources, "an OCI resources object")?;
            vm::update(&target.root, &id(&target)?, &resources)?;
            Ok(Response::Done)
        }
    }
}

fn create(policy: &PolicyChoice, request: helper::Create) -> Result<Response, CliError> {
    let mut policy = policy.clone();
    policy.selection.handler = request.policy;
    policy.microvm |= request.microvm;
    let bundle = Bundle::open(&request.bundle)?;
    let spec = bundle.harden(&policy)?;
    let (root, id) = (request.target.root.clone(), id(&request.target)?);
    let events = events(request.events)?;
    let listener = denials_verb::command(&root, &id, events);
    let state = make(
        &spec,
        CreateOptions {
            id: id.clone(),
            root: root.clone(),
            bundle: request.bundle,
            pid_file: None,
            console_socket: console(request.console)?,
            preserve_fds: 0,
            no_pivot: request.no_pivot,
            no_new_keyring: request.no_new_keyring,
            map_layers: request.map_layers,
            cgroup_driver: if request.systemd_cgroup {
                Driver::Systemd
            } else {
                Driver::Fs
            },
            filter_cache: Some(launch::filter_cache()),
            ignore_cgroup_errors: false,
            listener: Some(listener),
        },
    )?;
    let (start_hooks, delete_hooks) = late_hooks(spec.get());
    Ok(Response::Created(Created {
        pid: state.pid.unwrap_or(0),
        start_hooks,
        delete_hooks,
        policy: spec.report().policy.clone(),
        explained: state.denials.is_some(),
    }))
}

fn exec(request: helper::Exec) -> Result<Response, CliError> {
    let root = &request.target.root;
    let id = id(&request.target)?;
    let (record, guest) = vm::record(root, &id)?;
    let process: Process = from_json(request.process, "an OCI process")?;
    let process = launch::harden_process(process, &record)?;
    let options = ExecOptions {
        console_socket: console(request.console)?,
        no_new_keyring: request.no_new_keyring,
        filter_cache: Some(launch::filter_cache()),
        ..ExecOptions::default()
    };
    let pid = match &guest {
        Some(guest) => vm::exec(root, &id, guest, &process, options)?,
        None => container::exec(root, &id, &process, options)?,
    };
    Ok(Response::Execed { pid: pid.as_raw() })
}

fn id(target: &Target) -> Result<ContainerId, CliError> {
    Ok(ContainerId::parse(&target.id)?)
}

fn console(wanted: bool) -> Result<Option<OwnedFd>, CliError> {
    if !wanted {
        return Ok(None);
    }
    let socket = sys::inherited(CONSOLE_FD).map_err(|source| CliError::System {
        action: "use the shim's console socket",
        source,
    })?;
    Ok(Some(socket))
}

fn events(there: bool) -> Result<Option<OwnedFd>, CliError> {
    if !there {
        return Ok(None);
    }
    let socket = sys::inherited(EVENTS_FD).map_err(|source| CliError::System {
        action: "use the shim's socket for denied calls",
        source,
    })?;
    Ok(Some(socket))
}

fn from_json<T: serde::de::DeserializeOwned>(
    value: serde_json::Value,
    expected: &'static str,
) -> Result<T, CliError> {
    serde_json::from_value(value).map_err(|source| CliError::Json {
        path: "the shim's request".into(),
        expected,
        source,
    })
}

/// Whether hooks must run at start, and at delete.
fn late_hooks(spec: &Spec) -> (bool, bool) {
    let hooks = spec.hooks().as_ref();
    let start = hooks.and_then(|hooks| hooks.poststart().as_ref());
    let delete = hooks.and_then(|hooks| hooks.poststop().as_ref());
    (
        start.is_some_and(|hooks| !hooks.is_empty()),
        delete.is_some_and(|hooks| !hooks.is_empty()),
    )
}

/// What containerd is told about an error.
fn kind(error: &CliError) -> FailureKind {
    match error {
        CliError::Id(_) | CliError::Json { .. } => FailureKind::InvalidArgument,
        CliError::Refused(_)
        | CliError::PolicyFile(_)
        | CliError::Launch(LaunchError::Refused(_) | LaunchError::PolicyFile(_)) => {
            FailureKind::Refused
        }
        CliError::Launch(_)
        | CliError::Create(CreateError::Spec { .. })
        | CliError::Exec(ExecError::Process { .. }) => FailureKind::InvalidArgument,
        CliError::Create(CreateError::Exists { .. }) => FailureKind::AlreadyExists,
        CliError::State(StateError::Unknown { .. })
        | CliError::Create(CreateError::State(StateError::Unknown { .. }))
        | CliError::Start(StartError::State(StateError::Unknown { .. }))
        | CliError::Exec(ExecError::State(StateError::Unknown { .. }))
        | CliError::Delete(DeleteError::State(StateError::Unknown { .. }))
        | CliError::Cgroup(CgroupOpError::State(StateError::Unknown { .. })) => {
            FailureKind::NotFound
        }
        CliError::Start(StartError::NotCreated { .. })
        | CliError::Exec(ExecError::NotRunning { .. } | ExecError::MainThreadEnded)
        | CliError::Delete(DeleteError::NotStopped { .. })
        | CliError::Cgroup(CgroupOpError::Status { .. }) => FailureKind::FailedPrecondition,
        CliError::Machine(error) => error.kind(),
        _ => FailureKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use container::Status;

    #[test]
    fn errors_keep_their_kind() {
        let unknown = || StateError::Unknown {
            id: "x".into(),
            root: "/run".into(),
        };
        for (error, expected) in [
            (CliError::Usage("x"), FailureKind::Internal),
            (
                ContainerId::parse("..").unwrap_err().into(),
                FailureKind::InvalidArgument,
            ),
            (ExecError::from(unknown()).into(), FailureKind::NotFound),
            (
                CreateError::Exists { id: "x".into() }.into(),
                FailureKind::AlreadyExists,
            ),
            (
                StartError::NotCreated {
                    status: Status::Stopped,
                }
                .into(),
                FailureKind::FailedPrecondition,
            ),
        ] {
            assert_eq!(kind(&error), expected, "{error:?}");
        }
    }
}
