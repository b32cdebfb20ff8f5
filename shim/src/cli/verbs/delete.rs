//! `delete`: removes what is left of a container.

use super::{Flag, PLAIN, Verb};
use crate::cli::flags::Words;
use crate::cli::process::container_id;
use crate::cli::{CliError, Context};
use crate::vm;

use cofferdam_container::{ContainerId, Status, load};

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
    let force = words.on("force") || was_never_started(context, &id);
    vm::delete(&context.root, &id, force)?;
    Ok(0)
}

/// runc deletes a created container without being forced to: nothing of the user's runs in it yet.
fn was_never_started(context: &Context, id: &ContainerId) -> bool {
    // Of a state that cannot be read delete itself knows what to say.
    load(&context.root, id).is_ok_and(|state| state.status() == Status::Created)
}
