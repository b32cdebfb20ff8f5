//! Paths as the kernel's side keeps them.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// A path as the kernel's side keeps it: cut at 255 bytes, filled up with zeros.
pub(crate) fn words(path: &Path) -> [u64; 32] {
    let mut words = [0; 32];
    let bytes: Vec<u8> = path
        .as_os_str()
        .as_bytes()
        .iter()
        .copied()
        .take(255)
        .collect();
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut eight = [0; 8];
        for (to, from) in eight.iter_mut().zip(chunk) {
            *to = *from;
        }
        *word = u64::from_le_bytes(eight);
    }
    words
}

/// The path in words.
pub(crate) fn text(words: &[u64; 32]) -> String {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_back_and_long_ones_are_cut() {
        for path in ["", "/bin/sh", "/usr/lib/exactly", "/ä"] {
            assert_eq!(text(&words(Path::new(path))), path);
        }
        let long = "/x".repeat(200);
        assert_eq!(text(&words(Path::new(&long))), long[..255]);
    }
}
