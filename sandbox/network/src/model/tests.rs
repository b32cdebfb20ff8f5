use super::*;

fn network() -> Network {
    let text = r#"{
        "interfaces": [
            {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "addresses": [
                {"address": "10.0.0.2", "prefix": 24, "broadcast": "10.0.0.255"},
                {"address": "fd00::2", "prefix": 64, "lifetime": {"preferred": 10, "valid": 20}}]},
            {"name": "net1", "mac": "02:00:00:00:00:02", "mtu": 9000}
        ],
        "routes": [
            {"destination": "0.0.0.0", "prefix": 0, "hops": [{"interface": "eth0", "gateway": "10.0.0.1"}]},
            {"destination": "fd01::", "prefix": 16, "hops": [{"interface": "net1", "gateway": "fd00::1"}]},
            {"destination": "10.9.0.0", "prefix": 16, "kind": "blackhole"}
        ],
        "neighbours": [{"interface": "eth0", "address": "10.0.0.1", "mac": "02:00:00:00:00:03"}]
    }"#;
    serde_json::from_str(text).expect("a network")
}

#[test]
fn what_no_kernel_should_be_asked_for_is_refused() {
    type Change = fn(&mut Network);
    let cases: [(Change, &str); 22] = [
        (|n| n.interfaces[0].name = "lo".into(), "interfaces.name"),
        (|n| n.interfaces[0].name = "net1".into(), "interfaces.name"),
        (|n| n.interfaces[0].name = "a/b".into(), "interfaces.name"),
        (
            |n| n.interfaces[0].name = "sixteen_letters_".into(),
            "interfaces.name",
        ),
        (|n| n.interfaces[0].name = "eth%d".into(), "interfaces.name"),
        (
            |n| n.interfaces[0].mac = n.interfaces[1].mac,
            "interfaces.mac",
        ),
        (|n| n.interfaces[0].mtu = 67, "interfaces.mtu"),
        (|n| n.interfaces[0].mtu = 65536, "interfaces.mtu"),
        (
            |n| n.interfaces[0].addresses[0].prefix = 33,
            "addresses.prefix",
        ),
        (
            |n| n.interfaces[0].addresses[1].prefix = 129,
            "addresses.prefix",
        ),
        (
            |n| n.interfaces[0].addresses[0].address = [224, 0, 0, 1].into(),
            "addresses.address",
        ),
        (
            |n| n.interfaces[0].addresses[0].peer = Some(std::net::Ipv6Addr::LOCALHOST.into()),
            "addresses.peer",
        ),
        (
            |n| n.interfaces[0].addresses[1].broadcast = Some(Ipv4Addr::BROADCAST),
            "addresses.broadcast",
        ),
        (
            |n| {
                n.interfaces[0].addresses[1].lifetime = Some(Lifetime {
                    preferred: 2,
                    valid: 1,
                })
            },
            "addresses.lifetime",
        ),
        (
            |n| n.interfaces[0].addresses = vec![n.interfaces[0].addresses[0].clone(); 65],
            "interfaces.addresses",
        ),
        (
            |n| n.interfaces = vec![n.interfaces[0].clone(); 9],
            "interfaces",
        ),
        (|n| n.routes = vec![n.routes[0].clone(); 1025], "routes"),
        (
            |n| n.routes[0].hops = vec![n.routes[0].hops[0].clone(); 17],
            "routes.hops",
        ),
        (|n| n.routes[0].hops.clear(), "routes.hops"),
        (
            |n| n.routes[1].hops[0].gateway = Some([10, 0, 0, 1].into()),
            "routes.gateway",
        ),
        (
            |n| n.routes[0].hops[0].interface = "eth9".into(),
            "interface",
        ),
        (
            |n| n.neighbours[0].interface = "\u{1b}[2J".into(),
            "interface",
        ),
    ];
    assert!(network().check().is_ok());
    for (index, (change, wrong)) in cases.into_iter().enumerate() {
        let mut network = network();
        change(&mut network);
        match network.check() {
            Err(error @ NetworkError::Bad { field, .. }) => {
                assert_eq!(field, wrong, "case {index}");
                assert!(!error.to_string().contains('\u{1b}'));
            }
            other => panic!("case {index}: {other:?}"),
        }
    }
}

#[test]
fn json_of_other_shapes_is_refused() {
    for text in [
        r#"{"interfaces": [], "hosts": []}"#,
        r#"{"interfaces": [{"name": "eth0", "mac": "ff:ff:ff:ff:ff:ff", "mtu": 1500}]}"#,
        r#"{"interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": -1}]}"#,
        r#"{"routes": []}"#,
    ] {
        assert!(serde_json::from_str::<Network>(text).is_err(), "{text}");
    }
}
