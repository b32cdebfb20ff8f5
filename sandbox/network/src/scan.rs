//! Reads a network: the host's half.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteType, RouteVia,
};

use crate::netlink::{self, Netlink};
use crate::{
    Address, Hop, Interface, Lifetime, Mac, Neighbour, Network, NetworkError, NetworkResult, Route,
    RouteKind,
};

/// The table that is looked into if no rule says otherwise (linux/rtnetlink.h).
const MAIN: u32 = 254;

/// Reads the network of this thread's namespace. Left out are the loopback, taps, interfaces that are down, and
/// those that the kernel puts into every namespace and that have no address.
///
/// # Errors
///
/// Where there is something that a VM would miss and that cannot be handed over, or that [`Network::check`] refuses.
pub fn scan() -> NetworkResult<Network> {
    let mut netlink = Netlink::open()?;
    let addresses = addresses(&mut netlink)?;
    let mut names = BTreeMap::new();
    let mut network = Network::default();
    for link in netlink.links()? {
        let index = link.header.index;
        let of = addresses.get(&index).cloned().unwrap_or_default();
        if let Some(interface) = interface(&link, of)? {
            names.insert(index, interface.name.clone());
            network.interfaces.push(interface);
        }
    }
    let list = netlink.list("routes", &Message::GetRoute(RouteMessage::default()))?;
    for entry in list {
        if let Message::NewRoute(message) = entry
            && let Some(route) = route(&message, &names)?
        {
            network.routes.push(route);
        }
    }
    let list = netlink.list(
        "neighbours",
        &Message::GetNeighbour(NeighbourMessage::default()),
    )?;
    network.neighbours = list
        .into_iter()
        .filter_map(|entry| match entry {
            Message::NewNeighbour(message) => neighbour(&message, &names),
            _ => None,
        })
        .collect();
    network.check()?;
    Ok(network)
}

fn interface(link: &LinkMessage, addresses: Vec<Address>) -> NetworkResult<Option<Interface>> {
    let flags = link.header.flags;
    if flags.contains(LinkFlags::Loopback) || !flags.contains(LinkFlags::Up) {
        return Ok(None);
    }
    let name = netlink::name(link).unwrap_or_default();
    let unsupported = |why| {
        Err(NetworkError::Unsupported {
            name: name.to_owned(),
            why,
        })
    };
    let kind = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
                LinkInfo::Kind(kind) => Some(kind),
                _ => None,
            }),
            _ => None,
        });
    let is_wire = match kind {
        // A card of the machine's that was moved here.
        None => true,
        Some(InfoKind::Tun) => return Ok(None),
        Some(kind) => matches!(
            kind,
            InfoKind::Veth | InfoKind::MacVlan | InfoKind::IpVlan | InfoKind::Vlan
        ),
    };
    if !is_wire || link.header.link_layer_type != LinkLayerType::Ether {
        if addresses.is_empty() {
            return Ok(None);
        }
        return unsupported("it is no Ethernet card, veth, macvlan, ipvlan or vlan");
    }
    let mut mac = None;
    let mut mtu = None;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice())
                    .ok()
                    .and_then(|bytes| Mac::try_from(bytes).ok());
            }
            LinkAttribute::Mtu(bytes) => mtu = Some(*bytes),
            _ => {}
        }
    }
    let (Some(mac), Some(mtu)) = (mac, mtu) else {
        return unsupported("it has no address of an Ethernet card");
    };
    Ok(Some(Interface {
        name: name.to_owned(),
        mac,
        mtu,
        addresses,
    }))
}

/// By the interface's number.
fn addresses(netlink: &mut Netlink) -> NetworkResult<BTreeMap<u32, Vec<Address>>> {
    let mut found = BTreeMap::<u32, Vec<Address>>::new();
    let list = netlink.list("addresses", &Message::GetAddress(AddressMessage::default()))?;
    for entry in list {
        if let Message::NewAddress(message) = entry
            && let Some(address) = address(&message)
        {
            found.entry(message.header.index).or_default().push(address);
        }
    }
    Ok(found)
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut other) = (None, None);
    let (mut broadcast, mut lifetime) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => other = Some(*address),
            AddressAttribute::Broadcast(address) => broadcast = Some(*address),
            // Somebody else on the link has it.
            AddressAttribute::Flags(flags) if flags.contains(AddressFlags::Dadfailed) => {
                return None;
            }
            AddressAttribute::CacheInfo(info)
                if (info.ifa_preferred, info.ifa_valid) != (u32::MAX, u32::MAX) =>
            {
                lifetime = Some(Lifetime {
                    preferred: info.ifa_preferred,
                    valid: info.ifa_valid,
                });
            }
            _ => {}
        }
    }
    // IPv4 names both, and where there is no peer they are the same; IPv6 names the local one only with a peer.
    let address = local.or(other)?;
    // In its last second it is as good as gone.
    if lifetime.is_some_and(|life| life.valid == 0) {
        return None;
    }
    Some(Address {
        address,
        prefix: message.header.prefix_len,
        peer: other.filter(|&other| other != address),
        broadcast,
        scope: message.header.scope.into(),
        lifetime,
    })
}

/// None where it is not the main table's, or comes by itself: from routers, by which the guest hears as well.
fn route(message: &RouteMessage, names: &BTreeMap<u32, String>) -> NetworkResult<Option<Route>> {
    let header = &message.header;
    let table = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
    let by_itself =
        header.protocol == RouteProtocol::Ra || header.flags.contains(RouteFlags::Cloned);
    if table.unwrap_or(header.table.into()) != MAIN || by_itself {
        return Ok(None);
    }
    let Some(anywhere) = anywhere(header.address_family.into()) else {
        return Ok(None);
    };
    let mut found = Route {
        destination: anywhere,
        prefix: header.destination_prefix_length,
        kind: RouteKind::Unicast,
        hops: Vec::new(),
        scope: header.scope.into(),
        protocol: header.protocol.into(),
        source: None,
        metric: None,
        mtu: None,
        advmss: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => found.destination = ip(to).unwrap_or(anywhere),
            RouteAttribute::PrefSource(source) => found.source = ip(source),
            RouteAttribute::Priority(metric) => found.metric = Some(*metric),
            RouteAttribute::Metrics(metrics) => add_metrics(&mut found, metrics),
            _ => {}
        }
    }
    let unsupported = |why| {
        Err(NetworkError::UnsupportedRoute {
            to: format!("{}/{}", found.destination, found.prefix),
            why,
        })
    };
    found.kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::BlackHole => RouteKind::Blackhole,
        RouteType::Unreachable => RouteKind::Unreachable,
        RouteType::Prohibit => RouteKind::Prohibit,
        // What the kernel itself keeps: multicast, its own addresses.
        _ => return Ok(None),
    };
    if header.tos != 0 || header.source_prefix_length != 0 {
        return unsupported("it is for a type of service or for a source alone");
    }
    let strange = |attribute: &RouteAttribute| {
        matches!(
            attribute,
            RouteAttribute::Encap(_)
                | RouteAttribute::EncapType(_)
                | RouteAttribute::NhId(_)
                | RouteAttribute::NewDestination(_)
        )
    };
    if message.attributes.iter().any(strange) {
        return unsupported("it is encapsulated, or names next hops by number");
    }
    if found.kind == RouteKind::Unicast {
        let Some(hops) = hops(message, names) else {
            return Ok(None);
        };
        found.hops = hops;
    }
    Ok(Some(found))
}

/// The unspecified address of a family that has routes.
fn anywhere(family: u8) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::UNSPECIFIED.into()),
        libc::AF_INET6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

fn add_metrics(route: &mut Route, metrics: &[RouteMetric]) {
    for metric in metrics {
        match metric {
            RouteMetric::Mtu(bytes) => route.mtu = Some(*bytes),
            RouteMetric::Advmss(bytes) => route.advmss = Some(*bytes),
            _ => {}
        }
    }
}

/// None where it leads through an interface that is not handed over, as the loopback.
fn hops(message: &RouteMessage, names: &BTreeMap<u32, String>) -> Option<Vec<Hop>> {
    let mut single = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::MultiPath(hops) => {
                return hops.iter().map(|next| next_hop(next, names)).collect();
            }
            RouteAttribute::Oif(index) => single = Some(*index),
            _ => {}
        }
    }
    Some(vec![Hop {
        interface: names.get(&single?)?.clone(),
        gateway: gateway(&message.attributes),
        onlink: message.header.flags.contains(RouteFlags::Onlink),
        weight: 0,
    }])
}

fn next_hop(next: &RouteNextHop, names: &BTreeMap<u32, String>) -> Option<Hop> {
    Some(Hop {
        interface: names.get(&next.interface_index)?.clone(),
        gateway: gateway(&next.attributes),
        onlink: next.flags.contains(RouteNextHopFlags::Onlink),
        weight: next.hops,
    })
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// None where it was learned, or is no host's.
fn neighbour(message: &NeighbourMessage, names: &BTreeMap<u32, String>) -> Option<Neighbour> {
    let header = &message.header;
    if header.state != NeighbourState::Permanent || header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(of)) => {
                address = Some(IpAddr::from(*of))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(of)) => {
                address = Some(IpAddr::from(*of))
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                let bytes = <[u8; 6]>::try_from(bytes.as_slice()).ok();
                mac = bytes.and_then(|bytes| Mac::try_from(bytes).ok());
            }
            _ => {}
        }
    }
    Some(Neighbour {
        interface: names.get(&header.ifindex)?.clone(),
        address: address?,
        mac: mac?,
    })
}
