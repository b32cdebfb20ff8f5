//! Files in, results out.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use oci_spec::runtime::LinuxSeccomp;
use serde::Serialize;

use super::CliError;
use super::container::Container;
use crate::dialect::{self, DialectError, Document, MAX_BYTES};

/// Reads at most `bound` bytes of a file; `-` is the standard input.
pub(super) fn read(path: &Path, bound: u64) -> Result<Vec<u8>, CliError> {
    let failed = |source| CliError::Read {
        path: path.to_owned(),
        source,
    };
    let mut input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(failed)?)
    };
    read_from(&mut input, path, bound)
}

/// Reads at most `bound` bytes of an open file, called `path` in errors.
pub(super) fn read_from(
    input: &mut dyn Read,
    path: &Path,
    bound: u64,
) -> Result<Vec<u8>, CliError> {
    let failed = |source| CliError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    input.take(bound).read_to_end(&mut bytes).map_err(failed)?;
    if input.read(&mut [0]).map_err(failed)? != 0 {
        return Err(CliError::TooLarge {
            path: path.to_owned(),
            bound,
        });
    }
    Ok(bytes)
}

/// Reads a profile as a container gets it.
pub(super) fn profile(path: &Path, container: &Container) -> Result<LinuxSeccomp, CliError> {
    let document = document(path)?;
    let profile = document.oci(&container.target());
    profile.map_err(|source| refused(path, source))
}

/// Reads a profile as its file says it. `FILE#NAME` is one of several in a file.
pub(super) fn document(path: &Path) -> Result<Document, CliError> {
    let whole = path.to_str().filter(|_| !path.exists());
    let (file, name) = match whole.and_then(|text| text.rsplit_once('#')) {
        Some((file, name)) if !name.is_empty() => (Path::new(file), Some(name)),
        _ => (path, None),
    };
    let bytes = read(file, MAX_BYTES)?;
    dialect::read_named(&bytes, name).map_err(|source| refused(path, source))
}

/// The error that a file is not the profile it should be.
pub(super) fn refused(path: &Path, source: DialectError) -> CliError {
    CliError::Profile {
        path: path.to_owned(),
        source,
    }
}

/// Prints a text; a reader that went away is not an error.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::Print(error)),
        _ => Ok(()),
    }
}

/// Tells something beside the result, on the standard error.
#[expect(clippy::print_stderr, reason = "this is where notes are told")]
pub(super) fn note(text: &str) {
    eprintln!("cofferdam profile: note: {text}");
}

/// Tells the summary of a result that is itself printed, on the standard error.
#[expect(clippy::print_stderr, reason = "this is where notes are told")]
pub(super) fn tell(text: &str) {
    eprint!("{text}");
}

/// Writes a file as a whole or not at all.
pub(super) fn save(path: &Path, content: &[u8]) -> Result<(), CliError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |source| CliError::Write {
        path: path.to_owned(),
        source,
    };
    // What it replaces may be a pipe or a terminal: those are written to.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return fs::write(path, content).map_err(failed);
    }
    let mut file = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(directory)
        .map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// The same of a value as indented JSON.
pub(super) fn save_json(path: &Path, value: &impl Serialize) -> Result<(), CliError> {
    let failed = |error: serde_json::Error| CliError::Write {
        path: path.to_owned(),
        source: error.into(),
    };
    let mut text = serde_json::to_vec_pretty(value).map_err(failed)?;
    text.push(b'\n');
    save(path, &text)
}

/// Prints a value as indented JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|error| CliError::Print(error.into()))?;
    text.push('\n');
    print(&text)
}
