//! The processes in a cgroup, and their end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::location::Location;
use super::{Error, file, freeze};
use crate::state;

/// How long killed processes may take to be gone.
const LIMIT: Duration = Duration::from_secs(10);

/// How deep nested cgroups are followed; the kernel's own default limit is higher, but a
/// container that nests deeper than this is only making work.
const MAX_DEPTH: usize = 1024;

pub(super) fn pids(location: &Location, recursive: bool) -> Result<Vec<Pid>, Error> {
    let Some(dir) = location.membership() else {
        return Ok(vec![]);
    };
    if recursive { in_tree(dir) } else { in_dir(dir) }
}

/// What the kernel lists of one directory; a directory that is gone has nothing.
fn list(dir: &Path) -> Result<String, Error> {
    match fs::read_to_string(dir.join("cgroup.procs")) {
        // A threaded v2 cgroup lists no processes, only threads.
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Ok(file::read_optional(&dir.join("cgroup.threads"))?.unwrap_or_default())
        }
        Err(e) if file::gone(&e) => Ok(String::new()),
        Err(source) => Err(Error::Read {
            path: dir.join("cgroup.procs"),
            source,
        }),
        Ok(text) => Ok(text),
    }
}

/// Whether no process is in a directory or in a nested one, those outside our pid namespace, which
/// [`in_dir`] leaves out, included.
pub(super) fn is_empty(dir: &Path) -> Result<bool, Error> {
    let mut dirs = nested(dir)?;
    dirs.push(dir.to_owned());
    for dir in dirs {
        if !list(&dir)?.trim().is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The processes of one directory that can be named; a directory that is gone has none.
pub(super) fn in_dir(dir: &Path) -> Result<Vec<Pid>, Error> {
    Ok(list(dir)?
        .lines()
        .filter_map(|line| line.parse::<i32>().ok())
        // 0 is a process outside our pid namespace: nothing can be done with it.
        .filter(|pid| *pid > 0)
        .map(Pid::from_raw)
        .collect())
}

/// The processes of a directory and of all nested ones.
pub(super) fn in_tree(dir: &Path) -> Result<Vec<Pid>, Error> {
    let mut found = in_dir(dir)?;
    for nested in nested(dir)? {
        found.extend(in_dir(&nested)?);
    }
    Ok(found)
}

/// All nested cgroups, parents before their children.
pub(super) fn nested(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    let mut level = vec![dir.to_owned()];
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for parent in &level {
            next.extend(children(parent)?);
        }
        if next.is_empty() {
            break;
        }
        found.extend_from_slice(&next);
        level = next;
    }
    Ok(found)
}

fn children(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Read {
        path: dir.to_owned(),
        source,
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if file::gone(&e) => return Ok(vec![]),
        Err(e) => return Err(failed(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_ok_and(|t| t.is_dir()) => found.push(entry.path()),
            Ok(_) => {}
            Err(e) if file::gone(&e) => break,
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(found)
}

pub(super) fn kill_all(location: &Location) -> Result<(), Error> {
    if let Some(dir) = location.unified() {
        // Since Linux 5.14: one write kills all, and a fork under way cannot slip through.
        match file::write_raw(&dir.join("cgroup.kill"), "1") {
            Ok(()) => {}
            Err(e) if file::gone(&e) || e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Error::Write {
                    path: dir.join("cgroup.kill"),
                    value: "1".to_owned(),
                    source,
                });
            }
        }
    }
    if pids(location, true)?.is_empty() {
        return Ok(());
    }
    // Stopped processes cannot fork while the list is read. Where freezing does not work the
    // loop below wins the race in the end or says who is left.
    let froze = freeze::freeze(location).is_ok();
    let killed = location.membership().map_or(Ok(()), kill_tree);
    if froze || freeze::frozen(location).unwrap_or(false) {
        // A frozen v1 process dies only when it is thawed.
        freeze::thaw_killed(location)?;
    }
    killed?;
    wait_empty(location)
}

/// Sends SIGKILL to every process of a directory and of those nested in it.
pub(super) fn kill_tree(dir: &Path) -> Result<(), Error> {
    kill_each(dir, in_tree(dir)?)
}

fn kill_each(dir: &Path, pids: Vec<Pid>) -> Result<(), Error> {
    for pid in pids {
        match kill(pid, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(_) => {
                return Err(Error::Survivors {
                    path: dir.to_owned(),
                    pids: vec![pid.as_raw()],
                });
            }
        }
    }
    Ok(())
}

/// Waits until nothing is left, killing what still appears. Zombies do not count: the kernel
/// leaves them out of a populated cgroup, though cgroup.procs of v1 may list them.
fn wait_empty(location: &Location) -> Result<(), Error> {
    let Some(dir) = location.membership() else {
        return Ok(());
    };
    let start = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        let left: Vec<Pid> = in_tree(dir)?
            .into_iter()
            .filter(|pid| alive(*pid))
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() >= LIMIT {
            return Err(Error::Survivors {
                path: dir.to_owned(),
                pids: left.into_iter().map(Pid::as_raw).collect(),
            });
        }
        kill_each(dir, left)?;
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Whether a process exists and a thread of it can still run. A killed process whose first thread is a
/// zombie already has its other threads to lose.
fn alive(pid: Pid) -> bool {
    state::process_stat(pid.as_raw()).is_ok_and(|stat| !stat.has_ended())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel lists a process of another pid namespace as 0.
    #[test]
    fn a_process_that_cannot_be_named_counts() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        let list = |dir: &Path, text: &str| fs::write(dir.join("cgroup.procs"), text).unwrap();
        list(dir.path(), "");
        list(&below, "");
        assert!(is_empty(dir.path()).unwrap());
        list(&below, "0\n");
        assert!(in_tree(dir.path()).unwrap().is_empty());
        assert!(!is_empty(dir.path()).unwrap());
        assert!(is_empty(&dir.path().join("gone")).unwrap());
    }
}
