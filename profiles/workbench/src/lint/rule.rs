//! What a rule is, and how bad it is to break one.

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Probably not what was meant, or more than a container should be allowed.
    Warning,
    /// Refused by a runtime, without the effect it is written for, or certain to break a program.
    Error,
}

impl Severity {
    /// As it is printed, and as SARIF has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that is looked for.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Never reused: `CD` and three digits.
    pub id: &'static str,
    /// The id for people.
    pub name: &'static str,
    /// How much its findings matter.
    pub severity: Severity,
    /// Whether some of its findings are repaired by `--fix`.
    pub fixable: bool,
    /// Why it matters.
    pub why: &'static str,
    /// What to do about a finding.
    pub fix: &'static str,
}

impl Rule {
    /// Whether a person means this rule by `text`.
    pub fn is_called(&self, text: &str) -> bool {
        self.id.eq_ignore_ascii_case(text) || self.name == text
    }
}
