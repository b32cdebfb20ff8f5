//! `make bench-profiles`: how good generated profiles are, program by program, beside Docker's default.
//!
//! Both loads of a program run under strace; what they did is what recall is measured against. What
//! the analysis costs is measured in a process of its own, without a cache and with one.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints"
)]

/// Docker's default profile, from a container that Docker has started.
mod docker;
/// One program's figures.
mod row;
/// The table, for a terminal and for the documentation.
mod table;
/// The programs of a base system.
mod tools;

use std::{path::Path, process::ExitCode};

use cofferdam_integration::{
    error::{At, Error, Result},
    gate,
    loads::PROGRAMS,
};

use row::Row;

const HELP: &str = "\
Usage: bench-profiles [--write FILE] [--json FILE] [PROGRAM...]

Generates a profile for each program, runs both of its loads under strace and compares.

  --write FILE   also write the table to FILE, as Markdown
  --json FILE    also write every call behind the table to FILE: found, allowed, observed, missed

Programs: those of integration/src/loads/programs.rs.
Example: bench-profiles nginx redis
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        // One analysis, in a process of its own so that its memory can be told.
        ["analyse", root, cache, program] => row::analyse(root, cache, program),
        _ if gate::root().is_none() => {
            eprintln!("bench-profiles: run it as root");
            return ExitCode::FAILURE;
        }
        words => run(words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-profiles: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

/// Takes the options off the command line.
fn run(mut words: &[&str]) -> Result<()> {
    let mut files = Files::default();
    loop {
        match words {
            ["--write", file, rest @ ..] => {
                files.markdown = Some(Path::new(*file));
                words = rest;
            }
            ["--json", file, rest @ ..] => {
                files.json = Some(Path::new(*file));
                words = rest;
            }
            names => return bench(names, &files),
        }
    }
}

/// Where results go besides the terminal.
#[derive(Debug, Default)]
struct Files<'a> {
    markdown: Option<&'a Path>,
    json: Option<&'a Path>,
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent).at("make", parent)?;
    }
    std::fs::write(file, text).at("write", file)
}

fn bench(names: &[&str], files: &Files<'_>) -> Result<()> {
    if let Some(unknown) = names
        .iter()
        .find(|name| PROGRAMS.iter().all(|program| program.name != **name))
    {
        return Err(Error::Missing {
            what: format!("{unknown} among the programs"),
            remedy: "see --help for what can be named",
        });
    }
    let chosen = PROGRAMS
        .iter()
        .filter(|program| names.is_empty() || names.contains(&program.name));
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    println!("{}", table::HEADINGS.join("\t"));
    for program in chosen {
        match Row::of(program) {
            Ok(row) => {
                println!("{}", table::cells(&row).join("\t"));
                for missed in &row.missed {
                    println!("  missed: {missed}");
                }
                rows.push(row);
            }
            Err(error) => {
                eprintln!("{}: {}", program.name, error.chain());
                failed.push(program.name.to_owned());
            }
        }
    }
    let default = docker::default_profile()?;
    let tools = names.is_empty().then(tools::Tools::measure).transpose()?;
    let text = table::markdown(&rows, &default, tools.as_ref())?;
    println!("\n{text}");
    if let Some(file) = files.markdown {
        write(file, &text)?;
    }
    if let Some(file) = files.json {
        let json = serde_json::to_string_pretty(&rows).map_err(|source| Error::Json {
            what: "the rows for".to_owned(),
            text: file.display().to_string(),
            source,
        })?;
        write(file, &json)?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    let total = rows.len() + failed.len();
    Err(Error::Cases { failed, total })
}
