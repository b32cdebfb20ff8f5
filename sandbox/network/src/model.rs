//! A network as plain data. The host reads it, the guest is given it as JSON.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{Mac, NetworkError, NetworkResult};

/// The most interfaces of a pod: each is a device of the VM.
pub const MAX_INTERFACES: usize = 8;
/// The most addresses of an interface.
pub const MAX_ADDRESSES: usize = 64;
/// The most routes.
pub const MAX_ROUTES: usize = 1024;
/// The most ways of one route.
pub const MAX_HOPS: usize = 16;
/// The most fixed neighbours.
pub const MAX_NEIGHBOURS: usize = 1024;
/// The longest name of an interface, bytes (`IFNAMSIZ` less its end).
const LONGEST_NAME: usize = 15;
/// What IPv4 needs of a link, and the largest that Linux gives a card, bytes.
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;

/// All of a pod's network that its kernel must know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its interfaces but the loopback, which every kernel has.
    pub interfaces: Vec<Interface>,
    /// The main table's routes.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Neighbours that were set by hand.
    #[serde(default)]
    pub neighbours: Vec<Neighbour>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// Its name, `eth0`.
    pub name: String,
    /// Its link layer address, which the VM's card gets too.
    pub mac: Mac,
    /// The largest packet, bytes.
    pub mtu: u32,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// How many of its bits are the network's.
    pub prefix: u8,
    /// The other end, where the link has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
    /// The address of all, IPv4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<Ipv4Addr>,
    /// How far it is known: 0 everywhere, 253 on the link, 254 on this machine (linux/rtnetlink.h).
    #[serde(default)]
    pub scope: u8,
    /// For how long it holds; for ever, if it does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
}

/// How long an address holds, seconds; `u32::MAX` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifetime {
    /// For new connections.
    pub preferred: u32,
    /// At all.
    pub valid: u32,
}

/// What becomes of what is sent along a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// It goes to the next hop.
    #[default]
    Unicast,
    /// It is dropped without a word.
    Blackhole,
    /// The sender is told that there is nobody.
    Unreachable,
    /// The sender is told that it may not.
    Prohibit,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Where it leads; a default route's is unspecified with a prefix of 0.
    pub destination: IpAddr,
    /// How many of the destination's bits count.
    pub prefix: u8,
    /// What becomes of packets.
    #[serde(default)]
    pub kind: RouteKind,
    /// The ways, of which one is taken; none for what goes nowhere.
    #[serde(default)]
    pub hops: Vec<Hop>,
    /// How far away the destination is, as an address's scope.
    #[serde(default)]
    pub scope: u8,
    /// Who set it (linux/rtnetlink.h, `RTPROT_*`).
    #[serde(default)]
    pub protocol: u8,
    /// The address to send from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Of two routes to one place the lower one is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// The largest packet along it, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The segment size that TCP tells the other end, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
}

/// A way that a route takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    /// The interface's name.
    pub interface: String,
    /// Who passes packets on; none where the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The gateway is on the link, though no address says so.
    #[serde(default)]
    pub onlink: bool,
    /// How much of the traffic takes this way, less one.
    #[serde(default)]
    pub weight: u8,
}

/// A neighbour whose link layer address need not be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbour {
    /// The interface's name.
    pub interface: String,
    /// Its address.
    pub address: IpAddr,
    /// Its link layer address.
    pub mac: Mac,
}

impl Network {
    /// Refuses what no kernel should be asked for: lists without end, names that are none, prefixes longer than
    /// addresses, interfaces that are not there.
    ///
    /// # Errors
    ///
    /// [`NetworkError::Bad`], which names the field and its range.
    pub fn check(&self) -> NetworkResult {
        at_most("interfaces", self.interfaces.len(), MAX_INTERFACES)?;
        at_most("routes", self.routes.len(), MAX_ROUTES)?;
        at_most("neighbours", self.neighbours.len(), MAX_NEIGHBOURS)?;
        for (index, interface) in self.interfaces.iter().enumerate() {
            interface.check()?;
            let others = self.interfaces.iter().take(index);
            for other in others {
                if other.name == interface.name {
                    return bad("interfaces.name", &interface.name, "unique");
                }
                if other.mac == interface.mac {
                    return bad("interfaces.mac", interface.mac, "unique");
                }
            }
        }
        for route in &self.routes {
            route.check()?;
            for hop in &route.hops {
                self.knows(&hop.interface)?;
            }
        }
        for neighbour in &self.neighbours {
            self.knows(&neighbour.interface)?;
            if neighbour.address.is_unspecified() || neighbour.address.is_multicast() {
                return bad("neighbours.address", neighbour.address, "of one host");
            }
        }
        Ok(())
    }

    fn knows(&self, name: &str) -> NetworkResult {
        if self
            .interfaces
            .iter()
            .any(|interface| interface.name == name)
        {
            return Ok(());
        }
        bad("interface", shown(name), "one of its interfaces")
    }
}

impl Interface {
    fn check(&self) -> NetworkResult {
        if !is_name(&self.name) || self.name == "lo" {
            return bad(
                "interfaces.name",
                shown(&self.name),
                "1 to 15 printable characters without a slash or colon, not a pattern and not lo",
            );
        }
        if !MTU.contains(&self.mtu) {
            return bad("interfaces.mtu", self.mtu, "68 to 65535 bytes");
        }
        at_most("interfaces.addresses", self.addresses.len(), MAX_ADDRESSES)?;
        for address in &self.addresses {
            let of = address.address;
            prefix("addresses.prefix", of, address.prefix)?;
            if of.is_unspecified() || of.is_multicast() {
                return bad("addresses.address", of, "of one host");
            }
            if address
                .peer
                .is_some_and(|peer| peer.is_ipv4() != of.is_ipv4())
            {
                return bad("addresses.peer", of, "of the address's family");
            }
            if address.broadcast.is_some() && of.is_ipv6() {
                return bad("addresses.broadcast", of, "of an IPv4 address");
            }
            if address
                .lifetime
                .is_some_and(|life| life.preferred > life.valid || life.valid == 0)
            {
                return bad("addresses.lifetime", of, "no longer preferred than valid");
            }
        }
        Ok(())
    }
}

impl Route {
    fn check(&self) -> NetworkResult {
        prefix("routes.prefix", self.destination, self.prefix)?;
        at_most("routes.hops", self.hops.len(), MAX_HOPS)?;
        let ways = match self.kind {
            RouteKind::Unicast => !self.hops.is_empty(),
            _ => self.hops.is_empty(),
        };
        if !ways {
            return bad(
                "routes.hops",
                self.hops.len(),
                "one or more for a route that leads somewhere, else none",
            );
        }
        let is_v4 = self.destination.is_ipv4();
        if self.source.is_some_and(|source| source.is_ipv4() != is_v4) {
            return bad(
                "routes.source",
                self.destination,
                "of the destination's family",
            );
        }
        // An IPv4 route may have an IPv6 gateway, not the other way round.
        let gateways = self.hops.iter().filter_map(|hop| hop.gateway);
        if !is_v4 && gateways.into_iter().any(|gateway| gateway.is_ipv4()) {
            return bad(
                "routes.gateway",
                self.destination,
                "of the destination's family",
            );
        }
        Ok(())
    }
}

/// Whether Linux takes it for an interface's name; `%` would make it a pattern, which it fills in.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let fits = (1..=LONGEST_NAME).contains(&name.len());
    fits && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/:%".contains(&byte))
}

fn prefix(field: &'static str, address: IpAddr, prefix: u8) -> NetworkResult {
    let (most, range) = match address {
        IpAddr::V4(_) => (32, "0 to 32"),
        IpAddr::V6(_) => (128, "0 to 128"),
    };
    if prefix > most {
        return bad(field, prefix, range);
    }
    Ok(())
}

fn at_most(field: &'static str, count: usize, most: usize) -> NetworkResult {
    if count > most {
        return Err(NetworkError::Bad {
            field,
            value: format!("{count} long"),
            range: match most {
                MAX_INTERFACES => "8 long at most",
                MAX_HOPS => "16 long at most",
                MAX_ADDRESSES => "64 long at most",
                _ => "1024 long at most",
            },
        });
    }
    Ok(())
}

/// What others wrote, so that it fits into a line.
fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(32).collect::<String>())
}

fn bad(field: &'static str, value: impl std::fmt::Display, range: &'static str) -> NetworkResult {
    Err(NetworkError::Bad {
        field,
        value: value.to_string(),
        range,
    })
}
