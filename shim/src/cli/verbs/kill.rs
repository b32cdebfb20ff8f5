//! `kill`: signals a container.

use super::{Flag, PLAIN, Verb};
use crate::cli::flags::Words;
use crate::cli::process::container_id;
use crate::cli::{CliError, Context};
use crate::vm::{self, OpError};

use cofferdam_container::{KillError, Signal};

pub(super) const VERB: Verb = Verb {
    name: "kill",
    arguments: "<container-id> [signal]",
    count: (1, 2),
    summary: "send a signal (default: SIGTERM) to the container's init",
    description: "The signal is a number or a name, with or without SIG: 9, KILL, SIGRTMIN+3.",
    example: "cofferdam kill web-1 KILL",
    flags: &[Flag::switch(
        "all",
        'a',
        "signal every process of the container",
    )],
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let id = container_id(words)?;
    let signal = match words.plain.get(1) {
        None => Signal::TERM,
        Some(word) => word.to_string_lossy().parse()?,
    };
    let all = words.on("all");
    match vm::kill(&context.root, &id, signal, all) {
        // As runc: of a stopped container that has no processes left, all were signalled.
        Err(OpError::Host(KillError::NotRunning)) if all => Ok(0),
        other => Ok(other.map(|()| 0)?),
    }
}
