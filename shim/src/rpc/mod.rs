//! ttrpc over Unix sockets without a thread per connection or per request.
//!
//! The messages are the `ttrpc` crate's; its server blocks one thread for each pending `Wait`, and
//! each of a pod's processes has one pending all its life. Here a request carries a [`Reply`] that
//! can be kept and answered later.

/// Messages with a length in front.
pub mod frame;

/// The listening socket, its connections and their replies.
pub mod server;

pub use server::{Handler, Listener, Reply, Status};
