//! The directory that results and summaries are kept in: its own files only are read, written and, when
//! there are too many of them, removed. Images are many, whoever builds one chooses how many objects it
//! has, and the directory is the administrator's choice: others' files may lie in it.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

#[derive(Debug, Clone, Copy)]
struct Bounds {
    files: usize,
    bytes: u64,
}

/// Summaries of single objects, what content a file has, and what was left half written.
const SUMMARIES: Bounds = Bounds {
    files: 8192,
    bytes: 1 << 30,
};

/// Whole results.
const RESULTS: Bounds = Bounds {
    files: 256,
    bytes: 256 << 20,
};

static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// What a file of the directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    Summary,
    Result,
}

fn own(name: &OsStr) -> Option<Own> {
    let name = name.to_str()?;
    let is_hex = |text: &str, length| {
        let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        text.len() == length && text.bytes().all(digit)
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (stem, end) = name.rsplit_once('.')?;
    match end {
        "id" if is_hex(stem, 32) => Some(Own::Summary),
        "summary" if is_hex(stem, 64) => Some(Own::Summary),
        "result" if is_hex(stem, 32) => Some(Own::Result),
        draft if stem.is_empty() => {
            let (process, count) = draft.split_once('-')?;
            (is_number(process) && is_number(count)).then_some(Own::Summary)
        }
        _ => None,
    }
}

/// Whether nobody but its owner, who we are, can put anything into a directory: whoever can decides
/// what is found in a program. A link is no such directory.
///
/// # Errors
/// It cannot be looked at.
pub fn is_private(directory: &Path) -> io::Result<bool> {
    let state = fs::symlink_metadata(directory)?;
    let own = nix::unistd::geteuid().as_raw();
    Ok(state.is_dir() && state.uid() == own && state.mode() & 0o022 == 0)
}

/// Keeps a directory from growing for ever: where there is too much of the files that this crate makes
/// in it, the oldest go, down to half of what may be kept.
///
/// # Errors
/// The directory cannot be listed, or a file in it not be removed.
pub fn tidy(directory: &Path) -> io::Result<()> {
    within(directory, SUMMARIES, RESULTS)
}

fn within(directory: &Path, summaries: Bounds, results: Bounds) -> io::Result<()> {
    let mut found: [Vec<(SystemTime, u64, PathBuf)>; 2] = Default::default();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let [of_summaries, of_results] = &mut found;
        let list = match own(&entry.file_name()) {
            Some(Own::Summary) => of_summaries,
            Some(Own::Result) => of_results,
            None => continue,
        };
        // One that another process removes meanwhile is gone, as it should be.
        if let Ok(state) = entry.metadata()
            && state.is_file()
        {
            list.push((state.modified()?, state.len(), entry.path()));
        }
    }
    let [of_summaries, of_results] = found;
    remove(of_summaries, summaries)?;
    remove(of_results, results)
}

fn remove(mut files: Vec<(SystemTime, u64, PathBuf)>, most: Bounds) -> io::Result<()> {
    let mut count = files.len();
    let mut bytes = files.iter().map(|(_, length, _)| length).sum::<u64>();
    if count <= most.files && bytes <= most.bytes {
        return Ok(());
    }
    files.sort_unstable();
    for (_, length, path) in files {
        if count <= most.files / 2 && bytes <= most.bytes / 2 {
            break;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        count -= 1;
        bytes -= length;
    }
    Ok(())
}

/// A file of the directory: no link, of the directory's owner, and at most `max` bytes.
pub(crate) fn read(directory: &Path, name: &str, max: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(directory.join(name))?;
    let state = file.metadata()?;
    let is_own = state.is_file() && state.uid() == fs::metadata(directory)?.uid();
    if !is_own || state.len() > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a file that was kept here",
        ));
    }
    let mut content = Vec::with_capacity(usize::try_from(state.len()).unwrap_or(0));
    file.take(max).read_to_end(&mut content)?;
    Ok(content)
}

/// A name that nobody has: a process of the same number may have been ended in the middle, or be one of
/// another namespace.
fn draft() -> String {
    let count = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let time = since.map_or(0, |time| time.as_nanos());
    format!(".{}-{time}{count}", std::process::id())
}

/// Writes beside and renames, so that nobody reads half a file.
pub(crate) fn write(directory: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let draft = directory.join(draft());
    let mut file = File::create_new(&draft)?;
    let written = file
        .write_all(content)
        .and_then(|()| fs::rename(&draft, directory.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::Duration;

    fn put(directory: &Path, age: u64, name: &str) {
        let mut file = File::create_new(directory.join(name)).unwrap();
        file.write_all(b"12345678").unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age);
        file.set_modified(time).unwrap();
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_oldest_go_first_and_others_files_stay() {
        let directory = tempfile::tempdir().unwrap();
        let others = [
            ".bashrc",
            ".id",
            "a.id",
            "backup.summary",
            "notes.txt",
            "yearly.result",
        ];
        for name in others {
            put(directory.path(), 900, name);
        }
        // Of a name that is ours, but no file of ours.
        let ours = |index: u32, end: &str| match end {
            "summary" => format!("{index:064x}.summary"),
            end => format!("{index:032x}.{end}"),
        };
        symlink("notes.txt", directory.path().join(ours(9, "id"))).unwrap();
        fs::create_dir(directory.path().join(ours(9, "summary"))).unwrap();
        put(directory.path(), 5, &ours(1, "id"));
        put(directory.path(), 4, &ours(1, "summary"));
        put(directory.path(), 3, ".12-3");
        put(directory.path(), 2, &ours(2, "id"));
        put(directory.path(), 6, &ours(1, "result"));
        put(directory.path(), 1, &ours(2, "result"));
        let bounds = |files, bytes| Bounds { files, bytes };
        let many = bounds(9, 1000);
        let left = || {
            let left = names(directory.path());
            assert!(others.iter().all(|name| left.iter().any(|l| l == name)));
            assert!(left.contains(&ours(9, "id")) && left.contains(&ours(9, "summary")));
            let is_ours = |name: &String| {
                let path = directory.path().join(name);
                !others.contains(&name.as_str()) && path.symlink_metadata().unwrap().is_file()
            };
            left.into_iter().filter(is_ours).collect::<Vec<_>>()
        };
        within(directory.path(), bounds(4, 32), bounds(2, 16)).unwrap();
        assert_eq!(left().len(), 6);
        within(directory.path(), many, bounds(2, 15)).unwrap();
        assert_eq!(left().len(), 4);
        assert!(!left().iter().any(|name| name.ends_with("result")));
        within(directory.path(), bounds(3, 32), many).unwrap();
        assert_eq!(left(), [ours(2, "id")]);
        within(directory.path(), bounds(0, 32), many).unwrap();
        assert!(left().is_empty());
    }

    #[test]
    fn many_files_of_others_are_not_counted() {
        let directory = tempfile::tempdir().unwrap();
        for index in 0..=SUMMARIES.files {
            File::create(directory.path().join(format!("{index}.summary"))).unwrap();
        }
        tidy(directory.path()).unwrap();
        assert_eq!(names(directory.path()).len(), SUMMARIES.files + 1);
    }

    #[test]
    fn links_and_files_of_others_are_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        write(path, "kept", b"kept").unwrap();
        assert_eq!(read(path, "kept", 4).unwrap(), b"kept");
        assert!(read(path, "kept", 3).is_err());
        symlink("kept", path.join("link")).unwrap();
        assert!(read(path, "link", 4).is_err());
        nix::unistd::mkfifo(&path.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(path, "pipe", 4).is_err());
        assert!(read(path, ".", 4).is_err());
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(path.join("kept"), Some(1), None).unwrap();
            assert!(read(path, "kept", 4).is_err());
        }
    }

    #[test]
    fn drafts_are_told_from_others_files() {
        let draft = draft();
        assert_eq!(own(draft.as_ref()), Some(Own::Summary), "{draft}");
        for name in [".1-", ".-1", ".1-2x", ".12", "1-2", "x.1-2", ".1-2-3"] {
            assert_eq!(own(name.as_ref()), None, "{name}");
        }
    }

    #[test]
    fn only_a_directory_of_our_own_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let mode = |mode| {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            is_private(directory.path()).unwrap()
        };
        assert!(mode(0o755) && mode(0o700));
        assert!(!mode(0o770) && !mode(0o702) && !mode(0o1777));
        assert!(mode(0o700));
        let other = tempfile::tempdir().unwrap();
        let link = other.path().join("link");
        symlink(directory.path(), &link).unwrap();
        assert!(!is_private(&link).unwrap());
        put(other.path(), 0, "file");
        assert!(!is_private(&other.path().join("file")).unwrap());
        assert!(is_private(&other.path().join("none")).is_err());
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(1), None).unwrap();
            assert!(!is_private(directory.path()).unwrap());
        }
    }
}
