//! Joins two interfaces by traffic control: what arrives at the one is sent out of the other, frame by frame, with
//! the check sums and segments that are still to be made.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage as Message;
use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption,
    TcActionOption, TcActionType, TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage,
    TcMirror, TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};

use crate::netlink::{self, Netlink};
use crate::tap::Tap;
use crate::{NetworkError, NetworkResult};

/// What is at an interface's entrance: `ffff:`.
const ENTRANCE: TcHandle = TcHandle {
    major: 0xffff,
    minor: 0,
};
/// Its kind, which holds filters and nothing else.
const INGRESS: &str = "ingress";
/// By this our actions are known among others' (16 bytes at most).
const COOKIE: &[u8] = b"cofferdam";
/// Every protocol (linux/if_ether.h), and the order of our filter among filters.
const ALL: u16 = 3;
const FIRST: u16 = 1;

/// The inode of the machine's first network namespace since Linux 6.18 (linux/nsfs.h).
const FIRST_NETWORK: u64 = 0xEFFF_FFF9;

/// Makes a tap and brings it up. It has no addresses, so that the host's kernel says nothing on the guest's wire.
/// It goes with the descriptor.
///
/// # Errors
///
/// Where the name is taken, or the caller may not.
pub fn make_tap(name: &str, mtu: u32) -> NetworkResult<Tap> {
    let tap = Tap::create(name)?;
    let mut netlink = Netlink::open()?;
    let index = netlink.link(name)?.header.index;
    let failed = |action| {
        move |source| NetworkError::Kernel {
            action,
            subject: name.to_owned(),
            source,
        }
    };
    // Before it is up: the kernel gives IPv6 addresses as soon as it is.
    let quiet = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    match netlink.set_link(index, None, vec![LinkAttribute::AfSpecUnspec(vec![quiet])]) {
        // The host has no IPv6.
        Err(error) if is_any(&error, &[libc::EAFNOSUPPORT, libc::EOPNOTSUPP]) => {}
        other => other.map_err(failed("keep IPv6 addresses from"))?,
    }
    netlink
        .set_link(index, None, vec![LinkAttribute::Mtu(mtu)])
        .map_err(failed("set the MTU of"))?;
    netlink
        .set_link(index, Some(true), Vec::new())
        .map_err(failed("bring up"))?;
    Ok(tap)
}

/// Joins the two, in both directions. Their own addresses are not reached any more. Done again it changes nothing;
/// where it fails, nothing is left.
///
/// # Errors
///
/// [`NetworkError::HostNamespace`] in the machine's own namespace, [`NetworkError::Bad`] where the two are one, [`NetworkError::InUse`] where somebody else directs what arrives there, or what the kernel says.
pub fn redirect(one: &str, other: &str) -> NetworkResult {
    refuse_hosts()?;
    let mut netlink = Netlink::open()?;
    let (first, second) = (
        End::find(&mut netlink, one)?,
        End::find(&mut netlink, other)?,
    );
    if first.index == second.index {
        // It would send back all that arrives.
        return Err(NetworkError::Bad {
            field: "interfaces to be joined",
            value: format!("{} twice", first.name),
            range: "two",
        });
    }
    let ends = [(&first, &second), (&second, &first)];
    // Both are looked at before either is changed.
    for (end, _) in ends {
        end.clear(&mut netlink)?;
    }
    for (from, to) in ends {
        if let Err(error) = from.send_to(&mut netlink, to) {
            for (end, _) in ends {
                // The first failure is told.
                drop(end.clear(&mut netlink));
            }
            return Err(error);
        }
    }
    Ok(())
}

/// The machine would be cut off.
fn refuse_hosts() -> NetworkResult {
    let look = |path: &str| {
        std::fs::metadata(path).map_err(|source| NetworkError::Kernel {
            action: "look at the network namespace",
            subject: path.to_owned(),
            source,
        })
    };
    let own = look("/proc/thread-self/ns/net")?;
    let is_hosts = own.ino() == FIRST_NETWORK
        || match look("/proc/1/ns/net") {
            Ok(first) => (first.dev(), first.ino()) == (own.dev(), own.ino()),
            // Who has less privileges than the first process cannot see its namespaces.
            Err(NetworkError::Kernel { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                false
            }
            Err(error) => return Err(error),
        };
    if is_hosts {
        return Err(NetworkError::HostNamespace);
    }
    Ok(())
}

/// Undoes [`redirect`](fn@redirect) at one end; the other stays as it is. An interface that is gone, or not joined,
/// is no error.
///
/// # Errors
///
/// [`NetworkError::InUse`] where somebody else directs what arrives there, or what the kernel says.
pub fn unredirect(name: &str) -> NetworkResult {
    let mut netlink = Netlink::open()?;
    match End::find(&mut netlink, name) {
        Ok(end) => end.clear(&mut netlink),
        Err(NetworkError::NoInterface { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// An interface that is joined to another one.
#[derive(Debug)]
struct End {
    name: String,
    index: i32,
}

impl End {
    fn find(netlink: &mut Netlink, name: &str) -> NetworkResult<Self> {
        let link = netlink.link(name)?;
        Ok(Self {
            name: netlink::name(&link).unwrap_or_default().to_owned(),
            // Linux numbers them from 1 in an `int`.
            index: i32::try_from(link.header.index).unwrap_or(i32::MAX),
        })
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
        let subject = self.name.clone();
        move |source| NetworkError::Kernel {
            action,
            subject,
            source,
        }
    }

    fn entrance(&self) -> TcMessage {
        let mut message = TcMessage::with_index(self.index);
        message.header.handle = ENTRANCE;
        message.header.parent = TcHandle::INGRESS;
        message
    }

    /// Takes away what we put there; refuses what others did.
    fn clear(&self, netlink: &mut Netlink) -> NetworkResult {
        let Some(kind) = self.kind(netlink)? else {
            return Ok(());
        };
        let in_use = |what| {
            Err(NetworkError::InUse {
                name: self.name.clone(),
                what,
            })
        };
        if kind != INGRESS {
            return in_use("traffic controls");
        }
        let mut filters = TcMessage::with_index(self.index);
        filters.header.parent = ENTRANCE;
        for entry in netlink.list("filters", &Message::GetTrafficFilter(filters))? {
            if let Message::NewTrafficFilter(filter) = entry
                && !is_ours(&filter)
            {
                return in_use("filters");
            }
        }
        match netlink.change(Message::DelQueueDiscipline(self.entrance()), 0) {
            Err(error)
                if is_any(&error, &[libc::ENOENT, libc::EINVAL, libc::ENODEV])
                    && self.kind(netlink)?.is_none() =>
            {
                Ok(())
            }
            other => other.map_err(self.failed("let go of")),
        }
    }

    /// What is at its entrance, if there is anything.
    fn kind(&self, netlink: &mut Netlink) -> NetworkResult<Option<String>> {
        // The kernel lists those of all interfaces.
        let all = TcMessage::with_index(self.index);
        let list = netlink.list("traffic controls", &Message::GetQueueDiscipline(all))?;
        let found = list.into_iter().find_map(|entry| match entry {
            Message::NewQueueDiscipline(entry)
                if entry.header.index == self.index && entry.header.parent == TcHandle::INGRESS =>
            {
                Some(kind(&entry).unwrap_or_default().to_owned())
            }
            _ => None,
        });
        Ok(found)
    }

    /// Puts an entrance there and a filter that sends all to the other end.
    fn send_to(&self, netlink: &mut Netlink, to: &Self) -> NetworkResult {
        let mut entrance = self.entrance();
        entrance
            .attributes
            .push(TcAttribute::Kind(INGRESS.to_owned()));
        netlink
            .change(
                Message::NewQueueDiscipline(entrance),
                NLM_F_CREATE | NLM_F_EXCL,
            )
            .map_err(self.failed("direct what arrives at"))?;
        let mut filter = TcMessage::with_index(self.index);
        filter.header.parent = ENTRANCE;
        filter.header.info = u32::from(FIRST) << 16 | u32::from(ALL.to_be());
        let options = [
            TcFilterU32Option::Selector(everything()),
            TcFilterU32Option::Action(vec![send(to)]),
        ];
        filter.attributes = vec![
            TcAttribute::Kind(TcFilterU32::KIND.to_owned()),
            TcAttribute::Options(options.into_iter().map(TcOption::U32).collect()),
        ];
        netlink
            .change(Message::NewTrafficFilter(filter), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(self.failed("direct what arrives at"))
    }
}

/// A selector whose one word is whatever it is.
fn everything() -> TcU32Selector {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys = vec![TcU32Key::default()];
    selector
}

fn send(to: &End) -> TcAction {
    let mut generic = TcActionGeneric::default();
    generic.action = TcActionType::Stolen;
    let mut mirror = TcMirror::default();
    mirror.generic = generic;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = u32::try_from(to.index).unwrap_or(0);
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            mirror,
        ))]),
        TcActionAttribute::Cookie(COOKIE.to_vec()),
    ];
    action
}

fn kind(message: &TcMessage) -> Option<&str> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.as_str()),
            _ => None,
        })
}

/// Whether we made it. The tables that u32 keeps its filters in are listed with them, and have no actions.
fn is_ours(filter: &TcMessage) -> bool {
    if kind(filter) != Some(TcFilterU32::KIND) {
        return false;
    }
    let options = filter
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        });
    let mut selects = false;
    let mut actions = Vec::new();
    for option in options.flatten() {
        match option {
            TcOption::U32(TcFilterU32Option::Selector(_)) => selects = true,
            TcOption::U32(TcFilterU32Option::Action(list)) => actions.extend(list),
            _ => {}
        }
    }
    let is_marked = |action: &&TcAction| {
        let cookie = TcActionAttribute::Cookie(COOKIE.to_vec());
        action.attributes.contains(&cookie)
    };
    !selects || (!actions.is_empty() && actions.iter().all(is_marked))
}

fn is_any(error: &io::Error, codes: &[i32]) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}
