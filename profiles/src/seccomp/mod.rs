//! Seccomp: the built-in default, OCI JSON in and out, intersection, compilation, the filter cache.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxSeccomp;

/// A compiled filter, ready for `seccomp(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `struct sock_filter` records, native endian, 8 bytes each (linux/filter.h).
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*` bits (linux/seccomp.h).
    pub flags: u32,
    /// SHA-256 of the program and the flags, lower-case hexadecimal.
    pub id: String,
}

/// Why a profile could not be compiled.
#[derive(Debug, thiserror::Error)]
#[error("compile error")]
pub struct CompileError;

/// Compiled filters by content, below one directory that only root may write.
#[derive(Debug, Clone)]
pub struct FilterCache {
    #[expect(dead_code, reason = "skeleton")]
    directory: PathBuf,
}

impl FilterCache {
    /// A cache below `directory`, which is made on first use.
    pub fn at(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// The filter of `profile`, from the cache if it is there and intact, else compiled and kept.
    pub fn get_or_compile(&self, profile: &LinuxSeccomp) -> Result<Filter, CompileError> {
        compile(profile)
    }
}

/// Compiles a profile with libseccomp.
pub fn compile(_profile: &LinuxSeccomp) -> Result<Filter, CompileError> {
    Err(CompileError)
}
