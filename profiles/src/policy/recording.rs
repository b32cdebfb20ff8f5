//! The annotation that asks for a recording of what the container calls.
//!
//! A recording tells whoever reads it what a workload does, and the recorder slows the machine's
//! system calls while it runs, so the administrator's file must list the key. It never changes the
//! filter: what is denied stays denied, and the recording says which filter was on.

use std::collections::HashMap;

use super::text::harmless;
use super::{PolicyFile, Refusal};

/// The annotation; its value is the recording's name.
pub const RECORD_ANNOTATION: &str = "cofferdam.dev/record";

/// The longest name, in bytes; it becomes part of a file's name.
const MAX_NAME: usize = 63;

/// The name of the recording that the annotations ask for.
pub(crate) fn asked(
    file: &PolicyFile,
    annotations: Option<&HashMap<String, String>>,
) -> Result<Option<String>, Refusal> {
    let Some(name) = annotations.and_then(|all| all.get(RECORD_ANNOTATION)) else {
        return Ok(None);
    };
    if !file.annotation_may_loosen(RECORD_ANNOTATION) {
        return Err(Refusal::RecordingNotAllowed);
    }
    if !is_name(name) {
        return Err(Refusal::RecordingName {
            name: harmless(name),
        });
    }
    Ok(Some(name.clone()))
}

/// Letters, digits, dots, dashes and underscores, a letter or digit first: no path, no option.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parts_of_file_names() {
        for good in ["a", "web-1", "nginx_1.25", &"x".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "../x",
            "/x",
            "-x",
            ".x",
            "a b",
            "a\n",
            "ä",
            &"x".repeat(64),
        ] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
