use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::error::{At, Error, Result};

/// Whether QEMU may use the machine's KVM.
mod accelerator;
/// What cargo built.
mod artifacts;
/// What the guest gets of the work tree, as a disk.
pub mod job;
/// A running guest.
pub mod machine;
/// What is tested in which guest.
pub mod steps;
/// The tests that run in the guest.
pub mod suite;

/// What `scripts/fetch-lab` made: QEMU, a kernel, an initramfs and a root file system.
#[derive(Debug, Clone)]
pub struct Lab {
    place: PathBuf,
}

/// What users run: on the guest's PATH.
pub const PROGRAMS: [&str; 6] = [
    "cofferdam",
    "containerd-shim-cofferdam-v2",
    "cofferdam-profile",
    "cofferdam-agent",
    "cofferdam-stand-in",
    "cofferdam-vmm",
];

/// What the guest's first process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// A script that mounts what is needed: the guest is ready in seconds.
    Script,
    /// Debian's systemd.
    Systemd,
}

impl std::fmt::Display for Init {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Script => "script",
            Self::Systemd => "systemd",
        })
    }
}

/// The work tree that this was built from.
#[must_use]
pub fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_owned)
}

/// Where tests keep what is costly to make, on this machine.
fn test_cache() -> PathBuf {
    std::env::var_os("COFFERDAM_TEST_CACHE").map_or_else(
        || PathBuf::from("/var/cache/cofferdam-tests"),
        PathBuf::from,
    )
}

impl Lab {
    /// Finds the lab in the test cache, made now if it is not there.
    ///
    /// # Errors
    /// If it cannot be made; the script says why.
    pub fn fetch() -> Result<Self> {
        let script = tree().join("scripts/fetch-lab");
        let output = Command::new(&script)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .at("run", &script)?;
        if !output.status.success() {
            return Err(Error::Preparation {
                program: script.display().to_string(),
                status: output.status,
            });
        }
        let place = String::from_utf8_lossy(&output.stdout);
        Ok(Self {
            place: PathBuf::from(place.trim()),
        })
    }

    /// A file of the lab.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// QEMU with the libraries that it was unpacked with, to be killed when the calling thread ends.
    #[must_use]
    pub fn qemu(&self) -> Command {
        let root = self.file("qemu");
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(root.join("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(format!(
                "{0}:{0}/pulseaudio:{1}",
                libraries.display(),
                root.join("lib/x86_64-linux-gnu").display()
            ))
            .arg(root.join("usr/bin/qemu-system-x86_64"))
            .arg("-L")
            .arg(root.join("usr/share/qemu"))
            .arg("-L")
            .arg(root.join("usr/share/seabios"))
            .env("QEMU_MODULE_DIR", libraries.join("qemu"))
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .arg("-no-reboot")
            .arg("-kernel")
            .arg(self.file("vmlinuz"))
            .arg("-initrd")
            .arg(self.file("initramfs.gz"))
            .stdin(Stdio::null());
        command
    }
}
