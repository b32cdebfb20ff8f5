//! Linux capabilities by name and number, and the sets the field uses as defaults.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

use oci_spec::runtime::Capabilities;
pub use oci_spec::runtime::Capability;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! capabilities {
    ($($name:ident = $number:literal,)*) => {
        /// Every capability this crate knows, in the order of its number.
        pub const ALL: &[Capability] = &[$(Capability::$name,)*];

        /// The number of a capability in linux/capability.h.
        pub const fn number(capability: Capability) -> u32 {
            match capability {
                $(Capability::$name => $number,)*
            }
        }
    };
}

// linux/capability.h of Linux 6.12; CAP_LAST_CAP has been 40 since Linux 5.9.
capabilities! {
    Chown = 0, DacOverride = 1, DacReadSearch = 2, Fowner = 3, Fsetid = 4, Kill = 5, Setgid = 6,
    Setuid = 7, Setpcap = 8, LinuxImmutable = 9, NetBindService = 10, NetBroadcast = 11,
    NetAdmin = 12, NetRaw = 13, IpcLock = 14, IpcOwner = 15, SysModule = 16, SysRawio = 17,
    SysChroot = 18, SysPtrace = 19, SysPacct = 20, SysAdmin = 21, SysBoot = 22, SysNice = 23,
    SysResource = 24, SysTime = 25, SysTtyConfig = 26, Mknod = 27, Lease = 28, AuditWrite = 29,
    AuditControl = 30, Setfcap = 31, MacOverride = 32, MacAdmin = 33, Syslog = 34, WakeAlarm = 35,
    BlockSuspend = 36, AuditRead = 37, Perfmon = 38, Bpf = 39, CheckpointRestore = 40,
}

/// What an engine gives a container that asks for nothing: Docker's `DefaultCapabilities`
/// (moby `oci/caps/defaults.go`), the same fourteen as containerd's `defaultUnixCaps`.
pub const ENGINE_DEFAULT: Set = Set::of(&[
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
]);

/// The bounding set of the built-in policy `baseline`: Podman's default since version 4
/// (containers/common `pkg/config/default.go`, `DefaultCapabilities`), which is Docker's without
/// MKNOD, NET_RAW and AUDIT_WRITE.
pub const BASELINE: Set = Set::of(&[
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
]);

/// A set of capabilities, one bit each, as the kernel keeps them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Set(u64);

impl Set {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// The set of the listed capabilities.
    pub const fn of(list: &[Capability]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < list.len() {
            bits |= 1 << number(list[index]);
            index += 1;
        }
        Self(bits)
    }

    /// The set whose bits are those of `/proc/PID/status`, e.g. `CapBnd`; unknown bits are kept.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits, as in `/proc/PID/status`.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether `capability` is in the set.
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << number(capability)) != 0
    }

    /// Whether every member is in `other` too.
    pub const fn is_subset_of(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many capabilities the set has.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// The members in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        ALL.iter().copied().filter(move |c| self.contains(*c))
    }

    /// An OCI set as a set; absent means empty.
    pub fn from_oci(list: Option<&Capabilities>) -> Self {
        list.into_iter().flatten().copied().collect()
    }

    /// The set as an OCI set.
    pub fn to_oci(self) -> Capabilities {
        self.iter().collect()
    }
}

impl BitAnd for Set {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Set {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Sub for Set {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromIterator<Capability> for Set {
    fn from_iter<I: IntoIterator<Item = Capability>>(list: I) -> Self {
        Self(list.into_iter().fold(0, |bits, c| bits | 1 << number(c)))
    }
}

/// Names without the `CAP_` prefix, or `none`.
impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (index, capability) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{capability}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl Serialize for Set {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Set {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Capability>::deserialize(deserializer)?
            .into_iter()
            .collect())
    }
}

/// The capability called `name`, with or without `CAP_`, in any case.
pub fn parse(name: &str) -> Option<Capability> {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).parse().ok()
}

/// What the kernel's headers call capability `number`: `CAP_CHOWN`.
pub fn name_of(number: u8) -> Option<String> {
    let bit = 1u64.checked_shl(number.into())?;
    let found = Set::from_bits(bit).iter().next()?;
    let name = found.to_string();
    let plain = name.strip_prefix("CAP_").unwrap_or(&name);
    Some(format!("CAP_{plain}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_table() {
        for (index, capability) in ALL.iter().enumerate() {
            assert_eq!(number(*capability) as usize, index);
        }
        assert_eq!(number(Capability::SysAdmin), 21);
        assert_eq!(number(Capability::CheckpointRestore), 40);
    }

    #[test]
    fn numbers_have_the_names_of_the_headers() {
        assert_eq!(name_of(0).as_deref(), Some("CAP_CHOWN"));
        assert_eq!(name_of(40).as_deref(), Some("CAP_CHECKPOINT_RESTORE"));
        for unknown in [41, 63, 64, 255] {
            assert_eq!(name_of(unknown), None);
        }
    }

    #[test]
    fn every_name_parses_in_both_forms() {
        for capability in ALL {
            let name = capability.to_string();
            assert_eq!(parse(&name), Some(*capability));
            assert_eq!(
                parse(&format!("cap_{}", name.to_lowercase())),
                Some(*capability)
            );
        }
        assert_eq!(parse("CAP_CAP_CHOWN"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("ALL"), None);
    }

    #[test]
    fn baseline_is_what_engines_give_less_three() {
        assert!(BASELINE.is_subset_of(ENGINE_DEFAULT));
        assert_eq!(
            (ENGINE_DEFAULT - BASELINE).to_string(),
            "NET_RAW MKNOD AUDIT_WRITE"
        );
    }

    #[test]
    fn sets_survive_json_and_oci() {
        let json = serde_json::to_string(&BASELINE).unwrap();
        assert!(json.starts_with("[\"CAP_CHOWN\""));
        assert_eq!(serde_json::from_str::<Set>(&json).unwrap(), BASELINE);
        assert_eq!(Set::from_oci(Some(&BASELINE.to_oci())), BASELINE);
        assert_eq!(Set::from_oci(None), Set::EMPTY);
    }
}
