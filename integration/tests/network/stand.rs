//! A node, pods, guests.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use cofferdam_integration::{
    error::{At as _, Result},
    netns::Namespace,
};
use cofferdam_network::{
    Network, NetworkResult, apply, make_tap, redirect, scan,
    tap::{Offloads, Tap},
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a connection may take.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const ALL_OFFLOADS: Offloads = Offloads {
    checksums: true,
    tcp4: true,
    tcp6: true,
};

/// What the crate does there; its errors are a failure of the test.
pub(crate) fn inside<T: Send>(
    namespace: &Namespace,
    work: impl FnOnce() -> NetworkResult<T> + Send,
) -> NetworkResult<T> {
    cofferdam_network::within(namespace.fd(), work)
}

/// A kernel in the place of a VM's.
pub(crate) struct Guest {
    pub(crate) namespace: Namespace,
    /// Frames whose check sums were left to be made, and those of several segments.
    pub(crate) unfinished: Arc<AtomicU32>,
    pub(crate) large: Arc<AtomicU32>,
    end: Arc<AtomicBool>,
    carrier: Option<JoinHandle<()>>,
}

impl Guest {
    /// In the pod's place: its network is read, joined, and given to the guest as the host would send it.
    pub(crate) fn take_over(pod: &Namespace, offloads: Offloads) -> Result<Self> {
        let namespace = Namespace::new()?;
        let network = inside(pod, scan).expect("the pod's network");
        let interface = network.interfaces.first().expect("an interface");
        let (name, mtu) = (interface.name.as_str(), interface.mtu);
        let tap = inside(pod, || {
            let tap = make_tap("tap0", mtu)?;
            redirect(name, "tap0")?;
            Ok(tap)
        });
        let tap = tap.expect("a tap in the pod");
        let card = inside(&namespace, || make_tap("card", 1500)).expect("a card");
        namespace.ip(&format!("link set card address {}", interface.mac))?;
        for end in [&tap, &card] {
            end.set_offloads(offloads).expect("set offloads");
        }
        let (end, unfinished, large) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU32::new(0)),
            Arc::new(AtomicU32::new(0)),
        );
        let told = (
            Arc::clone(&end),
            Arc::clone(&unfinished),
            Arc::clone(&large),
        );
        let carrier = thread::spawn(move || carry(&tap, &card, &told));
        let sent = serde_json::to_string(&network).expect("serialise");
        let got: Network = serde_json::from_str(&sent).expect("read back");
        inside(&namespace, || apply(&got)).expect("the guest's network");
        Ok(Self {
            namespace,
            unfinished,
            large,
            end,
            carrier: Some(carrier),
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(carrier) = self.carrier.take() {
            drop(carrier.join());
        }
    }
}

fn carry(one: &Tap, other: &Tap, told: &(Arc<AtomicBool>, Arc<AtomicU32>, Arc<AtomicU32>)) {
    let (end, unfinished, large) = told;
    let mut frame = vec![0; 70_000];
    while !end.load(Ordering::SeqCst) {
        let mut waited = [one, other].map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN));
        let _ = poll(&mut waited, PollTimeout::from(50_u8));
        for (mut from, mut to) in [(one, other), (other, one)] {
            while let Ok(length) = from.read(&mut frame) {
                let bytes = frame.get(..length).unwrap_or_default();
                unfinished.fetch_add(u32::from(bytes.first() == Some(&1)), Ordering::SeqCst);
                large.fetch_add(u32::from(bytes.get(1) > Some(&0)), Ordering::SeqCst);
                let _ = to.write(bytes);
            }
        }
    }
}

/// Bytes that repeat late.
fn pattern(length: usize) -> Vec<u8> {
    let byte = |index: usize| u8::try_from((index.wrapping_mul(31) + (index >> 8)) % 251);
    (0..length).filter_map(|index| byte(index).ok()).collect()
}

/// Whether a connection from here to there carries so many bytes there and back; an error says how it failed.
pub(crate) fn talk(
    from: &Namespace,
    to: &Namespace,
    address: IpAddr,
    length: usize,
) -> std::result::Result<(), String> {
    let failed = |error: &dyn std::fmt::Debug| format!("to {address}: {error:?}");
    let listener =
        to.within(|| TcpListener::bind(SocketAddr::new(address, 0)).at("listen at", "TCP"));
    let listener = listener.map_err(|error| failed(&error))?;
    let place = listener.local_addr().map_err(|error| failed(&error))?;
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        stream.write_all(&bytes)
    });
    let limit = Duration::from_secs(3);
    let stream = from.within(|| TcpStream::connect_timeout(&place, limit).at("connect to", "TCP"));
    // Where it fails, the other end waits for a connection for ever, until the test ends.
    let mut stream = stream.map_err(|error| failed(&error))?;
    stream
        .set_read_timeout(Some(LIMIT))
        .map_err(|error| failed(&error))?;
    let sent = pattern(length);
    let mut got = Vec::new();
    stream
        .write_all(&sent)
        .and_then(|()| stream.shutdown(Shutdown::Write))
        .and_then(|()| stream.read_to_end(&mut got))
        .map_err(|error| failed(&error))?;
    let ended = echo.join().map_err(|_| failed(&"the other end panicked"))?;
    ended.map_err(|error| failed(&error))?;
    if got != sent {
        return Err(format!(
            "{} of {length} bytes came back, or others",
            got.len()
        ));
    }
    Ok(())
}
