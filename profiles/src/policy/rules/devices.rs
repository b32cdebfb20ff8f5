//! Device nodes and the device rules of the cgroup: the engines' defaults and what the policy
//! lists, never a wildcard, never a new node.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources, Spec};

use crate::policy::device::{DeviceKind, DeviceMatch, ENGINE_DEFAULT};
use crate::policy::judge::{Judge, Request};
use crate::policy::report::{Action, Rule};

const CGROUP_FIELD: &str = "linux.resources.devices";

/// How many devices an error or report names before it only counts.
const NAMED: usize = 8;

/// Judges devices and device rules, and writes the cgroup's rules anew.
pub(crate) fn harden(spec: &mut Spec, judge: &mut Judge<'_>) {
    let Some(linux) = spec.linux_mut() else {
        return;
    };
    let mut granted = Granted::default();
    if let Some(devices) = linux.devices_mut() {
        nodes(devices, &mut granted, judge);
    }
    let mut resources = linux.resources().clone().unwrap_or_else(no_resources);
    let asked = resources.devices().clone().unwrap_or_default();
    rules(&asked, &mut granted, judge);
    resources.set_devices(Some(granted.into_rules()));
    linux.set_resources(Some(resources));
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

/// Device nodes: `linux.devices`.
fn nodes(devices: &mut Vec<LinuxDevice>, granted: &mut Granted, judge: &mut Judge<'_>) {
    let matches = |device: &LinuxDevice| {
        let kind = DeviceKind::of(device.typ())?;
        DeviceMatch::asked(kind, device.major(), Some(device.minor()))
    };
    // A FIFO is no device: it reaches nothing.
    let fine = |device: &LinuxDevice, judge: &Judge<'_>| {
        device.typ() == LinuxDeviceType::P
            || matches(device).is_some_and(|m| is_default(&m) || is_listed(&m, judge))
    };
    let beyond: Vec<String> = devices
        .iter()
        .filter(|device| !fine(device, judge))
        .map(|device| {
            let kind = device.typ().as_str().to_owned();
            format!(
                "{} ({kind} {}:{})",
                device.path().display(),
                device.major(),
                device.minor()
            )
        })
        .collect();
    if !beyond.is_empty() && !ask("linux.devices", &beyond, judge) {
        devices.retain(|device| fine(device, judge));
    }
    for device in devices.iter() {
        // The runtime makes the node from inside the container's cgroup.
        if let Some(device) = matches(device).filter(|m| !is_default(m)) {
            granted.some.push((device, Access::MKNOD));
        }
    }
}

/// Rules of the cgroup: `linux.resources.devices`.
fn rules(asked: &[LinuxDeviceCgroup], granted: &mut Granted, judge: &mut Judge<'_>) {
    let is_beyond = |rule: &LinuxDeviceCgroup, judge: &Judge<'_>| match device_of(rule) {
        Some(device) => !is_default(&device) && !is_listed(&device, judge),
        // runc gives every container mknod for every device and relies on what reading and
        // writing need; nothing that makes no nodes misses it.
        None => Access::of(rule) != Access::MKNOD,
    };
    let beyond: Vec<String> = asked
        .iter()
        .filter(|rule| rule.allow() && is_beyond(rule, judge))
        .map(ToString::to_string)
        .collect();
    let keep = beyond.is_empty() || ask(CGROUP_FIELD, &beyond, judge);
    for rule in asked {
        let access = Access::of(rule);
        match device_of(rule) {
            device if !rule.allow() => granted.withdraw(device, access),
            _ if is_beyond(rule, judge) && !keep => {}
            Some(device) if is_default(&device) => {}
            Some(device) => granted.some.push((device, access)),
            None if access == Access::MKNOD => {}
            None => {
                let typ = rule.typ().unwrap_or_default();
                granted.wildcards.push((typ, access.without(Access::MKNOD)));
            }
        }
    }
    for (device, access) in &granted.some {
        if is_listed(device, judge) && *access != Access::MKNOD {
            let name = device.to_string();
            let why = "the policy lists it";
            judge.note(
                Rule::Devices,
                CGROUP_FIELD,
                Action::Granted,
                &name,
                &name,
                why,
            );
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

fn ask(field: &str, beyond: &[String], judge: &mut Judge<'_>) -> bool {
    let mut names = beyond
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if beyond.len() > NAMED {
        names.push_str(&format!(" and {} more", beyond.len() - NAMED));
    }
    judge.keeps(
        judge.policy.devices.beyond,
        Request {
            rule: Rule::Devices,
            field,
            asked: format!("the devices {names}"),
            stripped: "none of them",
            why: "a raw device is a way round every other confinement",
            allow: "devices.allow = [\"c MAJOR:MINOR\", ...]",
            instead: "leave out --device",
        },
    )
}
