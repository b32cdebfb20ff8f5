//! The containerd shim: executed by containerd to start, to serve and to clean up after a container.

use std::process::ExitCode;

use cofferdam_shim::{bootstrap, tasks};

fn main() -> ExitCode {
    match bootstrap::run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        #[expect(
            clippy::print_stderr,
            reason = "containerd shows what start and delete print here"
        )]
        Err(error) => {
            tracing::error!(error = tasks::chain(&error), "the shim ends");
            eprintln!("containerd-shim-cofferdam-v2: {}", tasks::chain(&error));
            ExitCode::FAILURE
        }
    }
}
