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

/// Reads a profile in any dialect.
pub fn read(bytes: &[u8]) -> Result<Document, DialectError> {
    let text = text(bytes)?;
    decode::document(&json::parse(text)?)
}

/// The bytes as text, without the mark that some editors put first.
fn text(bytes: &[u8]) -> Result<&str, DialectError> {
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
