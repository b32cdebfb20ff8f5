//! What was found, and where.

use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};

use super::rule::{Rule, Severity};
use crate::dialect::Place;

/// More findings than these are counted but not kept.
pub const MAX_FINDINGS: usize = 10_000;

/// One place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// Where.
    pub at: Place,
    /// The same as a JSON pointer.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
    /// What `--fix` would do about it.
    pub repair: Option<Repair>,
}

/// A change of the text that leaves the profile's meaning as it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repair {
    /// Take an element out of its list.
    Remove {
        /// The element, as a JSON pointer.
        pointer: String,
    },
    /// Write another number.
    Number {
        /// The number that is there, as a JSON pointer.
        pointer: String,
        /// What it becomes.
        value: u64,
    },
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Finding", 10)?;
        out.serialize_field("id", self.rule.id)?;
        out.serialize_field("rule", self.rule.name)?;
        out.serialize_field("severity", &self.rule.severity)?;
        out.serialize_field("line", &self.at.line)?;
        out.serialize_field("column", &self.at.column)?;
        out.serialize_field("pointer", &self.pointer)?;
        out.serialize_field("message", &self.message)?;
        out.serialize_field("why", self.rule.why)?;
        out.serialize_field("fix", self.rule.fix)?;
        out.serialize_field("fixable", &self.repair.is_some())?;
        out.end()
    }
}

/// Everything found in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was found, from the file's start to its end.
    pub findings: Vec<Finding>,
    /// Findings beyond [`MAX_FINDINGS`], which are not kept.
    pub not_shown: usize,
}

impl Report {
    /// The worst there is.
    pub fn worst(&self) -> Option<Severity> {
        self.findings
            .iter()
            .map(|finding| finding.rule.severity)
            .max()
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.not_shown += 1;
        }
    }

    /// Notes that a rule is broken somewhere.
    pub(super) fn note(
        &mut self,
        rule: &'static Rule,
        at: Place,
        pointer: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.add(Finding {
            rule,
            at,
            pointer: pointer.into(),
            message: message.into(),
            repair: None,
        });
    }
}
