//! What rules know of Linux beyond `crate::knowledge`, each fact with its source.

/// Which arguments are addresses, and which the kernel cuts to 32 bits.
pub(super) mod arguments;
/// Names that are not calls, and calls that come in several forms.
pub(super) mod names;
