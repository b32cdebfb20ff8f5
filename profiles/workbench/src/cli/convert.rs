//! `convert`: reads a profile in any dialect and writes it as OCI JSON.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{CliError, Format, files};

/// Read a profile and write it as OCI JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cofferdam profile convert docker-default.json > oci.json")]
pub(super) struct Arguments {
    /// The profile; `-` is the standard input.
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments, _: Format) -> Result<ExitCode, CliError> {
    let profile = files::profile(&arguments.file)?;
    files::print_json(&profile)?;
    Ok(ExitCode::SUCCESS)
}
