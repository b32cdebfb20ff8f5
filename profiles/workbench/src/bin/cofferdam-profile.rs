//! `cofferdam profile`; see `cofferdam profile --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cofferdam_workbench::cli::main()
}
