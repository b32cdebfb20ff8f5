//! The OCI command line; see `cofferdam --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cofferdam_shim::cli::main()
}
