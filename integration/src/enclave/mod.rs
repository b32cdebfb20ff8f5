//! An enclave is a mount, process and network namespace with a `/run` of its own, kept alive by a
//! pipe from the test. It goes, with every process and mount in it, when the pipe is closed: by
//! `Drop`, or by the kernel if the test is killed. A small script then removes its cgroups and files.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::{sys::signal, unistd::Pid};

use crate::{
    command::Cmd,
    error::{At, Error, Result},
};

/// Namespaces of its own for an engine and everything it starts.
#[derive(Debug)]
pub struct Enclave {
    keeper: Child,
    init: i32,
    tag: String,
    dir: PathBuf,
}

/// A process in an enclave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id in the host's namespace.
    pub pid: i32,
    /// The ids it has in each nested namespace, outermost (the host's) first.
    pub nested: Vec<i32>,
    /// Its command name.
    pub name: String,
    /// Its arguments, joined with spaces.
    pub command: String,
}

impl Enclave {
    /// Makes an enclave.
    ///
    /// # Errors
    /// If the namespaces cannot be made; this needs root.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("cft-{}-{number}", std::process::id());
        // Short, because socket addresses in it are limited to 107 bytes.
        let dir = std::env::temp_dir().join(&tag);
        fs::create_dir(&dir).at("make", &dir)?;
        let log = dir.join("enclave.log");
        let log = fs::File::create(&log).at("make", &log)?;
        let spawned = Command::new("bash")
            .args(["-c", include_str!("enclave.sh"), "enclave"])
            .arg(&dir)
            .arg(&tag)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Not in the terminal's group: an interrupt must reach the test only.
            .process_group(0)
            .spawn();
        let mut keeper = spawned.map_err(|source| Error::Spawn {
            program: "unshare".to_owned(),
            source,
        })?;
        let mut line = String::new();
        if let Some(stdout) = keeper.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .at("read from", "the enclave")?;
        }
        let Ok(init) = line.trim().parse() else {
            return Err(Error::Missing {
                what: format!(
                    "an enclave ({})",
                    fs::read_to_string(dir.join("enclave.log")).unwrap_or_default()
                ),
                remedy: "run the tests as root, with util-linux and iproute2",
            });
        };
        Ok(Self {
            keeper,
            init,
            tag,
            dir,
        })
    }

    /// A directory on disk for the enclave's files; removed with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A name that no other enclave has. Cgroups with it in their path are the enclave's.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The enclave's first process, in the host's numbering.
    #[must_use]
    pub fn init(&self) -> i32 {
        self.init
    }

    /// A path inside the enclave (its own `/run`, say), as this process can open it.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// A command that runs in the enclave.
    #[must_use]
    pub fn cmd(&self, program: impl AsRef<std::ffi::OsStr>) -> Cmd {
        let target = format!("--target={}", self.init);
        Cmd::new(program).through(["nsenter", &target, "--mount", "--pid", "--net", "--"])
    }

    /// Every process in the enclave but its first one and those that entered it from outside.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").at("list", "/proc")? {
            let entry = entry.at("list", "/proc")?;
            let Some(pid) = entry.file_name().to_str().and_then(|s| s.parse().ok()) else {
                continue;
            };
            if pid == self.init {
                continue;
            }
            if let Some(process) = read_process(pid)
                && self.holds(&process)
            {
                found.push(process);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether a process is in the enclave: its id there is the second of its ids, and the ancestry
    /// of namespaces is the enclave's.
    fn holds(&self, process: &Process) -> bool {
        if process.nested.len() < 2 {
            return false;
        }
        let ours = fs::read_link(format!("/proc/{}/ns/pid", self.init)).ok();
        let mut theirs = fs::read_link(format!("/proc/{}/ns/pid", process.pid)).ok();
        // A container's process is one namespace deeper: ask who holds the enclave's own.
        let mut pid = process.pid;
        for _ in 0..64 {
            if theirs.is_some() && theirs == ours {
                return true;
            }
            let Some(parent) = parent_of(pid) else {
                return false;
            };
            if parent <= 1 {
                return false;
            }
            pid = parent;
            theirs = fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        }
        false
    }

    /// The enclave's processes whose command line contains `part`.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn find(&self, part: &str) -> Result<Vec<Process>> {
        let mut all = self.processes()?;
        all.retain(|process| process.command.contains(part));
        Ok(all)
    }

    /// One of the enclave's processes that is younger than `floor` (a process id) and whose command
    /// line contains `part`. Far quicker than [`Enclave::find`], for processes that live for a few
    /// milliseconds.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn find_younger(&self, floor: i32, part: &str) -> Result<Option<Process>> {
        for entry in fs::read_dir("/proc").at("list", "/proc")? {
            let name = entry.at("list", "/proc")?.file_name();
            let pid = name.to_str().and_then(|name| name.parse::<i32>().ok());
            let Some(pid) = pid.filter(|&pid| pid > floor) else {
                continue;
            };
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(part)
                && let Some(process) = read_process(pid)
                && self.holds(&process)
            {
                return Ok(Some(process));
            }
        }
        Ok(None)
    }

    /// Sends a signal to a process in the enclave, by its id on the host.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn signal(&self, pid: i32, signal: signal::Signal) -> Result<()> {
        signal::kill(Pid::from_raw(pid), signal)
            .map_err(std::io::Error::from)
            .at("signal", format!("/proc/{pid}"))
    }

    /// Mount points in the enclave.
    ///
    /// # Errors
    /// If the enclave is gone.
    pub fn mounts(&self) -> Result<Vec<String>> {
        let path = format!("/proc/{}/mountinfo", self.init);
        let text = fs::read_to_string(&path).at("read", path)?;
        Ok(text
            .lines()
            .filter_map(|line| line.split(' ').nth(4).map(str::to_owned))
            .collect())
    }
}

impl Drop for Enclave {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        if let Some(mut rest) = self.keeper.stdout.take() {
            let _ = rest.read_to_end(&mut Vec::new());
        }
        let _ = self.keeper.wait();
    }
}

fn parent_of(pid: i32) -> Option<i32> {
    status_field(pid, "PPid:")?.first().copied()
}

fn status_field(pid: i32, field: &str) -> Option<Vec<i32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(
        line.split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect(),
    )
}

fn read_process(pid: i32) -> Option<Process> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(Process {
        pid,
        nested: status_field(pid, "NSpid:")?,
        name: name.trim().to_owned(),
        command: String::from_utf8_lossy(&command)
            .trim_end_matches('\0')
            .replace('\0', " "),
    })
}
