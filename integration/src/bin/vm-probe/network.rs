//! The guest's network.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use cofferdam_network::{Network, apply, scan};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

/// How long an answer may take, in a machine that is emulated twice.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes a network as the host sent it.
pub(crate) fn set(text: &str) -> io::Result<()> {
    let network: Network = serde_json::from_str(text)?;
    apply(&network).map_err(io::Error::other)
}

/// Tells the network that it has.
pub(crate) fn read(to: &mut File) -> io::Result<()> {
    let network = scan().map_err(io::Error::other)?;
    serde_json::to_writer(&mut *to, &network)?;
    writeln!(to)
}

/// Asks for an echo of so many bytes, and waits for it.
pub(crate) fn ping(address: &str, size: &str, to: &mut File) -> io::Result<()> {
    let address: IpAddr = address.parse().map_err(io::Error::other)?;
    let size: usize = size.parse().map_err(io::Error::other)?;
    // The kinds of echo requests and replies.
    let (family, protocol, request, reply) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let raw = UdpSocket::from(raw);
    raw.connect((address, 0))?;
    raw.set_read_timeout(Some(PATIENCE))?;
    let mut packet = vec![request, 0, 0, 0, 0x12, 0x34, 0, 1];
    packet.extend((0..size).map(|index| u8::try_from(index % 251).unwrap_or(0)));
    // IPv6's check sum is the kernel's to make.
    let sum = if address.is_ipv4() {
        check_sum(&packet)
    } else {
        0
    };
    packet.splice(2..4, sum.to_be_bytes());
    raw.send(&packet)?;
    let mut answer = vec![0; size + 100];
    loop {
        let length = raw.recv(&mut answer)?;
        let bytes = answer.get(..length).unwrap_or_default();
        // IPv4's comes with its header.
        let body = if address.is_ipv4() {
            bytes.get(20..)
        } else {
            Some(bytes)
        };
        let body = body.unwrap_or_default();
        if body.first() == Some(&reply) && body.get(4..) == packet.get(4..) {
            return writeln!(to, "done");
        }
    }
}

/// The ones' complement of the sum of all words (RFC 1071).
fn check_sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
            [high] => u32::from(*high) << 8,
            _ => 0,
        })
        .sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// Sends back what comes to a port, for as long as the guest runs.
pub(crate) fn listen(port: &str, to: &mut File) -> io::Result<()> {
    let port = port.parse().map_err(io::Error::other)?;
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || send_back(stream));
        }
    });
    writeln!(to, "done")
}

/// All of it first: the other end may send all before it reads.
fn send_back(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    stream.write_all(&bytes)
}

/// Connects there, and is the wire between that and the host.
pub(crate) fn dial(place: &str, mut from: BufReader<File>, to: &mut File) -> io::Result<()> {
    let place: SocketAddr = place.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&place, PATIENCE)?;
    let mut out = stream.try_clone()?;
    let sending = thread::spawn(move || {
        io::copy(&mut from, &mut out)?;
        out.shutdown(Shutdown::Write)
    });
    io::copy(&mut stream, to)?;
    sending
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the sender panicked")))
}

/// Sends one packet of so many bytes, which must not be cut.
pub(crate) fn send(place: &str, size: &str, to: &mut File) -> io::Result<()> {
    let place: SocketAddr = place.parse().map_err(io::Error::other)?;
    let size = size.parse().map_err(io::Error::other)?;
    let any: SocketAddr = if place.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    }
    .parse()
    .map_err(io::Error::other)?;
    let socket = UdpSocket::bind(any)?;
    let (level, option) = if place.is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    };
    let value = libc::IP_PMTUDISC_DO;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: the option's value is a number that lives until the call returns, and `length` its size.
    #[expect(unsafe_code, reason = "an option that nix does not know")]
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    socket.send_to(&vec![0; size], place)?;
    writeln!(to, "done")
}
