//! An image's archive or layers: an answer or an error, within the limits, and nothing outside.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use cofferdam_workbench::image::{Limits, Scratch, unpack_bytes, unpack_layers};
use libfuzzer_sys::fuzz_target;

const BYTES: u64 = 1 << 20;
const ENTRIES: u64 = 200;
const DEPTH: usize = 128;

/// A directory with a neighbour that nothing may touch.
static PARENT: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let parent = tempfile::tempdir().unwrap();
    fs::create_dir(parent.path().join("victim")).unwrap();
    fs::write(parent.path().join("victim/secret"), "secret").unwrap();
    parent
});

fuzz_target!(|data: &[u8]| {
    // The first byte says what the others are: an image, a layer, or two layers and where they part.
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    let limits = Limits {
        bytes: BYTES,
        entries: ENTRIES,
        ..Limits::default()
    };
    let scratch = Scratch::below(PARENT.path()).unwrap();
    match kind {
        0 => drop(unpack_bytes(data, &limits, &scratch)),
        1 => drop(unpack_layers(&[data], &limits, &scratch)),
        part => {
            let at = data.len() * usize::from(*part) / 256 / 512 * 512;
            let (lower, upper) = data.split_at(at);
            drop(unpack_layers(&[lower, upper], &limits, &scratch));
        }
    }
    let mut made = (0, 0);
    measure(scratch.root(), 0, &mut made);
    // A component of a name is an entry of its own where it was not there.
    assert!(made.0 <= ENTRIES * DEPTH as u64, "{} entries", made.0);
    assert!(made.1 <= 2 * BYTES, "{} bytes", made.1);
    drop(scratch);
    let names = fs::read_dir(PARENT.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["victim"]);
    let secret = fs::read_dir(PARENT.path().join("victim")).unwrap();
    let secret: Vec<_> = secret.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(secret, ["secret"]);
    let secret = fs::read(PARENT.path().join("victim/secret")).unwrap();
    assert_eq!(secret, b"secret");
});

fn measure(directory: &Path, depth: usize, made: &mut (u64, u64)) {
    assert!(depth <= DEPTH, "{}", directory.display());
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.metadata().unwrap();
        made.0 += 1;
        let file = kind.file_type();
        assert!(file.is_file() || file.is_dir() || file.is_symlink());
        if file.is_dir() {
            measure(&entry.path(), depth + 1, made);
        } else {
            // A file of many names counts once for each, and is bounded all the same.
            made.1 += kind.len() / u64::max(1, nlink(&kind));
        }
    }
}

fn nlink(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.nlink()
}
