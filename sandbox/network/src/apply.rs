//! Gives a network to this kernel: the guest's half.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use crate::netlink::{self, Netlink};
use crate::{
    Address, Hop, Interface, Mac, Neighbour, Network, NetworkError, NetworkResult, Route, RouteKind,
};

/// How often what cannot be set is tried again: a gateway may be known by a route that comes later.
const ROUNDS: usize = 4;

/// Gives the network to the kernel of this thread's namespace, by the cards that have its interfaces' addresses.
/// Done again, it changes nothing; what was there besides stays.
///
/// # Errors
///
/// Where [`Network::check`] refuses it, a card is missing, or the kernel refuses something.
pub fn apply(network: &Network) -> NetworkResult {
    network.check()?;
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    bring_up_loopback(&mut netlink, &links)?;
    let cards = cards(network, &links)?;
    rename(&mut netlink, &cards, &links)?;
    let mut numbers = BTreeMap::new();
    for (interface, index) in cards {
        numbers.insert(interface.name.as_str(), index);
        set_up(&mut netlink, interface, index)?;
    }
    add_routes(&mut netlink, &network.routes, &numbers)?;
    for neighbour in &network.neighbours {
        add_neighbour(&mut netlink, neighbour, &numbers)?;
    }
    Ok(())
}

fn failed(action: &'static str, subject: &str) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Kernel {
        action,
        subject: subject.to_owned(),
        source,
    }
}

fn bring_up_loopback(netlink: &mut Netlink, links: &[LinkMessage]) -> NetworkResult {
    let is_loopback = |link: &&LinkMessage| link.header.flags.contains(LinkFlags::Loopback);
    for link in links.iter().filter(is_loopback) {
        let up = netlink.set_link(link.header.index, Some(true), Vec::new());
        up.map_err(failed("bring up", "lo"))?;
    }
    Ok(())
}

type Card<'a> = (&'a Interface, u32);

fn cards<'a>(network: &'a Network, links: &[LinkMessage]) -> NetworkResult<Vec<Card<'a>>> {
    let card = |interface: &'a Interface| {
        let found = links.iter().find(|link| mac(link) == Some(interface.mac));
        let missing = || NetworkError::NoCard {
            name: interface.name.clone(),
            mac: interface.mac,
        };
        Ok((interface, found.ok_or_else(missing)?.header.index))
    };
    network.interfaces.iter().map(card).collect()
}

fn mac(link: &LinkMessage) -> Option<Mac> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => {
                Mac::try_from(<[u8; 6]>::try_from(bytes.as_slice()).ok()?).ok()
            }
            _ => None,
        })
}

/// Cards are called in the order in which the kernel found them. Those that have a wrong name get one that nobody
/// wants first: two may have to change places.
fn rename(netlink: &mut Netlink, cards: &[Card<'_>], links: &[LinkMessage]) -> NetworkResult {
    let name_of = |index| {
        let link = links.iter().find(|link| link.header.index == index);
        link.and_then(netlink::name)
    };
    let wrong: Vec<_> = cards
        .iter()
        .filter(|(interface, index)| name_of(*index) != Some(interface.name.as_str()))
        .collect();
    for (interface, index) in &wrong {
        let aside = LinkAttribute::IfName(format!("rename{index}"));
        // First: an interface that is up may keep its name.
        let down = netlink.set_link(*index, Some(false), Vec::new());
        let done = down.and_then(|()| netlink.set_link(*index, None, vec![aside]));
        done.map_err(failed("rename the card for", &interface.name))?;
    }
    for (interface, index) in &wrong {
        let name = LinkAttribute::IfName(interface.name.clone());
        let done = netlink.set_link(*index, None, vec![name]);
        done.map_err(failed("rename the card for", &interface.name))?;
    }
    Ok(())
}

fn set_up(netlink: &mut Netlink, interface: &Interface, index: u32) -> NetworkResult {
    let name = interface.name.as_str();
    let mtu = vec![LinkAttribute::Mtu(interface.mtu)];
    netlink
        .set_link(index, None, mtu)
        .map_err(failed("set the MTU of", name))?;
    // Before it is up. An interface with addresses of its own on the link needs no other, one without IPv6 none.
    let on_link =
        |address: &Address| matches!(address.address, IpAddr::V6(of) if of.is_unicast_link_local());
    let has_v6 = interface
        .addresses
        .iter()
        .any(|address| address.address.is_ipv6());
    if !has_v6 || interface.addresses.iter().any(on_link) {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        match netlink.set_link(index, None, vec![LinkAttribute::AfSpecUnspec(vec![none])]) {
            // A small MTU has taken IPv6 from it.
            Err(_) if !has_v6 => {}
            other => other.map_err(failed("keep the kernel's addresses from", name))?,
        }
    }
    netlink
        .set_link(index, Some(true), Vec::new())
        .map_err(failed("bring up", name))?;
    for address in &interface.addresses {
        let message = Message::NewAddress(address_message(address, index));
        let added = netlink.change(message, NLM_F_CREATE | NLM_F_REPLACE);
        added.map_err(failed("add an address to", name))?;
    }
    Ok(())
}

/// Without the route that the kernel would add: all routes are in the list.
fn address_message(address: &Address, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.address);
    message.header.prefix_len = address.prefix;
    message.header.scope = address.scope.into();
    message.header.index = index;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes = vec![
        AddressAttribute::Local(address.address),
        AddressAttribute::Address(address.peer.unwrap_or(address.address)),
        // Nobody else has the address: the host's interface is not reached any more.
        AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute),
    ];
    if let Some(broadcast) = address.broadcast {
        message
            .attributes
            .push(AddressAttribute::Broadcast(broadcast));
    }
    if let Some(life) = address.lifetime {
        let mut info = CacheInfo::default();
        info.ifa_preferred = life.preferred;
        info.ifa_valid = life.valid;
        message.attributes.push(AddressAttribute::CacheInfo(info));
    }
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// What needs no gateway first. Gateways must be on the link by then.
fn add_routes(
    netlink: &mut Netlink,
    routes: &[Route],
    numbers: &BTreeMap<&str, u32>,
) -> NetworkResult {
    let needs = |route: &&Route| {
        route
            .hops
            .iter()
            .any(|hop| hop.gateway.is_some() && !hop.onlink)
    };
    let mut waiting: Vec<&Route> = routes.iter().collect();
    waiting.sort_by_key(needs);
    for round in 1..=ROUNDS {
        let mut later = Vec::new();
        for route in waiting {
            let message = Message::NewRoute(route_message(route, numbers));
            match netlink.change(message, NLM_F_CREATE | NLM_F_APPEND) {
                Ok(()) => {}
                Err(error) if is_any(&error, &[libc::EEXIST]) => {}
                Err(error)
                    if round < ROUNDS
                        && is_any(
                            &error,
                            &[libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EINVAL],
                        ) =>
                {
                    later.push(route)
                }
                Err(source) => {
                    return Err(NetworkError::Kernel {
                        action: "add the route to",
                        subject: format!("{}/{}", route.destination, route.prefix),
                        source,
                    });
                }
            }
        }
        waiting = later;
    }
    Ok(())
}

fn route_message(route: &Route, numbers: &BTreeMap<&str, u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(route.destination),
        destination_prefix_length: route.prefix,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: route.protocol.into(),
        scope: route.scope.into(),
        kind: match route.kind {
            RouteKind::Unicast => RouteType::Unicast,
            RouteKind::Blackhole => RouteType::BlackHole,
            RouteKind::Unreachable => RouteType::Unreachable,
            RouteKind::Prohibit => RouteType::Prohibit,
        },
        ..RouteHeader::default()
    };
    let attributes = &mut message.attributes;
    if route.prefix > 0 {
        attributes.push(RouteAttribute::Destination(address(route.destination)));
    }
    attributes.extend(
        route
            .source
            .map(|source| RouteAttribute::PrefSource(address(source))),
    );
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    let metrics = [
        route.mtu.map(RouteMetric::Mtu),
        route.advmss.map(RouteMetric::Advmss),
    ];
    let metrics: Vec<_> = metrics.into_iter().flatten().collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    let number = |hop: &Hop| numbers.get(hop.interface.as_str()).copied().unwrap_or(0);
    match route.hops.as_slice() {
        [] => {}
        [hop] => {
            attributes.push(RouteAttribute::Oif(number(hop)));
            attributes.extend(gateway(route, hop));
            if hop.onlink {
                message.header.flags = RouteFlags::Onlink;
            }
        }
        hops => {
            let next = hops.iter().map(|hop| {
                let mut next = RouteNextHop::default();
                next.interface_index = number(hop);
                next.hops = hop.weight;
                next.attributes.extend(gateway(route, hop));
                if hop.onlink {
                    next.flags = RouteNextHopFlags::Onlink;
                }
                next
            });
            attributes.push(RouteAttribute::MultiPath(next.collect()));
        }
    }
    message
}

fn gateway(route: &Route, hop: &Hop) -> Option<RouteAttribute> {
    Some(match hop.gateway? {
        IpAddr::V6(gateway) if route.destination.is_ipv4() => {
            RouteAttribute::Via(RouteVia::Inet6(gateway))
        }
        gateway => RouteAttribute::Gateway(address(gateway)),
    })
}

fn address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn add_neighbour(
    netlink: &mut Netlink,
    neighbour: &Neighbour,
    numbers: &BTreeMap<&str, u32>,
) -> NetworkResult {
    let mut message = NeighbourMessage::default();
    message.header.family = family(neighbour.address);
    message.header.ifindex = numbers
        .get(neighbour.interface.as_str())
        .copied()
        .unwrap_or(0);
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(match neighbour.address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }),
        NeighbourAttribute::LinkLayerAddress(neighbour.mac.bytes().to_vec()),
    ];
    netlink
        .change(Message::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
        .map_err(failed("add a neighbour to", &neighbour.interface))
}

fn is_any(error: &io::Error, codes: &[i32]) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}
