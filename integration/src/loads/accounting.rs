//! Process accounting (acct(5)) of an enclave's pid namespace: the kernel writes a record for every
//! process that ends in it or in a container below it. That is how a process that a seccomp filter has
//! killed is found whoever its parent was, and however quickly that parent replaced it.

use std::path::{Path, PathBuf};

use crate::{
    enclave::Enclave,
    error::{At, Result},
};

/// The bytes of a version 3 record (linux/acct.h, `struct acct_v3`).
const RECORD: usize = 64;
/// acct(2) on x86-64; no tool for it is on every machine, perl is.
const SWITCH_ON: &str = "syscall(163, $ARGV[0]) == 0 or die \"acct: $!\\n\"";

/// Accounting that goes with its enclave.
#[derive(Debug)]
pub struct Accounting {
    file: PathBuf,
}

/// A process that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its id, as the enclave sees it.
    pub pid: u32,
    /// Its command name, at most 15 bytes.
    pub command: String,
    /// The signal that ended it, or 0.
    pub signal: u8,
    /// Its exit status.
    pub status: u8,
}

impl Accounting {
    /// Switches it on; `file` is a path that is the same inside and outside, on the enclave's tmpfs
    /// (the kernel stops writing to a file system that is nearly full).
    ///
    /// # Errors
    /// If the kernel has no process accounting.
    pub fn start(enclave: &Enclave) -> Result<Self> {
        let inside = enclave.dir().join("layers/acct");
        let text = inside.display().to_string();
        let file = enclave.path(&text);
        std::fs::write(&file, "").at("make", &file)?;
        enclave.cmd("perl").args(["-e", SWITCH_ON, &text]).ok()?;
        Ok(Self { file })
    }

    /// Every process that has ended so far.
    ///
    /// # Errors
    /// If the enclave is gone.
    pub fn ended(&self) -> Result<Vec<Ended>> {
        read(&self.file)
    }
}

fn read(file: &Path) -> Result<Vec<Ended>> {
    let bytes = std::fs::read(file).at("read", file)?;
    Ok(bytes.chunks_exact(RECORD).map(decode).collect())
}

/// `struct acct_v3`: flag, version, tty (2), exit code (4), uid, gid, pid (4 each), ..., the command's
/// name in the last 16 bytes.
fn decode(record: &[u8]) -> Ended {
    let word = |at: usize| {
        record
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u32::from_le_bytes)
    };
    let [signal, status, ..] = word(4).to_le_bytes();
    let name = record.get(RECORD - 16..).unwrap_or_default();
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    Ended {
        pid: word(16),
        command: String::from_utf8_lossy(name).into_owned(),
        signal: signal & 0x7f,
        status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_process_killed_by_sigsys() {
        let mut record = [0u8; RECORD];
        record[1] = 3;
        record[4] = 31 | 0x80;
        record[16..20].copy_from_slice(&77u32.to_le_bytes());
        record[48..53].copy_from_slice(b"nginx");
        let expected = Ended {
            pid: 77,
            command: "nginx".to_owned(),
            signal: 31,
            status: 0,
        };
        assert_eq!(decode(&record), expected);
    }
}
