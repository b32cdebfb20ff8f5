//! The command line: a file per command, one way to print results, errors and progress.

/// AppArmor profiles of access documents.
mod apparmor;
/// Profiles made of a container's files when it starts.
mod at_start;
/// What a process may take of the machine.
mod bounds;
mod combine;
/// The options that say which container a profile is for.
mod container;
mod convert;
mod diff;
/// What ends a command early, and the exit status of it.
mod error;
mod explain;
/// Files in, results out.
mod files;
mod generate;
mod lint;
mod record;
mod report;
mod simulate;
mod test;

pub use error::CliError;
pub use generate::GenerateError;
pub use record::RecordError;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

/// Generates, records, checks, compares and explains seccomp profiles.
#[derive(Debug, Parser)]
#[command(name = "cofferdam profile", version, max_term_width = 100)]
struct Line {
    #[command(subcommand)]
    command: Command,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value = "human")]
    format: Output,
}

/// What the line says about how results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Text for people.
    Human,
    /// JSON for programs.
    Json,
    /// SARIF 2.1.0 for code-scanning services; of `lint` only.
    Sarif,
}

/// How results are printed that are no findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Text for people.
    Human,
    /// JSON for programs.
    Json,
}

impl Output {
    fn format(self) -> Format {
        match self {
            Self::Human => Format::Human,
            Self::Json | Self::Sarif => Format::Json,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Apparmor(apparmor::Arguments),
    AtStart(at_start::Arguments),
    Convert(convert::Arguments),
    Diff(diff::Arguments),
    Explain(explain::Arguments),
    Generate(generate::Arguments),
    Intersect(combine::Intersect),
    Merge(combine::Merge),
    Predict(record::Predicting),
    Lint(lint::Arguments),
    Simulate(simulate::Arguments),
    Test(test::Arguments),
    Record(record::Arguments),
    Report(report::Arguments),
}

/// Runs the command line of this process. Exit status: 0 done, 1 found something that its command
/// looks for, 2 could not be done, 3 `lint` found errors.
pub fn main() -> ExitCode {
    let line = match Line::try_parse().and_then(checked) {
        Ok(line) => line,
        Err(error) => {
            let status = if error.use_stderr() { 2 } else { 0 };
            // A reader that went away is no error of ours.
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    let done = match line.command {
        Command::Apparmor(arguments) => apparmor::run(&arguments, line.format),
        Command::AtStart(arguments) => at_start::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments, line.format),
        Command::Diff(arguments) => diff::run(&arguments, line.format),
        Command::Explain(arguments) => explain::run(&arguments, line.format),
        Command::Generate(arguments) => generate::run(&arguments, line.format),
        Command::Intersect(arguments) => combine::intersect(&arguments, line.format),
        Command::Merge(arguments) => combine::merge(&arguments, line.format),
        Command::Predict(arguments) => record::predict(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments, line.format),
        Command::Test(arguments) => test::run(&arguments, line.format),
        Command::Record(arguments) => record::run(&arguments, line.format),
        Command::Report(arguments) => report::run(&arguments, line.format),
        Command::Lint(arguments) => lint::run(&arguments, line.output),
    };
    done.unwrap_or_else(|error| {
        error::tell(&error, line.format);
        ExitCode::from(2)
    })
}

/// What the line asks for.
struct Asked {
    command: Command,
    output: Output,
    format: Format,
}

/// Refuses a format that the command has not.
fn checked(line: Line) -> Result<Asked, clap::Error> {
    if line.format == Output::Sarif && !matches!(line.command, Command::Lint(_)) {
        let kind = clap::error::ErrorKind::ArgumentConflict;
        let words = "only `lint` prints SARIF; use --format json";
        return Err(Line::command().error(kind, words));
    }
    Ok(Asked {
        command: line.command,
        output: line.format,
        format: line.format.format(),
    })
}
