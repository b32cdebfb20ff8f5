//! The device list in one form for v1's files and for v2's program: a default and exceptions.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::cgroup::Error;

const FIELD: &str = "linux.resources.devices";

/// Block or character devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Block,
    Char,
}

/// Device numbers that an exception covers; `None` means every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
}

impl Key {
    fn covers(&self, other: &Self) -> bool {
        self.kind == other.kind
            && (self.major.is_none() || self.major == other.major)
            && (self.minor.is_none() || self.minor == other.minor)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

/// What may be done with a device: the bits of `BPF_DEVCG_ACC_*` (linux/bpf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access(pub(crate) u8);

impl Access {
    pub(crate) const MKNOD: Self = Self(1);
    pub(crate) const READ: Self = Self(2);
    pub(crate) const WRITE: Self = Self(4);
    pub(crate) const ALL: Self = Self(7);

    fn parse(text: &str) -> Option<Self> {
        let mut bits = 0;
        for letter in text.chars() {
            bits |= match letter {
                'm' => Self::MKNOD.0,
                'r' => Self::READ.0,
                'w' => Self::WRITE.0,
                _ => return None,
            };
        }
        (bits != 0).then_some(Self(bits))
    }

    /// The letters, as the v1 files take them.
    pub(crate) fn letters(self) -> String {
        [(Self::READ, 'r'), (Self::WRITE, 'w'), (Self::MKNOD, 'm')]
            .into_iter()
            .filter(|(bit, _)| self.0 & bit.0 != 0)
            .map(|(_, letter)| letter)
            .collect()
    }
}

/// A default and its exceptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What holds for a device that no exception covers.
    pub(crate) allow_by_default: bool,
    /// What is allowed (or, where all is allowed, denied) besides.
    pub(crate) exceptions: BTreeMap<Key, Access>,
}

/// The character devices every container has, as `major, minor` (`None`: every minor): null, zero,
/// full, random, urandom, tty, console, ptmx and the pseudo-terminals. Unlike runc no `mknod` of arbitrary numbers: making a node that cannot
/// be opened serves nothing but a later mistake.
pub(crate) const USUAL: [(u32, Option<u32>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

impl Rules {
    /// Nothing is allowed.
    fn none() -> Self {
        Self {
            allow_by_default: false,
            exceptions: BTreeMap::new(),
        }
    }

    /// The rules of a spec, applied in order to "nothing", then the default devices.
    pub(crate) fn for_container(spec: &[LinuxDeviceCgroup]) -> Result<Self, Error> {
        let mut rules = Self::none();
        for (index, rule) in spec.iter().enumerate() {
            rules.push(index, rule)?;
        }
        if !rules.allow_by_default {
            for (major, minor) in USUAL {
                rules.add(
                    Key {
                        kind: Kind::Char,
                        major: Some(major),
                        minor,
                    },
                    Access::ALL,
                );
            }
        }
        Ok(rules)
    }

    fn push(&mut self, index: usize, rule: &LinuxDeviceCgroup) -> Result<(), Error> {
        let bad = |value: String, reason| Error::BadValue {
            field: format!("{FIELD}[{index}]"),
            value,
            reason,
        };
        let text = rule.access().as_deref().unwrap_or_default();
        let access = Access::parse(text)
            .ok_or_else(|| bad(text.to_owned(), "is not an access: some of r, w, m"))?;
        let number = |value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(value) => u32::try_from(value)
                .map(Some)
                .map_err(|_| bad(value.to_string(), "is not a device number")),
        };
        let (major, minor) = (number(rule.major())?, number(rule.minor())?);
        let kinds: &[Kind] = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => &[Kind::Block, Kind::Char],
            LinuxDeviceType::B => &[Kind::Block],
            LinuxDeviceType::C | LinuxDeviceType::U => &[Kind::Char],
            LinuxDeviceType::P => {
                return Err(bad(
                    "p".to_owned(),
                    "cannot be restricted: a FIFO is no device",
                ));
            }
        };
        let everything = kinds.len() == 2 && major.is_none() && minor.is_none();
        if everything && access == Access::ALL {
            self.allow_by_default = rule.allow();
            self.exceptions.clear();
            return Ok(());
        }
        for kind in kinds {
            let key = Key {
                kind: *kind,
                major,
                minor,
            };
            if rule.allow() == self.allow_by_default {
                self.take_back(key, access).map_err(|()| {
                    bad(
                        format!("{key:?}"),
                        "takes back a part of a wider rule, which the kernel cannot express; \
                         list the devices instead",
                    )
                })?;
            } else {
                self.add(key, access);
            }
        }
        Ok(())
    }

    fn add(&mut self, key: Key, access: Access) {
        let entry = self.exceptions.entry(key).or_insert(Access(0));
        entry.0 |= access.0;
    }

    /// Removes access from the exceptions; an exception wider than `key` cannot get a hole.
    fn take_back(&mut self, key: Key, access: Access) -> Result<(), ()> {
        for (old, granted) in &mut self.exceptions {
            if granted.0 & access.0 == 0 || !old.overlaps(&key) {
                continue;
            }
            if !key.covers(old) {
                return Err(());
            }
            granted.0 &= !access.0;
        }
        self.exceptions.retain(|_, access| access.0 != 0);
        Ok(())
    }

    /// Whether an access is allowed: what both kernels' mechanisms must agree with.
    #[cfg(test)]
    pub(crate) fn allows(&self, kind: Kind, major: u32, minor: u32, access: Access) -> bool {
        let key = Key {
            kind,
            major: Some(major),
            minor: Some(minor),
        };
        let mut matching = self.exceptions.iter().filter(|(old, _)| old.covers(&key));
        if self.allow_by_default {
            !matching.any(|(_, denied)| denied.0 & access.0 != 0)
        } else {
            matching.any(|(_, granted)| access.0 & !granted.0 == 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, rest: &str) -> LinuxDeviceCgroup {
        let mut fields = rest.split(' ');
        let (typ, major, minor, access) = (
            fields.next().unwrap(),
            fields.next().unwrap(),
            fields.next().unwrap(),
            fields.next().unwrap(),
        );
        let number = |text: &str| text.parse::<i64>().ok();
        serde_json::from_value(serde_json::json!({
            "allow": allow, "type": typ, "major": number(major), "minor": number(minor),
            "access": access,
        }))
        .unwrap()
    }

    #[test]
    fn last_rule_wins_and_defaults_stay() {
        let deny = rule(false, "a * * rwm");
        for (name, spec, checks) in [
            (
                "nothing said",
                vec![],
                vec![("c 8:0 r", false), ("c 1:3 rwm", true)],
            ),
            (
                "one device",
                vec![deny.clone(), rule(true, "c 10 200 rw")],
                vec![
                    ("c 10:200 rw", true),
                    ("c 10:200 m", false),
                    ("c 10:201 r", false),
                    ("b 10:200 r", false),
                    ("c 136:7 rw", true),
                ],
            ),
            (
                "granted and taken back",
                vec![
                    deny.clone(),
                    rule(true, "b 8 0 rwm"),
                    rule(false, "b 8 * w"),
                ],
                vec![("b 8:0 r", true), ("b 8:0 rw", false), ("b 8:0 m", true)],
            ),
            (
                "privileged",
                vec![deny.clone(), rule(true, "a * * rwm")],
                vec![("b 8:0 rwm", true), ("c 1:1 rw", true)],
            ),
            (
                "everything but disks",
                vec![rule(true, "a * * rwm"), rule(false, "b * * w")],
                vec![("b 8:0 r", true), ("b 8:0 w", false), ("c 8:0 w", true)],
            ),
            (
                "read every device",
                vec![deny.clone(), rule(true, "a * * r")],
                vec![("b 8:0 r", true), ("c 8:0 r", true), ("c 8:0 w", false)],
            ),
        ] {
            let rules = Rules::for_container(&spec).unwrap();
            for (check, expected) in checks {
                let (kind, rest) = check.split_once(' ').unwrap();
                let (number, access) = rest.split_once(' ').unwrap();
                let (major, minor) = number.split_once(':').unwrap();
                let kind = if kind == "b" { Kind::Block } else { Kind::Char };
                let allowed = rules.allows(
                    kind,
                    major.parse().unwrap(),
                    minor.parse().unwrap(),
                    Access::parse(access).unwrap(),
                );
                assert_eq!(allowed, expected, "{name}: {check}");
            }
        }
    }

    #[test]
    fn what_cannot_be_expressed_is_refused() {
        for (name, spec) in [
            (
                "a hole",
                vec![rule(true, "c * * rw"), rule(false, "c 1 1 r")],
            ),
            ("no access", vec![rule(true, "c 1 3 ")]),
            ("unknown access", vec![rule(true, "c 1 3 rwx")]),
            ("a FIFO", vec![rule(true, "p 1 3 r")]),
            ("negative", vec![rule(true, "c -2 3 r")]),
            ("too large", vec![rule(true, "c 4294967296 3 r")]),
        ] {
            assert!(Rules::for_container(&spec).is_err(), "{name}");
        }
    }
}
