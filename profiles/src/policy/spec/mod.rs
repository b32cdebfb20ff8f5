//! Reads `config.json` and checks that it makes sense before any rule looks at it.

/// The `linux` section.
mod linux;
/// The process, of a spec or of an exec.
mod process;

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use oci_spec::runtime::{Mount, Spec};

use super::facts::{hooks, is_bind, named};
use super::text::harmless;
use crate::seccomp::InvalidProfile;
pub(crate) use process::validate_process;

/// The largest `config.json` that is read, in bytes. Real ones are below 100 KiB.
pub const MAX_SPEC_BYTES: usize = 4 << 20;

/// What is broken in a spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The text is too long.
    #[error("config.json is {size} bytes long; the most that is read is {max}", max = MAX_SPEC_BYTES)]
    TooLarge {
        /// Its length in bytes.
        size: usize,
    },
    /// The text is no OCI spec.
    #[error("config.json is not a valid OCI spec")]
    Json(#[from] serde_json::Error),
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field has a value it must not have.
    #[error("{field} is \"{value}\": {why}")]
    Invalid {
        /// The field.
        field: String,
        /// Its value, shortened.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The seccomp profile is none.
    #[error("linux.seccomp is broken")]
    Seccomp(#[from] InvalidProfile),
    /// A field asks for something this runtime does not do; it never does silently less.
    #[error("{field} is not supported by this runtime: leave it out")]
    Unsupported {
        /// The field.
        field: &'static str,
    },
}

/// Reads a spec from the bytes of a `config.json`.
pub fn parse_spec(bytes: &[u8]) -> Result<Spec, SpecError> {
    if bytes.len() > MAX_SPEC_BYTES {
        return Err(SpecError::TooLarge { size: bytes.len() });
    }
    let spec: Spec = serde_json::from_slice(bytes)?;
    validate(&spec)?;
    Ok(spec)
}

/// Checks what the OCI runtime specification demands and serde cannot.
pub(crate) fn validate(spec: &Spec) -> Result<(), SpecError> {
    version(spec.version())?;
    let process = spec.process().as_ref();
    validate_process(process.ok_or(SpecError::Missing { field: "process" })?)?;
    let root = spec.root().as_ref();
    let root = root.ok_or(SpecError::Missing { field: "root" })?;
    if root.path().as_os_str().is_empty() {
        return Err(SpecError::Missing { field: "root.path" });
    }
    no_nul("root.path", root.path())?;
    for mount in spec.mounts().iter().flatten() {
        validate_mount(mount)?;
    }
    validate_hooks(spec)?;
    let section = spec.linux().as_ref();
    let section = section.ok_or(SpecError::Missing { field: "linux" })?;
    linux::validate(section)?;
    linux::host_name(spec, section)
}

fn invalid(field: &str, value: impl AsRef<str>, why: &'static str) -> SpecError {
    SpecError::Invalid {
        field: field.to_owned(),
        value: harmless(value.as_ref()),
        why,
    }
}

/// Major version 1 in the form of semantic versioning; minor versions are compatible.
fn version(version: &str) -> Result<(), SpecError> {
    if version.is_empty() {
        return Err(SpecError::Missing {
            field: "ociVersion",
        });
    }
    let wrong = || invalid("ociVersion", version, "it must be a version 1.x.y");
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = numbers.split('.').collect();
    let digits = |n: &&str| !n.is_empty() && n.len() < 10 && n.bytes().all(|b| b.is_ascii_digit());
    match numbers.as_slice() {
        [major, _, _] if *major == "1" && numbers.iter().all(digits) => Ok(()),
        _ => Err(wrong()),
    }
}

fn validate_mount(mount: &Mount) -> Result<(), SpecError> {
    const FIELD: &str = "mounts.destination";
    let destination = mount.destination();
    absolute(FIELD, destination)?;
    no_parents(FIELD, destination)?;
    if destination.components().count() == 1 {
        return Err(invalid(FIELD, "/", "the root file system is root.path"));
    }
    if let Some(source) = mount.source() {
        no_nul("mounts.source", source)?;
    }
    if is_bind(mount) && named(mount.source().as_deref()).is_none() {
        return Err(SpecError::Missing {
            field: "mounts.source of a bind mount",
        });
    }
    for option in mount.options().iter().flatten() {
        if option.contains('\0') {
            return Err(invalid("mounts.options", option, "it contains a NUL byte"));
        }
    }
    Ok(())
}

fn validate_hooks(spec: &Spec) -> Result<(), SpecError> {
    for hook in spec.hooks().iter().flat_map(hooks) {
        absolute("hooks.path", hook.path())?;
        if hook.timeout().is_some_and(|seconds| seconds <= 0) {
            return Err(invalid("hooks.timeout", "0 or less", "it must be positive"));
        }
    }
    Ok(())
}

fn absolute(field: &str, path: &Path) -> Result<(), SpecError> {
    no_nul(field, path)?;
    if path.is_absolute() {
        Ok(())
    } else {
        Err(invalid(
            field,
            path.to_string_lossy(),
            "it must be an absolute path",
        ))
    }
}

fn no_parents(field: &str, path: &Path) -> Result<(), SpecError> {
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(invalid(
            field,
            path.to_string_lossy(),
            "it must not contain \"..\"",
        ));
    }
    Ok(())
}

fn no_nul(field: &str, path: &Path) -> Result<(), SpecError> {
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(invalid(
            field,
            path.to_string_lossy(),
            "it contains a NUL byte",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
