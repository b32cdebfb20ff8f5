//! create, start, exec, kill, delete and the cgroup verbs.

/// The verbs that are a call to the container's cgroup.
mod control;
/// From a hardened spec to an init that waits.
mod create;
/// Removing what is left.
mod delete;
/// One more process.
mod exec;
/// Signals.
mod kill;
/// What a container is while it is being made, and how it vanishes again.
mod making;
/// A container's own user ids.
mod own_ids;
/// A spec, checked before anything is made.
mod recipe;
/// Letting init go.
mod start;

pub use control::{pause, ps, resume, stats, update};
pub use create::create;
pub use delete::delete;
pub use exec::exec;
pub use kill::kill;
pub use start::start;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::unistd::Pid;

/// Writes a pid file, whole or not at all, without following a link at its place.
fn write_pid_file(path: &Path, pid: Pid) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::other("it has no file name"))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(beside);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&beside)?;
    let written = file
        .write_all(pid.to_string().as_bytes())
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}
