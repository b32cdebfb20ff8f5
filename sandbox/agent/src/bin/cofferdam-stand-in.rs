//! `cofferdam-stand-in`: on the host, a process of a virtual machine. Started by the runtime, not by people.

use std::process::ExitCode;

use cofferdam_agent::stand_in;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (id, exec, terminal) = match words.as_slice() {
        [id, exec] => (*id, *exec, false),
        [id, exec, "terminal"] => (*id, *exec, true),
        _ => {
            #[expect(clippy::print_stderr, reason = "somebody has started it by hand")]
            {
                eprintln!(
                    "cofferdam-stand-in is started by the runtime: CONTAINER PROCESS|- [terminal]"
                );
            }
            return ExitCode::from(2);
        }
    };
    let exec = (exec != "-").then_some(exec);
    ExitCode::from(stand_in::run(id, exec, terminal))
}
