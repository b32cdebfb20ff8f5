//! A pod's network, at both ends of a VM: read where the engine made it, joined to the VM's card, and given to
//! the VM's kernel.
//!
//! The engine makes a pod's interfaces in a network namespace of the host's and may go on changing what is around
//! them. They stay there. For each, a tap is made beside it; what arrives at the one is sent out of the other, frame
//! by frame ([`redirect`](fn@redirect)), so that the guest's card stands on the pod's wire with the interface's own
//! hardware address. The guest then sets its card up as the interface was: names, addresses, routes, neighbours.
//!
//! ```text
//! pod's namespace on the host                            the guest
//! engine's bridge ── veth ◄─ redirect ─► tap ── card ── eth0: what scan() found at the veth
//! ```
//!
//! All calls act on the network namespace of the calling thread; [`within`] runs them in another one.

/// Gives a network to this kernel: the guest's half.
#[cfg(feature = "netlink")]
mod apply;
/// Why a network cannot be read, joined or set up.
mod error;
/// Link layer addresses.
mod mac;
/// A network as plain data, and what is refused of it.
mod model;
/// Another network namespace.
#[cfg(feature = "netlink")]
mod namespace;
/// Requests to the kernel's network.
#[cfg(feature = "netlink")]
mod netlink;
/// Joins two interfaces by traffic control.
#[cfg(feature = "netlink")]
mod redirect;
/// Reads a network: the host's half.
#[cfg(feature = "netlink")]
mod scan;
/// Taps: interfaces whose wire is a file descriptor.
pub mod tap;

#[cfg(feature = "netlink")]
pub use apply::apply;
pub use error::{NetworkError, NetworkResult};
pub use mac::{BadMac, Mac};
pub use model::{
    Address, Hop, Interface, Lifetime, MAX_ADDRESSES, MAX_HOPS, MAX_INTERFACES, MAX_NEIGHBOURS,
    MAX_ROUTES, Neighbour, Network, Route, RouteKind, is_name,
};
#[cfg(feature = "netlink")]
pub use namespace::within;
#[cfg(feature = "netlink")]
pub use redirect::{make_tap, redirect, unredirect};
#[cfg(feature = "netlink")]
pub use scan::scan;
