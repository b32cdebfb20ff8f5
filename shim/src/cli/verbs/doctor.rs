//! `doctor`: what this kernel can enforce.

use cofferdam_container::doctor::{Status, doctor};

use super::{FORMAT, Output, PLAIN, Verb, output, pretty};
use crate::cli::flags::Words;
use crate::cli::{CliError, Context, print};
use crate::vm;

pub(super) const VERB: Verb = Verb {
    name: "doctor",
    arguments: "",
    count: (0, 0),
    summary: "show what this kernel can enforce",
    description: "Probes the kernel for everything a policy may ask for, boots a virtual machine where\n\
                  there is KVM (ten seconds at most), and looks for the engines on PATH.\n\
                  Exits 1 where containers cannot be run safely.",
    example: "cofferdam doctor",
    flags: &[FORMAT],
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let output = output("doctor", words)?;
    let mut found = doctor(&context.policy.file);
    found.host.push(vm::doctor::check());
    match output {
        Output::Json => print(&pretty(&found)?)?,
        Output::Table => print(&found.render())?,
    };
    // 1: containers cannot be run here, or not safely.
    Ok(u8::from(found.worst() == Status::Missing))
}
