//! Denied system calls, explained.
//!
//! The container's filter asks a listener wherever it would have answered an errno, and the listener
//! answers that very errno: it runs the program that the filter was made from. It knows no other
//! answer. On the way it writes down what was denied, and why.
//!
//! The listener is two processes for each container, outside of its cgroup. The *keeper* takes the
//! listeners of init and of every joined process and holds them; the *worker*, its child, answers.
//! What the worker is answering stands on a page that both share, so a worker that dies, or hangs on
//! memory that the container withholds, is replaced and the call is answered. When the keeper is
//! gone the worker takes its place. Only when both are gone at once does the kernel answer: ENOSYS.

/// What AppArmor denies, as the kernel tells it.
mod audit;
/// What is written about a denied call.
mod event;
/// Holds the listeners, and starts the worker again.
mod keeper;
/// The log: lines of JSON in two files of bounded size.
pub mod log;
/// The memory of the process that made a call.
mod memory;
/// How the listener is started, found and ended.
mod setup;
/// Threads that are denied the same call again and again.
mod streak;
/// Which denials are written down, and how many are not.
mod tally;
/// Answers calls.
mod worker;

pub use event::{Apparmor, ApparmorSuppressed, Denied, Line, Suppressed};
pub use keeper::{ServeError, serve};
pub use setup::{ListenerCommand, SetupError};

pub(crate) use setup::{ask_to_end, connect, end, start};
