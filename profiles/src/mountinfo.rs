//! What the kernel's list of mounts has in common for all who read it (proc_pid_mountinfo(5)).

/// The bytes of a field, where `\040` stands for a space, and the like.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_octal_digits_are_a_byte() {
        for (text, expected) in [
            (&b"/a\\040b"[..], &b"/a b"[..]),
            (b"\\134\\012", b"\\\n"),
            (b"\\377", b"\xff"),
            (b"/a\\04", b"/a\\04"),
            (b"\\400\\", b"\\400\\"),
            (b"\\+12", b"\\+12"),
            (b"", b""),
        ] {
            assert_eq!(unescape(text), expected);
        }
    }
}
