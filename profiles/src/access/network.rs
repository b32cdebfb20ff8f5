//! Ports, socket families, and what may cross the container's edge.

use std::collections::BTreeSet;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Ports that may be used; in JSON `"any"` or a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Ports {
    /// All of them.
    #[default]
    Any,
    /// These. For bind, 0 stands for a port that the kernel chooses.
    Only(BTreeSet<u16>),
}

impl Ports {
    /// Whether `port` may be used.
    pub fn allows(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Only(ports) => ports.contains(&port),
        }
    }

    /// What either allows.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => Self::Only(a | b),
            _ => Self::Any,
        }
    }

    /// What both allow.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Any, ports) | (ports, Self::Any) => ports.clone(),
            (Self::Only(a), Self::Only(b)) => Self::Only(a & b),
        }
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::Only(ports) => ports.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Word(String),
            List(BTreeSet<u16>),
        }
        match Written::deserialize(deserializer)? {
            Written::List(ports) => Ok(Self::Only(ports)),
            Written::Word(word) if word == "any" => Ok(Self::Any),
            Written::Word(_) => Err(D::Error::custom("ports are \"any\" or a list of numbers")),
        }
    }
}

/// A family of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// `AF_UNIX`.
    Unix,
    /// `AF_INET`.
    Inet,
    /// `AF_INET6`.
    Inet6,
    /// `AF_NETLINK`.
    Netlink,
    /// `AF_PACKET`.
    Packet,
    /// `AF_VSOCK`.
    Vsock,
    /// `AF_ALG`.
    Alg,
}

/// What may be done with sockets.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// TCP ports to listen on.
    pub tcp_bind: Ports,
    /// TCP ports to connect to.
    pub tcp_connect: Ports,
    /// Raw sockets; `None` leaves them alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<bool>,
    /// Families of sockets that may be made; `None` leaves them alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub families: Option<BTreeSet<Family>>,
}

impl Network {
    pub(super) fn union(&self, other: &Self) -> Self {
        Self {
            tcp_bind: self.tcp_bind.union(&other.tcp_bind),
            tcp_connect: self.tcp_connect.union(&other.tcp_connect),
            raw: self.raw.zip(other.raw).map(|(a, b)| a || b),
            families: match (&self.families, &other.families) {
                (Some(a), Some(b)) => Some(a | b),
                _ => None,
            },
        }
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        Self {
            tcp_bind: self.tcp_bind.intersection(&other.tcp_bind),
            tcp_connect: self.tcp_connect.intersection(&other.tcp_connect),
            raw: match (self.raw, other.raw) {
                (Some(a), Some(b)) => Some(a && b),
                (a, b) => a.or(b),
            },
            families: match (&self.families, &other.families) {
                (Some(a), Some(b)) => Some(a & b),
                (a, b) => a.clone().or_else(|| b.clone()),
            },
        }
    }
}

/// What is kept inside, besides files and ports. `false` leaves it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// Signals reach only processes with the same or more restrictions.
    pub signals: bool,
    /// So do connections to abstract Unix sockets.
    pub abstract_sockets: bool,
}

impl Scope {
    /// Whether nothing is kept inside.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// What either leaves alone is left alone.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            signals: self.signals && other.signals,
            abstract_sockets: self.abstract_sockets && other.abstract_sockets,
        }
    }

    /// What either keeps inside is kept inside.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self {
            signals: self.signals || other.signals,
            abstract_sockets: self.abstract_sockets || other.abstract_sockets,
        }
    }
}
