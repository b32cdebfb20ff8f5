//! Devices by type and number, as policies name them.

use std::fmt;
use std::str::FromStr;

use oci_spec::runtime::LinuxDeviceType;
use serde::{Deserialize, Serialize};

/// Character or block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeviceKind {
    /// A block device.
    Block,
    /// A character device.
    Character,
}

impl DeviceKind {
    /// The kind of an OCI device type; `None` for "all", FIFOs and the absent type.
    pub fn of(typ: LinuxDeviceType) -> Option<Self> {
        match typ {
            LinuxDeviceType::B => Some(Self::Block),
            LinuxDeviceType::C | LinuxDeviceType::U => Some(Self::Character),
            LinuxDeviceType::A | LinuxDeviceType::P => None,
        }
    }

    /// The kind as an OCI device type.
    pub fn to_oci(self) -> LinuxDeviceType {
        match self {
            Self::Block => LinuxDeviceType::B,
            Self::Character => LinuxDeviceType::C,
        }
    }
}

/// Devices by number: `c 10:229`, `c 226:*`, or a well-known name such as `/dev/fuse`.
///
/// Numbers and not paths, because the path of a device in a spec is the asker's own choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceMatch {
    kind: DeviceKind,
    major: u32,
    minor: Option<u32>,
}

/// Names a policy may use instead of numbers (Linux `Documentation/admin-guide/devices.txt`).
const WELL_KNOWN: &[(&str, DeviceMatch)] = &[
    ("/dev/fuse", DeviceMatch::character(10, Some(229))),
    ("/dev/net/tun", DeviceMatch::character(10, Some(200))),
    ("/dev/kvm", DeviceMatch::character(10, Some(232))),
    ("/dev/dri", DeviceMatch::character(226, None)),
    ("/dev/snd", DeviceMatch::character(116, None)),
];

/// The devices every engine gives every container: null, zero, full, random, urandom, tty,
/// console, ptmx and the pseudo-terminals (runc `libcontainer/specconv`, `AllowedDevices`, less
/// its wildcards for mknod and /dev/net/tun).
pub(crate) const ENGINE_DEFAULT: &[DeviceMatch] = &[
    DeviceMatch::character(1, Some(3)),
    DeviceMatch::character(1, Some(5)),
    DeviceMatch::character(1, Some(7)),
    DeviceMatch::character(1, Some(8)),
    DeviceMatch::character(1, Some(9)),
    DeviceMatch::character(5, Some(0)),
    DeviceMatch::character(5, Some(1)),
    DeviceMatch::character(5, Some(2)),
    DeviceMatch::character(136, None),
];

impl DeviceMatch {
    const fn character(major: u32, minor: Option<u32>) -> Self {
        Self {
            kind: DeviceKind::Character,
            major,
            minor,
        }
    }

    /// The device type.
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// The major number.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The minor number; `None` means every one.
    pub fn minor(&self) -> Option<u32> {
        self.minor
    }

    /// The match of exactly the numbers of a spec; `None` when it says "every major" or is out of
    /// range.
    pub(crate) fn asked(kind: DeviceKind, major: i64, minor: Option<i64>) -> Option<Self> {
        Some(Self {
            kind,
            major: u32::try_from(major).ok()?,
            minor: minor.map(u32::try_from).transpose().ok()?,
        })
    }

    /// Whether every device of `other` is one of these.
    pub fn covers(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.major == other.major
            && (self.minor.is_none() || self.minor == other.minor)
    }
}

impl fmt::Display for DeviceMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        match self.minor {
            Some(minor) => write!(f, "{kind} {}:{minor}", self.major),
            None => write!(f, "{kind} {}:*", self.major),
        }
    }
}

/// A device that is neither `c|b MAJOR:MINOR` nor a well-known name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device: write \"c 10:229\", \"c 226:*\" or one of {names}", names = names())]
pub struct DeviceError(String);

fn names() -> String {
    let names: Vec<&str> = WELL_KNOWN.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

impl FromStr for DeviceMatch {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let error = || DeviceError(text.to_owned());
        if let Some((_, device)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
            return Ok(*device);
        }
        let (kind, numbers) = text.split_once(' ').ok_or_else(error)?;
        let (major, minor) = numbers.split_once(':').ok_or_else(error)?;
        let kind = match kind {
            "c" => DeviceKind::Character,
            "b" => DeviceKind::Block,
            _ => return Err(error()),
        };
        let minor = match minor {
            "*" => None,
            number => Some(number.parse().map_err(|_| error())?),
        };
        Ok(Self {
            kind,
            major: major.parse().map_err(|_| error())?,
            minor,
        })
    }
}

impl TryFrom<String> for DeviceMatch {
    type Error = DeviceError;
    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

impl From<DeviceMatch> for String {
    fn from(device: DeviceMatch) -> Self {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_parse_and_print() {
        for (text, printed) in [
            ("c 10:229", "c 10:229"),
            ("b 8:*", "b 8:*"),
            ("/dev/fuse", "c 10:229"),
            ("/dev/dri", "c 226:*"),
        ] {
            assert_eq!(text.parse::<DeviceMatch>().unwrap().to_string(), printed);
        }
        for text in [
            "",
            "c",
            "c *:*",
            "a 1:3",
            "c 1",
            "c -1:3",
            "/dev/sda",
            "c 1:3 rwm",
            "b 99999999999:1",
        ] {
            assert!(text.parse::<DeviceMatch>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_covers_its_major_only() {
        let dri: DeviceMatch = "c 226:*".parse().unwrap();
        assert!(dri.covers(&"c 226:0".parse().unwrap()));
        assert!(!dri.covers(&"b 226:0".parse().unwrap()));
        assert!(!dri.covers(&"c 227:0".parse().unwrap()));
        let fuse: DeviceMatch = "c 10:229".parse().unwrap();
        assert!(!fuse.covers(&"c 10:*".parse().unwrap()));
    }
}
