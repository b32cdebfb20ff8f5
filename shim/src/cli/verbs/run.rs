//! `run`: create, start, wait, delete.

use cofferdam_container as container;
use nix::unistd::Pid;

use super::create::{make, prepare, protect, wants_terminal};
use super::{Flag, PLAIN, Verb, create_flags};
use crate::cli::flags::Words;
use crate::cli::foreground::Foreground;
use crate::cli::process::{check_terminal, connect_console, listen_fds};
use crate::cli::{CliError, Context};
use crate::vm;

pub(super) const VERB: Verb = Verb {
    name: "run",
    summary: "create and run a container",
    description: "Creates the container, starts it, waits for its program, deletes it, and exits as\n\
                  the program did. With --detach it returns when the program runs.",
    example: "cofferdam run --bundle /containers/web web-1",
    flags: create_flags![
        Flag::switch("detach", 'd', "do not wait for the program"),
        Flag::switch(
            "keep",
            '\0',
            "do not delete the container when its program has ended"
        ),
        Flag::switch(
            "no-subreaper",
            '\0',
            "do not reap processes that the container leaves behind"
        ),
    ],
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    protect()?;
    let (mut options, bundle) = prepare(context, words, listen_fds())?;
    let detach = words.on("detach");
    let terminal = wants_terminal(&bundle.spec);
    let socket = words.path("console-socket");
    check_terminal(terminal, detach, socket.is_some())?;
    let spec = bundle.harden(&context.policy)?;
    let (root, id) = (options.root.clone(), options.id.clone());

    if detach {
        options.console_socket = socket.map(connect_console).transpose()?;
        make(&spec, options)?;
        return match container::start(&root, &id) {
            Ok(()) => Ok(0),
            Err(error) => {
                remove(&root, &id);
                Err(error.into())
            }
        };
    }

    let (foreground, console) = Foreground::prepare(terminal, !words.on("no-subreaper"))?;
    options.console_socket = console;
    let state = make(&spec, options)?;
    let ended = foreground.attach().and_then(|attached| {
        container::start(&root, &id)?;
        // A created container has a pid; 0 would only make the wait fail.
        attached.wait(Pid::from_raw(state.pid.unwrap_or(0)))
    });
    if ended.is_err() || !words.on("keep") {
        remove(&root, &id);
    }
    ended
}

/// Removes a container whose program has ended or failed. What stays behind does not change how the
/// program ended, so it is logged.
fn remove(root: &std::path::Path, id: &container::ContainerId) {
    if let Err(error) = vm::delete(root, id, true) {
        tracing::warn!("cannot delete the container: {}", crate::cli::chain(&error));
    }
}
