//! A pod's network, in the VM.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cofferdam_integration::command::eventually;
use cofferdam_integration::error::{At as _, Result};
use cofferdam_integration::netns::{Namespace, addresses};
use cofferdam_network::tap::Tap;
use cofferdam_network::{Network, make_tap, redirect, scan};
use cofferdam_vmm::config::NetworkConfig;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::jail::Process;
use crate::machine::{LIMIT, Machine};

/// What the host does for a pod: reads its network, makes a tap, joins them.
fn join(pod: &Namespace) -> (Network, Tap) {
    let joined = cofferdam_network::within(pod.fd(), || {
        let network = scan()?;
        let mtu = network.interfaces.first().map_or(1500, |first| first.mtu);
        let tap = make_tap("tap0", mtu)?;
        redirect("eth0", "tap0")?;
        Ok((network, tap))
    });
    joined.expect("the pod is joined")
}

/// A card for the pod's interface.
fn card(network: &Network, tap: Option<&str>, fd: Option<RawFd>) -> NetworkConfig {
    let interface = network.interfaces.first().expect("an interface");
    NetworkConfig {
        tap: tap.map(str::to_owned),
        fd,
        mac: interface.mac,
        mtu: u16::try_from(interface.mtu).ok(),
    }
}

/// What the guest is told of its network.
fn told(network: &Network) -> String {
    let text = serde_json::to_string(network).expect("serialise");
    format!("network {text}")
}

/// A machine in the pod's place, which holds its tap.
fn machine(pod: &Namespace) -> Result<Option<(Machine, Network)>> {
    let (network, tap) = join(pod);
    let fd = Some(tap.as_raw_fd());
    let booted = Machine::boot(|config, _| config.network.push(card(&network, None, fd)))?;
    let Some(machine) = booted else {
        return Ok(None);
    };
    assert_eq!(machine.ask_text(&told(&network)), "done\n");
    Ok(Some((machine, network)))
}

/// The same with a tap that somebody else made, by its name.
fn machine_by_name(pod: &Namespace) -> Result<Option<Machine>> {
    let (network, tap) = join(pod);
    drop(tap);
    pod.ip("tuntap add dev tap0 mode tap vnet_hdr")?;
    let mtu = network.interfaces.first().map_or(1500, |first| first.mtu);
    pod.ip(&format!("link set tap0 mtu {mtu} up"))?;
    cofferdam_network::within(pod.fd(), || redirect("eth0", "tap0")).expect("join");
    let boot =
        || Machine::boot(|config, _| config.network.push(card(&network, Some("tap0"), None)));
    let Some(machine) = pod.within(boot)? else {
        return Ok(None);
    };
    assert_eq!(machine.ask_text(&told(&network)), "done\n");
    Ok(Some(machine))
}

fn pattern(length: usize) -> Vec<u8> {
    let byte = |index: usize| u8::try_from((index.wrapping_mul(31) + (index >> 8)) % 251);
    (0..length).filter_map(|index| byte(index).ok()).collect()
}

/// Sends all, and reads all that comes back.
fn exchange(mut stream: impl std::io::Read + std::io::Write, end: impl FnOnce(), sent: &[u8]) {
    stream.write_all(sent).expect("write");
    end();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).expect("read");
    assert!(
        got == sent,
        "{} of {} bytes came back",
        got.len(),
        sent.len()
    );
}

/// A service in a namespace that sends back what one connection brings.
fn echo(namespace: &Namespace, address: IpAddr) -> SocketAddr {
    let listener = namespace.within(|| TcpListener::bind((address, 0)).at("listen at", "TCP"));
    let listener = listener.expect("listen");
    let place = listener.local_addr().expect("its address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        stream.write_all(&bytes)
    });
    place
}

/// From the guest to a service there.
fn guest_reaches(machine: &Machine, place: SocketAddr, length: usize) {
    let stream = machine
        .request(&format!("dial {place}"))
        .expect("the probe listens");
    let end = stream.try_clone().expect("clone");
    exchange(
        stream,
        || end.shutdown(Shutdown::Write).expect("shut down"),
        &pattern(length),
    );
}

/// From a namespace to the guest's service at port 7.
fn reaches_guest(namespace: &Namespace, address: IpAddr, length: usize) {
    let place = SocketAddr::new(address, 7);
    let stream = namespace
        .within(|| TcpStream::connect_timeout(&place, LIMIT).at("connect to", "the guest"));
    let stream = stream.expect("the guest listens");
    stream.set_read_timeout(Some(LIMIT)).expect("set a limit");
    let end = stream.try_clone().expect("clone");
    exchange(
        stream,
        || end.shutdown(Shutdown::Write).expect("shut down"),
        &pattern(length),
    );
}

#[test]
fn a_guest_has_its_pods_network() -> Result<()> {
    if cofferdam_integration::gate::lab(cofferdam_integration::gate::Guest::Script).is_none() {
        return Ok(());
    }
    let node = Namespace::node()?;
    let (own, plain) = (node.pod(3, 1400)?, node.pod(2, 1400)?);
    let Some((machine, network)) = machine(&own)? else {
        return Ok(());
    };
    let has: Network =
        serde_json::from_str(&machine.ask_text("network-read")).expect("its network");
    assert_eq!(has.interfaces, network.interfaces);
    assert_eq!(has.routes.len(), network.routes.len(), "{has:#?}");
    assert_eq!(machine.ask_text("listen 7"), "done\n");
    for (namespace, number) in [(&node, 1), (&plain, 2)] {
        for (address, own) in addresses(number).into_iter().zip(addresses(3)) {
            for size in [56, 1300, 4000] {
                let answer = machine.ask_text(&format!("ping {address} {size}"));
                assert_eq!(answer, "done\n", "{address} {size}");
            }
            guest_reaches(&machine, echo(namespace, address), 2 << 20);
            reaches_guest(namespace, own, 2 << 20);
        }
    }
    pings_guest(&node);
    // The MTU is the pod's, and no packet is larger.
    for address in addresses(1) {
        let header = if address.is_ipv4() { 28 } else { 48 };
        let receiver = node.within(|| UdpSocket::bind((address, 0)).at("listen at", "UDP"))?;
        receiver
            .set_read_timeout(Some(LIMIT))
            .at("set", "a limit")?;
        let place = receiver.local_addr().at("look at", "UDP")?;
        let fits = 1400 - header;
        assert_eq!(machine.ask_text(&format!("send {place} {fits}")), "done\n");
        let mut packet = [0; 2000];
        assert_eq!(receiver.recv(&mut packet).at("receive", "UDP")?, fits);
        let refused = machine.ask_text(&format!("send {place} {}", fits + 1));
        assert!(refused.contains("Message too long"), "{refused}");
    }
    Ok(())
}

/// From the node, with busybox.
fn pings_guest(node: &Namespace) {
    for (program, address) in ["ping", "ping6"].into_iter().zip(addresses(3)) {
        let done = node.run(&format!("busybox {program} -c 2 -s 1000 -W 20 {address}"));
        let done = done.expect("the guest answers");
        assert!(done.stdout.contains(" 0% packet loss"), "{done:?}");
    }
}

#[test]
fn two_guests_talk_to_each_other() -> Result<()> {
    if cofferdam_integration::gate::lab(cofferdam_integration::gate::Guest::Script).is_none() {
        return Ok(());
    }
    let node = Namespace::node()?;
    let (one, two) = (node.pod(3, 9000)?, node.pod(4, 9000)?);
    let (Some((first, _)), Some(second)) = (machine(&one)?, machine_by_name(&two)?) else {
        return Ok(());
    };
    for machine in [&first, &second] {
        assert_eq!(machine.ask_text("listen 7"), "done\n");
    }
    for (machine, other) in [(&first, 4), (&second, 3)] {
        for address in addresses(other) {
            assert_eq!(machine.ask_text(&format!("ping {address} 8900")), "done\n");
            guest_reaches(machine, SocketAddr::new(address, 7), 1 << 20);
        }
    }
    Ok(())
}

/// With what is sent to it and never read, and with its tap gone, the rest of the machine goes on.
#[test]
fn a_flood_and_a_lost_tap_hold_up_nothing_else() -> Result<()> {
    if cofferdam_integration::gate::lab(cofferdam_integration::gate::Guest::Script).is_none() {
        return Ok(());
    }
    let node = Namespace::node()?;
    let own = node.pod(3, 1500)?;
    let Some((machine, _)) = machine(&own)? else {
        return Ok(());
    };
    let [address, _] = addresses(3);
    let sender = node.within(|| UdpSocket::bind("0.0.0.0:0").at("open", "UDP"))?;
    for _ in 0..5000 {
        // What the guest cannot take is lost, as on any wire.
        let _ = sender.send_to(&[0; 1400], (address, 9));
    }
    assert_eq!(
        machine.ask_text("file /sys/devices/system/cpu/online"),
        "0\n"
    );
    guest_reaches(
        &machine,
        echo(&node, "10.99.0.1".parse().expect("an address")),
        1 << 20,
    );
    own.ip("link delete tap0")?;
    thread::sleep(Duration::from_millis(200));
    assert_eq!(
        machine.ask_text("file /sys/devices/system/cpu/online"),
        "0\n"
    );
    Ok(())
}

/// In its jail the monitor has no network but the tap that it was started with.
#[test]
fn a_jailed_machine_has_its_pods_network() -> Result<()> {
    if cofferdam_integration::gate::lab(cofferdam_integration::gate::Guest::Script).is_none() {
        return Ok(());
    }
    let node = Namespace::node()?;
    let own = node.pod(3, 1500)?;
    let (network, tap) = join(&own);
    fcntl(&tap, FcntlArg::F_SETFD(FdFlag::empty())).expect("pass it on");
    let fd = Some(tap.as_raw_fd());
    let Some(machine) = Process::boot(|config| config.network.push(card(&network, None, fd)))?
    else {
        return Ok(());
    };
    drop(tap);
    assert_eq!(machine.ask(&told(&network)), "done\n");
    assert_eq!(machine.ask("listen 7"), "done\n");
    for (address, own) in addresses(1).into_iter().zip(addresses(3)) {
        assert_eq!(machine.ask(&format!("ping {address} 4000")), "done\n");
        reaches_guest(&node, own, 1 << 20);
    }
    drop(machine);
    eventually(
        "the tap goes with the machine",
        Duration::from_secs(5),
        || match own.ip("link show tap0") {
            Ok(done) => Err(done.stdout),
            Err(_) => Ok(()),
        },
    )
}

/// What comes while it rests waits on the tap, and nobody rings for it again.
#[test]
fn pauses_lose_nothing_of_a_connection() -> Result<()> {
    if cofferdam_integration::gate::lab(cofferdam_integration::gate::Guest::Script).is_none() {
        return Ok(());
    }
    let node = Namespace::node()?;
    let own = node.pod(3, 1500)?;
    let Some((machine, _)) = machine(&own)? else {
        return Ok(());
    };
    assert_eq!(machine.ask_text("listen 7"), "done\n");
    let [address, _] = addresses(3);
    let place = echo(&node, addresses(1)[0]);
    let pauses = thread::scope(|scope| {
        let ways = [
            scope.spawn(|| reaches_guest(&node, address, 3 << 20)),
            scope.spawn(|| guest_reaches(&machine, place, 3 << 20)),
        ];
        let mut pauses = 0;
        while ways.iter().any(|way| !way.is_finished()) {
            machine.vm.pause().expect("pause");
            thread::sleep(Duration::from_millis(30));
            machine.vm.resume();
            thread::sleep(Duration::from_millis(150));
            pauses += 1;
        }
        pauses
    });
    assert!(pauses > 3, "{pauses} pauses were all");
    Ok(())
}

/// A reset in the middle of traffic; what was agreed on with the tap is agreed on anew.
#[test]
fn a_driver_that_goes_and_comes_back_finds_its_card() -> Result<()> {
    if cofferdam_integration::gate::lab(cofferdam_integration::gate::Guest::Script).is_none() {
        return Ok(());
    }
    let node = Namespace::node()?;
    let own = node.pod(3, 1500)?;
    let Some((machine, network)) = machine(&own)? else {
        return Ok(());
    };
    let [address, _] = addresses(3);
    let sender = node.within(|| UdpSocket::bind("0.0.0.0:0").at("open", "UDP"))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let started = Instant::now();
            while !done.load(Ordering::SeqCst) && started.elapsed() < 2 * LIMIT {
                let _ = sender.send_to(&[0; 1400], (address, 9));
                thread::sleep(Duration::from_millis(1));
            }
        });
        for _ in 0..3 {
            // The fourth device. Its directory cannot be synced, which the probe says.
            let driver = "/sys/bus/virtio/drivers/virtio_net";
            let _ = machine.ask_text(&format!("put {driver}/unbind 0 virtio3"));
            let none: Network =
                serde_json::from_str(&machine.ask_text("network-read")).expect("its network");
            assert_eq!(none, Network::default());
            let _ = machine.ask_text(&format!("put {driver}/bind 0 virtio3"));
            assert_eq!(machine.ask_text(&told(&network)), "done\n");
            guest_reaches(&machine, echo(&node, addresses(1)[1]), 300_000);
        }
        done.store(true, Ordering::SeqCst);
    });
    Ok(())
}
