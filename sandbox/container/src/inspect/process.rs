//! Init as /proc shows it: identity, capabilities, limits.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use cofferdam_profiles::capability::Set;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::Mode;
use serde::Serialize;

use super::InspectError;
use crate::state::is_running;

/// No file of /proc/PID that is read here is longer, mountinfo of a crowded host excepted.
const LONGEST: u64 = 16 << 20;

/// One process's directory in /proc, held open.
#[derive(Debug)]
pub(super) struct ProcDir {
    pub(super) pid: i32,
    start: u64,
    dir: OwnedFd,
}

impl ProcDir {
    /// Opens the directory of the process `pid` that started at `start`.
    pub(super) fn open(pid: i32, start: u64) -> Result<Self, InspectError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let path = format!("/proc/{pid}");
        let dir = nix::fcntl::open(path.as_str(), flags, Mode::empty())
            .map_err(|_| InspectError::Ended)?;
        let proc = Self { pid, start, dir };
        // The descriptor is of this process for good; that it is the right one shows now.
        proc.check()?;
        Ok(proc)
    }

    /// Fails when the process has ended since.
    pub(super) fn check(&self) -> Result<(), InspectError> {
        if is_running(self.pid, self.start) && self.raw("stat").is_ok() {
            Ok(())
        } else {
            Err(InspectError::Ended)
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Reads a file.
    pub(super) fn raw(&self, file: &str) -> io::Result<Vec<u8>> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let fd = openat(&self.dir, file, flags, Mode::empty())?;
        let mut bytes = Vec::new();
        File::from(fd).take(LONGEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads a file as text; names that a process gave itself may be no UTF-8.
    pub(super) fn text(&self, file: &str) -> Result<String, InspectError> {
        match self.raw(file) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(source) => Err(self.failed(file, source)),
        }
    }

    /// Reads a link.
    pub(super) fn link(&self, file: &str) -> Result<PathBuf, InspectError> {
        readlinkat(&self.dir, file)
            .map(PathBuf::from)
            .map_err(|errno| self.failed(file, errno.into()))
    }

    pub(super) fn failed(&self, file: &str, source: io::Error) -> InspectError {
        match source.raw_os_error() {
            Some(libc::ESRCH) => InspectError::Ended,
            _ => InspectError::Proc {
                pid: self.pid,
                file: file.to_owned(),
                source,
            },
        }
    }
}

/// Init and what it may do.
#[derive(Debug, Clone, Serialize)]
pub struct Process {
    /// Its pid in our namespace.
    pub pid: i32,
    /// The program it executes, a path inside the container.
    pub exe: Option<PathBuf>,
    /// User ids, as the host sees them.
    pub uid: Ids,
    /// Group ids, as the host sees them.
    pub gid: Ids,
    /// Supplementary groups, as the host sees them.
    pub groups: Vec<u32>,
    /// Capability sets.
    pub capabilities: Capabilities,
    /// No program it executes can gain privileges.
    pub no_new_privileges: bool,
    /// 0: none, 1: strict, 2: filter (`PR_SET_SECCOMP`).
    pub seccomp_mode: u32,
    /// How many seccomp programs are attached.
    pub seccomp_filters: u32,
    /// The label of AppArmor, SELinux or Smack; `None` where there is none.
    pub label: Option<String>,
    /// Resource limits by their OCI names.
    pub rlimits: BTreeMap<String, Limit>,
    /// How readily it is killed when memory runs out.
    pub oom_score_adj: i32,
}

/// Real, effective, saved and file system id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ids {
    /// Real.
    pub real: u32,
    /// Effective.
    pub effective: u32,
    /// Saved.
    pub saved: u32,
    /// File system.
    pub fs: u32,
}

/// Capability sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// In force.
    pub effective: Set,
    /// That may be put in force.
    pub permitted: Set,
    /// That survive execve.
    pub inheritable: Set,
    /// The most that any program can get.
    pub bounding: Set,
    /// That programs without file capabilities keep.
    pub ambient: Set,
}

/// A resource limit; `None` means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// What is enforced.
    pub soft: Option<u64>,
    /// What it can be raised to.
    pub hard: Option<u64>,
}

pub(super) fn read(proc: &ProcDir) -> Result<Process, InspectError> {
    let text = proc.text("status")?;
    let status = Status::parse(&text);
    let damaged = |file: &str| proc.failed(file, io::ErrorKind::InvalidData.into());
    let bad = || damaged("status");
    Ok(Process {
        pid: proc.pid,
        exe: proc.link("exe").ok(),
        uid: status.ids("Uid").ok_or_else(bad)?,
        gid: status.ids("Gid").ok_or_else(bad)?,
        groups: status.numbers("Groups"),
        capabilities: status.capabilities().ok_or_else(bad)?,
        no_new_privileges: status.number("NoNewPrivs").ok_or_else(bad)? == 1,
        seccomp_mode: status.number("Seccomp").ok_or_else(bad)?,
        // Since Linux 5.9.
        seccomp_filters: status.number("Seccomp_filters").unwrap_or(0),
        label: label(proc),
        rlimits: rlimits(&proc.text("limits")?),
        oom_score_adj: proc
            .text("oom_score_adj")?
            .trim()
            .parse()
            .map_err(|_| damaged("oom_score_adj"))?,
    })
}

/// /proc/PID/status (proc_pid_status(5)).
struct Status<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Status<'a> {
    fn parse(text: &'a str) -> Self {
        Self(
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(key, value)| (key, value.trim()))
                .collect(),
        )
    }

    fn number(&self, key: &str) -> Option<u32> {
        self.0.get(key)?.parse().ok()
    }

    fn numbers(&self, key: &str) -> Vec<u32> {
        self.0
            .get(key)
            .map(|text| {
                text.split_whitespace()
                    .filter_map(|n| n.parse().ok())
                    .collect()
            })
            .unwrap_or_default()
    }

    fn ids(&self, key: &str) -> Option<Ids> {
        match self.numbers(key)[..] {
            [real, effective, saved, fs] => Some(Ids {
                real,
                effective,
                saved,
                fs,
            }),
            _ => None,
        }
    }

    fn capabilities(&self) -> Option<Capabilities> {
        let set = |key: &str| {
            let text = self.0.get(key)?;
            u64::from_str_radix(text, 16).ok().map(Set::from_bits)
        };
        Some(Capabilities {
            effective: set("CapEff")?,
            permitted: set("CapPrm")?,
            inheritable: set("CapInh")?,
            bounding: set("CapBnd")?,
            ambient: set("CapAmb")?,
        })
    }
}

/// The label of the security module in charge; kernels without one answer EINVAL.
fn label(proc: &ProcDir) -> Option<String> {
    ["attr/apparmor/current", "attr/current"]
        .iter()
        .find_map(|file| proc.raw(file).ok())
        .map(|bytes| {
            String::from_utf8_lossy(&bytes)
                .trim_end_matches(['\0', '\n'])
                .to_owned()
        })
        .filter(|label| !label.is_empty())
}

/// The names of /proc/PID/limits and those of the OCI spec.
const RLIMITS: [(&str, &str); 16] = [
    ("Max cpu time", "RLIMIT_CPU"),
    ("Max file size", "RLIMIT_FSIZE"),
    ("Max data size", "RLIMIT_DATA"),
    ("Max stack size", "RLIMIT_STACK"),
    ("Max core file size", "RLIMIT_CORE"),
    ("Max resident set", "RLIMIT_RSS"),
    ("Max processes", "RLIMIT_NPROC"),
    ("Max open files", "RLIMIT_NOFILE"),
    ("Max locked memory", "RLIMIT_MEMLOCK"),
    ("Max address space", "RLIMIT_AS"),
    ("Max file locks", "RLIMIT_LOCKS"),
    ("Max pending signals", "RLIMIT_SIGPENDING"),
    ("Max msgqueue size", "RLIMIT_MSGQUEUE"),
    ("Max nice priority", "RLIMIT_NICE"),
    ("Max realtime priority", "RLIMIT_RTPRIO"),
    ("Max realtime timeout", "RLIMIT_RTTIME"),
];

fn rlimits(text: &str) -> BTreeMap<String, Limit> {
    let value = |text: &str| match text {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    };
    RLIMITS
        .iter()
        .filter_map(|(name, oci)| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let mut fields = line.split_whitespace();
            let limit = Limit {
                soft: value(fields.next()?)?,
                hard: value(fields.next()?)?,
            };
            Some(((*oci).to_owned(), limit))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\ta: b\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t5\t5\t5\n\
        Groups:\t4 24 \nCapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\n\
        CapEff:\t0000000000000001\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn status_is_read_by_name() {
        let status = Status::parse(STATUS);
        let ids = status.ids("Uid").unwrap();
        assert_eq!((ids.real, ids.fs), (1000, 1003));
        assert_eq!(status.numbers("Groups"), [4, 24]);
        let capabilities = status.capabilities().unwrap();
        assert_eq!(capabilities.bounding.len(), 14);
        assert_eq!(capabilities.effective.len(), 1);
        assert_eq!(status.number("Seccomp"), Some(2));
        assert!(status.ids("Groups").is_none());
    }

    #[test]
    fn limits_are_read_by_column() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max open files            1024                 524288               files     \n";
        let limits = rlimits(text);
        assert_eq!(
            limits["RLIMIT_NOFILE"],
            Limit {
                soft: Some(1024),
                hard: Some(524_288)
            }
        );
        assert_eq!(limits["RLIMIT_CPU"].soft, None);
        assert_eq!(limits.len(), 2);
    }

    #[test]
    fn a_process_that_is_not_the_one_is_noticed() {
        let me = std::process::id().cast_signed();
        let start = crate::state::process_stat(me).unwrap().start;
        assert!(read(&ProcDir::open(me, start).unwrap()).is_ok());
        assert!(matches!(
            ProcDir::open(me, start + 1),
            Err(InspectError::Ended)
        ));
    }
}
