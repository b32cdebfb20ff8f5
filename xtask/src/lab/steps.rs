//! What `make test-lab` runs, and where. Chosen by time: emulated, both guests are done in a few minutes.

use std::time::Duration;

use super::Init;

/// A test binary of the workspace, run in a guest.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The guest.
    pub init: Init,
    /// The package it is of.
    pub package: &'static str,
    /// The target's name: a file or directory in `tests`, or the library's.
    pub target: &'static str,
    /// Which of its tests, and what else the test harness is told.
    pub args: &'static [&'static str],
    /// How long it may take.
    pub limit: Duration,
}

const MINUTE: Duration = Duration::from_secs(60);

const fn step(
    init: Init,
    package: &'static str,
    target: &'static str,
    args: &'static [&'static str],
    minutes: u32,
) -> Step {
    Step {
        init,
        package,
        target,
        args,
        limit: Duration::from_secs(MINUTE.as_secs() * minutes as u64),
    }
}

const CONTAINER: &str = "cofferdam-container";
const INTEGRATION: &str = "cofferdam-integration";

/// Every step, in the order of each guest.
pub const ALL: &[Step] = &[
    step(
        Init::Script,
        CONTAINER,
        "cofferdam_container",
        &["cgroup::"],
        4,
    ),
    step(Init::Script, INTEGRATION, "lab", &["script::"], 10),
    step(Init::Script, CONTAINER, "rootfs", &[], 5),
    step(Init::Script, CONTAINER, "life", &[], 8),
    step(Init::Script, INTEGRATION, "attacks", &[], 10),
    step(Init::Systemd, INTEGRATION, "lab", &["systemd::"], 10),
    step(Init::Systemd, INTEGRATION, "podman", &[], 10),
    step(
        Init::Systemd,
        INTEGRATION,
        "containerd",
        &["containerd_1_6"],
        12,
    ),
];
