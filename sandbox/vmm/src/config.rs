//! What a machine is made of.

use std::os::fd::RawFd;
use std::path::PathBuf;

use cofferdam_network::Mac;
use serde::{Deserialize, Serialize};

use crate::error::{VmError, VmResult};

/// The vCPUs a machine may have: the interrupt controller numbers its inputs above them.
pub const MAX_VCPUS: u8 = 32;
/// Guest memory, MiB.
pub const MIN_MEMORY: u32 = 32;
/// Guest memory, MiB: a tebibyte.
pub const MAX_MEMORY: u32 = 1 << 20;
/// What IPv4 needs, bytes.
const LEAST_MTU: u16 = 68;

/// What a machine is made of. Read from JSON by `cofferdam-vmm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// An uncompressed kernel: an x86-64 ELF file, `vmlinux`.
    pub kernel: PathBuf,
    /// The first root file system, a cpio archive.
    pub initramfs: PathBuf,
    /// Virtual processors.
    #[serde(default = "one")]
    pub vcpus: u8,
    /// Guest memory, MiB.
    pub memory: u32,
    /// What is added to the kernel's command line.
    #[serde(default)]
    pub command_line: String,
    /// The Unix socket by which the host reaches the guest's vsock ports.
    #[serde(default)]
    pub vsock: Option<VsockConfig>,
    /// Disks, in this order `vda`, `vdb`, ...
    #[serde(default)]
    pub disks: Vec<DiskConfig>,
    /// Network cards, in this order `eth0`, `eth1`, ...
    #[serde(default)]
    pub network: Vec<NetworkConfig>,
    /// Whether the guest tells which memory it does not need, so that the host has it back.
    #[serde(default = "yes")]
    pub balloon: bool,
    /// Directories of the host, which the guest mounts by their tags.
    #[serde(default)]
    pub shares: Vec<ShareConfig>,
    /// What confines the process; without it only the filters of system calls do.
    #[serde(default)]
    pub jail: Option<JailConfig>,
}

/// The connection between host and guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockConfig {
    /// The guest's address, 3 or more.
    pub cid: u32,
    /// Where the host connects, and says `CONNECT PORT`.
    pub socket: PathBuf,
}

/// A file or block device that the guest sees as a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// The file.
    pub path: PathBuf,
    /// Whether the guest may write to it.
    #[serde(default)]
    pub writable: bool,
}

/// A tap that the guest sees as a network card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The tap's name, where it is made already,
    #[serde(default)]
    pub tap: Option<String>,
    /// or a descriptor of it that the process was started with.
    #[serde(default)]
    pub fd: Option<RawFd>,
    /// The card's address.
    pub mac: Mac,
    /// The largest packet that the guest is told of, bytes.
    #[serde(default)]
    pub mtu: Option<u16>,
}

/// A directory of the host that the guest can mount: `mount -t virtiofs TAG PLACE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareConfig {
    /// What the guest calls it, 1 to 36 bytes.
    pub tag: String,
    /// The directory, not a link to it.
    pub path: PathBuf,
    /// Whether the guest may only read.
    #[serde(default)]
    pub read_only: bool,
    /// How long the guest takes what it knows of names and files for granted, milliseconds: so late it may see what
    /// the host changes. With 0 it asks each time, which takes several times as many requests.
    #[serde(default = "a_second")]
    pub validity: u32,
}

const fn a_second() -> u32 {
    1000
}

/// What confines the process: see [`jail`](crate::jail).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JailConfig {
    /// The first user id of the host that is the machine's own: id 0 inside.
    pub uid: u32,
    /// The first group id.
    pub gid: u32,
    /// How many ids there are, of either kind.
    #[serde(default = "ids")]
    pub count: u32,
    /// The directory that becomes the process's root, by its path from `/`. What the host mounts below it later is
    /// seen inside if it is on a shared mount.
    pub root: PathBuf,
}

const fn ids() -> u32 {
    1 << 16
}

const fn yes() -> bool {
    true
}

const fn one() -> u8 {
    1
}

impl VmConfig {
    /// Refuses numbers outside their ranges.
    ///
    /// # Errors
    ///
    /// [`VmError::Config`], which names the field and its range.
    pub fn check(&self) -> VmResult {
        let bad = |field, value: u64, range| {
            Err(VmError::Config {
                field,
                value,
                range,
            })
        };
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            return bad("vcpus", self.vcpus.into(), "1 to 32");
        }
        if !(MIN_MEMORY..=MAX_MEMORY).contains(&self.memory) {
            return bad("memory", self.memory.into(), "32 to 1048576 MiB");
        }
        for card in &self.network {
            let taps = u64::from(card.tap.is_some()) + u64::from(card.fd.is_some());
            if taps != 1 {
                return bad("the number of taps of a network card", taps, "1: tap or fd");
            }
            if let Some(mtu) = card.mtu.filter(|mtu| *mtu < LEAST_MTU) {
                return bad("network.mtu", mtu.into(), "68 to 65535");
            }
        }
        if let Some(jail) = &self.jail {
            // The last number is no id (setresuid(2)).
            let fits = |first: u32| first > 0 && first.checked_add(jail.count).is_some();
            if jail.count == 0 {
                return bad("jail.count", 0, "1 or more");
            }
            if !fits(jail.uid) {
                return bad("jail.uid", jail.uid.into(), "above 0, and end below 2^32");
            }
            if !fits(jail.gid) {
                return bad("jail.gid", jail.gid.into(), "above 0, and end below 2^32");
            }
        }
        match &self.vsock {
            // 0 to 2 are the hypervisor, the machine itself and the host (linux/vm_sockets.h).
            Some(vsock) if !(3..u32::MAX).contains(&vsock.cid) => {
                bad("vsock.cid", vsock.cid.into(), "3 to 4294967294")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> VmConfig {
        VmConfig {
            kernel: "/vmlinux".into(),
            initramfs: "/initramfs".into(),
            vcpus: 1,
            memory: 128,
            command_line: String::new(),
            vsock: Some(VsockConfig {
                cid: 3,
                socket: "/vsock".into(),
            }),
            disks: Vec::new(),
            network: Vec::new(),
            balloon: true,
            shares: Vec::new(),
            jail: None,
        }
    }

    fn card(config: &mut VmConfig, tap: Option<&str>, fd: Option<RawFd>, mtu: Option<u16>) {
        config.network.push(NetworkConfig {
            tap: tap.map(str::to_owned),
            fd,
            mac: "02:00:00:00:00:01".parse().expect("an address"),
            mtu,
        });
    }

    #[test]
    fn numbers_outside_their_ranges_are_refused() {
        type Change = fn(&mut VmConfig);
        let taps = "the number of taps of a network card";
        let cases: [(Change, Option<&str>); 18] = [
            (|_| {}, None),
            (|config| config.vcpus = 0, Some("vcpus")),
            (|config| config.vcpus = 33, Some("vcpus")),
            (|config| config.memory = 31, Some("memory")),
            (|config| config.memory = u32::MAX, Some("memory")),
            (|config| cid(config, 2), Some("vsock.cid")),
            (|config| cid(config, u32::MAX), Some("vsock.cid")),
            (|config| cid(config, u32::MAX - 1), None),
            (|config| card(config, None, Some(5), Some(68)), None),
            (|config| card(config, None, None, None), Some(taps)),
            (
                |config| card(config, Some("tap0"), Some(5), None),
                Some(taps),
            ),
            (
                |config| card(config, Some("tap0"), None, Some(67)),
                Some("network.mtu"),
            ),
            (|config| jail(config, [0, 1, 1]), Some("jail.uid")),
            (|config| jail(config, [1, 0, 1]), Some("jail.gid")),
            (|config| jail(config, [1, 1, 0]), Some("jail.count")),
            (|config| jail(config, [u32::MAX, 1, 1]), Some("jail.uid")),
            (
                |config| jail(config, [1, 2, u32::MAX - 1]),
                Some("jail.gid"),
            ),
            (|config| jail(config, [1, 1, u32::MAX - 1]), None),
        ];
        for (index, (change, wrong)) in cases.into_iter().enumerate() {
            let mut config = config();
            change(&mut config);
            match (config.check(), wrong) {
                (Ok(()), None) => {}
                (Err(VmError::Config { field, .. }), Some(wrong)) => assert_eq!(field, wrong),
                (outcome, _) => panic!("case {index}: {outcome:?}"),
            }
        }
    }

    fn jail(config: &mut VmConfig, [uid, gid, count]: [u32; 3]) {
        config.jail = Some(JailConfig {
            uid,
            gid,
            count,
            root: "/share".into(),
        });
    }

    fn cid(config: &mut VmConfig, cid: u32) {
        if let Some(vsock) = &mut config.vsock {
            vsock.cid = cid;
        }
    }
}
