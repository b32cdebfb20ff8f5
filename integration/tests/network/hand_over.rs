//! What is read on the host is what the guest is given.

use std::time::Duration;

use cofferdam_integration::{command::eventually, error::Result, gate, netns::Namespace};
use cofferdam_network::{Network, NetworkError, RouteKind, apply, scan};

use crate::stand::inside;

const MACS: [&str; 2] = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"];

/// A namespace with two cards of these names, and where their wires lead.
fn wired(names: [&str; 2]) -> Result<(Namespace, Namespace)> {
    let (namespace, far) = (Namespace::new()?, Namespace::new()?);
    for (name, mac) in names.into_iter().zip(MACS) {
        let peer = format!("peer name {name} netns {}", far.path());
        namespace.ip(&format!("link add {name} address {mac} type veth {peer}"))?;
        far.ip(&format!("link set {name} up"))?;
    }
    Ok((namespace, far))
}

/// In an order that does not depend on when what was added.
fn sorted(mut network: Network) -> Network {
    network
        .interfaces
        .sort_by_key(|interface| interface.name.clone());
    for interface in &mut network.interfaces {
        interface.addresses.sort_by_key(|address| address.address);
    }
    network.routes.sort_by_key(|route| format!("{route:?}"));
    network
        .neighbours
        .sort_by_key(|neighbour| neighbour.address);
    network
}

/// What plugins of CNI, Calico and Docker do, and more than any of them does.
const SETTINGS: &[&str] = &[
    "link set eth0 mtu 1450 up",
    "link set net1 mtu 9000 up",
    "addr add 10.1.2.3/24 brd + dev eth0",
    "addr add 10.1.2.4/24 brd + dev eth0",
    "addr add 192.0.2.1/32 dev net1",
    "addr add 192.0.2.2 peer 192.0.2.3/32 dev net1",
    "addr add fd00:1::3/64 dev eth0 nodad",
    "addr add fd00:2::3/128 dev net1 nodad",
    "addr add fd00:3::3/64 dev net1 nodad valid_lft 4000 preferred_lft 3000",
    // Not to be sent from, unless one asks for it.
    "addr add fd00:4::3/128 dev net1 nodad preferred_lft 0",
    "route add default via 10.1.2.1",
    "route add 169.254.1.1 dev net1 scope link",
    "route add 10.8.0.0/16 via 169.254.1.1 dev net1",
    "route add 10.9.0.0/16 via 203.0.113.1 dev net1 onlink src 192.0.2.1 metric 50 mtu 1300 advmss 1200",
    "route add 10.10.0.0/16 via inet6 fe80::1 dev eth0",
    "route add 10.11.0.0/16 nexthop via 10.1.2.1 weight 3 nexthop via 169.254.1.1 dev net1 weight 1",
    "route add blackhole 10.12.0.0/16",
    "route add unreachable 10.13.0.0/16 metric 7",
    "route add prohibit 10.14.0.0/16",
    "-6 route add default via fd00:1::1",
    "-6 route add fd00:8::/32 via fe80::1 dev eth0 metric 9",
    "-6 route add fd00:9::/32 via fd00:1::9",
    "-6 route add blackhole fd00:a::/32",
    "neigh add 169.254.1.1 lladdr 02:00:00:00:00:ee dev net1 nud permanent",
    "neigh add fd00:1::1 lladdr 02:00:00:00:00:ef dev eth0 nud permanent",
    // What is learned, another table's and a down card's are not handed over.
    "neigh add 10.1.2.77 lladdr 02:00:00:00:00:01 dev eth0 nud stale",
    "route add 10.66.0.0/16 via 10.1.2.1 table 100",
    "link add down0 type veth peer name down1",
];

#[test]
fn a_guest_gets_all_that_the_host_had() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let (host, _far) = wired(["eth0", "net1"])?;
    for line in SETTINGS {
        host.ip(line)?;
    }
    // The kernel gives each card an address on the link, and its route, in a moment.
    eventually("addresses on the links", Duration::from_secs(10), || {
        let list = host.ip("-6 -o addr show scope link");
        let list = list.map_err(|error| error.to_string())?.stdout;
        if list.lines().count() == 2 {
            Ok(())
        } else {
            Err(list)
        }
    })?;
    let read = sorted(inside(&host, scan).expect("read"));
    assert_eq!(read.interfaces.len(), 2);
    assert_eq!(read.interfaces[0].addresses.len(), 4);
    assert_eq!(read.interfaces[1].addresses.len(), 6);
    assert_eq!(read.neighbours.len(), 2);
    let to = |text: &str| {
        let found = read
            .routes
            .iter()
            .find(|route| format!("{}/{}", route.destination, route.prefix) == text);
        found.unwrap_or_else(|| panic!("no route to {text} in {read:#?}"))
    };
    assert_eq!(to("10.12.0.0/16").kind, RouteKind::Blackhole);
    assert_eq!(to("10.11.0.0/16").hops.len(), 2);
    assert!(to("10.9.0.0/16").hops[0].onlink);
    assert_eq!(to("10.9.0.0/16").mtu, Some(1300));
    assert!(
        !read
            .routes
            .iter()
            .any(|route| route.destination.to_string() == "10.66.0.0")
    );

    // The guest's kernel found the cards in the other order.
    let (guest, _wires) = wired(["net1", "eth0"])?;
    let sent = serde_json::to_string(&read).expect("serialise");
    for _ in 0..2 {
        let got: Network = serde_json::from_str(&sent).expect("read back");
        inside(&guest, || apply(&got)).expect("give");
        let mut has = sorted(inside(&guest, scan).expect("read again"));
        // Time goes on.
        let lives = |network: &mut Network| {
            let addresses = network
                .interfaces
                .iter_mut()
                .flat_map(|interface| &mut interface.addresses);
            let lives: Vec<_> = addresses
                .filter_map(|address| address.lifetime.take())
                .collect();
            lives
        };
        let mut want = read.clone();
        let (given, kept) = (lives(&mut want), lives(&mut has));
        assert!(given.len() == 2 && kept.len() == 2);
        for (given, kept) in given.iter().zip(&kept) {
            assert!(
                kept.valid.abs_diff(given.valid) < 60,
                "{kept:?} of {given:?}"
            );
            assert!(
                kept.preferred.abs_diff(given.preferred) < 60,
                "{kept:?} of {given:?}"
            );
        }
        assert_eq!(has, want);
    }
    // No address waits for anybody to object.
    assert!(!guest.ip("addr")?.stdout.contains("tentative"));
    Ok(())
}

/// A pod without IPv6 gets none, though the guest's kernel would give it some.
#[test]
fn no_address_is_added_that_the_host_had_not() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let (host, _far) = wired(["eth0", "net1"])?;
    for line in [
        "link set eth0 addrgenmode none",
        "link set eth0 up",
        "addr add 10.1.2.3/24 dev eth0",
    ] {
        host.ip(line)?;
    }
    let network = inside(&host, scan).expect("read");
    let (guest, _wires) = wired(["eth0", "net1"])?;
    inside(&guest, || apply(&network)).expect("give");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(guest.ip("-6 addr show dev eth0")?.stdout, "");
    assert_eq!(inside(&guest, scan).expect("read again"), network);
    Ok(())
}

#[test]
fn what_cannot_be_handed_over_is_refused_by_name() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let cases = [
        (
            vec![
                "link add odd0 type bridge",
                "link set odd0 up",
                "addr add 10.7.0.1/24 dev odd0",
            ],
            "odd0",
        ),
        (
            vec!["route add 10.5.0.0/16 tos 4 via 10.1.2.1"],
            "10.5.0.0/16",
        ),
    ];
    for (lines, name) in cases {
        let (host, _far) = wired(["eth0", "net1"])?;
        host.ip("link set eth0 up")?;
        host.ip("addr add 10.1.2.3/24 dev eth0")?;
        for line in lines {
            host.ip(line)?;
        }
        let refused = inside(&host, scan).expect_err(name);
        assert!(refused.to_string().contains(name), "{refused}");
    }
    // Without an address nobody misses it.
    let host = Namespace::new()?;
    host.ip("link add odd0 type bridge")?;
    host.ip("link set odd0 addrgenmode none")?;
    host.ip("link set odd0 up")?;
    assert_eq!(inside(&host, scan).expect("read"), Network::default());
    Ok(())
}

#[test]
fn a_guest_without_the_card_says_so_and_changes_nothing() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let (host, _far) = wired(["eth0", "net1"])?;
    for line in [
        "link set eth0 up",
        "link set net1 up",
        "addr add 10.1.2.3/24 dev eth0",
    ] {
        host.ip(line)?;
    }
    let network = inside(&host, scan).expect("read");
    let (guest, _wires) = wired(["cardA", "cardB"])?;
    guest.ip("link delete cardB")?;
    let before = guest.ip("addr")?.stdout;
    let refused = inside(&guest, || apply(&network));
    assert!(
        matches!(&refused, Err(NetworkError::NoCard { name, .. }) if name == "net1"),
        "{refused:?}"
    );
    assert_eq!(guest.ip("addr")?.stdout, before);
    Ok(())
}

#[test]
fn an_address_that_somebody_else_has_is_not_handed_over() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let (host, far) = wired(["eth0", "net1"])?;
    far.ip("addr add fd00:1::7/64 dev eth0 nodad")?;
    host.ip("link set eth0 up")?;
    host.ip("addr add fd00:1::6/64 dev eth0")?;
    host.ip("addr add fd00:1::7/64 dev eth0")?;
    eventually("the objection", Duration::from_secs(10), || {
        let list = host
            .ip("addr show dev eth0")
            .map_err(|error| error.to_string())?
            .stdout;
        if list.contains("dadfailed") {
            Ok(())
        } else {
            Err(list)
        }
    })?;
    let network = inside(&host, scan).expect("read");
    let has = |text: &str| {
        let mut addresses = network
            .interfaces
            .iter()
            .flat_map(|interface| &interface.addresses);
        addresses.any(|address| address.address.to_string() == text)
    };
    assert!(has("fd00:1::6") && !has("fd00:1::7"), "{network:#?}");
    Ok(())
}
