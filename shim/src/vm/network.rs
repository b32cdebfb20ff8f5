//! The pod's network: read where the engine made it, and joined to the machine's cards.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;

use cofferdam_network::tap::Tap;
use cofferdam_network::{Mac, Network, make_tap, redirect, scan, within};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::MachineError;
use super::error::at;

/// A card of the machine's.
#[derive(Debug)]
pub(crate) struct Card {
    /// Its tap, in the pod's network namespace.
    pub(crate) tap: Tap,
    mac: Mac,
    mtu: u32,
}

impl Card {
    /// What the monitor is told.
    pub(crate) fn describe(&self) -> serde_json::Value {
        json!({"fd": self.tap.as_fd().as_raw_fd(), "mac": self.mac, "mtu": self.mtu})
    }
}

/// Makes a network namespace and keeps it at `path`.
pub(super) fn make(path: &Path) -> Result<(), MachineError> {
    File::create(path).map_err(at("make", path))?;
    // On a thread of its own, which is all that changes its namespace.
    let made = std::thread::scope(|scope| {
        let work = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let (source, none) = (Path::new("/proc/thread-self/ns/net"), None::<&str>);
            mount(Some(source), path, none, MsFlags::MS_BIND, none)
        };
        let joined = scope.spawn(work).join();
        joined.unwrap_or(Err(nix::errno::Errno::EAGAIN))
    });
    made.map_err(|errno| at("make a network namespace at", path)(errno.into()))
}

/// Reads the pod's network, and makes a card for each of its interfaces, joined to it.
pub(super) fn join(namespace: &Path) -> Result<(Network, Vec<Card>), MachineError> {
    let file = File::open(namespace).map_err(at("open", namespace))?;
    let space: BorrowedFd<'_> = file.as_fd();
    Ok(within(space, || {
        let network = scan()?;
        let mut cards = Vec::new();
        for (index, interface) in network.interfaces.iter().enumerate() {
            let name = format!("cofferdam{index}");
            let tap = make_tap(&name, interface.mtu)?;
            redirect(&interface.name, &name)?;
            cards.push(Card {
                tap,
                mac: interface.mac,
                mtu: interface.mtu,
            });
        }
        Ok((network, cards))
    })?)
}
