//! What the image and the engine asked for, what they got, and why.

use serde::{Deserialize, Serialize};

/// What happened to one field of the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Asked for and granted.
    Granted,
    /// Not asked for, added by the policy.
    Added,
    /// Asked for, taken away.
    Removed,
    /// Asked for, given in a tighter form.
    Tightened,
    /// Could not be enforced here; the policy says best effort.
    Unenforced,
}

/// One change, or one deliberate absence of change, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The policy rule, such as `capabilities` or `host-namespaces`.
    pub rule: String,
    /// The field of the spec, such as `process.capabilities.bounding`.
    pub field: String,
    /// What was done.
    pub action: Action,
    /// What the spec asked for, in plain words.
    pub asked: String,
    /// What it got.
    pub got: String,
    /// Why, in plain words.
    pub reason: String,
}

/// The report of one hardening.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The policy in force and how it was chosen.
    pub policy: String,
    /// Every finding, in the order of the spec's fields.
    pub findings: Vec<Finding>,
}
