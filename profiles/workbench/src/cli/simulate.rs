//! `simulate`: which calls of a trace a profile would deny.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::container::Container;
use super::{CliError, Format, files};
use crate::recording;
use crate::simulate::{Answer, Simulation, Simulator};
use crate::trace;

/// Tell which calls of a trace or a recording a profile would deny
///
/// Exit status: 0 if every call would run, 1 if one would be denied or is undetermined.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  strace -f -o log.txt nginx -t; cofferdam profile simulate nginx.json --trace log.txt\n  \
                  cofferdam profile simulate nginx.json --trace recording.json --format json"
)]
pub(super) struct Arguments {
    /// The profile; `-` is the standard input.
    file: PathBuf,
    /// A log of `strace -f`, or a recording of `cofferdam profile record`; repeatable.
    #[arg(long, required = true)]
    trace: Vec<PathBuf>,
    #[command(flatten)]
    container: Container,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, CliError> {
    let profile = files::profile(&arguments.file, &arguments.container)?;
    let simulator = Simulator::new(&profile).map_err(|source| CliError::Invalid {
        path: arguments.file.clone(),
        source,
    })?;
    let mut clean = true;
    for path in &arguments.trace {
        let (simulation, notes) = one(&simulator, path)?;
        clean &= simulation.findings.is_empty();
        match format {
            Format::Json => files::print_json(&serde_json::json!({
                "trace": path, "notes": notes, "simulation": simulation,
            }))?,
            Format::Human => files::print(&text(path, &simulation, &notes))?,
        }
    }
    Ok(ExitCode::from(u8::from(!clean)))
}

/// A recording if it begins as JSON does, else a log.
fn one(simulator: &Simulator, path: &Path) -> Result<(Simulation, Vec<String>), CliError> {
    let failed = |source| CliError::Read {
        path: path.to_owned(),
        source,
    };
    let mut input: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(failed)?))
    };
    let mut notes = Vec::new();
    let begins = input
        .fill_buf()
        .map_err(failed)?
        .iter()
        .find(|byte| !byte.is_ascii_whitespace());
    if begins == Some(&b'{') {
        let bytes = files::read_from(&mut input, path, recording::MAX_BYTES)?;
        let recording = recording::read(&bytes).map_err(|source| CliError::Recording {
            path: path.to_owned(),
            source,
        })?;
        if recording.lost > 0 {
            notes.push(format!(
                "the recording lost {} events: it does not show every call",
                recording.lost
            ));
        }
        if !recording.predicted.is_empty() {
            notes.push(format!(
                "{} calls of the recording were predicted, not observed, and are not asked for",
                recording.predicted.len()
            ));
        }
        return Ok((simulator.recording(&recording), notes));
    }
    let trace = trace::read_with(input, |name| simulator.tests(name)).map_err(|source| {
        CliError::Trace {
            path: path.to_owned(),
            source,
        }
    })?;
    if let Some(line) = trace.first_unreadable {
        notes.push(format!(
            "{} lines are not strace's, the first is line {line}",
            trace.unreadable
        ));
    }
    if trace.unfinished > 0 {
        notes.push(format!(
            "{} calls have no end in the trace",
            trace.unfinished
        ));
    }
    Ok((simulator.trace(&trace), notes))
}

fn text(path: &Path, simulation: &Simulation, notes: &[String]) -> String {
    let mut text = format!(
        "{}: {} calls would run, {} would be denied, {} undetermined\n",
        path.display(),
        simulation.allowed,
        simulation.denied,
        simulation.undetermined
    );
    for finding in &simulation.findings {
        let args: Vec<String> = finding
            .args
            .iter()
            .map(|(at, value)| format!("{at}: {value:#x}"))
            .collect();
        let args = if args.is_empty() {
            String::new()
        } else {
            format!("({})", args.join(", "))
        };
        let kind = match finding.answer {
            Answer::Denied => "denied",
            Answer::Undetermined => "undetermined",
        };
        let line = finding
            .line
            .map(|line| format!(", first in line {line}"))
            .unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {kind}: {}{args} on {}: {} ({} times{line})\n    {}; {}",
            finding.syscall,
            finding.arch,
            finding.effect,
            finding.count,
            finding.because,
            finding.remedy
        );
    }
    for note in notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}
