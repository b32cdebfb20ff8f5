//! `inspect`: what is enforced on a container, read back from the kernel; and what was reported when
//! it was created.

use cofferdam_container::ContainerId;
use cofferdam_container::inspect::{Comparison, InspectOptions, Inspection, inspect};

use super::{FORMAT, Flag, Output, PLAIN, Verb, flag, output, pretty};
use crate::cli::flags::Words;
use crate::cli::process::container_id;
use crate::cli::{CliError, Context, print, width};
use crate::vm;

pub(super) const VERB: Verb = Verb {
    name: "inspect",
    summary: "show what is enforced on a running container",
    description: "Reads it back from the kernel, not from notes. With --report it shows what the\n\
                  bundle asked for when the container was created, what it got, and why.\n\
                  Exits 1 where less is enforced than was recorded then.",
    example: "cofferdam inspect --report web-1",
    flags: &[
        FORMAT,
        Flag::value(
            "compare",
            '\0',
            "runc",
            "show beside it what plain runc would have given for the bundle's spec",
        ),
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
        let (record, _) = vm::record(&context.root, &id)?;
        return match output {
            Output::Json => print(&pretty(&record.report)?),
            Output::Table => print(&record.report.render(width())),
        };
    }
    let options = InspectOptions {
        filter: words.on("filter"),
    };
    let found = inspect(&context.root, &id, options)?;
    if let Some(guest) = vm::guest_of(&context.root, &id)?
        && found.process.is_some()
        && words.text("compare").map_err(flag("inspect"))?.is_none()
    {
        let found = vm::inspect::look(&guest, found)?;
        match output {
            Output::Json => print(&pretty(&found)?)?,
            Output::Table => print(&found.render())?,
        };
        return Ok(u8::from(found.weaker_than_recorded()));
    }
    if let Some(peer) = words.text("compare").map_err(flag("inspect"))? {
        return compare(context, &id, &found, peer, output);
    }
    match output {
        Output::Json => print(&pretty(&found)?)?,
        Output::Table => print(&found.render())?,
    };
    // 1: less is enforced than was recorded.
    Ok(u8::from(found.weaker_than_recorded()))
}

/// Beside what `found` says, what another runtime would have given.
fn compare(
    context: &Context,
    id: &ContainerId,
    found: &Inspection,
    peer: &str,
    output: Output,
) -> Result<u8, CliError> {
    if peer != "runc" {
        return Err(CliError::Value {
            what: "runtime to compare with",
            value: peer.to_owned(),
            expected: "it is runc",
        });
    }
    let state = cofferdam_container::load(&context.root, id)?;
    let record = cofferdam_container::load_record(&context.root, id)?;
    let asked = crate::launch::read_spec(&state.bundle.join("config.json"))?;
    let comparison = Comparison::of(found, &record, &asked);
    match output {
        Output::Json => print(&pretty(&comparison)?),
        Output::Table => print(&comparison.render(width())),
    }
}
