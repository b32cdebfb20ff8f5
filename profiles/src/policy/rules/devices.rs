//! Device nodes and the device rules of the cgroup: the engines' defaults and what the policy
//! lists, never a wildcard, never a new node.

use std::path::Path;

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources, Mount, Spec,
};

use super::sensitive::plain;
use crate::policy::device::{DeviceKind, DeviceMatch, ENGINE_DEFAULT};
use crate::policy::facts::{has_option, is_bind};
use crate::policy::judge::{Judge, Request};
use crate::policy::report::{Action, Rule};

/// How many devices an error or report names before it only counts.
const NAMED: usize = 8;

/// Judges devices and device rules, and writes the cgroup's rules anew.
pub(crate) fn harden(spec: &mut Spec, judge: &mut Judge<'_>) {
    in_binds(spec, judge);
    let Some(linux) = spec.linux_mut() else {
        return;
    };
    let mut devices = linux.devices().clone().unwrap_or_default();
    let mut resources = linux.resources().clone().unwrap_or_else(no_resources);
    let rules = resources.devices().clone().unwrap_or_default();

    let mut beyond: Vec<Beyond> = devices.iter().filter_map(|d| node(d, judge)).collect();
    for rule in rules.iter().filter_map(|rule| cgroup_rule(rule, judge)) {
        // Engines write a rule for each node; one line for both is enough.
        let known = beyond
            .iter()
            .any(|b| b.device.is_some() && b.device == rule.device);
        if !known {
            beyond.push(rule);
        }
    }
    let keep = beyond.is_empty() || ask(&beyond, judge);
    if !keep {
        devices.retain(|device| node(device, judge).is_none());
    }
    let mut granted = Granted::default();
    for device in devices.iter().filter_map(numbers) {
        // The runtime makes the node from inside the container's cgroup.
        if !is_default(&device) {
            granted.some.push((device, Access::MKNOD));
        }
    }
    for rule in &rules {
        if !rule.allow() {
            granted.withdraw(device_of(rule), Access::of(rule));
        } else if keep || cgroup_rule(rule, judge).is_none() {
            granted.give(rule);
        }
    }
    note_listed(&granted, judge);
    if linux.devices().is_some() {
        linux.set_devices(Some(devices));
    }
    resources.set_devices(Some(granted.into_rules()));
    linux.set_resources(Some(resources));
}

/// A node that is asked for below a bind would be made in the host's directory and stay there. The
/// runtime looks again once links in the image are followed; here the request has a name.
fn in_binds(spec: &Spec, judge: &mut Judge<'_>) {
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    // No node is made at all where /dev is the host's.
    if in_bind(Path::new("/dev"), mounts).is_some() {
        return;
    }
    let linux = spec.linux().as_ref();
    for device in linux.iter().flat_map(|l| l.devices()).flatten() {
        let Some(mount) = device.path().parent().and_then(|dir| in_bind(dir, mounts)) else {
            continue;
        };
        let source = mount.source().as_deref().unwrap_or(Path::new("?"));
        judge.deny(Request {
            rule: Rule::Devices,
            field: "linux.devices",
            asked: format!(
                "the device node {} in the mount of the host's {}",
                device.path().display(),
                source.display()
            ),
            stripped: "",
            why: "the node would be made in the host's directory and stay there",
            allow: "",
            instead: "ask for the node below /dev, or bind the host's own node",
        });
    }
}

/// The bind that is on top at a directory of the container.
fn in_bind<'m>(directory: &Path, mounts: &'m [Mount]) -> Option<&'m Mount> {
    let directory = plain(directory);
    // The last: what was mounted below its place before, it hides.
    let covers = |mount: &&Mount| {
        directory.starts_with(plain(mount.destination())) && !has_option(mount, &["remount"])
    };
    mounts.iter().rfind(covers).filter(|mount| is_bind(mount))
}

fn no_resources() -> LinuxResources {
    let mut resources = LinuxResources::default();
    resources.set_devices(None);
    resources
}

/// What the container may do with devices besides the defaults.
#[derive(Default)]
struct Granted {
    wildcards: Vec<(LinuxDeviceType, Access)>,
    some: Vec<(DeviceMatch, Access)>,
}

/// Read, write and mknod.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Access {
    read: bool,
    write: bool,
    mknod: bool,
}

impl Access {
    const MKNOD: Self = Self {
        read: false,
        write: false,
        mknod: true,
    };

    /// An absent access means all.
    fn of(rule: &LinuxDeviceCgroup) -> Self {
        let text = rule
            .access()
            .as_deref()
            .filter(|a| !a.is_empty())
            .unwrap_or("rwm");
        Self {
            read: text.contains('r'),
            write: text.contains('w'),
            mknod: text.contains('m'),
        }
    }

    fn to_oci(self) -> String {
        let letters = [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')];
        letters
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, c)| c)
            .collect()
    }

    fn without(self, other: Self) -> Self {
        Self {
            read: self.read && !other.read,
            write: self.write && !other.write,
            mknod: self.mknod && !other.mknod,
        }
    }

    fn is_empty(self) -> bool {
        !(self.read || self.write || self.mknod)
    }
}

fn is_listed(device: &DeviceMatch, judge: &Judge<'_>) -> bool {
    judge.policy.devices.allow.iter().any(|m| m.covers(device))
}

fn is_default(device: &DeviceMatch) -> bool {
    ENGINE_DEFAULT.iter().any(|m| m.covers(device))
}

/// A device or rule beyond the defaults and the policy's list.
struct Beyond {
    words: String,
    /// Its numbers, if it names some.
    device: Option<DeviceMatch>,
}

fn is_beyond(device: &DeviceMatch, judge: &Judge<'_>) -> bool {
    !is_default(device) && !is_listed(device, judge)
}

/// A node of `linux.devices`, if it is beyond.
fn node(device: &LinuxDevice, judge: &Judge<'_>) -> Option<Beyond> {
    let asked = numbers(device);
    // A FIFO is no device: it reaches nothing.
    let fine = device.typ() == LinuxDeviceType::P
        || asked.is_some_and(|device| !is_beyond(&device, judge));
    let (typ, major, minor) = (device.typ(), device.major(), device.minor());
    (!fine).then(|| Beyond {
        words: format!(
            "{} ({} {major}:{minor})",
            device.path().display(),
            typ.as_str()
        ),
        device: asked,
    })
}

fn numbers(device: &LinuxDevice) -> Option<DeviceMatch> {
    let kind = DeviceKind::of(device.typ())?;
    DeviceMatch::asked(kind, device.major(), Some(device.minor()))
}

/// A rule of `linux.resources.devices`, if it allows and is beyond.
fn cgroup_rule(rule: &LinuxDeviceCgroup, judge: &Judge<'_>) -> Option<Beyond> {
    let device = device_of(rule);
    let fine = match &device {
        Some(device) => !is_beyond(device, judge),
        // runc gives every container mknod for every device and relies on what reading and
        // writing need; nothing that makes no nodes misses it.
        None => Access::of(rule) == Access::MKNOD,
    };
    (rule.allow() && !fine).then(|| Beyond {
        words: rule.to_string(),
        device,
    })
}

fn note_listed(granted: &Granted, judge: &mut Judge<'_>) {
    for (device, access) in &granted.some {
        if is_listed(device, judge) && *access != Access::MKNOD {
            let name = device.to_string();
            let field = "linux.resources.devices";
            let why = "the policy lists it";
            judge.note(Rule::Devices, field, Action::Granted, &name, &name, why);
        }
    }
}

/// The devices a rule is about; `None` for every one, of a type or of all.
fn device_of(rule: &LinuxDeviceCgroup) -> Option<DeviceMatch> {
    let number = |n: Option<i64>| n.filter(|n| *n >= 0);
    let kind = DeviceKind::of(rule.typ()?)?;
    DeviceMatch::asked(kind, number(rule.major())?, number(rule.minor()))
}

impl Granted {
    /// Adds what a rule allows. Wildcards never get to make nodes.
    fn give(&mut self, rule: &LinuxDeviceCgroup) {
        let access = Access::of(rule);
        match device_of(rule) {
            Some(device) if is_default(&device) => {}
            Some(device) => self.some.push((device, access)),
            None if access == Access::MKNOD => {}
            None => {
                let typ = rule.typ().unwrap_or_default();
                self.wildcards.push((typ, access.without(Access::MKNOD)));
            }
        }
    }

    /// Takes back what an earlier rule gave; a rule that overlaps a wildcard takes all of it.
    fn withdraw(&mut self, device: Option<DeviceMatch>, access: Access) {
        let Some(device) = device else {
            self.wildcards.clear();
            self.some.retain(|(_, granted)| *granted == Access::MKNOD);
            return;
        };
        for (other, granted) in &mut self.some {
            if other.covers(&device) || device.covers(other) {
                *granted = granted.without(access);
            }
        }
        self.some.retain(|(_, granted)| !granted.is_empty());
    }

    fn into_rules(self) -> Vec<LinuxDeviceCgroup> {
        let all = Access {
            read: true,
            write: true,
            mknod: true,
        };
        let mut deny = LinuxDeviceCgroup::default();
        deny.set_allow(false).set_access(Some(all.to_oci()));
        let mut rules = vec![deny];
        for (typ, access) in self.wildcards {
            let mut rule = LinuxDeviceCgroup::default();
            rule.set_allow(true).set_typ(Some(typ));
            rule.set_access(Some(access.to_oci()));
            rules.push(rule);
        }
        let defaults = ENGINE_DEFAULT.iter().map(|device| (*device, all));
        for (device, access) in defaults.chain(self.some) {
            let mut rule = LinuxDeviceCgroup::default();
            rule.set_allow(true)
                .set_typ(Some(device.kind().to_oci()))
                .set_major(Some(i64::from(device.major())))
                .set_minor(device.minor().map(i64::from))
                .set_access(Some(access.to_oci()));
            rules.push(rule);
        }
        rules
    }
}

fn ask(beyond: &[Beyond], judge: &mut Judge<'_>) -> bool {
    let list = |texts: Vec<String>, separator: &str| {
        let shown = texts.len().min(NAMED);
        let mut list = texts.get(..shown).unwrap_or_default().join(separator);
        if texts.len() > shown {
            list.push_str(&format!(" and {} more", texts.len() - shown));
        }
        list
    };
    let words = list(beyond.iter().map(|b| b.words.clone()).collect(), ", ");
    let named = beyond.iter().filter_map(|b| b.device);
    let named = list(named.map(|device| format!("\"{device}\"")).collect(), ", ");
    let all_named = beyond.iter().all(|b| b.device.is_some());
    let line = if all_named {
        format!("devices.allow = [{named}]")
    } else {
        "devices.beyond = \"allow\"".to_owned()
    };
    judge.keeps(
        judge.policy.devices.beyond,
        Request {
            rule: Rule::Devices,
            field: "linux.devices, linux.resources.devices",
            asked: format!("the devices {words}"),
            stripped: "none of them",
            why: "a raw device is a way round every other confinement",
            allow: &line,
            instead: "leave out --device",
        },
    )
}
