//! Objects put together as the loader would, and a search over their functions for what can run.

/// Objects read before it is their turn.
mod ahead;
/// Who defines a name.
mod definitions;
/// What code alone does not show.
pub(crate) mod facts;
/// Ways through the C library that are closed until a program asks for them.
mod gates;
/// Which objects a program consists of.
mod loader;
/// What a server can still do once it waits for work.
pub(crate) mod phases;
/// Objects that are loaded by name while the program runs.
pub(crate) mod plugins;
/// What can be reached from where execution starts.
mod reach;

pub(crate) use gates::Gate;
pub(crate) use loader::{Loaded, Loader, Memory, Role};
pub(crate) use reach::{Node, Reach};
