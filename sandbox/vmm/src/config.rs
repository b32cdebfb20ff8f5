//! What a machine is made of.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{VmError, VmResult};

/// The vCPUs a machine may have: the interrupt controller numbers its inputs above them.
pub const MAX_VCPUS: u8 = 32;
/// Guest memory, MiB.
pub const MIN_MEMORY: u32 = 32;
/// Guest memory, MiB: a tebibyte.
pub const MAX_MEMORY: u32 = 1 << 20;

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
    /// Directories of the host, which the guest mounts by their tags.
    #[serde(default)]
    pub shares: Vec<ShareConfig>,
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
            shares: Vec::new(),
        }
    }

    #[test]
    fn numbers_outside_their_ranges_are_refused() {
        type Change = fn(&mut VmConfig);
        let cases: [(Change, Option<&str>); 8] = [
            (|_| {}, None),
            (|config| config.vcpus = 0, Some("vcpus")),
            (|config| config.vcpus = 33, Some("vcpus")),
            (|config| config.memory = 31, Some("memory")),
            (|config| config.memory = u32::MAX, Some("memory")),
            (|config| cid(config, 2), Some("vsock.cid")),
            (|config| cid(config, u32::MAX), Some("vsock.cid")),
            (|config| cid(config, u32::MAX - 1), None),
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

    fn cid(config: &mut VmConfig, cid: u32) {
        if let Some(vsock) = &mut config.vsock {
            vsock.cid = cid;
        }
    }
}
