//! The rules, a module for each concept; each reads the policy and changes the spec.

/// Capability sets.
pub(crate) mod capabilities;

/// Masked and read-only paths.
pub(crate) mod paths;
