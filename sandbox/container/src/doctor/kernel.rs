//! Features of the kernel.

use std::fs;
use std::path::Path;

use super::{Check, probe};
use crate::apparmor::find_parser;
use crate::sys::landlock;

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![
        needed(
            "clone3",
            probe::clone3(),
            "containers are born in their namespaces and cgroup",
            "Linux 5.3 or later is needed to start containers",
        ),
        needed(
            "pidfd",
            probe::pidfd(),
            "signals reach the container's init and never a reused pid",
            "Linux 5.3 or later is needed",
        ),
        needed(
            "openat2",
            probe::openat2(),
            "links in an image cannot lead mounts out of the container (CVE-2021-30465)",
            "Linux 5.6 or later is needed",
        ),
        needed(
            "mount_setattr",
            probe::mount_setattr(),
            "mounts are read-only with all below them",
            "Linux 5.12 or later is needed",
        ),
        needed(
            "close_range",
            probe::close_range(),
            "no descriptor of the host leaks into a container (CVE-2024-21626)",
            "Linux 5.11 or later is needed",
        ),
        open_tree(),
    ];
    checks.extend(seccomp());
    checks.push(bounds());
    checks.extend(user_namespaces());
    checks.push(user_ids());
    checks.extend(security_modules());
    checks.push(overlay());
    checks.push(kvm());
    checks
}

fn needed(name: &str, there: bool, good: &str, bad: &str) -> Check {
    if there {
        Check::ok(name, "yes", good)
    } else {
        Check::missing(name, "no", bad)
    }
}

fn open_tree() -> Check {
    match probe::open_tree() {
        Ok(()) => Check::ok(
            "detached mounts",
            "yes",
            "mounts are made whole before the container can see them; the runtime's own \
             executable is shown read-only (CVE-2019-5736)",
        ),
        Err(e) => Check::missing(
            "detached mounts",
            e.to_string(),
            "run as root on Linux 5.2 or later",
        ),
    }
}

fn seccomp() -> Vec<Check> {
    /// linux/seccomp.h.
    const KILL_PROCESS: u32 = 0x8000_0000;
    const NOTIFY: u32 = 0x7fc0_0000;
    const LOG: u32 = 0x7ffc_0000;
    let filter = if probe::seccomp_action(KILL_PROCESS) {
        Check::ok("seccomp", "filters", "system calls are filtered")
    } else {
        Check::missing(
            "seccomp",
            "no filters",
            "build the kernel with CONFIG_SECCOMP_FILTER",
        )
    };
    let notify = if probe::seccomp_action(NOTIFY) && probe::seccomp_action(LOG) {
        Check::ok(
            "seccomp notify, log",
            "yes",
            "profiles may use SCMP_ACT_NOTIFY and SCMP_ACT_LOG",
        )
    } else {
        Check::degraded(
            "seccomp notify, log",
            "no",
            "profiles with SCMP_ACT_NOTIFY or SCMP_ACT_LOG are refused",
        )
    };
    vec![filter, notify]
}

fn bounds() -> Check {
    /// From which ABI version something can be bounded.
    const SINCE: [(u32, &str); 5] = [
        (1, "files"),
        (3, "truncation"),
        (4, "TCP ports"),
        (5, "commands to devices"),
        (6, "signals and abstract sockets"),
    ];
    match landlock::abi() {
        Ok(version) => {
            let (has, lacks): (Vec<_>, Vec<_>) =
                SINCE.iter().partition(|(since, _)| *since <= version);
            let words = |list: Vec<&(u32, &str)>| {
                let words: Vec<&str> = list.iter().map(|(_, word)| *word).collect();
                words.join(", ")
            };
            let value = format!("ABI {version}");
            if lacks.is_empty() {
                let effect = format!("policies can bound {}", words(has));
                return Check::ok("Landlock", value, &effect);
            }
            let (has, lacks) = (words(has), words(lacks));
            let effect =
                format!("policies can bound {has}; a newer kernel is needed to bound {lacks}");
            Check::degraded("Landlock", value, &effect)
        }
        Err(e) => Check::degraded(
            "Landlock",
            e.to_string(),
            "file access is bounded by mounts and permissions only; boot with lsm=landlock,...",
        ),
    }
}

/// Where the user ids of containers come from.
fn user_ids() -> Check {
    const NAME: &str = "user ids for containers";
    match crate::ids::ranges() {
        Ok(ranges) => {
            let from = if ranges.is_default() {
                "numbers that nobody uses; `make install` writes them into /etc/subuid"
            } else {
                "from /etc/subuid and /etc/subgid"
            };
            Check::ok(
                NAME,
                format!("{} ranges, {from}", ranges.count()),
                "so many containers at a time have ids of their own",
            )
        }
        Err(e) => Check::degraded(
            NAME,
            e.to_string(),
            "containers are refused under policies with user_namespace = \"own\"",
        ),
    }
}

fn user_namespaces() -> Vec<Check> {
    const NAME: &str = "user namespaces";
    const IDMAP: &str = "idmapped mounts";
    const TMPFS: &str = "idmapped tmpfs";
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let namespace = match probe::user_namespace() {
        Ok(namespace) => namespace,
        Err(e) => {
            return vec![Check::degraded(
                NAME,
                format!("{e} (user.max_user_namespaces = {})", most.trim()),
                "root in a container is root on the host, bounded by capabilities, seccomp and \
                 mounts only; raise user.max_user_namespaces",
            )];
        }
    };
    let mut checks = vec![Check::ok(
        NAME,
        format!("at most {}", most.trim()),
        "root in a container can be nobody on the host",
    )];
    let storage = Path::new("/var/lib");
    checks.push(match probe::idmap(&namespace, storage) {
        Ok(()) => Check::ok(
            IDMAP,
            format!("on the file system of {}", storage.display()),
            "images and volumes need not be owned by each container's ids",
        ),
        Err(e) => Check::degraded(
            IDMAP,
            format!("not on the file system of {}: {e}", storage.display()),
            "files must belong to the container's ids on disk; ext4, xfs, btrfs or a newer \
             kernel helps",
        ),
    });
    checks.push(match probe::idmap_tmpfs(&namespace) {
        Ok(()) => Check::ok(
            TMPFS,
            "yes",
            "volumes on tmpfs (Kubernetes: secrets, service-account tokens) have their owners",
        ),
        Err(e) => Check::degraded(
            TMPFS,
            format!("no: {e}"),
            "containers with a volume on tmpfs are refused, and so is nearly every Kubernetes pod, whose \
             token is on one; use Linux 6.3 or newer, or mounts.unmapped = \"allow\" or \
             user_namespace = \"engine\" in the policy",
        ),
    });
    checks
}

fn security_modules() -> Vec<Check> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let apparmor = enabled.is_ok_and(|text| text.trim() == "Y");
    let enforcing = fs::read_to_string("/sys/fs/selinux/enforce");
    let name = "AppArmor, SELinux";
    let check = match (apparmor, enforcing.as_deref().map(str::trim)) {
        (true, _) if find_parser().is_none() => Check::degraded(
            name,
            "AppArmor without apparmor_parser",
            "profiles of engines are enforced, none can be made; install the package apparmor",
        ),
        (true, _) => Check::ok(name, "AppArmor", "AppArmor profiles are enforced"),
        (_, Ok("1")) => Check::ok(name, "SELinux", "SELinux labels are enforced"),
        (_, Ok(_)) => Check::degraded(
            name,
            "SELinux, permissive",
            "labels are set but nothing is refused; setenforce 1",
        ),
        _ => Check::degraded(
            name,
            "neither",
            "a container that asks for a profile or label is refused, unless the policy says \
             best effort; boot with lsm=...,apparmor",
        ),
    };
    vec![check]
}

fn overlay() -> Check {
    match probe::file_system(c"overlay") {
        Ok(()) => Check::ok("overlayfs", "yes", "engines share image layers"),
        Err(e) => Check::degraded(
            "overlayfs",
            e.to_string(),
            "engines copy image layers; modprobe overlay",
        ),
    }
}

fn kvm() -> Check {
    match probe::kvm() {
        Ok(version) => Check::ok(
            "KVM",
            format!("API {version}"),
            "a virtual machine per pod may be possible; whether guests run shows only when one does",
        ),
        Err(e) => Check::degraded(
            "KVM",
            e.to_string(),
            "containers share the host's kernel; policies that ask for a virtual machine are refused",
        ),
    }
}
