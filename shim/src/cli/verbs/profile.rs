//! `profile`: hands over to `cofferdam-profile`, which stands beside this executable.
//!
//! It is a program of its own so that what starts containers links no disassembler, no YAML and no
//! command line library: `cofferdam` is executed several times for every container.

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::{PLAIN, Verb};
use crate::cli::flags::{Until, Words};
use crate::cli::{CliError, Context};
use crate::companion;

pub(super) const VERB: Verb = Verb {
    name: "profile",
    arguments: "COMMAND [arguments...]",
    count: (0, usize::MAX),
    summary: "generate, record, check, compare and explain seccomp profiles",
    description: "Everything for authors of profiles; `cofferdam profile --help` lists the commands.",
    example: "cofferdam profile convert --to oci docker-default.json",
    until: Until::TheStart,
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let own = env::current_exe().map_err(|source| CliError::System {
        action: "find this executable",
        source,
    })?;
    let path = own.with_file_name(companion::PROGRAM);
    // The state root is a global flag of ours that its commands about containers need.
    let source = Command::new(&path)
        .env("COFFERDAM_STATE_ROOT", &context.root)
        .args(&words.plain)
        .exec();
    Err(CliError::Companion { path, source })
}
