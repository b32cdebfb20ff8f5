//! What the kernel writes when a profile denies something, or in complain mode would have.
//!
//! `audit(SECONDS.MILLISECONDS:SERIAL): apparmor="DENIED" operation="open" profile="P" name="/f" ...`:
//! words `key=value`, the value in quotes, bare, or, where a container chose it and it holds anything
//! odd, bare in hexadecimal digits. Nothing in it can end its value: the kernel sees to that.

/// The longest message that is read, in bytes (`MAX_AUDIT_MESSAGE_LENGTH` of linux/audit.h).
pub const MAX_MESSAGE_BYTES: usize = 8970;

/// The most words of a message; the kernel writes some twenty.
const MAX_WORDS: usize = 64;

/// Fields that hold what somebody chose, and are in hexadecimal digits where it is odd.
const ENCODED: &[&str] = &["name", "comm", "profile", "target", "srcname", "peer"];

/// Whether it was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was.
    Denied,
    /// It was not, for the profile complains only.
    Allowed,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// When, in milliseconds since 1970.
    pub milliseconds: u64,
    /// The message's number since boot.
    pub serial: u64,
    /// Whether it was denied.
    pub verdict: Verdict,
    /// The profile's name.
    pub profile: String,
    /// What was tried, such as `open`, `capable`, `ptrace`.
    pub operation: String,
    /// The file, the mount's place; bytes, for a container chose them.
    pub name: Option<Vec<u8>>,
    /// The process, by its id in the first pid namespace; 0 if it is not told.
    pub pid: i32,
    /// The thread's name.
    pub command: Vec<u8>,
    /// What was asked for, in the kernel's letters or words.
    pub requested: String,
    /// What of it was denied.
    pub denied: String,
    /// The capability, as `sys_admin`.
    pub capability: Option<String>,
    /// The signal, as `kill`.
    pub signal: Option<String>,
    /// The other process's profile.
    pub peer: Option<String>,
    /// The sockets' family, as `inet`.
    pub family: Option<String>,
    /// The sockets' type, as `raw`.
    pub socket: Option<String>,
}

/// Whether `message` may be one that names `profile`: looked at before it is read, since everybody
/// hears all messages.
pub fn mentions(message: &[u8], profile: &str) -> bool {
    let needle = profile.as_bytes();
    !needle.is_empty() && message.windows(needle.len()).any(|window| window == needle)
}

/// Reads a message; `None` if it is not one of AppArmor's about something denied, or damaged.
pub fn parse(message: &[u8]) -> Option<Message> {
    if message.len() > MAX_MESSAGE_BYTES {
        return None;
    }
    let message = message.strip_suffix(b"\0").unwrap_or(message);
    let rest = message.strip_prefix(b"audit(")?;
    let end = rest.iter().position(|b| *b == b')')?;
    let (stamp, rest) = rest.split_at(end);
    let (milliseconds, serial) = stamp_of(stamp)?;
    let words = Words {
        rest: rest.strip_prefix(b"):")?,
    };
    let mut found = Fields::default();
    for (count, (key, value)) in words.enumerate() {
        if count >= MAX_WORDS {
            return None;
        }
        found.take(key, value)?;
    }
    found.message(milliseconds, serial)
}

fn stamp_of(stamp: &[u8]) -> Option<(u64, u64)> {
    let stamp = std::str::from_utf8(stamp).ok()?;
    let (time, serial) = stamp.split_once(':')?;
    let (seconds, milliseconds) = time.split_once('.')?;
    if milliseconds.len() != 3 {
        return None;
    }
    let seconds: u64 = number(seconds)?;
    let milliseconds: u64 = number(milliseconds)?;
    let all = seconds.checked_mul(1000)?.checked_add(milliseconds)?;
    Some((all, number(serial)?))
}

/// A plain decimal number: `parse` alone takes a sign.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A value, and whether it stood in quotes.
#[derive(Debug, Clone, Copy)]
struct Value<'m> {
    bytes: &'m [u8],
    quoted: bool,
}

/// The words of a message.
struct Words<'m> {
    rest: &'m [u8],
}

impl<'m> Iterator for Words<'m> {
    type Item = (&'m [u8], Value<'m>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.rest.iter().position(|b| *b != b' ')?;
            self.rest = self.rest.get(start..)?;
            let end = self.rest.iter().position(|b| matches!(b, b'=' | b' '));
            let end = end.unwrap_or(self.rest.len());
            let (key, rest) = self.rest.split_at(end);
            let Some(rest) = rest.strip_prefix(b"=") else {
                // A word alone says nothing.
                self.rest = rest;
                continue;
            };
            let (bytes, quoted, rest) = match rest.strip_prefix(b"\"") {
                Some(inner) => {
                    let end = inner.iter().position(|b| *b == b'"')?;
                    (inner.get(..end)?, true, inner.get(end + 1..)?)
                }
                None => {
                    let end = rest.iter().position(|b| *b == b' ');
                    let (bytes, rest) = rest.split_at(end.unwrap_or(rest.len()));
                    (bytes, false, rest)
                }
            };
            self.rest = rest;
            return Some((key, Value { bytes, quoted }));
        }
    }
}

#[derive(Default)]
struct Fields {
    verdict: Option<Verdict>,
    profile: Option<String>,
    operation: Option<String>,
    name: Option<Vec<u8>>,
    pid: i32,
    command: Vec<u8>,
    requested: String,
    denied: String,
    capability: Option<String>,
    signal: Option<String>,
    peer: Option<String>,
    family: Option<String>,
    socket: Option<String>,
}

impl Fields {
    /// Takes a word; `None` if what it says makes the message none of ours.
    fn take(&mut self, key: &[u8], value: Value<'_>) -> Option<()> {
        let key = std::str::from_utf8(key).unwrap_or_default();
        let bytes = match ENCODED.contains(&key) && !value.quoted {
            true => decode(value.bytes),
            false => value.bytes.to_vec(),
        };
        let text = || String::from_utf8_lossy(&bytes).into_owned();
        match key {
            // The first of a name counts: what a container chose comes after what the kernel says.
            "apparmor" if self.verdict.is_none() => {
                self.verdict = Some(match bytes.as_slice() {
                    b"DENIED" => Verdict::Denied,
                    b"ALLOWED" => Verdict::Allowed,
                    _ => return None,
                });
            }
            "profile" if self.profile.is_none() => self.profile = Some(text()),
            "operation" if self.operation.is_none() => self.operation = Some(text()),
            "name" if self.name.is_none() => self.name = Some(bytes),
            "pid" if self.pid == 0 => self.pid = number(&text()).unwrap_or(0),
            "comm" if self.command.is_empty() => self.command = bytes,
            "requested_mask" | "requested" => self.requested = text(),
            "denied_mask" | "denied" => self.denied = text(),
            "capname" => self.capability = Some(text()),
            "signal" => self.signal = Some(text()),
            "peer" => self.peer = Some(text()),
            "family" => self.family = Some(text()),
            "sock_type" => self.socket = Some(text()),
            _ => {}
        }
        Some(())
    }

    fn message(self, milliseconds: u64, serial: u64) -> Option<Message> {
        Some(Message {
            milliseconds,
            serial,
            verdict: self.verdict?,
            profile: self.profile?,
            operation: self.operation?,
            name: self.name,
            pid: self.pid,
            command: self.command,
            requested: self.requested,
            denied: self.denied,
            capability: self.capability,
            signal: self.signal,
            peer: self.peer,
            family: self.family,
            socket: self.socket,
        })
    }
}

/// What hexadecimal digits stand for; anything else stands for itself (`(null)`).
fn decode(bytes: &[u8]) -> Vec<u8> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    };
    let (pairs, rest) = bytes.as_chunks::<2>();
    let pair = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    let decoded: Option<Vec<u8>> = pairs.iter().map(pair).collect();
    match decoded {
        Some(decoded) if rest.is_empty() => decoded,
        _ => bytes.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN: &str = "audit(1700000000.123:45): apparmor=\"DENIED\" operation=\"open\" \
        profile=\"cofferdam-00112233445566778899aabbccddeeff\" name=\"/etc/x\" pid=4242 comm=\"sh\" \
        requested_mask=\"wc\" denied_mask=\"wc\" fsuid=0 ouid=0";

    #[test]
    fn a_message_about_a_file_is_read() {
        let message = parse(OPEN.as_bytes()).expect("a message");
        assert_eq!(message.milliseconds, 1_700_000_000_123);
        assert_eq!(message.serial, 45);
        assert_eq!(message.verdict, Verdict::Denied);
        assert_eq!(
            message.profile,
            "cofferdam-00112233445566778899aabbccddeeff"
        );
        assert_eq!(message.operation, "open");
        assert_eq!(message.name.as_deref(), Some(b"/etc/x".as_slice()));
        assert_eq!(
            (message.pid, message.command.as_slice()),
            (4242, b"sh".as_slice())
        );
        assert_eq!(
            (message.requested.as_str(), message.denied.as_str()),
            ("wc", "wc")
        );
    }

    #[test]
    fn messages_about_other_things_are_read() {
        let of = |words: &str| {
            let text = format!("audit(1.000:1): apparmor=\"ALLOWED\" profile=\"p\" {words}\0");
            parse(text.as_bytes()).expect("a message")
        };
        let capable =
            of("operation=\"capable\" pid=1 comm=\"x\" capability=21  capname=\"sys_admin\"");
        assert_eq!(capable.verdict, Verdict::Allowed);
        assert_eq!(capable.capability.as_deref(), Some("sys_admin"));
        let signal = of(
            "operation=\"signal\" requested_mask=\"send\" denied_mask=\"send\" signal=kill \
             peer=\"unconfined\"",
        );
        assert_eq!(signal.signal.as_deref(), Some("kill"));
        assert_eq!(signal.peer.as_deref(), Some("unconfined"));
        let socket = of(
            "operation=\"create\" family=\"inet\" sock_type=\"raw\" protocol=1 \
             requested_mask=\"create\" denied_mask=\"create\"",
        );
        assert_eq!(
            (socket.family.as_deref(), socket.socket.as_deref()),
            (Some("inet"), Some("raw"))
        );
    }

    #[test]
    fn what_a_container_chose_forges_nothing() {
        // The kernel writes a name with a quote, a space or a line's end in digits.
        let forged = b"/x\" apparmor=\"ALLOWED\" profile=\"other\n";
        let digits: String = forged.iter().map(|b| format!("{b:02X}")).collect();
        let text = OPEN.replace("\"/etc/x\"", &digits);
        let message = parse(text.as_bytes()).expect("a message");
        assert_eq!(message.name.as_deref(), Some(forged.as_slice()));
        assert_eq!(message.verdict, Verdict::Denied);
        // Should it ever not: the first word of a name counts.
        let text = OPEN.replace("\"sh\"", "\"sh\" profile=\"other\" apparmor=\"ALLOWED\"");
        let message = parse(text.as_bytes()).expect("a message");
        assert_eq!(message.verdict, Verdict::Denied);
        assert!(message.profile.starts_with("cofferdam-"));
    }

    #[test]
    fn what_is_no_denial_is_left_alone() {
        for text in [
            "",
            "audit(1.000:1): apparmor=\"STATUS\" operation=\"profile_load\" profile=\"unconfined\"",
            "audit(1.000:1): avc:  denied  { read }",
            "audit(x): apparmor=\"DENIED\" operation=\"open\" profile=\"p\"",
            "audit(1.5:1): apparmor=\"DENIED\" operation=\"open\" profile=\"p\"",
            "audit(1.000:+1): apparmor=\"DENIED\" operation=\"open\" profile=\"p\"",
            "audit(1.000:1): apparmor=\"DENIED\" operation=\"open\"",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        let many = format!("{OPEN}{}", " a=b".repeat(MAX_WORDS));
        assert_eq!(parse(many.as_bytes()), None);
        assert_eq!(parse(&OPEN.as_bytes().repeat(60)), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let text = [b"audit(1.000:1): apparmor=\"DENIED\" ".as_slice(), &bytes].concat();
            let _ = parse(&text);
            let _ = parse(&bytes);
        }

        #[test]
        fn a_name_in_digits_is_read_back(name in proptest::collection::vec(1u8..=255, 1..100)) {
            let digits: String = name.iter().map(|b| format!("{b:02X}")).collect();
            let text = OPEN.replace("\"/etc/x\"", &digits);
            prop_assert_eq!(parse(text.as_bytes()).and_then(|m| m.name), Some(name));
        }
    }
}
