//! Results that are kept between runs, and what ends their being used.
#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cofferdam_analysis::{Entry, Generated, Options, RootFs, generate_or_recall};

/// As long as a file must be left alone to be relied on, and some more.
const REST: Duration = Duration::from_millis(3_200);

struct Case {
    root: tempfile::TempDir,
    cache: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let case = Self {
            root: tempfile::tempdir().unwrap(),
            cache: tempfile::tempdir().unwrap(),
        };
        case.put("usr/bin/server", 95);
        case
    }

    /// A program that makes the call of this number, in place of the one that is there.
    fn put(&self, path: &str, number: u32) {
        let mut file = support::small_object();
        file[0x201..0x205].copy_from_slice(&number.to_le_bytes());
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = path.with_extension("new");
        fs::write(&new, file).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn run(&self) -> Generated {
        let root = RootFs::open(self.root.path()).unwrap().watched();
        let options = Options {
            cache: Some(self.cache.path().to_owned()),
        };
        let entry = Entry {
            args: &["server".to_owned()],
            path: Some("/usr/local/bin:/usr/bin"),
            cwd: Path::new("/"),
        };
        generate_or_recall(&root, &entry, &options).unwrap()
    }

    fn result(&self) -> Option<PathBuf> {
        let files = fs::read_dir(self.cache.path()).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        paths.find(|path| path.extension().is_some_and(|e| e == "result"))
    }
}

#[test]
fn a_result_is_used_until_something_it_rests_on_changes() {
    let case = Case::new();
    assert!(case.run().syscalls.contains_key("umask"));
    assert_eq!(
        case.result(),
        None,
        "the program has only just been written"
    );
    std::thread::sleep(REST);
    case.run();
    let file = case.result().unwrap();
    // Marked, so that what is read can be told from what is made.
    let text = fs::read_to_string(&file).unwrap();
    let marked = text.replace("\"reasons\":[", "\"reasons\":[\"marked\",");
    let marked = marked.replace("\"marked\",]", "\"marked\"]");
    assert_ne!(text, marked);
    fs::write(&file, &marked).unwrap();
    let kept = case.run();
    assert!(
        kept.reasons.contains(&"marked".to_owned()),
        "{:?}",
        kept.reasons
    );
    assert!(kept.syscalls.contains_key("umask") && kept.profile.syscalls().is_some());

    // Another program of that name comes before it in PATH: nothing was there before.
    case.put("usr/local/bin/server", 162);
    let other = case.run();
    assert!(other.syscalls.contains_key("sync") && !other.syscalls.contains_key("umask"));
    fs::remove_file(case.root.path().join("usr/local/bin/server")).unwrap();

    // Another program in its place.
    fs::write(&file, &marked).unwrap();
    case.put("usr/bin/server", 161);
    let other = case.run();
    assert!(other.syscalls.contains_key("chroot") && !other.syscalls.contains_key("umask"));
}

#[test]
fn a_damaged_result_is_made_again() {
    let case = Case::new();
    std::thread::sleep(REST);
    case.run();
    let file = case.result().unwrap();
    let text = fs::read(&file).unwrap();
    for damaged in [&text[..text.len() / 2], b"", b"{}", b"\xff\xff"] {
        fs::write(&file, damaged).unwrap();
        assert!(case.run().syscalls.contains_key("umask"));
        assert_eq!(fs::read(&file).unwrap().len(), text.len());
    }
}
