//! The administrator's policy file.

/// The text of a policy file to policies.
mod decode;
/// The table `landlock`.
mod landlock;
/// Values out of TOML tables, with their places.
mod toml;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use self::toml::Problem;
use super::Policy;
use super::builtin;

/// The largest policy file that is read, in bytes.
pub const MAX_POLICY_BYTES: usize = 1 << 20;

/// The administrator's policy file: named policies, the default, and what annotations may do.
#[derive(Debug, Clone)]
pub struct PolicyFile {
    default: String,
    annotations: BTreeSet<String>,
    policies: BTreeMap<String, Policy>,
}

/// Why a policy file was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// It could not be read.
    #[error("cannot read the policy file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody besides root could have written it.
    #[error("the policy file {} {why}", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        why: &'static str,
    },
    /// It is too long.
    #[error("the policy file {} is longer than {max} bytes", path.display(), max = MAX_POLICY_BYTES)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is no text.
    #[error("the policy file {} is not UTF-8 text", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// Where it stops being text.
        #[source]
        source: std::str::Utf8Error,
    },
    /// Its text is wrong.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong and what to do.
        message: String,
    },
}

impl PolicyFile {
    /// The policies that hold when there is no file.
    pub fn builtin() -> Self {
        Self {
            default: builtin::BASELINE.to_owned(),
            annotations: BTreeSet::new(),
            policies: builtin_policies(),
        }
    }

    /// A policy file with every key, its default and what it means.
    pub fn example() -> &'static str {
        include_str!("example.toml")
    }

    /// Reads a policy file's text; `origin` is named in errors.
    pub fn parse(text: &str, origin: &Path) -> Result<Self, PolicyFileError> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(PolicyFileError::TooLarge {
                path: origin.to_owned(),
            });
        }
        let decoded = decode::decode(text, builtin_policies()).map_err(|problem| {
            let (line, column) = place(text, &problem);
            PolicyFileError::Text {
                path: origin.to_owned(),
                line,
                column,
                message: problem.message,
            }
        })?;
        Ok(Self {
            default: decoded
                .default
                .unwrap_or_else(|| builtin::BASELINE.to_owned()),
            annotations: decoded.annotations,
            policies: decoded.policies,
        })
    }

    /// Reads `path`, which only root may be able to write; a file that does not exist means the
    /// built-in policies. A link that leads nowhere is an error: somebody wanted a file there.
    pub fn load(path: &Path) -> Result<Self, PolicyFileError> {
        match Self::load_named(path) {
            Err(PolicyFileError::Read { source, .. })
                if source.kind() == io::ErrorKind::NotFound
                    && fs::symlink_metadata(path).is_err() =>
            {
                Ok(Self::builtin())
            }
            other => other,
        }
    }

    /// Reads `path`, which only root may be able to write. One that somebody named must be there: the
    /// built-in policies in its place could be laxer.
    pub fn load_named(path: &Path) -> Result<Self, PolicyFileError> {
        let failed = |source| PolicyFileError::Read {
            path: path.to_owned(),
            source,
        };
        // Without O_NONBLOCK a FIFO would keep every container from starting.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        let file = file.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if let Err(why) = trusted(&metadata) {
            let path = path.to_owned();
            return Err(PolicyFileError::Unsafe { path, why });
        }
        Self::parse(&read(file, path)?, path)
    }

    /// The policy called `name`.
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.get(name)
    }

    /// The names of all policies, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.policies.keys().map(String::as_str)
    }

    /// The policy that holds when nobody chose one.
    pub fn default_name(&self) -> &String {
        &self.default
    }

    #[cfg(test)]
    pub(crate) fn insert(&mut self, policy: Policy) {
        self.policies.insert(policy.name.clone(), policy);
    }

    pub(crate) fn annotation_may_loosen(&self, key: &str) -> bool {
        self.annotations.contains(key)
    }
}

fn builtin_policies() -> BTreeMap<String, Policy> {
    let policies = [builtin::baseline(), builtin::restricted()];
    policies.into_iter().map(|p| (p.name.clone(), p)).collect()
}

/// Reads a file that a policy names, at most `most` bytes: like the policy file itself, only root may
/// be able to write it. The error says what is wrong and what to do.
pub fn read_trusted(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    let failed = |source: io::Error| format!("cannot read {}: {source}", path.display());
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    trusted(&metadata).map_err(|why| format!("{} {why}", path.display()))?;
    let mut bytes = Vec::new();
    let mut limited = file.take(most as u64 + 1);
    limited.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > most {
        return Err(format!("{} is longer than {most} bytes", path.display()));
    }
    Ok(bytes)
}

/// Who can write the file decides what every container may do.
fn trusted(file: &Metadata) -> Result<(), &'static str> {
    if !file.is_file() {
        return Err("is not a regular file");
    }
    trusted_mode(file.uid(), file.mode())
}

fn trusted_mode(owner: u32, mode: u32) -> Result<(), &'static str> {
    if owner != 0 {
        return Err("does not belong to root: run `chown root:root` on it");
    }
    if mode & 0o022 != 0 {
        return Err("can be written by others than root: run `chmod go-w` on it");
    }
    Ok(())
}

fn read(file: File, path: &Path) -> Result<String, PolicyFileError> {
    let mut bytes = Vec::new();
    let mut limited = file.take(MAX_POLICY_BYTES as u64 + 1);
    let path = || path.to_owned();
    if let Err(source) = limited.read_to_end(&mut bytes) {
        let path = path();
        return Err(PolicyFileError::Read { path, source });
    }
    if bytes.len() > MAX_POLICY_BYTES {
        return Err(PolicyFileError::TooLarge { path: path() });
    }
    String::from_utf8(bytes).map_err(|error| PolicyFileError::Encoding {
        path: path(),
        source: error.utf8_error(),
    })
}

/// Line and column, both from 1, the column in characters.
fn place(text: &str, problem: &Problem) -> (usize, usize) {
    let before = text.get(..problem.offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
