//! Objects put together as the loader would, and a search over their functions for what can run.

/// What code alone does not show.
pub(crate) mod facts;
/// Which objects a program consists of.
mod loader;
/// Objects that are loaded by name while the program runs.
pub(crate) mod plugins;
/// What can be reached from where execution starts.
mod reach;

pub(crate) use loader::{Loaded, Loader, Memory, Role};
pub(crate) use reach::{Node, Reach};
