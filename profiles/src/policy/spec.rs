//! Reads `config.json` and checks that it makes sense before any rule looks at it.

use oci_spec::runtime::{Process, Spec};

/// The largest `config.json` that is read, in bytes. Real ones are below 100 KiB.
pub const MAX_SPEC_BYTES: usize = 4 << 20;

/// What is broken in a spec.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The text is too long.
    #[error("config.json is {size} bytes long, the most that is read is {max}", max = MAX_SPEC_BYTES)]
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
    #[error("{field} is {value}: {why}")]
    Invalid {
        /// The field.
        field: String,
        /// Its value, shortened.
        value: String,
        /// What is wrong with it.
        why: &'static str,
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
    if spec.linux().is_none() {
        return Err(SpecError::Missing { field: "linux" });
    }
    if spec.root().is_none() {
        return Err(SpecError::Missing { field: "root" });
    }
    let process = spec.process().as_ref();
    validate_process(process.ok_or(SpecError::Missing { field: "process" })?)
}

/// Checks a process, of a spec or of an exec.
pub(crate) fn validate_process(process: &Process) -> Result<(), SpecError> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(SpecError::Missing {
            field: "process.args",
        });
    }
    Ok(())
}
