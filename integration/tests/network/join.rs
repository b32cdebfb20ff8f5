//! Joining a pod's interface to a tap.

use std::os::fd::AsFd as _;
use std::sync::atomic::Ordering;

use cofferdam_integration::{
    error::{At as _, Result},
    gate,
    netns::{Namespace, addresses},
};
use cofferdam_network::{
    NetworkError, make_tap, redirect, scan,
    tap::{Offloads, Tap},
    unredirect,
};

use crate::stand::{ALL_OFFLOADS, Guest, inside, talk};

/// The engine's container on the same bridge, the node and a second guest are reached, and reach it.
#[test]
fn guests_talk_to_each_other_to_containers_and_to_the_node() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let node = Namespace::node()?;
    let (plain, first, second) = (node.pod(2, 1500)?, node.pod(3, 1500)?, node.pod(4, 1500)?);
    let (one, two) = (
        Guest::take_over(&first, ALL_OFFLOADS)?,
        Guest::take_over(&second, ALL_OFFLOADS)?,
    );
    let places = [
        (&node, 1),
        (&plain, 2),
        (&one.namespace, 3),
        (&two.namespace, 4),
    ];
    for (from, from_number) in places {
        for (to, to_number) in places {
            for address in addresses(to_number) {
                if from_number != to_number {
                    assert_eq!(
                        talk(from, to, address, 3 << 20),
                        Ok(()),
                        "from {from_number}"
                    );
                }
            }
        }
    }
    // Check sums and segments were left to the other end, and it made them.
    assert!(one.unfinished.load(Ordering::SeqCst) > 100);
    assert!(one.large.load(Ordering::SeqCst) > 10);
    Ok(())
}

/// A guest that cannot make check sums gets them made.
#[test]
fn without_offloads_the_kernel_finishes_each_frame() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let node = Namespace::node()?;
    let pod = node.pod(3, 1400)?;
    let guest = Guest::take_over(&pod, Offloads::default())?;
    for address in addresses(3) {
        assert_eq!(talk(&node, &guest.namespace, address, 1 << 20), Ok(()));
    }
    for address in addresses(1) {
        assert_eq!(talk(&guest.namespace, &node, address, 1 << 20), Ok(()));
    }
    assert_eq!(guest.unfinished.load(Ordering::SeqCst), 0);
    assert_eq!(guest.large.load(Ordering::SeqCst), 0);
    let network = inside(&guest.namespace, scan);
    // Left out of what is read are taps, which this guest's card is one of.
    assert!(network.is_err() || network.is_ok_and(|network| network.interfaces.is_empty()));
    let link = guest.namespace.ip("-o link show eth0")?.stdout;
    assert!(link.contains(" mtu 1400 "), "{link}");
    Ok(())
}

/// The pod's own kernel does not answer in its place while it is joined, and does again afterwards.
#[test]
fn what_arrives_goes_to_the_guest_alone_until_it_is_undone() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let node = Namespace::node()?;
    let pod = node.pod(3, 1500)?;
    let [v4, v6] = addresses(3);
    assert_eq!(talk(&node, &pod, v4, 1000), Ok(()));
    let tap = inside(&pod, || make_tap("tap0", 1500)).expect("a tap");
    for _ in 0..3 {
        inside(&pod, || redirect("eth0", "tap0")).expect("join");
        assert!(talk(&node, &pod, v4, 1000).is_err(), "it is joined");
    }
    assert_eq!(filters(&pod, "eth0")?, 1, "done again it changes nothing");
    // The tap goes with its holder; what was joined to it leads nowhere, and is joined to the next one.
    drop(tap);
    assert!(pod.ip("link show tap0").is_err());
    assert!(talk(&node, &pod, v4, 1000).is_err());
    let guest = Guest::take_over(&pod, ALL_OFFLOADS)?;
    assert_eq!(talk(&node, &guest.namespace, v4, 1000), Ok(()));
    assert_eq!(talk(&node, &guest.namespace, v6, 1000), Ok(()));
    drop(guest);
    for _ in 0..2 {
        inside(&pod, || unredirect("eth0")).expect("undo");
        assert_eq!(filters(&pod, "eth0")?, 0);
        assert_eq!(talk(&node, &pod, v4, 1000), Ok(()));
    }
    inside(&pod, || unredirect("eth7")).expect("what is gone needs no undoing");
    Ok(())
}

fn filters(namespace: &Namespace, name: &str) -> Result<usize> {
    let list = namespace.run(&format!("tc filter show dev {name} ingress"))?;
    Ok(list.stdout.matches("mirred (Egress Redirect").count())
}

#[test]
fn what_others_direct_is_left_alone() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let node = Namespace::node()?;
    let cases = [
        ["tc qdisc add dev eth0 clsact", ""],
        [
            "tc qdisc add dev eth0 ingress",
            "tc filter add dev eth0 ingress protocol all u32 match u8 0 0 action mirred egress redirect dev eth0",
        ],
    ];
    for (number, commands) in (3..).zip(cases) {
        let pod = node.pod(number, 1500)?;
        for command in commands.into_iter().filter(|command| !command.is_empty()) {
            pod.run(command)?;
        }
        let show = || -> Result<String> {
            let qdiscs = pod.run("tc qdisc show dev eth0")?.stdout;
            Ok(qdiscs + &pod.run("tc filter show dev eth0 ingress")?.stdout)
        };
        let before = show()?;
        let _tap = inside(&pod, || make_tap("tap0", 1500)).expect("a tap");
        for work in [
            || redirect("eth0", "tap0"),
            || redirect("tap0", "eth0"),
            || unredirect("eth0"),
        ] {
            let refused = inside(&pod, work);
            assert!(
                matches!(refused, Err(NetworkError::InUse { .. })),
                "{refused:?}"
            );
            assert_eq!(show()?, before);
            assert_eq!(
                filters(&pod, "tap0")?,
                0,
                "the other end has nothing either"
            );
        }
    }
    Ok(())
}

#[test]
fn taps_and_interfaces_that_cannot_be_are_refused() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let namespace = Namespace::new()?;
    let tap = inside(&namespace, || make_tap("tap0", 1500)).expect("a tap");
    for name in [
        "tap0",
        "lo",
        "",
        "with space",
        "a/b",
        "longer_than_an_interface",
        "tap%d",
        "..",
    ] {
        let made = inside(&namespace, || make_tap(name, 1500));
        assert!(made.is_err(), "{name:?}");
    }
    let made = inside(&namespace, || make_tap("tap1", 1 << 20));
    assert!(made.is_err(), "an MTU of a mebibyte");
    let joined = inside(&namespace, || redirect("tap0", "tap9"));
    assert!(
        matches!(joined, Err(NetworkError::NoInterface { .. })),
        "{joined:?}"
    );
    let joined = inside(&namespace, || redirect("tap0", "tap0"));
    assert!(
        matches!(joined, Err(NetworkError::Bad { .. })),
        "{joined:?}"
    );
    let left = namespace.ip("-o link")?.stdout;
    assert_eq!(left.lines().count(), 2, "{left}");
    // Nor can others be taken over.
    namespace.ip("tuntap add dev tun1 mode tun")?;
    for name in ["tap0", "tun1", "tap9", "lo", "tap%d"] {
        assert!(inside(&namespace, || Tap::open(name)).is_err(), "{name}");
    }
    assert_eq!(namespace.ip("-o link")?.stdout.lines().count(), 3);
    let file = std::fs::File::open("/dev/null").at("open", "/dev/null")?;
    assert!(Tap::from_fd(file.into()).is_err());
    assert!(Tap::inherited(-1).is_err());
    namespace.ip("tuntap add dev tap2 mode tap")?;
    assert_eq!(
        inside(&namespace, || Tap::open("tap2")?.name()).expect("its name"),
        "tap2"
    );
    assert_eq!(tap.name().expect("its name"), "tap0");
    // It has no address by which the host's kernel would speak on the guest's wire.
    assert!(!namespace.ip("addr show dev tap0")?.stdout.contains("inet"));
    Ok(())
}

/// Nothing is called so, and yet that is not what is complained about.
#[test]
fn the_machines_own_interfaces_are_not_taken() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let own = std::fs::File::open("/proc/self/ns/net").at("open", "/proc/self/ns/net")?;
    let first = std::fs::File::open("/proc/1/ns/net").unwrap_or(own);
    let refused = cofferdam_network::within(first.as_fd(), || redirect("no-such", "neither"));
    assert!(
        matches!(refused, Err(NetworkError::HostNamespace)),
        "{refused:?}"
    );
    let other = inside(&Namespace::new()?, || redirect("no-such", "neither"));
    assert!(
        matches!(other, Err(NetworkError::NoInterface { .. })),
        "{other:?}"
    );
    Ok(())
}
