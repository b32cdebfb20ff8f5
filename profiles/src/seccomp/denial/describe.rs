//! A call's arguments in words, read through whatever reads the caller's memory.
//!
//! Everything read here was written by a container: lengths are bounded, bytes are escaped, and an
//! address that cannot be read is an ordinary case.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::multiplexed;
use super::names;
use super::signature::{self, Kind};
use crate::seccomp::bpf::Call;

/// The longest string that is read, in bytes.
const LONGEST: usize = 256;
/// `sizeof(struct sockaddr_storage)`.
const SOCKADDR: usize = 128;

/// Reads the memory of the process that made a call.
pub trait Memory {
    /// Reads from `address` on into `buffer` and returns how many bytes could be read.
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize;
}

/// A memory that cannot be read.
#[derive(Debug, Clone, Copy)]
pub struct Unreadable;

impl Memory for Unreadable {
    fn read(&self, _: u64, _: &mut [u8]) -> usize {
        0
    }
}

/// One argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argument {
    /// Its name, or `argN`.
    pub name: String,
    /// The register, in hexadecimal.
    pub value: String,
    /// What it means, where that says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
}

/// The arguments of the call `name`; all six where it is not in the tables.
pub(super) fn arguments(name: &str, call: &Call, memory: &dyn Memory) -> Vec<Argument> {
    let known = signature::of(name);
    (0usize..6)
        .zip(call.args)
        .take(known.map_or(6, <[_]>::len))
        .map(|(index, value)| {
            let parameter = known.and_then(|known| known.get(index));
            Argument {
                name: parameter
                    .map_or_else(|| format!("arg{index}"), |(name, _)| (*name).to_owned()),
                value: format!("{value:#x}"),
                meaning: parameter.and_then(|(_, kind)| meaning(*kind, value, call, memory)),
            }
        })
        .collect()
}

/// The meaning of one argument that needs no memory.
pub(super) fn argument(name: &str, call: &Call, index: usize) -> Option<String> {
    let (_, kind) = signature::of(name)?.get(index)?;
    meaning(*kind, *call.args.get(index)?, call, &Unreadable)
}

/// The low half of a register: what a 32-bit parameter gets.
fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

fn signed(value: u64) -> i32 {
    low(value).cast_signed()
}

fn meaning(kind: Kind, value: u64, call: &Call, memory: &dyn Memory) -> Option<String> {
    match kind {
        Kind::Plain => None,
        Kind::Int => Some(signed(value).to_string()),
        Kind::Octal => Some(format!("{:#o}", low(value))),
        Kind::Directory if signed(value) == -100 => Some("AT_FDCWD".to_owned()),
        Kind::Directory => Some(signed(value).to_string()),
        Kind::Text => Some(text(value, memory)),
        Kind::Flags(table) => Some(names::flags(table, value)),
        Kind::Choice(table) => names::choice(table, low(value)),
        Kind::Type => Some(socket_type(low(value))),
        Kind::Address { length } => {
            let length = call.args.get(usize::from(length)).copied().unwrap_or(0);
            Some(socket_address(value, length, memory))
        }
        Kind::OpenHow => words::<3>(value, memory).map(|[flags, mode, resolve]| {
            let flags = names::flags(names::OPEN, flags);
            format!("{{flags={flags}, mode={mode:#o}, resolve={resolve:#x}}}")
        }),
        Kind::CloneArgs => words::<1>(value, memory)
            .map(|[flags]| format!("{{flags={}}}", names::flags(names::CLONE, flags))),
        Kind::Words => multiplexed::behind(call, memory),
    }
}

/// The first words of a structure.
fn words<const N: usize>(address: u64, memory: &dyn Memory) -> Option<[u64; N]> {
    let mut out = [0; N];
    let mut bytes = vec![0; 8 * N];
    if memory.read(address, &mut bytes) < bytes.len() {
        return None;
    }
    for (word, bytes) in out.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    Some(out)
}

/// A string in quotes, cut after [`LONGEST`] bytes.
fn text(address: u64, memory: &dyn Memory) -> String {
    if address == 0 {
        return "NULL".to_owned();
    }
    let mut bytes = [0; LONGEST];
    let read = memory.read(address, &mut bytes).min(LONGEST);
    let bytes = bytes.get(..read).unwrap_or_default();
    if bytes.is_empty() {
        return "(unreadable)".to_owned();
    }
    match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => format!("\"{}\"", escape(bytes.get(..end).unwrap_or_default())),
        None => format!("\"{}\"...", escape(bytes)),
    }
}

/// Bytes as text that can be read back: what is not printable is `\xNN`, a backslash is doubled.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || c == '"' {
                out.extend(['\\', c]);
            } else if c.is_control() || !plain(c) {
                let mut encoded = [0; 4];
                hex(&mut out, c.encode_utf8(&mut encoded).as_bytes());
            } else {
                out.push(c);
            }
        }
        hex(&mut out, chunk.invalid());
    }
    out
}

fn hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

/// Not a character that reorders or hides others on a terminal (Unicode UAX #9, zero width).
fn plain(c: char) -> bool {
    !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `SOCK_*` with its flags.
fn socket_type(value: u32) -> String {
    let kind =
        names::choice(names::SOCKET_TYPE, value & 0xf).unwrap_or_else(|| (value & 0xf).to_string());
    match value & !0xf {
        0 => kind,
        flags => format!("{kind}|{}", names::flags(names::SOCKET_FLAGS, flags.into())),
    }
}

/// A socket address of the common families.
fn socket_address(address: u64, length: u64, memory: &dyn Memory) -> String {
    if address == 0 {
        return "NULL".to_owned();
    }
    let mut bytes = [0; SOCKADDR];
    let wanted = usize::try_from(length & 0xffff_ffff)
        .unwrap_or(SOCKADDR)
        .min(SOCKADDR);
    let buffer = bytes.get_mut(..wanted).unwrap_or_default();
    let read = memory.read(address, buffer).min(wanted);
    let bytes = bytes.get(..read).unwrap_or_default();
    let Some((family, rest)) = bytes.split_first_chunk::<2>() else {
        return "(unreadable)".to_owned();
    };
    let family = u32::from(u16::from_ne_bytes(*family));
    let name = names::choice(names::FAMILY, family).unwrap_or_else(|| format!("family {family}"));
    let detail = match family {
        1 => unix(rest),
        2 => internet(rest),
        10 => internet6(rest),
        _ => None,
    };
    match detail {
        Some(detail) => format!("{name} {detail}"),
        None => name,
    }
}

/// `sun_path`: a name in the file system, or after a NUL an abstract one, written with `@`.
fn unix(rest: &[u8]) -> Option<String> {
    let (first, abstract_name) = rest.split_first()?;
    if *first == 0 {
        return Some(format!("\"@{}\"", escape(abstract_name)));
    }
    let end = rest
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(rest.len());
    Some(format!("\"{}\"", escape(rest.get(..end)?)))
}

fn internet(rest: &[u8]) -> Option<String> {
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let address = std::net::Ipv4Addr::from(*rest.first_chunk::<4>()?);
    Some(format!("{address}:{}", u16::from_be_bytes(*port)))
}

fn internet6(rest: &[u8]) -> Option<String> {
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (_, rest) = rest.split_first_chunk::<4>()?;
    let address = std::net::Ipv6Addr::from(*rest.first_chunk::<16>()?);
    Some(format!("[{address}]:{}", u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::{Arch, numbers};

    /// Some bytes at address 4096, nothing elsewhere.
    struct Page(Vec<u8>);

    impl Memory for Page {
        fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
            let Some(from) = address
                .checked_sub(4096)
                .and_then(|at| self.0.get(usize::try_from(at).ok()?..))
            else {
                return 0;
            };
            let n = from.len().min(buffer.len());
            buffer[..n].copy_from_slice(&from[..n]);
            n
        }
    }

    fn shown(name: &str, args: [u64; 6], memory: &dyn Memory) -> String {
        let call = Call {
            audit: Arch::NATIVE.audit(),
            number: numbers::resolve(Arch::NATIVE, name).unwrap_or(0),
            args,
        };
        let list = arguments(name, &call, memory);
        let words = list
            .iter()
            .map(|a| a.meaning.clone().unwrap_or_else(|| a.value.clone()));
        words.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn arguments_are_named() {
        let page = Page(b"/etc/\xff\n\"x\0rest".to_vec());
        let how: Vec<u8> = [0o2000001u64, 0o644, 8]
            .iter()
            .flat_map(|w| w.to_ne_bytes())
            .collect();
        let inet = Page([&2u16.to_ne_bytes()[..], &[0, 80, 10, 0, 0, 1]].concat());
        let unix = Page([&1u16.to_ne_bytes()[..], b"\0bus"].concat());
        let table: [(&str, [u64; 6], &dyn Memory, &str); 14] = [
            (
                "openat",
                [0xffff_ff9c, 4096, 0o100, 0o600, 0, 0],
                &page,
                r#"AT_FDCWD, "/etc/\xff\x0a\"x", O_RDONLY|O_CREAT, 0o600"#,
            ),
            (
                "openat2",
                [5, 9, 4096, 24, 0, 0],
                &Page(how),
                r#"5, (unreadable), {flags=O_WRONLY|O_CLOEXEC, mode=0o644, resolve=0x8}, 0x18"#,
            ),
            (
                "socket",
                [40, 0x80001, 0, 0, 0, 0],
                &Unreadable,
                "AF_VSOCK, SOCK_STREAM|SOCK_CLOEXEC, 0x0",
            ),
            ("socket", [99, 9, 0, 0, 0, 0], &Unreadable, "0x63, 9, 0x0"),
            (
                "connect",
                [3, 4096, 8, 0, 0, 0],
                &inet,
                "3, AF_INET 10.0.0.1:80, 0x8",
            ),
            (
                "connect",
                [3, 4096, 6, 0, 0, 0],
                &unix,
                r#"3, AF_UNIX "@bus", 0x6"#,
            ),
            (
                "connect",
                [3, 4096, 0, 0, 0, 0],
                &unix,
                "3, (unreadable), 0x0",
            ),
            (
                "connect",
                [3, 4096, u64::MAX, 0, 0, 0],
                &inet,
                "3, AF_INET 10.0.0.1:80, 0xffffffffffffffff",
            ),
            (
                "mount",
                [0, 4096, 4096, 0x1001, 0, 0],
                &page,
                r#"NULL, "/etc/\xff\x0a\"x", "/etc/\xff\x0a\"x", MS_RDONLY|MS_BIND, 0x0"#,
            ),
            (
                "unshare",
                [0x1002_0000, 0, 0, 0, 0, 0],
                &page,
                "CLONE_NEWNS|CLONE_NEWUSER",
            ),
            (
                "clone",
                [0x1000_0011, 0, 0, 0, 0, 0],
                &page,
                "CLONE_NEWUSER|0x11, 0x0, 0x0, 0x0, 0x0",
            ),
            ("ioctl", [0, 0x5412, 7, 0, 0, 0], &page, "0, TIOCSTI, 0x7"),
            (
                "keyctl",
                [1, 0, 0, 0, 0, 0],
                &page,
                "KEYCTL_JOIN_SESSION_KEYRING, 0x0, 0x0, 0x0, 0x0",
            ),
            (
                "no_such",
                [1, 2, 3, 4, 5, 6],
                &page,
                "0x1, 0x2, 0x3, 0x4, 0x5, 0x6",
            ),
        ];
        for (name, args, memory, expected) in table {
            assert_eq!(shown(name, args, memory), expected, "{name}");
        }
    }

    #[test]
    fn an_endless_string_is_cut() {
        let page = Page(vec![b'a'; 100_000]);
        let all = shown("chroot", [4096, 0, 0, 0, 0, 0], &page);
        assert_eq!(all, format!("\"{}\"...", "a".repeat(LONGEST)));
        // The end of a mapping is the end of what can be read, with or without a NUL.
        assert_eq!(
            shown("chroot", [4096 + 99_998, 0, 0, 0, 0, 0], &page),
            "\"aa\"..."
        );
    }

    #[test]
    fn escaped_text_hides_nothing() {
        for (bytes, expected) in [
            (&b"plain"[..], "plain"),
            (b"a\\b", "a\\\\b"),
            (b"\x1b[2J", "\\x1b[2J"),
            ("é".as_bytes(), "é"),
            ("\u{202e}x".as_bytes(), "\\xe2\\x80\\xaex"),
            (b"\xc3", "\\xc3"),
        ] {
            assert_eq!(escape(bytes), expected);
        }
    }
}
