//! Landlock: a model of file access and the kernel's ABI version to a ruleset, and to the list of
//! what that kernel cannot enforce. The numbers are those of linux/landlock.h.

/// What follows from an OCI spec: its root, mounts and devices.
mod spec;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::access::{Access, AccessPath, Grant, Place, Ports, Right, Rights, Source};

pub use spec::of_spec;

/// The newest ABI version of which something is used here.
pub const NEWEST_ABI: u32 = 7;

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_BLOCK: u64 = 1 << 11;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

const BIND_TCP: u64 = 1 << 0;
const CONNECT_TCP: u64 = 1 << 1;

const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1 << 0;
const SCOPE_SIGNAL: u64 = 1 << 1;

/// `LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON`: log what is denied after `execve`, too.
const LOG_NEW_EXEC_ON: u32 = 1 << 1;

/// The rights that a rule for something else than a directory can have.
pub const FILE_RIGHTS: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

const MAKE: u64 = MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER;
const REMOVE: u64 = REMOVE_DIR | REMOVE_FILE | REFER;

/// The ABI version that brought what is not in version 1.
const ABI_REFER: u32 = 2;
const ABI_TRUNCATE: u32 = 3;
const ABI_NETWORK: u32 = 4;
const ABI_IOCTL: u32 = 5;
const ABI_SCOPE: u32 = 6;
const ABI_LOG: u32 = 7;

/// Something asked for that a kernel's Landlock cannot enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gap {
    /// There is no Landlock at all.
    Everything,
    /// Files that may not be written can be truncated by their path.
    Truncate,
    /// TCP ports.
    Ports,
    /// Commands to devices.
    DeviceIoctl,
    /// Signals.
    Signals,
    /// Abstract Unix sockets.
    AbstractSockets,
    /// Raw sockets.
    RawSockets,
    /// Families of sockets.
    Families,
}

impl Gap {
    /// The ABI version that can enforce it; `None` where none can.
    pub fn since(self) -> Option<u32> {
        match self {
            Self::Everything => Some(1),
            Self::Truncate => Some(ABI_TRUNCATE),
            Self::Ports => Some(ABI_NETWORK),
            Self::DeviceIoctl => Some(ABI_IOCTL),
            Self::Signals | Self::AbstractSockets => Some(ABI_SCOPE),
            Self::RawSockets | Self::Families => None,
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Everything => "Landlock",
            Self::Truncate => "truncating files that may not be written",
            Self::Ports => "TCP ports",
            Self::DeviceIoctl => "commands to devices",
            Self::Signals => "signals to processes outside",
            Self::AbstractSockets => "abstract Unix sockets of processes outside",
            Self::RawSockets => "raw sockets",
            Self::Families => "families of sockets",
        })
    }
}

/// A path, the rights below it, and how it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRule {
    /// The path in the container.
    pub path: AccessPath,
    /// `LANDLOCK_ACCESS_FS_*`.
    pub access: u64,
    /// Whether links on the way are followed. A mount's place is where they lead; a link on the way of
    /// another rule was put there by somebody else than the rule's author.
    pub follow: bool,
    /// Where there is nothing at the path, it holds for a directory above in which the path will be made, so
    /// many up at most; 0 leaves it out. Never the root: a rule for that would hold for everything.
    /// Rulesets of older versions do not have it.
    #[serde(default)]
    pub up: u16,
    /// Whether it is for the path alone: where that is a directory, the rights on files would hold for all
    /// below it and are left out. Rulesets of older versions do not have it.
    #[serde(default)]
    pub alone: bool,
}

/// A port and what may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRule {
    /// The port.
    pub port: u16,
    /// `LANDLOCK_ACCESS_NET_*`.
    pub access: u64,
}

/// All that the kernel is told. Kept with the container, so that later processes get the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruleset {
    /// The ABI version that it was made for.
    pub abi: u32,
    /// `LANDLOCK_ACCESS_FS_*` that are denied where no rule allows them.
    pub handled_fs: u64,
    /// `LANDLOCK_ACCESS_NET_*` likewise.
    pub handled_net: u64,
    /// `LANDLOCK_SCOPE_*`.
    pub scoped: u64,
    /// Flags of `landlock_restrict_self`.
    pub flags: u32,
    /// What is allowed of files.
    pub paths: Vec<PathRule>,
    /// What is allowed of ports.
    pub ports: Vec<PortRule>,
    /// What was asked for and is not enforced.
    pub gaps: Vec<Gap>,
}

/// What a ruleset is made of.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is allowed.
    pub access: &'a Access,
    /// Whether files are bounded at all.
    pub files: bool,
    /// Whether the kernel's audit log shall have what is denied.
    pub log: bool,
}

impl Ruleset {
    /// The ruleset for a kernel of ABI version `abi`; `None` stands for one without Landlock.
    pub fn new(request: Request<'_>, abi: Option<u32>) -> Self {
        let Request { access, files, log } = request;
        let known = abi.unwrap_or(0);
        let mut ruleset = Self {
            abi: known.min(NEWEST_ABI),
            gaps: gaps(request, known),
            ..Self::default()
        };
        if known == 0 {
            return ruleset;
        }
        if files {
            ruleset.handled_fs = handled(known);
            ruleset.paths = path_rules(access, ruleset.handled_fs);
        }
        if known >= ABI_NETWORK {
            ruleset.ports(access);
        }
        if known >= ABI_SCOPE {
            let scope = access.scope;
            let bit = |on, bit| if on { bit } else { 0 };
            ruleset.scoped = bit(scope.signals, SCOPE_SIGNAL)
                | bit(scope.abstract_sockets, SCOPE_ABSTRACT_UNIX_SOCKET);
        }
        if known >= ABI_LOG && log {
            ruleset.flags = LOG_NEW_EXEC_ON;
        }
        ruleset
    }

    /// Whether there is anything to tell the kernel.
    pub fn is_empty(&self) -> bool {
        self.handled_fs == 0 && self.handled_net == 0 && self.scoped == 0
    }

    fn ports(&mut self, access: &Access) {
        let Some(network) = &access.network else {
            return;
        };
        let mut rules = BTreeMap::<u16, u64>::new();
        for (ports, bit) in [
            (&network.tcp_bind, BIND_TCP),
            (&network.tcp_connect, CONNECT_TCP),
        ] {
            if let Ports::Only(ports) = ports {
                self.handled_net |= bit;
                for port in ports {
                    *rules.entry(*port).or_default() |= bit;
                }
            }
        }
        let rule = |(port, access)| PortRule { port, access };
        self.ports = rules.into_iter().map(rule).collect();
    }

    /// The rules in words, a line each: rights, then the path or port.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.paths.iter().map(path_line).collect();
        for (bit, word) in [(BIND_TCP, "bind"), (CONNECT_TCP, "connect")] {
            if self.handled_net & bit == 0 {
                continue;
            }
            let ports = self.ports.iter().filter(|rule| rule.access & bit != 0);
            let ports: Vec<String> = ports.map(|rule| rule.port.to_string()).collect();
            let ports = if ports.is_empty() {
                "none".to_owned()
            } else {
                ports.join(", ")
            };
            lines.push(format!("{word} TCP: {ports}"));
        }
        for (bit, gap) in [
            (SCOPE_SIGNAL, Gap::Signals),
            (SCOPE_ABSTRACT_UNIX_SOCKET, Gap::AbstractSockets),
        ] {
            if self.scoped & bit != 0 {
                lines.push(format!("no {gap}"));
            }
        }
        lines
    }
}

fn path_line(rule: &PathRule) -> String {
    const WORDS: [(u64, &str); 7] = [
        (READ_FILE | READ_DIR, "read"),
        (EXECUTE, "execute"),
        (WRITE_FILE, "write"),
        (MAKE_REG, "create"),
        (REMOVE_FILE, "remove"),
        (IOCTL_DEV, "ioctl"),
        (MAKE_CHAR, "make-device"),
    ];
    let words = WORDS.iter().filter(|(bits, _)| rule.access & bits != 0);
    let words: Vec<&str> = words.map(|(_, word)| *word).collect();
    let line = format!("{} {}", rule.path, words.join(", "));
    let highest = rule.path.parents().take(rule.up.into());
    match highest.filter(|above| !above.is_root()).last() {
        None => line,
        Some(above) if rule.up == 1 => format!("{line}; or above, at {above}"),
        Some(above) => format!("{line}; or above, as far up as {above}"),
    }
}

/// All that version `abi` knows of files.
fn handled(abi: u32) -> u64 {
    let mut all = (MAKE_SYM << 1) - 1;
    for (since, bit) in [
        (ABI_REFER, REFER),
        (ABI_TRUNCATE, TRUNCATE),
        (ABI_IOCTL, IOCTL_DEV),
    ] {
        if abi >= since {
            all |= bit;
        }
    }
    all
}

fn gaps(request: Request<'_>, abi: u32) -> Vec<Gap> {
    let Request { access, files, .. } = request;
    let network = access.network.as_ref();
    let asked = [
        (files, Gap::Truncate),
        (files, Gap::DeviceIoctl),
        (
            network.is_some_and(|n| n.tcp_bind != Ports::Any || n.tcp_connect != Ports::Any),
            Gap::Ports,
        ),
        (access.scope.signals, Gap::Signals),
        (access.scope.abstract_sockets, Gap::AbstractSockets),
        (
            network.is_some_and(|n| n.raw == Some(false)),
            Gap::RawSockets,
        ),
        (network.is_some_and(|n| n.families.is_some()), Gap::Families),
    ];
    if abi == 0 {
        return vec![Gap::Everything];
    }
    let missing = asked.into_iter().filter(|(asked, _)| *asked);
    let missing = missing.map(|(_, gap)| gap);
    missing
        .filter(|gap| gap.since().is_none_or(|since| abi < since))
        .collect()
}

/// What Landlock calls rights on files that are there.
fn on_files(rights: Rights) -> u64 {
    bits(
        rights,
        &[
            (Right::Read, READ_FILE),
            (Right::Write, WRITE_FILE | TRUNCATE),
            (Right::Execute, EXECUTE),
            (Right::List, READ_DIR),
            (Right::Ioctl, IOCTL_DEV),
        ],
    )
}

/// What Landlock calls rights on the directory in which something is made or removed.
fn on_entries(rights: Rights) -> u64 {
    bits(
        rights,
        &[
            (Right::Create, MAKE),
            (Right::Remove, REMOVE),
            (Right::MakeDevice, MAKE_CHAR | MAKE_BLOCK),
        ],
    )
}

fn bits(rights: Rights, table: &[(Right, u64)]) -> u64 {
    let has = table.iter().filter(|(right, _)| rights.has(*right));
    has.fold(0, |all, (_, bits)| all | bits)
}

/// Rules hold for a path and all below it, and stand on the file, not on its name. So for a name that
/// may be made, its directory gets both the right to make it and the rights on what was made; that is
/// wider than the model, and reports say so. A name in the root gets no such rule, see [`left_out`].
fn path_rules(access: &Access, handled: u64) -> Vec<PathRule> {
    let mut rules = BTreeMap::<(AccessPath, bool, bool), u64>::new();
    let mut add = |path: &AccessPath, grant: &Grant, access: u64, alone: bool| {
        if access & handled == 0 {
            return;
        }
        let follow = by_spec_alone(grant);
        *rules.entry((path.clone(), follow, alone)).or_default() |= access & handled;
    };
    for (place, grant) in access.files() {
        let (files, entries) = (on_files(grant.rights), on_entries(grant.rights));
        let made = grant.rights.has(Right::Create);
        let parent = place.path.parent().filter(|parent| !parent.is_root());
        match parent {
            _ if place.subtree => add(&place.path, grant, files | entries, false),
            Some(parent) if made => add(&parent, grant, files | entries, false),
            parent => {
                add(&place.path, grant, files, true);
                if let Some(parent) = parent {
                    add(&parent, grant, entries, false);
                }
            }
        }
    }
    rules
        .into_iter()
        .map(|((path, follow, alone), rights)| PathRule {
            // What the runtime makes itself is there.
            up: if alone || follow {
                0
            } else {
                makeable(access, &path)
            },
            path,
            access: rights,
            follow,
            alone,
        })
        .collect()
}

/// Whether the runtime made it, following links, and nobody else has a say.
fn by_spec_alone(grant: &Grant) -> bool {
    let made_here = |from: &Source| matches!(from, Source::Mount | Source::Device);
    grant.from.iter().all(made_here)
}

/// How many directories up the way to a path need not be there, because the model lets it be made. A rule
/// for all below a directory does not say that of the directory: else an image that leaves the directory out
/// would have the rule hold for all of the one above.
fn makeable(access: &Access, path: &AccessPath) -> u16 {
    let way = std::iter::once(path.clone()).chain(path.parents());
    // The last one that can be made must have a directory that is not the root.
    let way = way.take_while(|path| path.parent().is_some_and(|above| !above.is_root()));
    let made = way.take_while(|path| access.rights_of_name(path).has(Right::Create));
    u16::try_from(made.count()).unwrap_or(u16::MAX)
}

/// The names in the root that a model lets be made or removed, and Landlock cannot: a rule for the root's
/// entries holds for the entries of every directory. What is there can be used as the model says.
pub fn left_out(access: &Access) -> Vec<&AccessPath> {
    let in_root = |path: &AccessPath| path.parent().is_some_and(|parent| parent.is_root());
    let left = |(place, grant): &(&Place, &Grant)| {
        !place.subtree && in_root(&place.path) && on_entries(grant.rights) != 0
    };
    access
        .files()
        .filter(left)
        .map(|(place, _)| &place.path)
        .collect()
}

/// How many rules of a model Landlock gives to more than they say: those for a directory alone, those for a
/// name that is made, and those that go to a directory above where there is nothing yet.
pub fn widened(access: &Access) -> usize {
    let beyond = Rights::of(&[Right::List, Right::Create, Right::Remove, Right::MakeDevice]);
    let wider = |(place, grant): &(&Place, &Grant)| match place.subtree {
        true => !by_spec_alone(grant) && makeable(access, &place.path) > 0,
        false => !(grant.rights & beyond).is_empty(),
    };
    access.files().filter(wider).count() - left_out(access).len()
}
