//! `create`: makes a container whose init waits for start.

use std::path::{Path, PathBuf};

use cofferdam_container::{CreateOptions, State, self_exe};
use cofferdam_profiles::policy::Hardened;
use oci_spec::runtime::Spec;

use super::{Flag, PLAIN, Verb, create_flags};
use crate::cli::flags::Words;
use crate::cli::process::{
    announce_listen_fds, check_terminal, connect_console, container_id, inherited_descriptors,
    listen_fds,
};
use crate::cli::{CliError, Context};
use crate::denials_verb;
use crate::launch::{Bundle, filter_cache};
use crate::recording;
use crate::vm;

pub(super) const VERB: Verb = Verb {
    name: "create",
    summary: "create a container",
    description: "Hardens the bundle's spec as the policy says and makes the container. Its program\n\
                  runs when `start` is called; its standard streams are those of this command.",
    example: "cofferdam create --bundle /containers/web --pid-file /run/web.pid web-1",
    flags: create_flags![],
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    protect()?;
    let listen = listen_fds();
    let (mut options, bundle) = prepare(context, words, listen)?;
    let socket = words.path("console-socket");
    check_terminal(wants_terminal(&bundle.spec), true, socket.is_some())?;
    options.console_socket = socket.map(connect_console).transpose()?;
    let spec = bundle.harden(&context.policy)?;
    make(&spec, options)?;
    Ok(0)
}

/// Makes the container where its policy wants it.
pub(crate) fn make(spec: &Hardened<Spec>, options: CreateOptions) -> Result<State, CliError> {
    if vm::wanted(spec) {
        return Ok(vm::create(spec, options)?);
    }
    if vm::pod_is_in_machine(&options.root, spec.get()) {
        return Err(CliError::Unsupported {
            what: "a container on the host's kernel in a pod that is in a virtual machine",
            why: "give all of the pod's containers one runtime and one isolation",
        });
    }
    let (root, id) = (options.root.clone(), options.id.clone());
    let state = cofferdam_container::create(spec, options)?;
    recording::begin(spec, &state, &root, &id)?;
    Ok(state)
}

/// Keeps the container from reaching our executable; before anything else is done.
pub(super) fn protect() -> Result<(), CliError> {
    self_exe::protect().map_err(|source| CliError::System {
        action: "protect the runtime's own executable",
        source,
    })
}

/// What create and run have in common: the options but for the console, and the bundle.
pub(super) fn prepare(
    context: &Context,
    words: &Words,
    listen: u32,
) -> Result<(CreateOptions, Bundle), CliError> {
    let id = container_id(words)?;
    let preserve_fds = inherited_descriptors(words, listen)?;
    let mut bundle = Bundle::open(words.path("bundle").unwrap_or(Path::new(".")))?;
    if let Some(process) = bundle.spec.process_mut() {
        announce_listen_fds(process, listen);
    }
    let listener = denials_verb::command(&context.root, &id, None);
    let options = CreateOptions {
        root: context.root.clone(),
        id,
        bundle: bundle.path.clone(),
        pid_file: words.path("pid-file").map(PathBuf::from),
        console_socket: None,
        preserve_fds,
        no_pivot: words.on("no-pivot"),
        no_new_keyring: words.on("no-new-keyring"),
        map_layers: false,
        cgroup_driver: context.cgroup_driver,
        filter_cache: Some(filter_cache()),
        ignore_cgroup_errors: context.rootless,
        listener: Some(listener),
    };
    Ok((options, bundle))
}

pub(super) fn wants_terminal(spec: &Spec) -> bool {
    let process = spec.process().as_ref();
    process.is_some_and(|process| process.terminal().unwrap_or(false))
}
