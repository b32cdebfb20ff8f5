//! `make compat`: runs the compatibility suite and writes what came of it into the documentation.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report is printed"
)]

use std::{path::Path, process::ExitCode};

use cofferdam_integration::{
    compat::{self, Extent, Suite},
    error::{At, Result},
    gate,
};

const HELP: &str = "\
Usage: compat [--write FILE | NAME]

Runs real images under the baseline policy and, as the control, under runc.

  --write FILE   write the table to FILE, as Markdown
  NAME           only what has this in its name

Example: compat nginx
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["--help" | "-h"] => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ if gate::root().is_none() => {
            eprintln!("compat: run it as root");
            return ExitCode::FAILURE;
        }
        ["--write", file] => run("", Some(Path::new(*file))),
        [] => run("", None),
        [name] if !name.starts_with('-') => run(name, None),
        _ => {
            eprint!("{HELP}");
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compat: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &str, file: Option<&Path>) -> Result<()> {
    let outcomes = Suite::start()?.run(wanted, Extent::All)?;
    let text = compat::markdown(&outcomes)?;
    println!("{text}");
    if let Some(file) = file {
        std::fs::write(file, text).at("write", file)?;
    }
    compat::verdict(&outcomes)
}
