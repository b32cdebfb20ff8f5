//! Watches a container for want of memory.

use std::io;
use std::sync::Arc;

use cofferdam_container::State;

use crate::backend::OomGuard;
use crate::reactor::Reactor;

/// Calls `notify` whenever the kernel kills a process of the container for want of memory.
pub(crate) fn watch(
    _state: &State,
    _reactor: &Arc<Reactor>,
    _notify: Box<dyn Fn() + Send + Sync>,
) -> io::Result<Option<OomGuard>> {
    Ok(None)
}
