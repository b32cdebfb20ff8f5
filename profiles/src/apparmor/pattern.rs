//! Paths as a profile writes them.
//!
//! `apparmor_parser` undoes escapes in two steps: the lexer turns `\ooo` into the byte, leaving a
//! backslash before those that mean something in a pattern, and the pattern reader takes the byte
//! after a backslash for itself. So three octal digits stand for any byte and never for a pattern.

use std::fmt::Write as _;

use crate::access::{AccessPath, Place};

/// A path in quotes, in which every byte stands for itself, and `tail` after it, a pattern of ours.
fn quoted(path: &AccessPath, tail: &str) -> String {
    let mut out = String::with_capacity(path.as_bytes().len() + tail.len() + 2);
    out.push('"');
    // The root's slash is part of every tail.
    let bytes = if path.is_root() { &[] } else { path.as_bytes() };
    for &byte in bytes {
        escape(byte, &mut out);
    }
    out.push_str(tail);
    out.push('"');
    out
}

fn escape(byte: u8, out: &mut String) {
    if byte.is_ascii_alphanumeric() || b"/._-:=~%".contains(&byte) {
        out.push(char::from(byte));
    } else {
        // Writing to a string does not fail.
        let _ = write!(out, "\\{byte:03o}");
    }
}

/// The pattern of what is no directory at `place`; the root alone is none.
pub(super) fn files(place: &Place) -> Option<String> {
    match (place.path.is_root(), place.subtree) {
        (true, false) => None,
        (true, true) => Some(quoted(&place.path, "/**?")),
        (false, false) => Some(quoted(&place.path, "")),
        (false, true) => Some(quoted(&place.path, "{,/**?}")),
    }
}

/// The pattern of directories at `place`: the kernel ends their names with a slash.
pub(super) fn directories(place: &Place) -> String {
    quoted(&place.path, if place.subtree { "/{,**/}" } else { "/" })
}

/// The pattern of files two directories deep below `path`.
pub(super) fn grandchildren(path: &AccessPath) -> String {
    quoted(path, "/*/*")
}

/// Whether a name can stand in a rule without quotes, as the label of a peer.
pub(super) fn is_plain_label(label: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    !label.is_empty() && label.len() <= 255 && label.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(bytes: &[u8]) -> AccessPath {
        AccessPath::new(bytes).expect("a path")
    }

    #[test]
    fn what_means_something_in_a_pattern_is_written_as_digits() {
        let text = files(&Place::exact(path(b"/a *?[]{}^,\"\\@{x}\n\xff"))).expect("a pattern");
        let expected = r#""/a\040\052\077\133\135\173\175\136\054\042\134\100\173x\175\012\377""#;
        assert_eq!(text, expected);
        assert_eq!(files(&Place::exact(AccessPath::root())), None);
        let root = Place::subtree(AccessPath::root());
        assert_eq!(files(&root).as_deref(), Some("\"/**?\""));
        assert_eq!(directories(&root), "\"/{,**/}\"");
        assert_eq!(directories(&Place::exact(path(b"/a"))), "\"/a/\"");
    }

    proptest! {
        #[test]
        fn any_path_is_written_in_plain_characters_and_can_be_read_back(
            bytes in proptest::collection::vec(1u8..=255, 0..200)
        ) {
            let bytes = [b"/".as_slice(), &bytes].concat();
            // What has no normal form is refused.
            let Ok(path) = AccessPath::new(&bytes) else { return Ok(()) };
            prop_assume!(!path.is_root());
            let text = files(&Place::exact(path.clone())).expect("a pattern");
            let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).expect("quotes");
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-:=~%\\".contains(&b);
            prop_assert!(inner.bytes().all(plain));
            let mut read = Vec::new();
            let mut rest = inner.as_bytes();
            while let Some((&first, after)) = rest.split_first() {
                if first == b'\\' {
                    let digits = std::str::from_utf8(&after[..3]).expect("digits");
                    read.push(u8::from_str_radix(digits, 8).expect("octal"));
                    rest = &after[3..];
                } else {
                    read.push(first);
                    rest = after;
                }
            }
            prop_assert_eq!(read, path.as_bytes());
        }
    }
}
