//! Where the kernel differs from what was recorded at creation.

use std::collections::BTreeSet;
use std::path::Path;

use cofferdam_profiles::capability::Set;
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Process as SpecProcess, Spec};
use serde::Serialize;

use super::filesystem::Cover;
use super::namespaces::inside;
use super::process::{Limit, ProcDir, Process};
use super::{Inspection, seccomp};
use crate::cgroup::devices::USUAL;
use crate::cgroup::host::{join, parse_own};
use crate::state::State;

/// Whose ids they are.
mod ids;

/// How bad a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something is enforced less than the record says.
    Weaker,
    /// Different, though not weaker: often the workload's own doing.
    Different,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// How bad it is.
    pub severity: Severity,
    /// What differs.
    pub what: String,
    /// What the record says.
    pub recorded: String,
    /// What the kernel says.
    pub actual: String,
}

pub(super) fn compare(
    found: &Inspection,
    state: &State,
    spec: &Spec,
    proc: &ProcDir,
    started: bool,
) -> Vec<Difference> {
    let mut out = Findings::default();
    if let (Some(actual), Some(recorded)) = (&found.process, spec.process()) {
        privileges(&mut out, actual, recorded);
        users(&mut out, found, actual, recorded);
        if let Some(lease) = &state.ids {
            ids::compare(&mut out, found, lease.first, lease.size);
        }
        limits(&mut out, actual, recorded);
        // The label comes with the workload's first program.
        if started {
            labels(&mut out, actual, recorded);
        }
    }
    // The filters go on last, between start and the workload's first instruction.
    if started && let Some(actual) = &found.seccomp {
        filters(&mut out, actual, state);
    }
    if let Some(linux) = spec.linux() {
        namespaces(&mut out, found, linux);
        cgroup_limits(&mut out, found, linux);
    }
    files(&mut out, found, spec);
    place(&mut out, state, proc);
    out.0.sort_by_key(|d| d.severity);
    out.0
}

#[derive(Default)]
struct Findings(Vec<Difference>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        what: impl Into<String>,
        recorded: impl ToString,
        actual: impl ToString,
    ) {
        self.0.push(Difference {
            severity,
            what: what.into(),
            recorded: recorded.to_string(),
            actual: actual.to_string(),
        });
    }

    fn weaker(&mut self, what: impl Into<String>, recorded: impl ToString, actual: impl ToString) {
        self.add(Severity::Weaker, what, recorded, actual);
    }

    fn different(
        &mut self,
        what: impl Into<String>,
        recorded: impl ToString,
        actual: impl ToString,
    ) {
        self.add(Severity::Different, what, recorded, actual);
    }
}

fn privileges(out: &mut Findings, actual: &Process, recorded: &SpecProcess) {
    if recorded.no_new_privileges() == Some(true) && !actual.no_new_privileges {
        out.weaker("no new privileges", "on", "off");
    }
    let sets = recorded.capabilities().as_ref();
    let recorded_set =
        |get: fn(&oci_spec::runtime::LinuxCapabilities) -> Set| sets.map_or(Set::EMPTY, get);
    let bounding = recorded_set(|c| Set::from_oci(c.bounding().as_ref()));
    let inheritable = recorded_set(|c| Set::from_oci(c.inheritable().as_ref()));
    let ambient = recorded_set(|c| Set::from_oci(c.ambient().as_ref()));
    let actual = &actual.capabilities;
    // A program that root executes gets its permitted and effective sets from the bounding one,
    // so that is what they are held against.
    for (name, recorded, actual) in [
        ("bounding", bounding, actual.bounding),
        ("permitted", bounding, actual.permitted),
        ("effective", bounding, actual.effective),
        ("inheritable", inheritable, actual.inheritable),
        ("ambient", ambient, actual.ambient),
    ] {
        if !actual.is_subset_of(recorded) {
            out.weaker(format!("{name} capabilities"), recorded, actual);
        }
    }
    if actual.bounding != bounding && actual.bounding.is_subset_of(bounding) {
        out.different("bounding capabilities", bounding, actual.bounding);
    }
}

fn users(out: &mut Findings, found: &Inspection, actual: &Process, recorded: &SpecProcess) {
    let user = recorded.user();
    for (what, map, ids, recorded) in [
        ("user", &found.uid_map, actual.uid, user.uid()),
        ("group", &found.gid_map, actual.gid, user.gid()),
    ] {
        let now = inside(map, ids.effective);
        if now == Some(recorded) {
            continue;
        }
        let text = now.map_or_else(
            || format!("{} (not mapped)", ids.effective),
            |id| id.to_string(),
        );
        if now == Some(0) {
            out.weaker(what, recorded, text);
        } else {
            out.different(what, recorded, text);
        }
    }
}

fn limits(out: &mut Findings, actual: &Process, recorded: &SpecProcess) {
    for limit in recorded.rlimits().iter().flatten() {
        let name = limit.typ().to_string();
        let Some(now) = actual.rlimits.get(&name) else {
            continue;
        };
        let bound = |value: u64| (value != u64::MAX).then_some(value);
        let wanted = Limit {
            soft: bound(limit.soft()),
            hard: bound(limit.hard()),
        };
        let higher = |now: Option<u64>, wanted: Option<u64>| {
            now.unwrap_or(u64::MAX) > wanted.unwrap_or(u64::MAX)
        };
        if *now == wanted {
            continue;
        }
        let text = |l: Limit| {
            let one = |v: Option<u64>| v.map_or_else(|| "unlimited".to_owned(), |v| v.to_string());
            format!("{} / {}", one(l.soft), one(l.hard))
        };
        // The workload may move its soft limit as far as the hard one.
        if higher(now.hard, wanted.hard) {
            out.weaker(name, text(wanted), text(*now));
        } else {
            out.different(name, text(wanted), text(*now));
        }
    }
    if let Some(wanted) = recorded.oom_score_adj()
        && wanted != actual.oom_score_adj
    {
        out.different("oom_score_adj", wanted, actual.oom_score_adj);
    }
}

fn labels(out: &mut Findings, actual: &Process, recorded: &SpecProcess) {
    let now = actual.label.clone().unwrap_or_else(|| "none".to_owned());
    for (what, wanted) in [
        ("AppArmor profile", recorded.apparmor_profile()),
        ("SELinux label", recorded.selinux_label()),
    ] {
        let Some(wanted) = wanted.as_deref().filter(|w| !w.is_empty()) else {
            continue;
        };
        // AppArmor adds the mode: "name (enforce)".
        let name = now.rsplit_once(" (").map_or(now.as_str(), |(name, _)| name);
        if name != wanted || now.ends_with("(complain)") {
            out.weaker(what, wanted, &now);
        }
    }
}

fn filters(out: &mut Findings, actual: &seccomp::Seccomp, state: &State) {
    let wanted = state.seccomp.len();
    if wanted == 0 {
        return;
    }
    if actual.mode != "filter" || (actual.attached as usize) < wanted {
        out.weaker(
            "seccomp",
            format!("{wanted} program(s)"),
            format!("{}, {} program(s)", actual.mode, actual.attached),
        );
    }
    if actual.read_from_kernel {
        let known = actual.programs.iter().filter(|p| p.stored).count();
        if known < wanted {
            out.weaker(
                "seccomp programs",
                format!("{wanted} stored program(s)"),
                format!("{known} of them attached"),
            );
        }
    }
}

fn namespaces(out: &mut Findings, found: &Inspection, linux: &Linux) {
    let wanted: Vec<&LinuxNamespace> = linux.namespaces().iter().flatten().collect();
    for namespace in &found.namespaces {
        let asked = wanted.iter().find(|w| word(w.typ()) == namespace.kind);
        let Some(asked) = asked else {
            if namespace.own {
                out.different(
                    format!("{} namespace", namespace.kind),
                    "the host's",
                    "its own",
                );
            }
            continue;
        };
        let what = format!("{} namespace", namespace.kind);
        match asked.path() {
            None if !namespace.own => out.weaker(what, "its own", "the host's"),
            None => {}
            Some(path) => {
                // A namespace bound to a file has the same inode there.
                use std::os::unix::fs::MetadataExt;
                let Ok(meta) = std::fs::metadata(path) else {
                    continue;
                };
                let there = format!("[{}]", meta.ino());
                if !namespace.identity.ends_with(&there) {
                    out.weaker(what, path.display(), &namespace.identity);
                }
            }
        }
    }
}

/// The spec's word for a kind: oci-spec prints the kernel's.
pub(super) fn word(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

fn cgroup_limits(out: &mut Findings, found: &Inspection, linux: &Linux) {
    let (Some(now), Some(wanted)) = (&found.cgroup, linux.resources()) else {
        return;
    };
    let positive =
        |value: Option<i64>| value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);
    let memory = wanted.memory().as_ref().and_then(|m| positive(m.limit()));
    let pids = wanted
        .pids()
        .as_ref()
        .and_then(|p| positive(Some(p.limit())));
    for (what, wanted, now) in [
        // The kernel counts memory in pages.
        (
            "memory limit",
            memory.map(|m| m & !4095),
            now.memory.map(|m| m & !4095),
        ),
        ("task limit", pids, now.pids),
    ] {
        let Some(wanted) = wanted else { continue };
        let text = now.map_or_else(|| "none".to_owned(), |n| n.to_string());
        match now {
            Some(now) if now == wanted => {}
            Some(now) if now < wanted => out.different(what, wanted, text),
            _ => out.weaker(
                format!("{what} (perhaps changed by `update`)"),
                wanted,
                text,
            ),
        }
    }
}

fn files(out: &mut Findings, found: &Inspection, spec: &Spec) {
    let Some(actual) = &found.file_system else {
        return;
    };
    let read_only = spec.root().as_ref().and_then(|r| r.readonly()) == Some(true);
    if read_only && !actual.root_read_only {
        out.weaker("root file system", "read-only", "writable");
    }
    for (what, checks) in [("masked", &actual.masked), ("read-only", &actual.read_only)] {
        for check in checks {
            match check.cover {
                Cover::Exposed => {
                    out.weaker(
                        check.path.display().to_string(),
                        what,
                        "open to the container",
                    );
                }
                Cover::Unknown => {
                    out.different(
                        check.path.display().to_string(),
                        what,
                        "could not be looked at",
                    );
                }
                _ => {}
            }
        }
    }
    let recorded: BTreeSet<(char, u64, u64)> = spec
        .linux()
        .iter()
        .flat_map(|l| l.devices().iter().flatten())
        .map(|d| {
            let kind = if d.typ().as_str() == "b" { 'b' } else { 'c' };
            let number = |n: i64| u64::try_from(n).unwrap_or(u64::MAX);
            (kind, number(d.major()), number(d.minor()))
        })
        .collect();
    // Where the host's /dev is mounted there is no list to compare with.
    let own_dev = !actual
        .writable_host_paths
        .iter()
        .any(|p| p.destination == Path::new("/dev"));
    for device in actual.devices.iter().filter(|_| own_dev) {
        let usual = device.kind == 'c'
            && USUAL.iter().any(|(major, minor)| {
                u64::from(*major) == device.major
                    && minor.is_none_or(|m| u64::from(m) == device.minor)
            });
        if !usual && !recorded.contains(&(device.kind, device.major, device.minor)) {
            out.weaker(
                format!("device node {}", device.path.display()),
                "none",
                format!("{} {}:{}", device.kind, device.major, device.minor),
            );
        }
    }
}

/// Whether init is where its limits are.
fn place(out: &mut Findings, state: &State, proc: &ProcDir) {
    let (Some(location), Ok(text)) = (&state.cgroup, proc.text("cgroup")) else {
        return;
    };
    let own = parse_own(&text);
    for dir in &location.dirs {
        let Some((_, path)) = own.iter().find(|(c, _)| *c == dir.controllers) else {
            continue;
        };
        let now = join(&dir.mount, path);
        // In a container that was started in a container the mount shows a part of the tree.
        let fits = now.starts_with(&dir.path)
            || dir
                .path
                .file_name()
                .is_some_and(|name| path.iter().any(|p| p == name));
        if !fits {
            let name = if dir.is_unified() {
                "unified".to_owned()
            } else {
                dir.controllers.join(",")
            };
            out.weaker(
                format!("cgroup ({name})"),
                dir.path.display(),
                now.display(),
            );
        }
    }
}
