//! What runs in which guest. The quick steps show most for their time: emulated, both guests are done with
//! them in a few minutes. The others are for `make test-lab-all`.

use std::time::Duration;

use super::Init;

/// A test binary of the workspace, run in a guest.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The guest.
    pub init: Init,
    /// Whether `make test-lab` and CI run it.
    pub quick: bool,
    /// The package it is of.
    pub package: &'static str,
    /// The target's name: a file or directory in `tests`, or the library's.
    pub target: &'static str,
    /// Which of its tests, and what else the test harness is told.
    pub args: &'static [&'static str],
    /// How long it may take.
    pub limit: Duration,
}

const fn quick(
    init: Init,
    package: &'static str,
    target: &'static str,
    args: &'static [&'static str],
    minutes: u64,
) -> Step {
    Step {
        init,
        quick: true,
        package,
        target,
        args,
        limit: Duration::from_secs(60 * minutes),
    }
}

const fn slow(
    init: Init,
    package: &'static str,
    target: &'static str,
    args: &'static [&'static str],
    minutes: u64,
) -> Step {
    Step {
        quick: false,
        ..quick(init, package, target, args, minutes)
    }
}

const CONTAINER: &str = "cofferdam-container";
const INTEGRATION: &str = "cofferdam-integration";

/// All but Landlock's, for whose scopes and ports the guest's kernel is too old.
const ATTACKS: &[&str] = &["calls::", "console::", "escapes::", "mounts::", "races::"];

/// Without the loops of faults, which the emulated processor draws out.
const LIFE: &[&str] = &["attacks::", "basics::"];

/// Every step, in the order of each guest.
pub const ALL: &[Step] = &[
    quick(
        Init::Script,
        CONTAINER,
        "cofferdam_container",
        &["cgroup::"],
        4,
    ),
    quick(Init::Script, INTEGRATION, "lab", &["script::"], 10),
    quick(Init::Script, INTEGRATION, "lab", &["apparmor::"], 10),
    quick(Init::Script, CONTAINER, "life", LIFE, 8),
    quick(Init::Script, INTEGRATION, "attacks", ATTACKS, 10),
    quick(Init::Systemd, INTEGRATION, "lab", &["systemd::"], 10),
    quick(Init::Script, INTEGRATION, "podman", &[], 10),
    quick(
        Init::Systemd,
        INTEGRATION,
        "containerd",
        &["containerd_1_6"],
        12,
    ),
];
