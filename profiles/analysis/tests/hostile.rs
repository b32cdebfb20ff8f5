//! Files and root file systems made to break the analysis: an answer or an error, in bounded time.
#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use cofferdam_analysis::{AnalysisError, ElfError, Options, RootFs, analyse, inspect_object};
use proptest::prelude::*;
use support::small_object;

#[test]
fn a_small_object_is_understood() {
    // Without sections the segment is all code: what lies before the function, it, what follows.
    assert_eq!(inspect_object(&small_object()).unwrap(), (3, 1));
}

#[test]
fn truncated_at_every_byte() {
    let object = small_object();
    for length in 0..object.len() {
        // An answer, or an error; a panic fails the test.
        let _ = inspect_object(&object[..length]);
    }
    assert_eq!(inspect_object(&object[..3]), Err(ElfError::NotElf));
    let truncated = inspect_object(&object[..0x2ff]);
    assert_eq!(truncated, Err(ElfError::Truncated { table: "segments" }));
}

#[test]
fn other_formats_are_named() {
    let mut arm = small_object();
    arm[18] = 183;
    let table: [(&[u8], ElfError); 3] = [
        (b"", ElfError::NotElf),
        (b"MZ", ElfError::NotElf),
        (
            &arm,
            ElfError::Machine {
                machine: 183,
                class: 2,
            },
        ),
    ];
    for (bytes, expected) in table {
        assert_eq!(inspect_object(bytes), Err(expected));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_anywhere(damage in prop::collection::vec((0_usize..0x400, any::<u8>()), 1..16)) {
        let mut object = small_object();
        for (at, byte) in damage {
            object[at] = byte;
        }
        let start = Instant::now();
        let _ = inspect_object(&object);
        prop_assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn extreme_numbers_in_tables(
        at in 0_usize..0x3f0,
        value in prop_oneof![
            Just(u64::MAX), Just(u64::MAX - 7), Just(1 << 63), Just(1 << 32), Just(0x1_0000),
        ],
    ) {
        let mut object = small_object();
        object[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let _ = inspect_object(&object);
    }
}

fn root() -> (tempfile::TempDir, RootFs) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("bin")).unwrap();
    let root = RootFs::open(directory.path()).unwrap();
    (directory, root)
}

fn fails(root: &RootFs, program: &str) -> AnalysisError {
    let start = Instant::now();
    let error = analyse(root, Path::new(program), &Options::default()).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "{program}");
    error
}

#[test]
fn symlinks_in_a_circle_and_out_of_the_root() {
    let (directory, root) = root();
    symlink("b", directory.path().join("bin/a")).unwrap();
    symlink("a", directory.path().join("bin/b")).unwrap();
    // Inside, this is the root's own /etc/passwd, which is not there.
    symlink(
        "../../../../../../etc/passwd",
        directory.path().join("bin/out"),
    )
    .unwrap();
    for program in ["/bin/a", "/bin/out", "/bin/none", "/proc/self/exe"] {
        let error = fails(&root, program);
        assert!(
            matches!(error, AnalysisError::Read { .. }),
            "{program}: {error}"
        );
    }
}

#[test]
fn a_sparse_file_is_not_read() {
    let (directory, root) = root();
    let file = File::create(directory.path().join("bin/sparse")).unwrap();
    file.set_len(2 << 30).unwrap();
    let error = fails(&root, "/bin/sparse");
    assert!(matches!(error, AnalysisError::Read { .. }), "{error}");
}

#[test]
fn what_is_no_regular_file() {
    let (directory, root) = root();
    let pipe = directory.path().join("bin/pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o700)).unwrap();
    for program in ["/bin/pipe", "/bin"] {
        let error = fails(&root, program);
        assert!(
            matches!(error, AnalysisError::Read { .. }),
            "{program}: {error}"
        );
    }
}

#[test]
fn scripts_that_interpret_each_other() {
    let (directory, root) = root();
    fs::write(directory.path().join("bin/one"), "#!/bin/two\n").unwrap();
    fs::write(directory.path().join("bin/two"), "#!/bin/one\n").unwrap();
    let error = fails(&root, "/bin/one");
    assert!(
        matches!(error, AnalysisError::Interpreters { .. }),
        "{error}"
    );
}

#[test]
fn a_library_that_is_not_there_is_named() {
    let (directory, root) = root();
    let mut object = small_object();
    // DT_NEEDED "f" in place of the initialisers' array.
    object[0x170..0x178].copy_from_slice(&1_u64.to_le_bytes());
    object[0x178..0x180].copy_from_slice(&1_u64.to_le_bytes());
    fs::write(directory.path().join("bin/needy"), object).unwrap();
    match fails(&root, "/bin/needy") {
        AnalysisError::Missing { library, .. } => assert_eq!(library, "f"),
        error => panic!("{error}"),
    }
}
