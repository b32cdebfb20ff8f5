//! `inspect`: what is enforced on a container, read back from the kernel; and what was reported when
//! it was created.

use cofferdam_container::inspect::{InspectOptions, inspect};

use super::{FORMAT, Flag, Output, PLAIN, Verb, output, pretty};
use crate::cli::flags::Words;
use crate::cli::process::container_id;
use crate::cli::{CliError, Context, print, width};

pub(super) const VERB: Verb = Verb {
    name: "inspect",
    summary: "show what is enforced on a running container",
    description: "Reads it back from the kernel, not from notes. With --report it shows what the\n\
                  bundle asked for when the container was created, what it got, and why.\n\
                  Exits 1 where less is enforced than was recorded then.",
    example: "cofferdam inspect --report web-1",
    flags: &[
        FORMAT,
        Flag::switch("report", '\0', "show the report made at creation"),
        Flag::switch(
            "filter",
            '\0',
            "ask the kernel for the seccomp programs; stops init for some milliseconds",
        ),
    ],
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let output = output("inspect", words)?;
    let id = container_id(words)?;
    if words.on("report") {
        let record = cofferdam_container::state::load_record(&context.root, &id)?;
        return match output {
            Output::Json => print(&pretty(&record.report)?),
            Output::Table => print(&record.report.render(width())),
        };
    }
    let options = InspectOptions {
        filter: words.on("filter"),
    };
    let found = inspect(&context.root, &id, options)?;
    match output {
        Output::Json => print(&pretty(&found)?)?,
        Output::Table => print(&found.render())?,
    };
    // 1: less is enforced than was recorded.
    Ok(u8::from(found.weaker_than_recorded()))
}
