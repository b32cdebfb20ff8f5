//! Why a network cannot be read, joined or set up.

use std::io;

/// What most functions here return.
pub type NetworkResult<T = ()> = Result<T, NetworkError>;

/// Why a network cannot be read, joined or set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A network that nobody may be given.
    #[error("the network's {field} is {value}; it must be {range}")]
    Bad {
        /// The field.
        field: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        range: &'static str,
    },
    /// The kernel refuses something.
    #[error("cannot {action} {subject}")]
    Kernel {
        /// What was being done.
        action: &'static str,
        /// To what.
        subject: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer is none.
    #[error("cannot read what the kernel says of {subject}")]
    Answer {
        /// Of what.
        subject: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No interface is called so.
    #[error("there is no interface {name} in this network namespace")]
    NoInterface {
        /// What is missing.
        name: String,
    },
    /// No card has this address.
    #[error("there is no card with the address {mac} for the interface {name}")]
    NoCard {
        /// The interface.
        name: String,
        /// Its address.
        mac: super::Mac,
    },
    /// What a VM cannot be given.
    #[error("the interface {name} cannot be given to a VM: {why}")]
    Unsupported {
        /// The interface.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// A route of a kind that is not handed over.
    #[error("the route to {to} cannot be given to a VM: {why}")]
    UnsupportedRoute {
        /// Where it leads.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// Somebody else directs what arrives at the interface.
    #[error("the interface {name} has {what} that are not ours; a VM cannot share it")]
    InUse {
        /// The interface.
        name: String,
        /// What it has.
        what: &'static str,
    },
    /// A VM would take the machine's own interfaces.
    #[error(
        "the network namespace is that of the machine's first process, whose interfaces a VM cannot take; \
         give the pod a network of its own"
    )]
    HostNamespace,
    /// The file is no tap, or the kernel has none.
    #[error("cannot {action}")]
    Tap {
        /// What was being done.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Another namespace cannot be entered.
    #[error("cannot enter the network namespace")]
    Namespace(#[source] io::Error),
}
