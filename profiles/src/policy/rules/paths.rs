//! Masked and read-only paths: the field's defaults, what the spec asks for and what the policy
//! adds, below every mount of procfs and sysfs.

use std::collections::BTreeSet;
use std::path::Path;

use oci_spec::runtime::{Mount, Spec};

use crate::policy::facts::HostFacts;
use crate::policy::judge::Judge;
use crate::policy::report::{Action, Rule};

/// The union of what runc, Docker 28, containerd 2 and Podman 5 mask (runc `spec` example; moby
/// `oci/defaults.go`; containerd `pkg/oci/spec.go`; Podman `pkg/specgen/generate/config_linux.go`).
pub(crate) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Paths read-only in every engine, and what else in procfs changes the host.
pub(crate) const READONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Adds to the spec's masked and read-only paths what they must have at least.
pub(crate) fn harden(spec: &mut Spec, host: &HostFacts, judge: &mut Judge<'_>) {
    let bases = Bases::of(spec.mounts().as_deref().unwrap_or_default());
    let policy = judge.policy;
    let Some(linux) = spec.linux_mut() else {
        return;
    };
    let policy_masked = policy.masked_paths.iter().chain(&host.masked_paths);
    let masked = merge(
        linux.masked_paths().as_deref(),
        MASKED,
        policy_masked,
        &bases,
    );
    let readonly = merge(
        linux.readonly_paths().as_deref(),
        READONLY,
        policy.readonly_paths.iter(),
        &bases,
    );
    // What is hidden need not be read-only too (Podman lists /proc/asound there).
    let mut readonly = readonly;
    readonly.paths.retain(|path| !masked.paths.contains(path));
    note(judge, Rule::MaskedPaths, "linux.maskedPaths", &masked);
    note(judge, Rule::ReadonlyPaths, "linux.readonlyPaths", &readonly);
    linux.set_masked_paths(Some(masked.paths));
    linux.set_readonly_paths(Some(readonly.paths));
}

/// Where procfs and sysfs are mounted besides their usual places.
struct Bases {
    proc: Vec<String>,
    sys: Vec<String>,
}

impl Bases {
    fn of(mounts: &[Mount]) -> Self {
        let at = |kind: &str, usual: &str| {
            mounts
                .iter()
                .filter(|m| m.typ().as_deref() == Some(kind))
                .map(|m| m.destination().display().to_string())
                .filter(|d| Path::new(d) != Path::new(usual))
                .map(|d| d.trim_end_matches('/').to_owned())
                .collect()
        };
        Self {
            proc: at("proc", "/proc"),
            sys: at("sysfs", "/sys"),
        }
    }

    /// `path` and its twins below the other mounts of its file system.
    fn expand(&self, path: &str) -> Vec<String> {
        let mut paths = vec![path.to_owned()];
        for (prefix, others) in [("/proc/", &self.proc), ("/sys/", &self.sys)] {
            if let Some(rest) = path.strip_prefix(prefix) {
                paths.extend(others.iter().map(|base| format!("{base}/{rest}")));
            }
        }
        paths
    }
}

struct Merged {
    paths: Vec<String>,
    asked: usize,
    added: Vec<String>,
}

fn merge<'a>(
    asked: Option<&[String]>,
    defaults: &'a [&'a str],
    more: impl Iterator<Item = &'a String>,
    bases: &Bases,
) -> Merged {
    let mut paths: Vec<String> = asked.unwrap_or_default().to_vec();
    let mut seen: BTreeSet<String> = paths.iter().cloned().collect();
    let asked = paths.len();
    let mut added = Vec::new();
    let wanted = defaults.iter().copied().chain(more.map(String::as_str));
    for path in wanted.flat_map(|path| bases.expand(path)) {
        if seen.insert(path.clone()) {
            added.push(path.clone());
            paths.push(path);
        }
    }
    Merged {
        paths,
        asked,
        added,
    }
}

fn note(judge: &mut Judge<'_>, rule: Rule, field: &str, merged: &Merged) {
    if merged.added.is_empty() {
        return;
    }
    judge.note(
        rule,
        field,
        Action::Added,
        format!("{} paths", merged.asked),
        format!(
            "{} paths, also {}",
            merged.paths.len(),
            merged.added.join(" ")
        ),
        "never fewer than what the engines hide by default",
    );
}
