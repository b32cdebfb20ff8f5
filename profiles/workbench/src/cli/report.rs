//! `report`: a profile as one HTML page.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Deserialize;

use super::container::Container;
use super::{CliError, Format, files};
use crate::page::{Analysed, Page};
use crate::recording;

/// The largest evidence that is read, in bytes.
const MAX_EVIDENCE: u64 = 64 << 20;

/// Write a page that shows what a profile allows, what was seen, what can be reached, what is dangerous
///
/// The page is one HTML file without scripts or links to elsewhere. With --format json the same
/// as data on the standard output.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cofferdam profile report nginx.json --evidence nginx.evidence.json \\\n    \
                  --recording nginx.recording.json --output nginx.html"
)]
pub(super) struct Arguments {
    /// The profile; `-` is the standard input.
    file: PathBuf,
    /// A recording of `cofferdam profile record`; repeatable.
    #[arg(long)]
    recording: Vec<PathBuf>,
    /// The evidence that `cofferdam profile generate` wrote; repeatable.
    #[arg(long)]
    evidence: Vec<PathBuf>,
    /// Where the page goes; the standard output if not given.
    #[arg(long, short)]
    output: Option<PathBuf>,
    #[command(flatten)]
    container: Container,
}

/// One program or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Evidence {
    Several { programs: Vec<Analysed> },
    List(Vec<Analysed>),
    One(Analysed),
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, CliError> {
    let profile = files::profile(&arguments.file, &arguments.container)?;
    let mut recordings = Vec::new();
    for path in &arguments.recording {
        let bytes = files::read(path, recording::MAX_BYTES)?;
        let recorded = recording::read(&bytes).map_err(|source| CliError::Recording {
            path: path.clone(),
            source,
        })?;
        recordings.push(recorded);
    }
    let mut analyses = Vec::new();
    for path in &arguments.evidence {
        let bytes = files::read(path, MAX_EVIDENCE)?;
        let evidence = serde_json::from_slice(&bytes).map_err(|source| CliError::Evidence {
            path: path.clone(),
            source,
        })?;
        match evidence {
            Evidence::Several { programs } | Evidence::List(programs) => analyses.extend(programs),
            Evidence::One(program) => analyses.push(program),
        }
    }
    let title = arguments
        .file
        .file_name()
        .map_or_else(|| "profile".into(), |name| name.to_string_lossy());
    let page = Page::new(&title, &profile, &recordings, &analyses).map_err(|source| {
        CliError::Invalid {
            path: arguments.file.clone(),
            source,
        }
    })?;
    match (format, &arguments.output) {
        (Format::Json, _) => files::print_json(&page)?,
        (Format::Human, None) => files::print(&page.html())?,
        (Format::Human, Some(path)) => {
            fs::write(path, page.html()).map_err(|source| CliError::Write {
                path: path.clone(),
                source,
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
