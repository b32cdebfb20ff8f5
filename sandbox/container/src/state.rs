//! What is kept about a container, and what the kernel says about it now.
//!
//! `<root>/<id>/` (0700 in a 0711 root): `intent.json` (what is about to be made), `record.json` (the
//! hardened spec, policy and report), `seccomp-N.bpf` (the programs that init got, byte for byte;
//! exec attaches the same), `denials.*` (the listener that explains denied calls, if any: what it must
//! know, the program whose errnos it answers, its socket), `work` (a link to what was made for it in the
//! engine's storage), `start.fifo` (init waits on it), and last of all `state.json`, written
//! beside and renamed: once it is there, all others are whole. It never replaces another file:
//! a rename over a file makes ext4 write the new one out at once.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cofferdam_profiles::policy::ContainerRecord;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::cgroup::{self, Cgroup};
use crate::error::StateError;
use crate::id::ContainerId;
use crate::ids::Lease;

/// The state file's name.
pub(crate) const STATE: &str = "state.json";
/// The name of what stands in for the state file until there is one.
const INTENT: &str = "intent.json";
/// The record file's name.
pub(crate) const RECORD: &str = "record.json";
/// The name of the FIFO that init waits on.
pub(crate) const FIFO: &str = "start.fifo";

/// The OCI status of a container, with `paused` as runc adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` has not returned.
    Creating,
    /// Init waits for start.
    Created,
    /// The program was executed.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// Init is gone.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// The process that answers and explains denied calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its pid.
    pub pid: i32,
    /// When it started, as [`State::pid_start_time`] has it.
    pub start_time: u64,
    /// Its log.
    pub log: PathBuf,
}

/// What is kept about a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The version of the OCI runtime spec that the bundle was written for.
    pub oci_version: String,
    /// The id.
    pub id: String,
    /// Init, as the creator saw it; `None` until it was cloned.
    pub pid: Option<i32>,
    /// When `pid` started, in clock ticks since boot (field 22 of `/proc/PID/stat`): tells init from
    /// a later process with the same pid.
    pub pid_start_time: u64,
    /// The process that was creating the container, and when it started; `None` once it is created.
    pub creator: Option<(i32, u64)>,
    /// The bundle's absolute path.
    pub bundle: PathBuf,
    /// The root file system's absolute path on the host.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339 in UTC.
    pub created: String,
    /// Who created it.
    pub owner: String,
    /// Where its cgroup is; `None` if it has none.
    pub cgroup: Option<cgroup::Location>,
    /// The ids of the attached seccomp programs, in the order they are attached.
    pub seccomp: Vec<String>,
    /// The spec's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether the record has hooks that start or delete must run.
    pub late_hooks: bool,
    /// What explains its denied calls, if anything does. States of older versions do not have it.
    #[serde(default)]
    pub denials: Option<Listener>,
    /// Its range of user ids, if it has one of ours. States of older versions do not have it.
    #[serde(default)]
    pub ids: Option<Lease>,
    /// The container's state directory; not stored.
    #[serde(skip)]
    pub directory: PathBuf,
}

impl State {
    /// What the kernel says: the file's pid counts only if its start time still fits.
    pub fn status(&self) -> Status {
        if !self.init_is_alive() {
            return match self.creator {
                Some((pid, start)) if is_running(pid, start) => Status::Creating,
                _ => Status::Stopped,
            };
        }
        if self
            .creator
            .is_some_and(|(pid, start)| is_running(pid, start))
        {
            return Status::Creating;
        }
        if self.directory.join(FIFO).exists() {
            return Status::Created;
        }
        let frozen = self
            .cgroup
            .as_ref()
            .and_then(|location| Cgroup::open(location).ok())
            .and_then(|cgroup| cgroup.frozen().ok())
            .unwrap_or(false);
        if frozen {
            Status::Paused
        } else {
            Status::Running
        }
    }

    /// Init's pid, if that process is still the one that was made and has not ended.
    pub fn live_pid(&self) -> Option<Pid> {
        self.pid
            .filter(|&pid| is_running(pid, self.pid_start_time))
            .map(Pid::from_raw)
    }

    fn unreadable(id: &ContainerId, directory: PathBuf) -> Self {
        Self {
            oci_version: String::new(),
            id: id.to_string(),
            pid: None,
            pid_start_time: 0,
            creator: None,
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            created: String::new(),
            owner: String::new(),
            cgroup: None,
            seccomp: Vec::new(),
            annotations: BTreeMap::new(),
            late_hooks: false,
            denials: None,
            ids: None,
            directory,
        }
    }

    fn init_is_alive(&self) -> bool {
        self.live_pid().is_some()
    }

    /// Writes down what is about to be made.
    pub(crate) fn store_intent(&self) -> Result<(), StateError> {
        let path = self.directory.join(INTENT);
        write_new(&path, &self.to_json(&path)?)
    }

    /// Writes the state file under another name; [`Prepared::publish`] gives it its own.
    pub(crate) fn prepare(&self) -> Result<Prepared, StateError> {
        let path = self.directory.join(STATE);
        let beside = path.with_extension("json.new");
        write_new(&beside, &self.to_json(&path)?)?;
        Ok(Prepared { beside, path })
    }

    fn to_json(&self, path: &Path) -> Result<Vec<u8>, StateError> {
        serde_json::to_vec(self).map_err(|source| StateError::Damaged {
            path: path.to_owned(),
            source,
        })
    }
}

/// A state file that nobody sees yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    beside: PathBuf,
    path: PathBuf,
}

impl Prepared {
    /// From now on the container is created.
    pub(crate) fn publish(self) -> Result<(), StateError> {
        fs::rename(&self.beside, &self.path).map_err(|source| StateError::Io {
            action: "write",
            path: self.path,
            source,
        })
    }
}

/// Whether `pid` is the process that started at `start` and a thread of it can still run.
pub fn is_running(pid: i32, start: u64) -> bool {
    matches!(process_stat(pid), Ok(stat) if stat.start == start && !stat.has_ended())
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    /// The first thread's state, field 3.
    letter: u8,
    /// How many threads are not reaped, field 20.
    threads: u64,
    /// See [`State::pid_start_time`].
    pub(crate) start: u64,
}

impl ProcessStat {
    /// Whether only other threads than the first go on. The kernel shows no namespaces of it then.
    pub(crate) fn lacks_main_thread(self) -> bool {
        matches!(self.letter, b'Z' | b'X' | b'x') && !self.has_ended()
    }

    /// Whether no thread of it runs any more. The first thread is a zombie from its own end on, and the
    /// others may go on without it.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self.letter, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// When a process started, as [`State::pid_start_time`] has it.
pub fn start_of(pid: i32) -> io::Result<u64> {
    Ok(process_stat(pid)?.start)
}

/// Reads `/proc/PID/stat`.
pub(crate) fn process_stat(pid: i32) -> io::Result<ProcessStat> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    parse_stat(&text).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The second field may hold any byte, so count from its last parenthesis.
fn parse_stat(text: &[u8]) -> Option<ProcessStat> {
    let name_end = text.iter().rposition(|&b| b == b')')?;
    let rest = std::str::from_utf8(text.get(name_end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    Some(ProcessStat {
        letter: *fields.next()?.as_bytes().first()?,
        threads: fields.nth(16)?.parse().ok()?,
        start: fields.nth(1)?.parse().ok()?,
    })
}

/// Writes a file that is not there yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|source| StateError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })
}

/// Reads what is kept about the container `id` below `root`.
pub fn load(root: &Path, id: &ContainerId) -> Result<State, StateError> {
    load_first(root, id, &[STATE, INTENT])
}

/// Reads what was about to be made, for a container whose state is damaged.
pub(crate) fn load_intent(root: &Path, id: &ContainerId) -> Result<State, StateError> {
    load_first(root, id, &[INTENT])
}

fn load_first(root: &Path, id: &ContainerId, names: &[&str]) -> Result<State, StateError> {
    let directory = id.directory(root);
    for name in names {
        let path = directory.join(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => {
                return Err(StateError::Io {
                    action: "read",
                    path,
                    source,
                });
            }
        };
        let mut state: State =
            serde_json::from_slice(&text).map_err(|source| StateError::Damaged { path, source })?;
        state.directory = directory;
        return Ok(state);
    }
    Err(unknown(root, id))
}

/// The state root and the id whose state directory `directory` is; `None` if it can be none's.
pub(crate) fn of_directory(directory: &Path) -> Option<(&Path, ContainerId)> {
    let id = ContainerId::parse(directory.file_name()?.to_str()?).ok()?;
    Some((directory.parent()?, id))
}

fn unknown(root: &Path, id: &ContainerId) -> StateError {
    StateError::Unknown {
        id: id.to_string(),
        root: root.to_owned(),
    }
}

/// Reads the hardened spec, the policy and the report of the container `id`.
pub fn load_record(root: &Path, id: &ContainerId) -> Result<ContainerRecord, StateError> {
    let path = id.directory(root).join(RECORD);
    let text = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => unknown(root, id),
        _ => StateError::Io {
            action: "read",
            path: path.clone(),
            source,
        },
    })?;
    serde_json::from_slice(&text).map_err(|source| StateError::Damaged { path, source })
}

/// Every container below `root`, in the order of their ids. One whose state cannot be read, because
/// a `create` or a `delete` was killed, is listed with its id alone, as stopped.
pub fn list(root: &Path) -> Result<Vec<State>, StateError> {
    let failed = |source| StateError::Io {
        action: "list",
        path: root.to_owned(),
        source,
    };
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut states = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let Some(id) = name.to_str().and_then(|name| ContainerId::parse(name).ok()) else {
            continue;
        };
        let directory = id.directory(root);
        match load(root, &id) {
            Ok(state) => states.push(state),
            // A hidden directory is something else, such as a cache, unless it has a state.
            Err(_) if !id.as_str().starts_with('.') && directory.is_dir() => {
                states.push(State::unreadable(&id, directory))
            }
            Err(_) => {}
        }
    }
    states.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_create_left_is_listed() {
        let root = tempfile::tempdir().expect("a directory");
        for name in ["b", "a", ".cache", "not an id"] {
            fs::create_dir(root.path().join(name)).expect("made");
        }
        fs::write(root.path().join("b").join(STATE), "{").expect("written");
        fs::write(root.path().join("file"), "").expect("written");
        let states = list(root.path()).expect("listed");
        let found: Vec<_> = states.iter().map(|s| (s.id.as_str(), s.status())).collect();
        assert_eq!(found, [("a", Status::Stopped), ("b", Status::Stopped)]);
        assert!(
            list(&root.path().join("nowhere"))
                .expect("listed")
                .is_empty()
        );
    }

    #[test]
    fn a_process_lives_as_long_as_one_of_its_threads() {
        for (letter, threads, ended) in [
            (b'S', 1, false),
            (b'R', 4, false),
            (b'Z', 1, true),
            (b'Z', 2, false),
            (b'X', 0, true),
        ] {
            let stat = ProcessStat {
                letter,
                threads,
                start: 1,
            };
            assert_eq!(stat.has_ended(), ended, "{stat:?}");
            let lacks = letter == b'Z' && !ended;
            assert_eq!(stat.lacks_main_thread(), lacks, "{stat:?}");
        }
    }

    #[test]
    fn stat_is_read_past_any_process_name() {
        let fields = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 4242 1 2";
        let expected = ProcessStat {
            letter: b'S',
            threads: 3,
            start: 4242,
        };
        for name in ["sh", "a b", ") R 9", "((", ""] {
            let line = format!("17 ({name}) {fields}");
            assert_eq!(parse_stat(line.as_bytes()), Some(expected), "{name:?}");
        }
        for bad in ["", "17", "17 (sh", "17 (sh) S 1", "17 (sh)"] {
            assert_eq!(parse_stat(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
