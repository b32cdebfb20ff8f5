//! Requests to the kernel's network (rtnetlink(7)). Each is answered before the next one is made.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::{NetworkError, NetworkResult};

/// The largest piece of an answer that the kernel sends at once, bytes: it fills what it is given, 32 KiB at most.
const PIECE: usize = 64 << 10;
/// The longest list that is read; a pod has no more.
const LONGEST: usize = 1 << 16;
/// How often a list is asked for anew that changed while it was read.
const TRIES: u32 = 10;

/// A connection to the network of the namespace that it was made in.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    pub(crate) fn open() -> NetworkResult<Self> {
        let failed = |source| NetworkError::Kernel {
            action: "open",
            subject: "a netlink socket".to_owned(),
            source,
        };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    fn send(&mut self, message: Message, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// Makes a change.
    pub(crate) fn change(&mut self, message: Message, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_ACK | flags)?;
        loop {
            for answer in self.receive()? {
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::Overrun(_) => {
                        return Err(io::Error::other("an answer was lost"));
                    }
                    _ => {}
                }
            }
        }
    }

    /// Reads a list.
    pub(crate) fn list(
        &mut self,
        subject: &'static str,
        message: &Message,
    ) -> NetworkResult<Vec<Message>> {
        let failed = |source| NetworkError::Answer { subject, source };
        for _ in 0..TRIES {
            if let Some(list) = self.list_once(message).map_err(failed)? {
                return Ok(list);
            }
        }
        Err(failed(io::Error::other("it changes as fast as it is read")))
    }

    /// None where the list changed meanwhile.
    fn list_once(&mut self, message: &Message) -> io::Result<Option<Vec<Message>>> {
        self.send(message.clone(), NLM_F_DUMP)?;
        let (mut list, mut whole) = (Vec::new(), true);
        loop {
            for answer in self.receive()? {
                whole &= answer.header.flags & NLM_F_DUMP_INTR == 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(entry) if list.len() < LONGEST => list.push(entry),
                    NetlinkPayload::InnerMessage(_) => {
                        return Err(io::Error::other("it is too long"));
                    }
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Done(_) => return Ok(whole.then_some(list)),
                    NetlinkPayload::Overrun(_) => {
                        return Err(io::Error::other("a part of it was lost"));
                    }
                    _ => {}
                }
            }
        }
    }

    /// The next answers to the last request.
    fn receive(&self) -> io::Result<Vec<NetlinkMessage<Message>>> {
        let mut bytes = Vec::with_capacity(PIECE);
        let length = self.socket.recv(&mut bytes, libc::MSG_TRUNC)?;
        if length == 0 || length > bytes.len() {
            return Err(io::Error::other("an answer has no end"));
        }
        let mut answers = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::deserialize(rest).map_err(io::Error::other)?;
            let length = usize::try_from(answer.header.length).unwrap_or(usize::MAX);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if answer.header.sequence_number == self.sequence {
                answers.push(answer);
            }
        }
        Ok(answers)
    }

    /// Every interface.
    pub(crate) fn links(&mut self) -> NetworkResult<Vec<LinkMessage>> {
        let list = self.list("interfaces", &Message::GetLink(LinkMessage::default()))?;
        let links = list.into_iter().filter_map(|entry| match entry {
            Message::NewLink(link) => Some(link),
            _ => None,
        });
        Ok(links.collect())
    }

    /// The interface of this name.
    pub(crate) fn link(&mut self, name: &str) -> NetworkResult<LinkMessage> {
        let found = self
            .links()?
            .into_iter()
            .find(|link| self::name(link) == Some(name));
        found.ok_or_else(|| NetworkError::NoInterface {
            name: name.chars().take(32).collect(),
        })
    }

    /// Changes an interface.
    pub(crate) fn set_link(
        &mut self,
        index: u32,
        up: Option<bool>,
        attributes: Vec<LinkAttribute>,
    ) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if let Some(up) = up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up {
                LinkFlags::Up
            } else {
                LinkFlags::empty()
            };
        }
        message.attributes = attributes;
        self.change(Message::SetLink(message), 0)
    }
}

/// An interface's name.
pub(crate) fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
}
