//! Why a spec was refused: the rule, the field and the remedy.

use std::fmt;

use super::report::Rule;
use super::spec::SpecError;

/// One request that the policy denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The policy rule.
    pub rule: Rule,
    /// The field of the spec.
    pub field: String,
    /// What the spec asks for.
    pub asked: String,
    /// Why that is denied.
    pub why: String,
    /// What the user or the administrator can do.
    pub remedy: String,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            field,
            asked,
            why,
            remedy,
        } = self;
        write!(
            f,
            "{asked} (rule {rule}, field {field}): {why}. To allow it: {remedy}"
        )
    }
}

/// Why a spec was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The policy denies what the spec asks for.
    #[error("cofferdam: policy {policy:?} refuses {}", Lines(denials))]
    Denied {
        /// The policy in force.
        policy: String,
        /// Every denied request, in the order of the spec's fields; never empty.
        denials: Vec<Denial>,
    },
    /// The spec is broken.
    #[error("cofferdam: the OCI spec is broken")]
    Spec(#[from] SpecError),
    /// A policy was asked for that does not exist.
    #[error(
        "cofferdam: {origin} asks for the policy {name:?}, which does not exist. \
         Known policies: {known}. To fix it: correct the name or add [policy.{name}] to the policy file"
    )]
    UnknownPolicy {
        /// Who asked for it.
        origin: String,
        /// The name that was asked for.
        name: String,
        /// The names there are, with commas.
        known: String,
    },
    /// An annotation of ours that has a value it cannot have.
    #[error(
        "cofferdam: the annotation {key} cannot be {value:?}. To fix it: give it one of {known}, or \
         remove it"
    )]
    AnnotationValue {
        /// The key.
        key: &'static str,
        /// The value as the spec has it.
        value: String,
        /// The values it can have, with commas.
        known: &'static str,
    },
    /// An annotation of ours that does not exist.
    #[error(
        "cofferdam: the annotation {key:?} is not known. Known annotations: {known}. \
         To fix it: correct the key or remove it"
    )]
    UnknownAnnotation {
        /// The key as the spec has it.
        key: String,
        /// The keys there are, with commas.
        known: String,
    },
    /// A recording was asked for, and nobody allowed it.
    #[error(
        "cofferdam: the annotation \"cofferdam.dev/record\" asks for a recording, which the policy \
         file does not allow. To allow it: add the key to `allow` under [annotations]"
    )]
    RecordingNotAllowed,
    /// A recording's name is no part of a file's name.
    #[error(
        "cofferdam: the annotation \"cofferdam.dev/record\" names a recording {name:?}. To fix it: use \
         at most 63 letters, digits, dots, dashes and underscores, a letter or digit first"
    )]
    RecordingName {
        /// The name as the spec has it.
        name: String,
    },
}

impl Refusal {
    /// The rule that refuses, if it is a rule.
    pub fn rule(&self) -> Option<Rule> {
        match self {
            Self::Denied { denials, .. } => denials.first().map(|d| d.rule),
            Self::Spec(_) => None,
            Self::UnknownPolicy { .. }
            | Self::UnknownAnnotation { .. }
            | Self::AnnotationValue { .. }
            | Self::RecordingNotAllowed
            | Self::RecordingName { .. } => Some(Rule::Selection),
        }
    }

    /// Every denied request; empty when the spec is broken or no policy could be selected.
    pub fn denials(&self) -> &[Denial] {
        match self {
            Self::Denied { denials, .. } => denials,
            _ => &[],
        }
    }
}

struct Lines<'a>(&'a [Denial]);

/// All denials on one line, for error chains and logs.
impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, denial) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; it also refuses " };
            write!(f, "{separator}{denial}")?;
        }
        Ok(())
    }
}
