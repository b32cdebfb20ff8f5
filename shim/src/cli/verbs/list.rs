//! `list`: every container below the state root.

use super::state::Shown;
use super::{FORMAT, Flag, Output, PLAIN, Verb, json, output};
use crate::cli::flags::Words;
use crate::cli::{CliError, Context, print, table};

pub(super) const VERB: Verb = Verb {
    name: "list",
    arguments: "",
    count: (0, 0),
    summary: "list containers",
    description: "Lists the containers that are kept below --root.",
    example: "cofferdam list --format json",
    flags: &[FORMAT, Flag::switch("quiet", 'q', "print only the ids")],
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let output = output("list", words)?;
    let states = cofferdam_container::list(&context.root)?;
    if words.on("quiet") {
        let ids: String = states.iter().map(|state| state.id.clone() + "\n").collect();
        return print(&ids);
    }
    let shown: Vec<_> = states.iter().map(Shown::of).collect();
    match output {
        Output::Json => print(&json(&shown)?),
        Output::Table => {
            let rows: Vec<_> = shown.iter().map(Shown::row).collect();
            let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
            print(&table::render(heading, &rows))
        }
    }
}
