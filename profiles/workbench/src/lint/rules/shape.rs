//! What is no profile, or more than one.

use crate::lint::rule::{Rule, Severity};

pub(in crate::lint) const RULES: &[&Rule] =
    &[&MALFORMED, &UNKNOWN_FIELD, &TOO_LARGE, &NOT_COMPARED];

/// The file, or a part of it, cannot be read.
pub(in crate::lint) static MALFORMED: Rule = Rule {
    id: "CD001",
    name: "malformed",
    severity: Severity::Error,
    fixable: false,
    why: "What cannot be read is not applied: a runtime refuses the container, or drops what it does \
          not understand.",
    fix: "Correct the value; the fields and values are in the OCI runtime specification, section \
          \"Seccomp\" of config-linux.",
};

/// A field that no reader of the dialect knows.
pub(in crate::lint) static UNKNOWN_FIELD: Rule = Rule {
    id: "CD002",
    name: "unknown-field",
    severity: Severity::Warning,
    fixable: false,
    why: "Decoders skip fields they do not know without a word, so a misspelt or foreign field has no \
          effect: a misspelt \"args\" leaves a rule without its conditions.",
    fix: "Correct the field's name or remove it; resolve Docker's and Podman's conditions with \
          `cofferdam profile convert` before a profile goes into a config.json.",
};

/// More than any filter holds.
pub(in crate::lint) static TOO_LARGE: Rule = Rule {
    id: "CD003",
    name: "too-large",
    severity: Severity::Error,
    fixable: false,
    why: "The kernel takes at most 4096 instructions (BPF_MAXINSNS, linux/bpf_common.h), so a profile \
          of this size can never be attached.",
    fix: "Put calls that get one answer into one rule, and use fewer conditions.",
};

/// More rules about one call than are compared.
pub(in crate::lint) static NOT_COMPARED: Rule = Rule {
    id: "CD004",
    name: "not-compared",
    severity: Severity::Warning,
    fixable: false,
    why: "Every rule about a call is compared with every other, which takes too long for so many: what makes \
          the rest useless, or contradicts it, was not looked for.",
    fix: "Say the same with fewer rules, as with a mask instead of many values.",
};
