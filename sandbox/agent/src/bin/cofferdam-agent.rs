//! `cofferdam-agent`: the first process of a virtual machine's guest.

use std::path::Path;
use std::process::ExitCode;

use cofferdam_agent::guest::{self, helper};
use cofferdam_agent::initramfs;

const HELP: &str = "\
cofferdam-agent: the first process of a virtual machine's guest

Usage: cofferdam-agent --initramfs FILE

Writes FILE, a cpio archive from which a guest's kernel starts this program as /init; there it makes the pod's
containers as the host tells it over vsock, each confined as it would be on the host.
Exit status: 0 done, 1 not.

Example:
  cofferdam-agent --initramfs /usr/local/lib/cofferdam/agent.cpio
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [helper::VERB, path] => helper::run(Path::new(path)),
        ["--initramfs", path] => initramfs::write(Path::new(path), Path::new("/proc/self/exe")),
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
