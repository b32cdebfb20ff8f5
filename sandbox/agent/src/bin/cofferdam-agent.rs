//! `cofferdam-agent`: the first process of a virtual machine's guest.

use std::path::Path;
use std::process::ExitCode;

use cofferdam_agent::guest::{self, helper};

const HELP: &str = "\
cofferdam-agent: the first process of a virtual machine's guest

Started by the guest's kernel as /init, or by itself. It makes the pod's containers as the host tells it over
vsock, each confined as it would be on the host.

Example:
  cofferdam-agent --help
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [helper::VERB, path] => helper::run(Path::new(path)),
        [] if nix::unistd::Pid::this().as_raw() == 1 => guest::run(),
        _ => {
            #[expect(clippy::print_stdout, reason = "somebody has started it by hand")]
            {
                print!("{HELP}");
            }
            return ExitCode::SUCCESS;
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "the console is what is read of a guest"
            )]
            {
                eprintln!("cofferdam-agent: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
