//! The file formats profiles come in, told apart by what is in them.

/// A tree of values to a profile.
mod decode;
/// A profile as its file says it.
mod document;
/// Errnos by name.
pub mod errno;
/// Why a file is not a profile.
mod error;
/// JSON with places, within bounds.
pub mod json;
/// Values with their places.
pub mod node;
/// Lines and columns.
mod place;
/// Which rules are for a container.
mod resolve;
/// Documents out again.
mod write;
/// YAML with places, within bounds.
pub mod yaml;
/// YAML out.
mod yaml_out;

pub use document::{ArchMap, Condition, Dialect, Document, Entry, Kernel, Profile};
pub use error::{DialectError, JsonFault};
pub use place::Place;
pub use resolve::{Resolved, Target};
pub use write::{Output, write};

/// The largest profile that is read, in bytes: a hundred times the largest one in use.
pub const MAX_BYTES: u64 = 4 << 20;

/// How deep a document may nest: a `config.json` has its profile six deep.
pub const MAX_DEPTH: usize = 32;

/// How many values a document may have: a hundred times the largest one in use.
pub const MAX_NODES: usize = 200_000;

#[cfg(test)]
mod tests;

/// Reads a profile in any dialect. The bytes hold one.
pub fn read(bytes: &[u8]) -> Result<Document, DialectError> {
    read_named(bytes, None)
}

/// Reads a profile in any dialect; of several in one file, the one of that name.
///
/// Where it names as its base another profile of the same file, it comes with that one's rules.
pub fn read_named(bytes: &[u8], name: Option<&str>) -> Result<Document, DialectError> {
    let mut all = read_all(bytes)?;
    let names = || -> Vec<String> { all.iter().filter_map(|one| one.name.clone()).collect() };
    let at = match name {
        Some(name) => all.iter().position(|one| one.name.as_deref() == Some(name)),
        None if all.len() == 1 => Some(0),
        None => return Err(DialectError::Several { names: names() }),
    };
    let at = at.ok_or_else(|| DialectError::NoSuchName {
        name: name.unwrap_or_default().to_owned(),
        names: names(),
    })?;
    let mut document = all.swap_remove(at);
    // Each base is used once, so that a circle ends.
    while let Some(base) = &document.profile.base {
        let Some(at) = all.iter().position(|one| one.name.as_ref() == Some(base)) else {
            break;
        };
        document = document.with_base(&all.swap_remove(at))?;
    }
    Ok(document)
}

/// Reads every profile of a file: one of JSON, any number of YAML.
fn read_all(bytes: &[u8]) -> Result<Vec<Document>, DialectError> {
    let text = text(bytes)?;
    // A YAML document can begin with a brace, too, but no profile in use does.
    if text.trim_start().starts_with(['{', '[']) || text.trim_start().is_empty() {
        return Ok(vec![decode::document(&json::parse(text)?)?]);
    }
    let mut out = Vec::new();
    let mut other = None;
    for node in yaml::parse(text)? {
        match decode::document(&node) {
            // What else is in the file (pods, bindings) is not asked for.
            Err(error @ (DialectError::OtherKind { .. } | DialectError::Unknown)) => {
                other.get_or_insert(error);
            }
            read => out.push(read?),
        }
    }
    if out.is_empty() {
        return Err(other.unwrap_or(DialectError::Unknown));
    }
    Ok(out)
}

/// The bytes as text, without the mark that some editors put first.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, DialectError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(DialectError::TooLong { bytes: bytes.len() });
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let lines = good.iter().filter(|byte| **byte == b'\n').count();
            let last = good
                .rsplit(|byte| *byte == b'\n')
                .next()
                .unwrap_or_default();
            let column = String::from_utf8_lossy(last).chars().count() + 1;
            Err(DialectError::NotText {
                at: Place {
                    line: u32::try_from(lines + 1).unwrap_or(u32::MAX),
                    column: u32::try_from(column).unwrap_or(u32::MAX),
                },
            })
        }
    }
}
