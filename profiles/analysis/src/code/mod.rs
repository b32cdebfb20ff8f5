//! What machine code refers to: a sweep over every instruction for its references, and a closer
//! look at single functions for the values in registers.

/// Where functions start and end.
pub(crate) mod bounds;
/// Go's own function table.
pub(crate) mod go;
/// Every reference of every instruction.
pub(crate) mod sweep;
/// The values a register can have at one instruction.
pub(crate) mod trace;
