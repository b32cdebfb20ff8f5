//! OCI bundles for the command line: busybox, the attack probe, and a spec that is either what an
//! engine would ask for or as permissive as it gets (for the control).

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    command::Cmd,
    error::{At, Error, Result},
    image::Image,
};

/// Every capability Linux 6.1 knows (linux/capability.h), for the permissive spec.
const EVERY_CAPABILITY: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Docker's default capabilities (moby, `oci/caps/defaults.go`).
const ENGINE_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// A bundle on disk.
#[derive(Debug, Clone)]
pub struct Bundle {
    dir: PathBuf,
    /// The spec; written by [`Bundle::save`].
    pub spec: Value,
}

impl Bundle {
    /// A bundle whose spec asks for what an engine asks for by default.
    ///
    /// # Errors
    /// If the image cannot be copied to `dir`.
    pub fn ordinary(dir: &Path, image: &Image, args: &[&str]) -> Result<Self> {
        Self::new(dir, image, args, &ENGINE_CAPABILITIES)
    }

    /// A bundle for the control: every capability the machine has, no seccomp, nothing masked.
    ///
    /// # Errors
    /// As [`Bundle::ordinary`].
    pub fn permissive(dir: &Path, image: &Image, args: &[&str]) -> Result<Self> {
        let held = held_capabilities()?;
        let all: Vec<_> = (0u32..)
            .zip(EVERY_CAPABILITY)
            .filter(|(number, _)| held & (1 << number) != 0)
            .map(|(_, name)| name)
            .collect();
        let mut bundle = Self::new(dir, image, args, &all)?;
        bundle.spec["linux"]["maskedPaths"] = json!([]);
        bundle.spec["linux"]["readonlyPaths"] = json!([]);
        bundle.spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
        bundle.spec["process"]["noNewPrivileges"] = json!(false);
        Ok(bundle)
    }

    fn new(dir: &Path, image: &Image, args: &[&str], capabilities: &[&str]) -> Result<Self> {
        let bundle = Self::empty(dir, args, capabilities)?;
        Cmd::new("cp").arg("-a").arg(&image.rootfs).arg(dir).ok()?;
        Ok(bundle)
    }

    /// A bundle like [`Bundle::ordinary`] whose root file system somebody else provides, in `rootfs`.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn without_rootfs(dir: &Path, args: &[&str]) -> Result<Self> {
        Self::empty(dir, args, &ENGINE_CAPABILITIES)
    }

    fn empty(dir: &Path, args: &[&str], capabilities: &[&str]) -> Result<Self> {
        fs::create_dir_all(dir).at("make", dir)?;
        let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
                "capabilities": {
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities
                },
            },
            "root": {"path": "rootfs"},
            "hostname": "attacked",
            "mounts": [
                mount("/proc", "proc", &[]),
                mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
                mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
                mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
                mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            ],
            "linux": {
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "namespaces": [
                    {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                    {"type": "mount"}
                ],
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
                "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
            },
        });
        Ok(Self {
            dir: dir.to_owned(),
            spec,
        })
    }

    /// Where it lies.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its root file system.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Writes `config.json`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self) -> Result<()> {
        let path = self.dir.join("config.json");
        let text = serde_json::to_vec_pretty(&self.spec).map_err(|source| Error::Json {
            what: "the bundle's spec".to_owned(),
            text: self.spec.to_string(),
            source,
        })?;
        fs::write(&path, text).at("write", path)
    }

    /// Puts a file into the root file system.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put(&self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.rootfs().join(path.trim_start_matches('/'));
        fs::write(&path, bytes).at("write", &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at("set the mode of", path)
    }
}

/// The test's own bounding set: a control cannot be given more than that.
fn held_capabilities() -> Result<u64> {
    let path = Path::new("/proc/self/status");
    let text = fs::read_to_string(path).at("read", path)?;
    let set = text
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    Ok(set.unwrap_or_default())
}
