//! What plain runc would have given for the same spec, beside what the kernel says of this container.
//!
//! runc gives a spec as it stands (its `libcontainer/specconv`, `CreateLibcontainerConfig`): what is said
//! of it here follows from the spec that the engine wrote, nothing was run.

use std::fmt::Write as _;

use cofferdam_profiles::capability::Set;
use cofferdam_profiles::policy::ContainerRecord;
use cofferdam_profiles::seccomp::{Allowed, allowed_native};
use oci_spec::runtime::{Linux, LinuxIdMapping, Spec};
use serde::Serialize;

use super::{Cover, IdRange, Inspection};

/// One thing, here and under runc.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is.
    pub what: String,
    /// What the kernel says of this container.
    pub here: String,
    /// What runc would have given.
    pub runc: String,
}

/// The two side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The container's id.
    pub id: String,
    /// Every thing that is compared.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// Compares what was found of a running container with what its bundle's spec, `asked`, says.
    pub fn of(found: &Inspection, record: &ContainerRecord, asked: &Spec) -> Self {
        let mut rows = Vec::new();
        let mut row = |what: &str, here: String, runc: String| {
            rows.push(Row {
                what: what.to_owned(),
                here,
                runc,
            });
        };
        let linux = asked.linux().as_ref();
        row(
            "user ids on the host",
            found_ids(&found.uid_map),
            asked_ids(linux.and_then(|l| l.uid_mappings().as_deref())),
        );
        privileges(found, asked, &mut row);
        row(
            "seccomp",
            filtered(
                found.seccomp.as_ref().is_some_and(|s| s.mode == "filter"),
                record.report.summary.seccomp_allowed,
            ),
            match linux.and_then(|l| l.seccomp().as_ref()) {
                Some(profile) => filtered(true, Some(allowed_native(profile))),
                None => filtered(false, None),
            },
        );
        let landlock = found.landlock.as_ref();
        row(
            "Landlock",
            landlock.map_or_else(none, |l| format!("{} rules", l.rules.len())),
            none(),
        );
        namespaces(found, linux, &mut row);
        files(found, asked, &mut row);
        let id = found.id.clone();
        Self { id, rows }
    }

    /// A table at most `width` characters wide; what differs has a mark before it.
    pub fn render(&self, width: usize) -> String {
        const NAME: usize = 26;
        let column = (width.max(80) - NAME - 4) / 2;
        let mut text = String::new();
        // Writing to a String cannot fail.
        let mut line = |mark: char, what: &str, here: &str, runc: &str| {
            let _ = writeln!(text, "{mark} {what:<NAME$}{here:<column$}  {runc}");
        };
        line(' ', "", "HERE", "RUNC");
        for row in &self.rows {
            let mut mark = if row.here == row.runc { ' ' } else { '*' };
            let (here, runc) = (wrap(&row.here, column), wrap(&row.runc, column));
            for index in 0..here.len().max(runc.len()) {
                let part = |lines: &[String]| lines.get(index).cloned().unwrap_or_default();
                let what = if index == 0 { row.what.as_str() } else { "" };
                line(mark, what, &part(&here), &part(&runc));
                mark = ' ';
            }
        }
        text
    }
}

fn none() -> String {
    "none".to_owned()
}

/// Words in lines of at most `width` characters; what comes from a container has no control characters.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    let mut lines: Vec<String> = Vec::new();
    for word in clean.split(' ') {
        match lines.last_mut() {
            Some(last) if last.chars().count() + 1 + word.chars().count() <= width => {
                last.push(' ');
                last.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn found_ids(map: &[IdRange]) -> String {
    ids(map.iter().map(|r| (r.container, r.host, r.size)))
}

fn asked_ids(map: Option<&[LinuxIdMapping]>) -> String {
    let map = map.unwrap_or_default().iter();
    ids(map.map(|m| (m.container_id(), m.host_id(), m.size())))
}

fn ids(map: impl Iterator<Item = (u32, u32, u32)>) -> String {
    let ranges: Vec<String> = map
        .filter(|(container, host, size)| {
            // The initial namespace's own map.
            (*container, *host, *size) != (0, 0, u32::MAX)
        })
        .map(|(container, host, size)| format!("{container} is {host} ({size} ids)"))
        .collect();
    match ranges.is_empty() {
        true => "the host's: root is root".to_owned(),
        false => ranges.join(", "),
    }
}

fn privileges(found: &Inspection, asked: &Spec, row: &mut impl FnMut(&str, String, String)) {
    let on = |flag: bool| if flag { "on" } else { "off" }.to_owned();
    let process = asked.process().as_ref();
    let sets = process.and_then(|p| p.capabilities().as_ref());
    let asked_set = Set::from_oci(sets.and_then(|s| s.bounding().as_ref()));
    let Some(now) = &found.process else {
        return;
    };
    let count = |set: Set| match set.is_empty() {
        true => none(),
        false => format!("{} of them: {set}", set.len()),
    };
    row(
        "capabilities (bounding)",
        count(now.capabilities.bounding),
        count(asked_set),
    );
    row(
        "no new privileges",
        on(now.no_new_privileges),
        on(process.and_then(|p| p.no_new_privileges()) == Some(true)),
    );
    let label = process.and_then(|p| {
        let apparmor = p.apparmor_profile().as_ref().filter(|l| !l.is_empty());
        apparmor.or(p.selinux_label().as_ref().filter(|l| !l.is_empty()))
    });
    row(
        "security label",
        now.label.clone().unwrap_or_else(none),
        label.cloned().unwrap_or_else(none),
    );
}

fn filtered(on: bool, allowed: Option<Allowed>) -> String {
    match (on, allowed) {
        (false, _) => "off: every call".to_owned(),
        (true, None) => "on".to_owned(),
        (true, Some(allowed)) => format!(
            "{} calls, {} of them with conditions",
            allowed.always + allowed.conditional,
            allowed.conditional
        ),
    }
}

fn namespaces(
    found: &Inspection,
    linux: Option<&Linux>,
    row: &mut impl FnMut(&str, String, String),
) {
    let asked = linux.and_then(|l| l.namespaces().as_deref());
    let own = |kind: &str| {
        asked.unwrap_or_default().iter().any(|namespace| {
            super::compare::word(namespace.typ()) == kind
                // An engine's path leads to a pod's, as far as the spec tells.
                && namespace.path().as_ref().is_none_or(|path| !path.as_os_str().is_empty())
        })
    };
    let (mut here, mut runc) = (Vec::new(), Vec::new());
    for namespace in &found.namespaces {
        if !namespace.own {
            here.push(namespace.kind.clone());
        }
        if !own(&namespace.kind) {
            runc.push(namespace.kind.clone());
        }
    }
    let list = |shared: Vec<String>| match shared.is_empty() {
        true => none(),
        false => shared.join(", "),
    };
    row("shared with the host", list(here), list(runc));
}

fn files(found: &Inspection, asked: &Spec, row: &mut impl FnMut(&str, String, String)) {
    let Some(now) = &found.file_system else {
        return;
    };
    let linux = asked.linux().as_ref();
    let written = |read_only: bool| if read_only { "read-only" } else { "writable" }.to_owned();
    let root = asked.root().as_ref().and_then(|r| r.readonly());
    row(
        "root file system",
        written(now.root_read_only),
        written(root == Some(true)),
    );
    let covered = |checks: &[super::PathCheck]| {
        let covered = checks.iter().filter(|c| c.cover != Cover::Exposed);
        covered.count().to_string()
    };
    let count = |list: Option<&Vec<String>>| list.map_or(0, Vec::len).to_string();
    row(
        "masked paths",
        covered(&now.masked),
        count(linux.and_then(|l| l.masked_paths().as_ref())),
    );
    row(
        "read-only paths",
        covered(&now.read_only),
        count(linux.and_then(|l| l.readonly_paths().as_ref())),
    );
    let list = |paths: Vec<String>| match paths.is_empty() {
        true => none(),
        false => paths.join(" "),
    };
    let paths = now.writable_host_paths.iter();
    row(
        "writable host paths",
        list(paths.map(|p| p.destination.display().to_string()).collect()),
        list(writable_binds(asked)),
    );
    let devices = linux
        .and_then(|l| l.devices().as_deref())
        .unwrap_or_default();
    row(
        "devices besides the usual",
        list(extra_devices(found)),
        list(
            devices
                .iter()
                .map(|d| d.path().display().to_string())
                .collect(),
        ),
    );
}

fn writable_binds(asked: &Spec) -> Vec<String> {
    let mounts = asked.mounts().iter().flatten();
    let binds = mounts.filter(|mount| {
        let has = |names: &[&str]| {
            let mut options = mount.options().iter().flatten();
            options.any(|option| names.contains(&option.as_str()))
        };
        (mount.typ().as_deref() == Some("bind") || has(&["bind", "rbind"])) && !has(&["ro", "rro"])
    });
    binds
        .map(|mount| mount.destination().display().to_string())
        .collect()
}

fn extra_devices(found: &Inspection) -> Vec<String> {
    let devices = found.file_system.iter().flat_map(|files| &files.devices);
    let extra = devices.filter(|device| {
        !(device.kind == 'c'
            && crate::cgroup::devices::USUAL.iter().any(|(major, minor)| {
                u64::from(*major) == device.major
                    && minor.is_none_or(|m| u64::from(m) == device.minor)
            }))
    });
    extra
        .map(|device| device.path.display().to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_said_in_words() {
        let map = |host, size| {
            vec![IdRange {
                container: 0,
                host,
                size,
            }]
        };
        assert_eq!(found_ids(&map(0, u32::MAX)), "the host's: root is root");
        assert_eq!(found_ids(&map(100_000, 65_536)), "0 is 100000 (65536 ids)");
        assert_eq!(asked_ids(None), "the host's: root is root");
    }

    #[test]
    fn what_differs_is_marked_and_control_characters_are_gone() {
        let row = |what: &str, here: &str, runc: &str| Row {
            what: what.to_owned(),
            here: here.to_owned(),
            runc: runc.to_owned(),
        };
        let comparison = Comparison {
            id: "x".to_owned(),
            rows: vec![row("same", "on", "on"), row("other", "a\u{1b}b", "off")],
        };
        let text = comparison.render(80);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("  same"), "{text}");
        assert!(lines[2].starts_with("* other"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
