//! Reading and writing the kernel's cgroup files, with errors that name the file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::Error;

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

/// Reads a whole file; `None` when it does not exist.
pub(super) fn read_optional(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        // A cgroup that is being removed answers ENODEV.
        Err(e) if gone(&e) => Ok(None),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads a file that holds one number; `max` and what is negative or too large mean no limit.
pub(super) fn read_number(path: &Path) -> Result<Option<u64>, Error> {
    read_optional(path)?
        .map(|text| {
            parse_number(text.trim()).ok_or_else(|| Error::Parse {
                path: path.to_owned(),
                text,
            })
        })
        .transpose()
}

/// Parses a number as the cgroup files write it.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    match text {
        "max" => Some(u64::MAX),
        negative if negative.starts_with('-') => negative.parse::<i64>().ok().map(|_| u64::MAX),
        plain => plain.parse().ok(),
    }
}

/// Writes without creating: one write(2), as the kernel's files demand.
pub(super) fn write_raw(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

/// Writes a value to an existing file.
pub(super) fn write(path: &Path, value: &str) -> Result<(), Error> {
    write_raw(path, value).map_err(|source| Error::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// The file or its cgroup does not exist (any more).
pub(super) fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// `key value` lines, as in `memory.stat`.
pub(super) fn parse_flat_keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, parse_number(value.trim())?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_the_kernel_writes_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("9223372036854771712", Some(9_223_372_036_854_771_712)),
            ("max", Some(u64::MAX)),
            ("-1", Some(u64::MAX)),
            ("", None),
            ("-", None),
            ("12x", None),
        ] {
            assert_eq!(parse_number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn flat_keyed_skips_what_is_not_a_pair() {
        let parsed: Vec<_> = parse_flat_keyed("anon 4096\nbroken\nfile max\nx y\n").collect();
        assert_eq!(parsed, [("anon", 4096), ("file", u64::MAX)]);
    }
}
