use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::Path,
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::{
    command::{Cmd, Done},
    error::{At, Result},
};

/// A network namespace of a test's own. It goes with the last of its descriptors, sockets and processes.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// A new one, with the loopback up.
    ///
    /// # Errors
    /// If the caller may not make one.
    pub fn new() -> Result<Self> {
        let path = "/proc/thread-self/ns/net";
        let made = apart(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .at("unshare", path)?;
            File::open(path).at("open", path)
        })?;
        let namespace = Self(made);
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// A node whose bridge has the addresses `10.99.0.1/24` and `fd99::1/64`.
    ///
    /// # Errors
    /// If the caller may not make one.
    pub fn node() -> Result<Self> {
        // Where no device manager made it: it brings its module when it is opened.
        if !Path::new("/dev/net/tun").exists() {
            Cmd::new("modprobe").arg("tun").ok()?;
        }
        let node = Self::new()?;
        node.ip("link add br0 type bridge")?;
        node.ip("link set br0 up")?;
        node.ip("addr add 10.99.0.1/24 dev br0")?;
        node.ip("addr add fd99::1/64 dev br0 nodad")?;
        Ok(node)
    }

    /// A pod at this node's bridge, as the CNI plugin `bridge` makes it, with the addresses that end in the number.
    ///
    /// # Errors
    /// If there is one of that number.
    pub fn pod(&self, number: u8, mtu: u16) -> Result<Self> {
        let pod = Self::new()?;
        let peer = format!("peer name eth0 mtu {mtu} netns {}", pod.path());
        self.ip(&format!("link add veth{number} mtu {mtu} type veth {peer}"))?;
        self.ip(&format!("link set veth{number} master br0 up"))?;
        pod.ip("link set eth0 up")?;
        pod.ip(&format!("addr add 10.99.0.{number}/24 brd + dev eth0"))?;
        pod.ip(&format!("addr add fd99::{number:x}/64 dev eth0 nodad"))?;
        pod.ip("route add default via 10.99.0.1")?;
        pod.ip("-6 route add default via fd99::1")?;
        Ok(pod)
    }

    /// Does something on a thread that is in it. What that opens stays in it.
    ///
    /// # Errors
    /// If it cannot be entered, else as the work says.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let fd = self.0.as_fd();
        apart(move || {
            setns(fd, CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .at("enter", "a network namespace")?;
            work()
        })
    }

    /// Runs `ip` with the words of the line.
    ///
    /// # Errors
    /// If it fails.
    pub fn ip(&self, line: &str) -> Result<Done> {
        self.run(&format!("ip {line}"))
    }

    /// Runs a command, its words in a line.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, line: &str) -> Result<Done> {
        let mut words = line.split_whitespace();
        let command = Cmd::new(words.next().unwrap_or_default()).args(words);
        self.within(move || command.ok())
    }

    /// What makes other processes enter it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// A path by which other processes of root's find it for as long as this one lives.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// The addresses of the pod of that number; the node is number 1.
#[must_use]
pub fn addresses(number: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(10, 99, 0, number).into(),
        Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number.into()).into(),
    ]
}

fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
