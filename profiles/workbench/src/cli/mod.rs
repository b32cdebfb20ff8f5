//! The command line: a file per command, one way to print results, errors and progress.

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
mod record;
mod report;
mod simulate;
mod test;

pub use error::CliError;
pub use record::RecordError;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Generates, records, checks, compares and explains seccomp profiles.
#[derive(Debug, Parser)]
#[command(name = "cofferdam profile", version, max_term_width = 100)]
struct Line {
    #[command(subcommand)]
    command: Command,
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value = "human")]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people.
    Human,
    /// JSON for programs.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Convert(convert::Arguments),
    Diff(diff::Arguments),
    Explain(explain::Arguments),
    Intersect(combine::Intersect),
    Merge(combine::Merge),
    Simulate(simulate::Arguments),
    Test(test::Arguments),
    Record(record::Arguments),
    Report(report::Arguments),
}

/// Runs the command line of this process. Exit status: 0 done, 1 found something that its command
/// looks for, 2 could not be done.
pub fn main() -> ExitCode {
    let line = match Line::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let status = if error.use_stderr() { 2 } else { 0 };
            // A reader that went away is no error of ours.
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    let done = match line.command {
        Command::Convert(arguments) => convert::run(&arguments, line.format),
        Command::Diff(arguments) => diff::run(&arguments, line.format),
        Command::Explain(arguments) => explain::run(&arguments, line.format),
        Command::Intersect(arguments) => combine::intersect(&arguments, line.format),
        Command::Merge(arguments) => combine::merge(&arguments, line.format),
        Command::Simulate(arguments) => simulate::run(&arguments, line.format),
        Command::Test(arguments) => test::run(&arguments, line.format),
        Command::Record(arguments) => record::run(&arguments, line.format),
        Command::Report(arguments) => report::run(&arguments, line.format),
    };
    done.unwrap_or_else(|error| {
        error::tell(&error, line.format);
        ExitCode::from(2)
    })
}
