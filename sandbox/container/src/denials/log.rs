//! The log: lines of JSON in two files of bounded size.
//!
//! It outlives its container, for a container that dies of a denied call is gone when someone asks.
//! So the number of logs is bounded too: the oldest are removed when a new one begins.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes of one file; there are two for each container.
const LARGEST: u64 = 512 * 1024;
/// How many containers' logs are kept in one directory.
const MOST: usize = 200;
/// The end of a log's name.
const SUFFIX: &str = ".jsonl";
/// The end of the older file's name.
const OLDER: &str = ".jsonl.1";

/// Where the log of the container `id` of the state root `root` is, below `directory`.
pub fn path(directory: &Path, root: &Path, id: &str) -> PathBuf {
    let name: String = root
        .to_string_lossy()
        .trim_matches('/')
        .chars()
        .map(|c| if c == '/' { '-' } else { c })
        .collect();
    let name = match name.as_str() {
        "" | "." | ".." => "-".to_owned(),
        _ => name,
    };
    directory.join(name).join(format!("{id}{SUFFIX}"))
}

/// The older of the two files.
pub fn older(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
}

impl Log {
    /// A new log, in the place of one of the same name.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
            prune(directory)?;
        }
        match fs::remove_file(older(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = fresh(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            size: 0,
        })
    }

    /// Goes on with the log that is there.
    pub(super) fn append(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
        })
    }

    /// Appends a line in one piece.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.size + length > LARGEST && self.size > 0 {
            fs::rename(&self.path, older(&self.path))?;
            self.file = fresh(&self.path)?;
            self.size = 0;
        }
        self.size += length;
        self.file.write_all(line)
    }
}

/// An empty file, never one that a link leads to.
fn fresh(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Makes room for one more log.
fn prune(directory: &Path) -> io::Result<()> {
    let mut logs: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.ends_with(SUFFIX.as_bytes()) && !name.ends_with(OLDER.as_bytes()) {
            let written = entry.metadata().and_then(|found| found.modified());
            logs.push((written.unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
        }
    }
    logs.sort();
    let over = (logs.len() + 1).saturating_sub(MOST);
    for (_, path) in logs.iter().take(over) {
        let _ = fs::remove_file(older(path));
        let _ = fs::remove_file(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_of_bounded_size_hold_whole_lines() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = path(directory.path(), Path::new("/run/x"), "id");
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        let mut log = Log::create(&path).expect("a log");
        for _ in 0..3000 {
            log.write(&line).expect("written");
        }
        for file in [&path, &older(&path)] {
            let text = fs::read(file).expect("read");
            assert!(text.len() as u64 <= LARGEST && text.len() > 100_000);
            assert!(text.len().is_multiple_of(1000) && text.ends_with(b"\n"));
        }
        drop(Log::create(&path).expect("a new log"));
        assert_eq!(fs::read(&path).expect("read"), b"");
        assert!(!older(&path).exists());
    }

    #[test]
    fn old_logs_make_room() {
        let directory = tempfile::tempdir().expect("a directory");
        for n in 0..MOST + 20 {
            let path = path(directory.path(), Path::new("/run/x"), &format!("id{n}"));
            drop(Log::create(&path).expect("a log"));
        }
        let kept = fs::read_dir(directory.path().join("run-x")).expect("listed");
        assert_eq!(kept.count(), MOST);
    }

    #[test]
    fn names_stay_below_the_directory() {
        let logs = Path::new("/var/log");
        for (root, expected) in [
            (
                "/run/containerd/cofferdam/k8s.io",
                "/var/log/run-containerd-cofferdam-k8s.io/a.b.jsonl",
            ),
            ("/", "/var/log/-/a.b.jsonl"),
            ("..", "/var/log/-/a.b.jsonl"),
        ] {
            assert_eq!(path(logs, Path::new(root), "a.b"), Path::new(expected));
        }
        assert_eq!(
            older(Path::new("/a/b.c.jsonl")),
            Path::new("/a/b.c.jsonl.1")
        );
    }
}
