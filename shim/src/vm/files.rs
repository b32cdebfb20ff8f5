//! What a machine is made of, and where that is installed.

use std::env;
use std::path::{Path, PathBuf};

use super::MachineError;

/// Names the directory of the guest's files.
pub(crate) const GUEST_VARIABLE: &str = "COFFERDAM_GUEST";

/// Where they are installed, seen from the directory of the programs.
const INSTALLED: &str = "../lib/cofferdam";

/// The files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The guest's kernel.
    pub(crate) kernel: PathBuf,
    /// Its first root file system, with the agent.
    pub(crate) initramfs: PathBuf,
    /// The monitor.
    pub(crate) monitor: PathBuf,
    /// What stands in for the guest's processes.
    pub(crate) stand_in: PathBuf,
}

impl Files {
    /// Finds all of them.
    pub(crate) fn find() -> Result<Self, MachineError> {
        // The helper is executed from a copy without a place; what it is called has one.
        let own = env::args_os().next().map(PathBuf::from);
        let own = own.filter(|path| path.is_absolute());
        // Another name of it may be a link elsewhere.
        let own = own.map(|path| path.canonicalize().unwrap_or(path));
        let own = own
            .or_else(|| env::current_exe().ok())
            .unwrap_or_else(|| PathBuf::from("/usr/local/bin/cofferdam"));
        let programs = own.parent().unwrap_or(Path::new("/usr/local/bin"));
        let named = env::var_os(GUEST_VARIABLE).filter(|value| !value.is_empty());
        let guest = named.map_or_else(|| programs.join(INSTALLED), PathBuf::from);
        let there = |what, path: PathBuf| {
            if path.is_file() {
                Ok(path)
            } else {
                Err(MachineError::Missing { what, path })
            }
        };
        Ok(Self {
            kernel: there("the guest's kernel", guest.join("vmlinux"))?,
            initramfs: there("the guest's agent", guest.join("agent.cpio"))?,
            monitor: there("the monitor", programs.join("cofferdam-vmm"))?,
            stand_in: there("the stand-in", programs.join("cofferdam-stand-in"))?,
        })
    }
}
