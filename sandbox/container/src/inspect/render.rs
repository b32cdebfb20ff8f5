//! The table of `inspect`.

use std::fmt::Write;

use cofferdam_profiles::capability::Set;

use super::{Cover, Inspection, PathCheck, Process, Severity};

pub(super) fn render(found: &Inspection) -> String {
    let mut table = Table::default();
    table.row("container", format!("{} ({})", found.id, found.status));
    table.row("policy", &found.policy);
    if let Some(process) = &found.process {
        self::process(&mut table, found, process);
    } else {
        table.row("init", "does not run: there is nothing to read back");
    }
    if let Some(seccomp) = &found.seccomp {
        if seccomp.mode == "none" && found.status == "created" {
            table.row("seccomp", "not yet: the programs are attached at start");
        } else {
            self::seccomp(&mut table, seccomp);
        }
    }
    landlock(&mut table, found);
    if let Some(denials) = &found.denials {
        let how = if denials.running {
            "explained"
        } else {
            "explained by another process than the first, which is gone"
        };
        table.row("denied calls", format!("{how}: {}", denials.log.display()));
    }
    namespaces(&mut table, found);
    files(&mut table, found);
    cgroup(&mut table, found);
    for line in &found.unread {
        table.row("NOT READ", line);
    }
    verdict(&mut table, found);
    table.0
}

#[derive(Default)]
struct Table(String);

impl Table {
    fn row(&mut self, name: &str, value: impl AsRef<str>) {
        let mut name = name;
        for line in value.as_ref().lines() {
            // Writing to a String cannot fail.
            let _ = writeln!(self.0, "{name:<22}{}", printable(line));
            name = "";
        }
    }
}

/// Paths and labels come from the container: no control characters of theirs on a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn process(table: &mut Table, found: &Inspection, process: &Process) {
    let exe = process
        .exe
        .as_ref()
        .map_or_else(|| "?".to_owned(), |exe| exe.display().to_string());
    table.row("init", format!("pid {}, executes {exe}", process.pid));
    let id = |map, host: u32| match super::namespaces::inside(map, host) {
        Some(id) if id != host => format!("{id} (host {host})"),
        _ => host.to_string(),
    };
    table.row(
        "user",
        format!(
            "uid {}, gid {}, groups {:?}",
            id(&found.uid_map, process.uid.effective),
            id(&found.gid_map, process.gid.effective),
            process.groups
        ),
    );
    table.row(
        "no new privileges",
        if process.no_new_privileges {
            "on"
        } else {
            "OFF"
        },
    );
    let sets = &process.capabilities;
    table.row("capabilities", set(sets.effective));
    for (name, value) in [
        ("  bounding", sets.bounding),
        ("  permitted", sets.permitted),
        ("  inheritable", sets.inheritable),
        ("  ambient", sets.ambient),
    ] {
        if value != sets.effective {
            table.row(name, set(value));
        }
    }
    let label = process.label.as_deref();
    table.row(
        "security label",
        label.unwrap_or("none (no AppArmor or SELinux)"),
    );
    table.row("oom_score_adj", process.oom_score_adj.to_string());
    let bounded: Vec<String> = process
        .rlimits
        .iter()
        .filter_map(|(name, limit)| Some((name, limit.hard?)))
        .map(|(name, hard)| format!("{}={hard}", name.trim_start_matches("RLIMIT_")))
        .collect();
    table.row("rlimits (hard)", bounded.join(" "));
}

fn set(set: Set) -> String {
    if set.is_empty() {
        "none".to_owned()
    } else {
        format!("{}: {set}", set.len())
    }
}

fn seccomp(table: &mut Table, seccomp: &super::Seccomp) {
    if seccomp.mode != "filter" {
        table.row(
            "seccomp",
            format!("{}: every system call is open", seccomp.mode.to_uppercase()),
        );
        return;
    }
    table.row(
        "seccomp",
        format!(
            "on, {} program(s); {} system calls allowed, {} more with some arguments only",
            seccomp.attached, seccomp.allowed, seccomp.conditional
        ),
    );
    let source = if seccomp.read_from_kernel {
        "read from the kernel"
    } else {
        "as stored; --filter asks the kernel"
    };
    for program in &seccomp.programs {
        let known = match (seccomp.read_from_kernel, program.stored) {
            (true, false) => ", NOT one of those stored at creation",
            (true, true) => ", the one stored at creation",
            _ => "",
        };
        table.row(
            "",
            format!(
                "sha256 {} ({} instructions, {source}{known})",
                program.sha256.get(..16).unwrap_or_default(),
                program.instructions
            ),
        );
    }
}

fn landlock(table: &mut Table, found: &Inspection) {
    let Some(landlock) = &found.landlock else {
        table.row("Landlock", "not used");
        return;
    };
    let when = if found.status == "created" {
        "from start on"
    } else {
        "as recorded; the kernel does not tell"
    };
    table.row("Landlock", format!("on, ABI {} ({when})", landlock.abi));
    for rule in &landlock.rules {
        table.row("", rule);
    }
    if !landlock.not_enforced.is_empty() {
        table.row("  NOT ENFORCED", landlock.not_enforced.join(", "));
    }
}

fn namespaces(table: &mut Table, found: &Inspection) {
    let list = |own: bool| {
        let kinds: Vec<&str> = found
            .namespaces
            .iter()
            .filter(|n| n.own == own)
            .map(|n| n.kind.as_str())
            .collect();
        kinds.join(" ")
    };
    if found.namespaces.is_empty() {
        return;
    }
    table.row("own namespaces", list(true));
    table.row("the host's", list(false));
    for (name, map) in [("uid map", &found.uid_map), ("gid map", &found.gid_map)] {
        let ranges: Vec<String> = map
            .iter()
            .map(|r| {
                format!(
                    "{}..{} is host {}",
                    r.container,
                    u64::from(r.container) + u64::from(r.size),
                    r.host
                )
            })
            .collect();
        if map.iter().any(|r| r.container != r.host) {
            table.row(name, ranges.join(", "));
        }
    }
}

fn files(table: &mut Table, found: &Inspection) {
    let Some(files) = &found.file_system else {
        return;
    };
    table.row(
        "root file system",
        if files.root_read_only {
            "read-only"
        } else {
            "writable"
        },
    );
    table.row("masked paths", checks(&files.masked));
    table.row("read-only paths", checks(&files.read_only));
    let hosts: Vec<String> = files
        .writable_host_paths
        .iter()
        .map(|p| {
            format!(
                "{} is {} of the host's {}",
                p.destination.display(),
                p.source.display(),
                p.file_system
            )
        })
        .collect();
    table.row(
        "writable host paths",
        if hosts.is_empty() {
            "none".to_owned()
        } else {
            hosts.join("\n")
        },
    );
    let nodes: Vec<String> = files
        .devices
        .iter()
        .map(|d| {
            d.path
                .strip_prefix("/dev")
                .unwrap_or(&d.path)
                .display()
                .to_string()
        })
        .collect();
    table.row("device nodes", nodes.join(" "));
}

fn checks(checks: &[PathCheck]) -> String {
    let exposed: Vec<String> = checks
        .iter()
        .filter(|c| matches!(c.cover, Cover::Exposed | Cover::Unknown))
        .map(|c| format!("{} {:?}", c.path.display(), c.cover).to_uppercase())
        .collect();
    let absent = checks.iter().filter(|c| c.cover == Cover::Absent).count();
    let covered = checks.len() - absent - exposed.len();
    let mut text = format!("{covered} covered, {absent} not there");
    for line in exposed {
        text.push('\n');
        text.push_str(&line);
    }
    text
}

fn cgroup(table: &mut Table, found: &Inspection) {
    let Some(limits) = &found.cgroup else {
        return;
    };
    let or_none = |value: Option<u64>, unit: &str| {
        value.map_or_else(|| "no limit".to_owned(), |v| format!("{v}{unit}"))
    };
    table.row(
        "cgroup limits",
        format!(
            "memory {}, {} {}, tasks {}, cpu {}",
            or_none(limits.memory, " bytes"),
            if limits.device_filters > 0 {
                "swap"
            } else {
                "with swap"
            },
            or_none(limits.swap, " bytes"),
            or_none(limits.pids, ""),
            limits.cpu.map_or_else(
                || "no limit".to_owned(),
                |(quota, period)| format!("{quota} of {period} us")
            )
        ),
    );
    let devices = if limits.device_filters > 0 {
        format!("{} program(s) decide", limits.device_filters)
    } else if limits.devices.iter().any(|line| line.starts_with('a')) {
        "ALL devices are allowed".to_owned()
    } else {
        limits.devices.join(", ")
    };
    table.row("devices allowed", devices);
}

fn verdict(table: &mut Table, found: &Inspection) {
    if found.process.is_none() {
        return;
    }
    if found.differences.is_empty() {
        table.row(
            "verdict",
            "the kernel enforces what was recorded at creation",
        );
        return;
    }
    for difference in &found.differences {
        let name = match difference.severity {
            Severity::Weaker => "!! WEAKER",
            Severity::Different => "differs",
        };
        table.row(
            name,
            format!(
                "{}: recorded {}, actual {}",
                difference.what, difference.recorded, difference.actual
            ),
        );
    }
    if found.weaker_than_recorded() {
        table.row(
            "verdict",
            "!! LESS IS ENFORCED THAN WAS RECORDED AT CREATION",
        );
    } else {
        table.row(
            "verdict",
            "nothing is enforced less than was recorded at creation",
        );
    }
}
