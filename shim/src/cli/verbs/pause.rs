//! `pause` and `resume`: freezes a container's processes and lets them go on.

use super::{PLAIN, Verb};
use crate::cli::process::container_id;
use crate::vm;

pub(super) const PAUSE: Verb = Verb {
    name: "pause",
    summary: "suspend all processes of a container",
    description: "Freezes the container's cgroup.",
    example: "cofferdam pause web-1",
    run: |context, words| {
        vm::pause(&context.root, &container_id(words)?)?;
        Ok(0)
    },
    ..PLAIN
};

pub(super) const RESUME: Verb = Verb {
    name: "resume",
    summary: "let the processes of a paused container go on",
    description: "Thaws the container's cgroup.",
    example: "cofferdam resume web-1",
    run: |context, words| {
        vm::resume(&context.root, &container_id(words)?)?;
        Ok(0)
    },
    ..PLAIN
};
