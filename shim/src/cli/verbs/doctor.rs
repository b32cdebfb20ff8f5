//! `doctor`: what this kernel can enforce.

use super::{FORMAT, PLAIN, Verb, output};
use crate::cli::flags::Words;
use crate::cli::{CliError, Context};

pub(super) const VERB: Verb = Verb {
    name: "doctor",
    arguments: "",
    count: (0, 0),
    summary: "show what this kernel can enforce",
    description: "Probes the kernel for everything a policy may ask for.",
    example: "cofferdam doctor",
    flags: &[FORMAT],
    run,
    ..PLAIN
};

fn run(_: &Context, words: &Words) -> Result<u8, CliError> {
    output("doctor", words)?;
    Err(CliError::Usage("no probes yet"))
}
