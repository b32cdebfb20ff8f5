//! What the kernel has loaded.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::PathBuf;

use super::{ApparmorError, failed};
use crate::state;

/// Where securityfs shows AppArmor.
const INTERFACE: &str = "/sys/kernel/security/apparmor";

/// AppArmor's files, and those of processes.
#[derive(Debug)]
pub(super) struct Kernel {
    interface: PathBuf,
    processes: PathBuf,
}

impl Kernel {
    pub(super) fn of_this_machine() -> Self {
        Self {
            interface: INTERFACE.into(),
            processes: "/proc".into(),
        }
    }

    #[cfg(test)]
    pub(super) fn at(interface: PathBuf, processes: PathBuf) -> Self {
        Self {
            interface,
            processes,
        }
    }

    /// Whether a profile of this name is loaded.
    pub(super) fn has(&self, name: &str) -> Result<bool, ApparmorError> {
        let path = self.interface.join("profiles");
        let listed =
            fs::read_to_string(&path).map_err(failed("list AppArmor's profiles in", &path))?;
        let mut names = listed.lines().filter_map(|line| line.rsplit_once(" ("));
        Ok(names.any(|(loaded, _)| loaded == name))
    }

    /// Loads what the compiler made; a profile of the same name is replaced.
    pub(super) fn load(&self, compiled: &[u8]) -> Result<(), ApparmorError> {
        // In one write: the kernel takes what one call brings as the whole.
        self.write(".replace", compiled).map_err(failed(
            "load an AppArmor profile by",
            &self.interface.join(".replace"),
        ))
    }

    /// Unloads a profile, unless a process runs under it: that one would be unconfined. Whether it is
    /// unloaded.
    pub(super) fn unload(&self, name: &str) -> Result<bool, ApparmorError> {
        if self.is_used(name) {
            return Ok(false);
        }
        let path = self.interface.join(".remove");
        match self.write(".remove", name.as_bytes()) {
            // It was never loaded, or somebody else unloaded it.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
            other => other
                .map(|()| true)
                .map_err(failed("unload an AppArmor profile by", &path)),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .open(self.interface.join(name))?;
        let written = file.write(bytes)?;
        if written == bytes.len() {
            return Ok(());
        }
        Err(io::ErrorKind::WriteZero.into())
    }

    /// Whether a process that can still run has the profile, alone or as a part of a stack.
    fn is_used(&self, name: &str) -> bool {
        let Ok(entries) = fs::read_dir(&self.processes) else {
            // What cannot be seen may be there.
            return true;
        };
        entries.flatten().any(|entry| {
            let name_of = entry.file_name();
            let Some(pid) = name_of.to_str().and_then(|text| text.parse::<i32>().ok()) else {
                return false;
            };
            let label = ["attr/apparmor/current", "attr/current"]
                .iter()
                .find_map(|file| fs::read(entry.path().join(file)).ok());
            let Some(label) = label else {
                return false;
            };
            label
                .windows(name.len())
                .any(|part| part == name.as_bytes())
                && !state::process_stat(pid).is_ok_and(state::ProcessStat::has_ended)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_listed_and_nothing_in_use_is_unloaded() {
        let dir = tempfile::tempdir().expect("a directory");
        let (interface, processes) = (dir.path().join("apparmor"), dir.path().join("proc"));
        let attr = processes.join("1/attr");
        fs::create_dir_all(&interface).expect("made");
        fs::create_dir_all(&attr).expect("made");
        let listed = "cofferdam-0a (enforce)\n/usr/bin/a (b) c (complain)\n";
        fs::write(interface.join("profiles"), listed).expect("written");
        fs::write(interface.join(".remove"), "").expect("written");
        let kernel = Kernel::at(interface.clone(), processes);
        for (name, loaded) in [
            ("cofferdam-0a", true),
            ("/usr/bin/a (b) c", true),
            ("cofferdam-0", false),
            ("cofferdam-0a (enforce)", false),
        ] {
            assert_eq!(kernel.has(name).expect("read"), loaded, "{name}");
        }
        let removed = || fs::read_to_string(interface.join(".remove")).expect("read");
        // Process 1 is alive here as well.
        fs::write(attr.join("current"), "x//&cofferdam-0a (enforce)\n").expect("written");
        assert!(!kernel.unload("cofferdam-0a").expect("looked"));
        assert_eq!(removed(), "");
        fs::write(attr.join("current"), "unconfined\n").expect("written");
        assert!(kernel.unload("cofferdam-0a").expect("unloaded"));
        assert_eq!(removed(), "cofferdam-0a");
    }
}
