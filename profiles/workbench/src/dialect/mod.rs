//! The file formats profiles come in.

use oci_spec::runtime::LinuxSeccomp;

/// The largest profile that is read, in bytes: a hundred times the largest one in use.
pub const MAX_BYTES: u64 = 4 << 20;

/// Why a file is not a profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialectError {
    /// Not JSON, or not a profile.
    #[error("not an OCI seccomp profile")]
    Oci(#[source] serde_json::Error),
}

/// Reads the `linux.seccomp` object of an OCI configuration.
pub fn read(bytes: &[u8]) -> Result<LinuxSeccomp, DialectError> {
    serde_json::from_slice(bytes).map_err(DialectError::Oci)
}
