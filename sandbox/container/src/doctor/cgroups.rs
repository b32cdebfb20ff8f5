//! Which limits the kernel can enforce: seen in a cgroup made for the purpose.

use std::path::Path;

use oci_spec::runtime::Spec;

use super::Check;
use crate::cgroup::host::{Layout, Mode};
use crate::cgroup::{Cgroup, Driver, Location};

pub(super) fn checks() -> Vec<Check> {
    let layout = match Layout::probe() {
        Ok(layout) => layout,
        Err(e) => return vec![Check::missing("cgroups", e.to_string(), "mount them")],
    };
    let hybrid = layout.hierarchies.iter().any(|h| h.controllers.is_empty());
    let mode = match (layout.mode, hybrid) {
        (Mode::V2, _) => Check::ok("cgroups", "v2", "limits are enforced in one hierarchy"),
        (Mode::V1, true) => Check::ok(
            "cgroups",
            "v1, with a unified hierarchy beside it (hybrid)",
            "limits are enforced by the v1 hierarchies",
        ),
        (Mode::V1, false) => Check::ok(
            "cgroups",
            "v1",
            "limits are enforced; new limits exist in v2 only",
        ),
    };
    let mut checks = vec![mode];
    match scratch() {
        Ok(cgroup) => {
            checks.extend(files(cgroup.location()));
            if let Err(e) = cgroup.remove() {
                checks.push(Check::missing(
                    "removing a cgroup",
                    e.to_string(),
                    "containers would leave cgroups behind",
                ));
            }
        }
        Err(e) => checks.push(Check::missing(
            "making a cgroup",
            e.to_string(),
            "containers cannot be limited; run as root",
        )),
    }
    checks.push(systemd(layout.mode));
    checks
}

/// A cgroup as a container gets it.
fn scratch() -> Result<Cgroup, crate::cgroup::Error> {
    let id = format!("cofferdam-doctor-{}", std::process::id());
    let spec = Spec::default();
    // The default spec's cgroup path would be a container's.
    let mut spec = spec;
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(None).set_resources(None);
    }
    Cgroup::create(Cgroup::plan(Driver::Fs, &spec, &id)?, &spec)
}

/// A limit, the controller, the file in v1 and in v2, and what it is good for.
const LIMITS: [(&str, &str, &str, &str, &str); 8] = [
    (
        "memory limit",
        "memory",
        "memory.limit_in_bytes",
        "memory.max",
        "a container cannot take all memory",
    ),
    (
        "swap limit",
        "memory",
        "memory.memsw.limit_in_bytes",
        "memory.swap.max",
        "a container cannot swap round its memory limit",
    ),
    (
        "task limit",
        "pids",
        "pids.max",
        "pids.max",
        "a fork bomb stays in its container",
    ),
    (
        "processor limit",
        "cpu",
        "cpu.cfs_quota_us",
        "cpu.max",
        "a container cannot take all processor time",
    ),
    (
        "processor sets",
        "cpuset",
        "cpuset.cpus",
        "cpuset.cpus",
        "containers can be pinned",
    ),
    (
        "block I/O limit",
        "blkio",
        "blkio.throttle.read_bps_device",
        "io.max",
        "a container cannot take all disk bandwidth",
    ),
    (
        "huge page limit",
        "hugetlb",
        "hugetlb.2MB.limit_in_bytes",
        "hugetlb.2MB.max",
        "a container cannot take all huge pages",
    ),
    (
        "freezer",
        "freezer",
        "freezer.state",
        "cgroup.freeze",
        "containers can be paused",
    ),
];

fn files(location: &Location) -> Vec<Check> {
    let mut checks: Vec<Check> = LIMITS
        .iter()
        .map(|(name, controller, v1, v2, good)| {
            let file = match location.mode {
                Mode::V1 => v1,
                Mode::V2 => v2,
            };
            let there = location
                .controller(controller)
                .is_some_and(|dir| dir.join(file).exists());
            if there {
                Check::ok(name, *file, good)
            } else {
                Check::degraded(
                    name,
                    format!("no {file}"),
                    "a container that asks for it is refused",
                )
            }
        })
        .collect();
    checks.push(devices(location));
    let kill = location
        .unified()
        .is_some_and(|dir| dir.join("cgroup.kill").exists());
    checks.push(if kill {
        Check::ok(
            "cgroup.kill",
            "yes",
            "a container that forks without end is killed at one stroke",
        )
    } else {
        Check::degraded(
            "cgroup.kill",
            "no",
            "containers are frozen and then killed process by process; Linux 5.14 with the \
             unified hierarchy does better",
        )
    });
    checks
}

/// The cgroup was made with a device list, so that the kernel can do it is known; here is how.
fn devices(location: &Location) -> Check {
    let how = match location.mode {
        Mode::V1 => "devices.allow",
        Mode::V2 => "a BPF program",
    };
    Check::ok(
        "device list",
        how,
        "a container opens no device of the host but those listed",
    )
}

fn systemd(mode: Mode) -> Check {
    let name = "systemd";
    let booted = Path::new("/run/systemd/system").is_dir();
    match (booted, mode) {
        (true, Mode::V2) => Check::ok(name, "PID 1", "--systemd-cgroup works"),
        (true, Mode::V1) => Check::degraded(
            name,
            "PID 1, but cgroup v1",
            "leave out --systemd-cgroup, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
        (false, _) => Check::ok(
            name,
            "not PID 1",
            "the cgroupfs driver is used; --systemd-cgroup is refused",
        ),
    }
}
