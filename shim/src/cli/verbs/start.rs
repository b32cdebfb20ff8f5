//! `start`: lets a created container execute its program.

use super::{PLAIN, Verb};
use crate::cli::flags::Words;
use crate::cli::process::container_id;
use crate::cli::{CliError, Context};

pub(super) const VERB: Verb = Verb {
    name: "start",
    summary: "start a created container",
    description: "Lets the container's init execute the program of its spec.",
    example: "cofferdam start web-1",
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    cofferdam_container::start(&context.root, &container_id(words)?)?;
    Ok(0)
}
