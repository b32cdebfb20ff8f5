//! `delete`: removes what is left of a container.

use super::{Flag, PLAIN, Verb};
use crate::cli::flags::Words;
use crate::cli::process::container_id;
use crate::cli::{CliError, Context};

pub(super) const VERB: Verb = Verb {
    name: "delete",
    summary: "delete what is left of a container",
    description: "Removes the cgroup and the state of a container that has stopped or never started.",
    example: "cofferdam delete --force web-1",
    flags: &[Flag::switch(
        "force",
        'f',
        "kill it first; no error if there is none",
    )],
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let id = container_id(words)?;
    cofferdam_container::delete(&context.root, &id, words.on("force"))?;
    Ok(0)
}
