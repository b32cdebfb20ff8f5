//! Mounts: where they come from, and what the container may do through them.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::{namespaces, pods, sensitive};
use crate::policy::facts::{HostFacts, has_option, is_bind, is_read_only};
use crate::policy::judge::{Judge, Request};
use crate::policy::report::{Action, Rule};

const FIELD: &str = "mounts";

/// File systems of the kernel's that every engine mounts and that show nothing of the host's
/// files.
const USUAL_TYPES: &[&str] = &[
    "cgroup", "cgroup2", "devpts", "mqueue", "proc", "sysfs", "tmpfs",
];

/// Files of procfs that LXCFS lays container-aware versions over (runc `checkProcMount`).
const PROC_OVERLAYS: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
];

/// Judges every mount, and writes into binds the source that was judged.
pub(crate) fn harden(spec: &mut Spec, host: &HostFacts, judge: &mut Judge<'_>) {
    root(spec, host, judge);
    propagation_of_root(spec, judge);
    let own_ipc = own_ipc(spec, host);
    let pod = pods::uid(spec);
    let Some(mounts) = spec.mounts_mut() else {
        return;
    };
    mounts.retain_mut(|mount| {
        settle_access(mount);
        if own_ipc {
            replace_host_ipc(mount, host, judge);
        }
        over_proc(mount, judge);
        propagation(mount, judge);
        if is_bind(mount) {
            bind(mount, host, pod.as_deref(), judge)
        } else {
            file_system(mount, judge)
        }
    });
}

fn own_ipc(spec: &Spec, host: &HostFacts) -> bool {
    let linux = spec.linux().as_ref();
    let list = linux.and_then(|l| l.namespaces().as_deref());
    !namespaces::shares_host(list.unwrap_or_default(), LinuxNamespaceType::Ipc, host)
}

/// With the host's ipc namespace engines bind the host's /dev/shm and /dev/mqueue; a container
/// that lost the one loses the others.
fn replace_host_ipc(mount: &mut Mount, host: &HostFacts, judge: &mut Judge<'_>) {
    let source = mount
        .source()
        .as_ref()
        .and_then(|s| host.mount_sources.get(s));
    let typ = match source.and_then(|s| s.to_str()) {
        Some("/dev/shm") => "tmpfs",
        Some("/dev/mqueue") => "mqueue",
        _ => return,
    };
    if !is_bind(mount) || mount.source().as_deref() != Some(mount.destination()) {
        return;
    }
    judge.note(
        Rule::SensitiveMounts,
        FIELD,
        Action::Tightened,
        format!("the host's {}", mount.destination().display()),
        format!("a {typ} of its own"),
        "the container has an ipc namespace of its own",
    );
    let options = ["nosuid", "noexec", "nodev"].map(str::to_owned).to_vec();
    mount.set_typ(Some(typ.to_owned()));
    mount.set_source(Some(PathBuf::from(typ)));
    mount.set_options(Some(options));
}

/// The root file system must not be a sensitive path itself. The spec gets the path that was judged.
fn root(spec: &mut Spec, host: &HostFacts, judge: &mut Judge<'_>) {
    let Some(root) = spec.root_mut() else {
        return;
    };
    let path = match host.mount_sources.get(root.path()) {
        Some(path) => path.clone(),
        None if root.path().is_absolute() => sensitive::plain(root.path()),
        None => return,
    };
    if let Some(why) = sensitive::why_as_root(&path) {
        judge.deny(Request {
            rule: Rule::SensitiveMounts,
            field: "root.path",
            asked: format!("the root file system {}", path.display()),
            stripped: "",
            why,
            allow: "",
            instead: "use a directory that holds nothing but the container's files",
        });
    }
    if path.is_absolute() {
        root.set_path(path);
    }
}

/// Leaves one word about writing, the last, so that nobody reads the options another way.
fn settle_access(mount: &mut Mount) {
    if is_read_only(mount) {
        for options in mount.options_mut().iter_mut() {
            options.retain(|option| option != "rw" && option != "rrw");
        }
    }
}

/// Mounts below or over /proc would cover what is masked there (CVE-2019-16884).
fn over_proc(mount: &Mount, judge: &mut Judge<'_>) {
    let destination = sensitive::plain(mount.destination());
    let fine = if destination == Path::new("/proc") {
        mount.typ().as_deref() == Some("proc") && !is_bind(mount)
    } else {
        !destination.starts_with("/proc")
            || PROC_OVERLAYS.iter().any(|p| Path::new(p) == destination)
    };
    if fine {
        return;
    }
    judge.deny(Request {
        rule: Rule::KernelMounts,
        field: FIELD,
        asked: format!("a mount at {}", destination.display()),
        stripped: "",
        why: "a mount over procfs hides what the runtime protects and checks there",
        allow: "",
        instead: "mount it elsewhere",
    });
}

fn propagation(mount: &mut Mount, judge: &mut Judge<'_>) {
    if !has_option(mount, &["shared", "rshared"]) {
        return;
    }
    let asked = format!("shared propagation at {}", mount.destination().display());
    if judge.keeps(judge.policy.mounts.shared_propagation, shared(FIELD, asked)) {
        return;
    }
    for option in mount.options_mut().iter_mut().flatten() {
        match option.as_str() {
            "shared" => "slave".clone_into(option),
            "rshared" => "rslave".clone_into(option),
            _ => {}
        }
    }
}

fn propagation_of_root(spec: &mut Spec, judge: &mut Judge<'_>) {
    let Some(linux) = spec.linux_mut() else {
        return;
    };
    let stripped = match linux.rootfs_propagation().as_deref() {
        Some("shared") => "slave",
        Some("rshared") => "rslave",
        _ => return,
    };
    let asked = "a root file system with shared propagation".to_owned();
    let request = shared("linux.rootfsPropagation", asked);
    if !judge.keeps(judge.policy.mounts.shared_propagation, request) {
        linux.set_rootfs_propagation(Some(stripped.to_owned()));
    }
}

fn shared(field: &str, asked: String) -> Request<'_> {
    Request {
        rule: Rule::MountPropagation,
        field,
        asked,
        stripped: "slave propagation: mounts come in and do not go out",
        why: "mounts made in the container would appear on the host",
        allow: "mounts.shared_propagation = \"allow\"",
        instead: "use rslave (HostToContainer) or private",
    }
}

/// Judges a bind mount and says whether it stays.
fn bind(mount: &mut Mount, host: &HostFacts, pod: Option<&str>, judge: &mut Judge<'_>) -> bool {
    let Some(source) = mount.source().clone() else {
        return true;
    };
    let resolved = host.mount_sources.get(&source).filter(|p| p.is_absolute());
    let Some(canonical) = resolved.map(|p| sensitive::plain(p)) else {
        judge.deny(Request {
            rule: Rule::SensitiveMounts,
            field: FIELD,
            asked: describe(mount, &source),
            stripped: "",
            why: "the path does not exist or cannot be resolved, so it cannot be judged",
            allow: "",
            instead: "create it, or correct the path",
        });
        return true;
    };
    if canonical.starts_with("/sys/fs/cgroup") && !is_read_only(mount) {
        writable_kernel_mount(mount, judge);
    }
    let read_only = is_read_only(mount);
    if let Some(why) = sensitive::why(&canonical, read_only, &judge.policy.mounts, pod) {
        let (access, instead) = if read_only {
            (" read-only", "leave the mount out")
        } else {
            ("", "leave the mount out, or try it read-only")
        };
        let line = format!("mounts.allow = [\"{}\"]", canonical.display());
        let request = Request {
            rule: Rule::SensitiveMounts,
            field: FIELD,
            asked: format!("{}{access}", describe(mount, &canonical)),
            stripped: "no such mount",
            why: &why,
            allow: &line,
            instead,
        };
        if !judge.keeps(judge.policy.mounts.sensitive, request) {
            return false;
        }
    }
    mount.set_source(Some(canonical));
    all_read_only(mount);
    true
}

/// A recursive bind that is read-only is so with all mounts below it: `ro` alone means the topmost
/// one, which is not what anybody who writes `-v /srv:/srv:ro` expects.
fn all_read_only(mount: &mut Mount) {
    if is_read_only(mount) && has_option(mount, &["rbind"]) && !has_option(mount, &["rro"]) {
        let mut options = mount.options().clone().unwrap_or_default();
        options.push("rro".to_owned());
        mount.set_options(Some(options));
    }
}

fn describe(mount: &Mount, source: &Path) -> String {
    let destination = mount.destination().display();
    format!(
        "a mount of the host's {} at {destination}",
        source.display()
    )
}

/// Judges a mount that is no bind and says whether it stays.
fn file_system(mount: &mut Mount, judge: &mut Judge<'_>) -> bool {
    let typ = mount.typ().clone().unwrap_or_default();
    match typ.as_str() {
        "sysfs" | "cgroup" | "cgroup2" if !is_read_only(mount) => {
            writable_kernel_mount(mount, judge);
            true
        }
        usual if USUAL_TYPES.contains(&usual) => true,
        other => judge.keeps(
            judge.policy.mounts.other_types,
            Request {
                rule: Rule::KernelMounts,
                field: FIELD,
                asked: format!(
                    "a mount of type {other:?} at {}",
                    mount.destination().display()
                ),
                stripped: "no such mount",
                why: "the kernel would parse or show what the policy cannot judge",
                allow: "mounts.other_types = \"allow\"",
                instead: "mount it on the host and bind it into the container",
            },
        ),
    }
}

fn writable_kernel_mount(mount: &mut Mount, judge: &mut Judge<'_>) {
    let asked = format!("a writable {}", mount.destination().display());
    let kept = judge.keeps(
        judge.policy.mounts.kernel_write,
        Request {
            rule: Rule::KernelMounts,
            field: FIELD,
            asked,
            stripped: "the same read-only",
            why: "writing there changes the kernel's settings or the container's own limits",
            allow: "mounts.kernel_write = \"allow\"",
            instead: "mount it read-only",
        },
    );
    if !kept {
        let mut options = mount.options().clone().unwrap_or_default();
        options.push("ro".to_owned());
        mount.set_options(Some(options));
        settle_access(mount);
    }
}
