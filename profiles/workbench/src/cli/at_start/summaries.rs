//! Keeps the directory of object summaries within bounds: images are many, and whoever builds one
//! chooses how many objects it has.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The most files and bytes that are kept.
const MOST: Bounds = Bounds {
    files: 8192,
    bytes: 1 << 30,
};

#[derive(Debug, Clone, Copy)]
struct Bounds {
    files: usize,
    bytes: u64,
}

/// Removes the oldest where there is too much, down to half of what may be kept.
pub(super) fn tidy(directory: &Path) -> io::Result<()> {
    within(directory, MOST)
}

fn within(directory: &Path, most: Bounds) -> io::Result<()> {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // One that another process removes meanwhile is gone, as it should be.
        let Ok(found) = entry.metadata() else {
            continue;
        };
        if found.is_file() && is_own(&entry.path()) {
            files.push((found.modified()?, found.len(), entry.path()));
        }
    }
    let mut count = files.len();
    let mut bytes: u64 = files.iter().map(|(_, length, _)| length).sum();
    if count <= most.files && bytes <= most.bytes {
        return Ok(());
    }
    files.sort_unstable();
    for (_, length, path) in files {
        if count <= most.files / 2 && bytes <= most.bytes / 2 {
            break;
        }
        fs::remove_file(path)?;
        count -= 1;
        bytes -= length;
    }
    Ok(())
}

/// Whether the analysis makes files of such names: the directory is the administrator's choice.
fn is_own(path: &Path) -> bool {
    let ends = path
        .extension()
        .is_some_and(|end| end == "id" || end == "summary");
    let name = path.file_name().and_then(|name| name.to_str());
    let draft = name.and_then(|name| name.strip_prefix('.'));
    ends || draft.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_oldest_go_first_and_others_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (age, name) in ["a.id", "b.summary", ".12-3", "c.id", "notes.txt"]
            .iter()
            .enumerate()
        {
            fs::write(path(name), "12345678").unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(age as u64);
            let file = fs::File::options().write(true).open(path(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        let left = || {
            let entries = fs::read_dir(directory.path()).unwrap();
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
            names.sort_unstable();
            names
        };
        within(
            directory.path(),
            Bounds {
                files: 4,
                bytes: 32,
            },
        )
        .unwrap();
        assert_eq!(left().len(), 5);
        within(
            directory.path(),
            Bounds {
                files: 4,
                bytes: 31,
            },
        )
        .unwrap();
        assert_eq!(left(), ["c.id", "notes.txt"]);
        within(
            directory.path(),
            Bounds {
                files: 0,
                bytes: 31,
            },
        )
        .unwrap();
        assert_eq!(left(), ["notes.txt"]);
    }
}
