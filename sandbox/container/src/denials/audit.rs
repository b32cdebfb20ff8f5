//! What AppArmor denies a container, as the kernel tells it to all who listen: its audit messages.
//!
//! Everybody hears everything, so messages are sorted out by the profile's name, which is the
//! container's own where denials are explained. Only the kernel can send them.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use cofferdam_profiles::apparmor::audit::{self, Message, Verdict};
use cofferdam_profiles::apparmor::explain::{explain, shown};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};

use super::event::{Apparmor, ApparmorSuppressed, Line};
use crate::clock;

/// `AUDIT_NLGRP_READLOG` of linux/audit.h, as a bit.
const READLOG: u32 = 1;
/// `AUDIT_AVC` of linux/audit.h: what security modules say of something denied. User programs have
/// other types.
const AVC: u16 = 1400;
/// `struct nlmsghdr` of linux/netlink.h, in bytes.
const HEADER: usize = 16;
/// Messages read before calls are answered again.
const BATCH: usize = 64;
/// Lines at once, and the milliseconds for one more.
const BURST: u32 = 50;
const EVERY: u64 = 200;

/// The kernel's messages about one profile.
#[derive(Debug)]
pub(super) struct Watch {
    socket: OwnedFd,
    profile: String,
    container: String,
    tokens: u32,
    since: u64,
    /// Messages about the profile so far.
    total: u64,
    /// Those of them that no line says yet.
    suppressed: u64,
    /// The kernel had more than the socket took.
    lost: bool,
}

/// Listens to the kernel's audit messages; takes CAP_AUDIT_READ and the first network namespace.
pub(super) fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let protocol = SockProtocol::NetlinkAudit;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, READLOG))?;
    Ok(socket)
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Watch {
    /// Begins to listen for what is said of `profile`, the profile of `container`.
    pub(super) fn new(profile: &str, container: &str, now: u64) -> io::Result<Self> {
        Ok(Self {
            socket: open()?,
            profile: profile.to_owned(),
            container: container.to_owned(),
            tokens: BURST,
            since: now,
            total: 0,
            suppressed: 0,
            lost: false,
        })
    }

    /// The lines to write about what has come.
    pub(super) fn read(&mut self, now: u64) -> Vec<Line> {
        let mut buffer = vec![0; HEADER + audit::MAX_MESSAGE_BYTES + 1];
        let mut lines = Vec::new();
        for _ in 0..BATCH {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let kernel = from.is_some_and(|from| from.pid() == 0);
                    let datagram = buffer.get(..length).unwrap_or_default();
                    if kernel && let Some(line) = self.take(datagram, now) {
                        lines.push(line);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => self.lost = true,
                Err(_) => break,
            }
        }
        lines
    }

    /// A line for one of the kernel's messages, if it is about the profile and there is room.
    fn take(&mut self, datagram: &[u8], now: u64) -> Option<Line> {
        let text = message_of(datagram)?;
        if !audit::mentions(text, &self.profile) {
            return None;
        }
        let message = audit::parse(text)?;
        if message.profile != self.profile {
            return None;
        }
        self.total += 1;
        let came = now.saturating_sub(self.since) / EVERY;
        self.since += came * EVERY;
        let came = u32::try_from(came).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(came).min(BURST);
        if self.tokens == 0 {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= 1;
        Some(self.line(&message))
    }

    fn line(&self, message: &Message) -> Line {
        Line::Apparmor(Box::new(Apparmor {
            time: clock::at(message.milliseconds),
            container: self.container.clone(),
            pid: message.pid,
            command: shown(&message.command),
            profile: message.profile.clone(),
            allowed: message.verdict == Verdict::Allowed,
            operation: shown(message.operation.as_bytes()),
            name: message.name.as_deref().map(shown),
            meaning: explain(message),
            total: self.total,
        }))
    }

    /// Whether there is something to [`flush`](Self::flush).
    pub(super) fn pending(&self) -> bool {
        self.suppressed > 0 || self.lost
    }

    /// How many messages no line says.
    pub(super) fn flush(&mut self) -> Option<Line> {
        if !self.pending() {
            return None;
        }
        Some(Line::ApparmorSuppressed(ApparmorSuppressed {
            time: clock::now(),
            container: self.container.clone(),
            count: std::mem::take(&mut self.suppressed),
            lost: std::mem::take(&mut self.lost),
            total: self.total,
        }))
    }
}

/// The text of one of AppArmor's messages. The length in the header is not looked at: the kernel has
/// counted it in two ways.
fn message_of(datagram: &[u8]) -> Option<&[u8]> {
    let (header, text) = datagram.split_at_checked(HEADER)?;
    let kind = header.get(4..6)?.try_into().ok()?;
    (u16::from_ne_bytes(kind) == AVC).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None);
        Watch {
            socket: socket.expect("a socket"),
            profile: "cofferdam-1".to_owned(),
            container: "c".to_owned(),
            tokens: BURST,
            since: 0,
            total: 0,
            suppressed: 0,
            lost: false,
        }
    }

    fn datagram(kind: u16, text: &str) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    fn denied(profile: &str) -> String {
        format!(
            "audit(1.500:7): apparmor=\"DENIED\" operation=\"open\" profile=\"{profile}\" \
             name=\"/x\" pid=7 comm=\"sh\" requested_mask=\"r\" denied_mask=\"r\""
        )
    }

    #[test]
    fn only_the_kernels_words_about_this_profile_count() {
        let mut watch = watch();
        let ours = denied("cofferdam-1");
        let Some(Line::Apparmor(line)) = watch.take(&datagram(AVC, &ours), 0) else {
            panic!("a line");
        };
        assert_eq!(line.time, "1970-01-01T00:00:01.500000000Z");
        assert_eq!((line.pid, line.name.as_deref()), (7, Some("/x")));
        // A user program's message, another profile, one that only names ours.
        let other = denied("cofferdam-12");
        let named = denied("other").replace("/x", "cofferdam-1");
        for (kind, text) in [(1100, &ours), (AVC, &other), (AVC, &named)] {
            assert_eq!(watch.take(&datagram(kind, text), 0), None, "{text}");
        }
        assert_eq!(watch.take(b"short", 0), None);
        assert_eq!(watch.total, 1);
    }

    #[test]
    fn what_comes_too_often_is_counted() {
        let mut watch = watch();
        let ours = datagram(AVC, &denied("cofferdam-1"));
        let lines = |watch: &mut Watch, now| {
            (0..200)
                .filter(|_| watch.take(&ours, now).is_some())
                .count()
        };
        assert_eq!(lines(&mut watch, 0), 50);
        let Some(Line::ApparmorSuppressed(counted)) = watch.flush() else {
            panic!("a count");
        };
        assert_eq!((counted.count, counted.total), (150, 200));
        assert!(!watch.pending() && watch.flush().is_none());
        assert_eq!(lines(&mut watch, 1000), 5);
    }
}
