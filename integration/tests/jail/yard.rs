//! A directory to be locked up in, and the probe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cofferdam_integration::error::{At, Result};
use cofferdam_integration::gate;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// Ids that no test machine gives to anybody.
pub(crate) const ID: u32 = 3_000_000_000;

/// A shared mount that belongs to the ids inside, and a file beside it that does not.
pub(crate) struct Yard {
    dir: TempDir,
}

impl Yard {
    /// None (and a visible note) without root.
    pub(crate) fn new() -> Result<Option<Self>> {
        if gate::root().is_none() {
            return Ok(None);
        }
        let dir = tempfile::tempdir().at("make", std::env::temp_dir())?;
        let yard = Self { dir };
        let root = yard.root();
        fs::create_dir(&root).at("make", &root)?;
        let none = None::<&str>;
        mount(Some("jail"), &root, Some("tmpfs"), MsFlags::empty(), none).expect("mount a tmpfs");
        mount(none, &root, none, MsFlags::MS_SHARED, none).expect("share it");
        std::os::unix::fs::chown(&root, Some(ID), Some(ID)).at("give away", &root)?;
        fs::write(yard.inside("own"), "own").at("write", &root)?;
        fs::write(yard.beside("secret"), "secret").at("write", yard.beside("secret"))?;
        Ok(Some(yard))
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("share")
    }

    pub(crate) fn inside(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, place: &str, attack: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jail-probe"));
        command.arg(place).arg(self.root()).arg(ID.to_string());
        command.args(attack).stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, place: &str, attack: &[&str]) -> Output {
        let output = self.command(place, attack).output();
        output.expect("the probe runs")
    }

    /// What the probe says to an attack.
    pub(crate) fn attack(&self, place: &str, attack: &[&str]) -> String {
        let output = self.output(place, attack);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        format!("{}{}", said.trim_end(), complaint.trim_end())
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        // Mounts of a test's own below it go with it.
        let _ = umount2(&self.root(), MntFlags::MNT_DETACH);
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}
