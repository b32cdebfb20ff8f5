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
    /// What it reads of the test cache besides engines and images, which are always there.
    pub cache: &'static [&'static str],
}

impl Step {
    /// Whether the test binary or one of the tests chosen of it has this in its name.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.target.contains(name) || self.args.iter().any(|arg| arg.contains(name))
    }
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
        cache: &[],
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
const RECORDER: &str = "cofferdam-recorder";
const SHIM: &str = "cofferdam-shim";

/// All but the leases', which run in the other guest.
const ATTACKS: &[&str] = &[
    "calls::",
    "console::",
    "escapes::",
    "fuse::",
    "landlock::",
    "mounts::",
    "races::",
    "users::",
];

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
    quick(
        Init::Script,
        INTEGRATION,
        "microvm",
        &["--skip", "posix::"],
        10,
    ),
    quick(
        Init::Script,
        INTEGRATION,
        "containerd",
        &["runs_in_microvms"],
        20,
    ),
    quick(Init::Script, INTEGRATION, "microvm_containers", &[], 20),
    quick(Init::Script, INTEGRATION, "podman", &[], 10),
    quick(
        Init::Script,
        CONTAINER,
        "life",
        &["attacks::", "basics::"],
        8,
    ),
    quick(Init::Script, INTEGRATION, "attacks", ATTACKS, 15),
    quick(Init::Systemd, CONTAINER, "rootfs", &["overlay"], 4),
    quick(Init::Systemd, INTEGRATION, "lab", &["systemd::"], 10),
    quick(
        Init::Systemd,
        INTEGRATION,
        "containerd",
        &["containerd_1_6"],
        12,
    ),
    quick(Init::Systemd, INTEGRATION, "attacks", &["leases::"], 10),
    slow(Init::Script, CONTAINER, "rootfs", &[], 20),
    slow(Init::Script, CONTAINER, "life", &[], 20),
    slow(Init::Script, INTEGRATION, "cri", &[], 30),
    slow(Init::Script, INTEGRATION, "denials", &[], 30),
    slow(Init::Script, SHIM, "cli", &[], 30),
    slow(Init::Script, INTEGRATION, "start_generated", &[], 30),
    Step {
        cache: &["tools/pjdfstest-0.2.2"],
        ..slow(Init::Script, INTEGRATION, "microvm", &["posix::"], 20)
    },
    Step {
        cache: &["roots/git"],
        ..slow(Init::Script, INTEGRATION, "access", &[], 30)
    },
    slow(Init::Script, CONTAINER, "cofferdam_container", &[], 10),
    slow(Init::Systemd, INTEGRATION, "docker", &[], 40),
    slow(
        Init::Systemd,
        INTEGRATION,
        "containerd",
        &["containerd_2_1"],
        30,
    ),
    slow(
        Init::Systemd,
        INTEGRATION,
        "containerd",
        &["containerd_1_7"],
        30,
    ),
    slow(Init::Systemd, INTEGRATION, "recording", &[], 30),
    slow(Init::Systemd, RECORDER, "recording", &[], 20),
    slow(Init::Systemd, RECORDER, "means", &[], 20),
    slow(Init::Systemd, INTEGRATION, "apparmor", &[], 30),
    slow(Init::Systemd, INTEGRATION, "trial", &[], 20),
];
