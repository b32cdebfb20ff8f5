//! Arguments as strace prints them, to numbers where they are numbers.

use super::constants;

/// Arguments a call can have; what follows is not read.
const MAX_ARGS: usize = 6;

/// The arguments between the parentheses of a call: `text` starts after the opening one. `None` if the
/// closing one is missing, as in a line that strace cut.
pub(super) fn arguments(text: &str) -> Option<[Option<u64>; 6]> {
    let mut args = [None; MAX_ARGS];
    let mut at = 0usize;
    let mut start = 0usize;
    let mut depth = 0usize;
    let mut bytes = text.bytes().enumerate();
    while let Some((place, byte)) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes)?,
            b'<' if stands_for_something(text, place) => skip_meaning(&mut bytes)?,
            b'(' | b'[' | b'{' => depth += 1,
            b')' if depth == 0 => {
                put(&mut args, at, &text[start..place]);
                return Some(args);
            }
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                put(&mut args, at, &text[start..place]);
                at += 1;
                start = place + 1;
            }
            _ => {}
        }
    }
    None
}

/// Goes behind the closing quote.
fn skip_string(bytes: &mut impl Iterator<Item = (usize, u8)>) -> Option<()> {
    loop {
        match bytes.next()?.1 {
            b'\\' => _ = bytes.next()?,
            b'"' => return Some(()),
            _ => {}
        }
    }
}

/// Whether `<` begins what `strace -y` says of a descriptor: `3</etc/a,b)>`, `AT_FDCWD</>`. A shift is none.
fn stands_for_something(text: &str, place: usize) -> bool {
    let (before, after) = text.as_bytes().split_at(place);
    let number = before.last().is_some_and(u8::is_ascii_digit);
    (number || before.ends_with(b"AT_FDCWD")) && after.get(1) != Some(&b'<')
}

/// Goes behind the `>` of that. It nests (`1</dev/pts/0<char 136:0>>`), and `->` is an arrow between addresses;
/// in paths strace writes both brackets as numbers.
fn skip_meaning(bytes: &mut impl Iterator<Item = (usize, u8)>) -> Option<()> {
    let (mut depth, mut arrow) = (1usize, false);
    while depth > 0 {
        let byte = bytes.next()?.1;
        match byte {
            b'<' => depth += 1,
            b'>' if !arrow => depth -= 1,
            _ => {}
        }
        arrow = matches!(byte, b'-' | b'=');
    }
    Some(())
}

fn put(args: &mut [Option<u64>; MAX_ARGS], at: usize, text: &str) {
    if let Some(place) = args.get_mut(at) {
        *place = number(text);
    }
}

/// The number an argument stands for; pointers and structures stand for none.
fn number(text: &str) -> Option<u64> {
    let text = strip_comment(text.trim());
    // `strace -y` adds what a descriptor stands for.
    let meaning = text
        .find('<')
        .filter(|place| stands_for_something(text, *place));
    let text = meaning.map_or(text, |place| &text[..place]);
    if text.is_empty() {
        return None;
    }
    let mut sum = 0u64;
    for word in text.split('|') {
        sum |= one(word.trim())?;
    }
    Some(sum)
}

/// `0x1234 /* IPPROTO_??? */` without what strace thinks of it.
fn strip_comment(text: &str) -> &str {
    text.split_once("/*")
        .map_or(text, |(number, _)| number.trim())
}

fn one(word: &str) -> Option<u64> {
    if let Some(hex) = word.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    if let Some(shift) = word.strip_prefix("1<<") {
        return 1u64.checked_shl(shift.parse().ok()?);
    }
    if word == "NULL" {
        return Some(0);
    }
    if word.len() > 1 && word.starts_with('0') {
        return u64::from_str_radix(word, 8).ok();
    }
    // Of a negative number the log does not tell whether the upper half of the register was set.
    if let Ok(value) = word.parse::<u64>() {
        return Some(value);
    }
    constants::value(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_numbers_where_they_are() {
        let table: &[(&str, &[Option<u64>])] = &[
            (
                "AT_FDCWD, \"/a,b)\\\"c\", O_RDONLY|O_CLOEXEC) = 3",
                &[None, None, Some(0o2_000_000)],
            ),
            (
                "AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0) = 3",
                &[Some(1), Some(0o2_000_001), Some(0)],
            ),
            (
                "{fd=3, events=[1, 2]}, -1, NULL) = 0",
                &[None, None, Some(0)],
            ),
            (") = 7", &[None]),
            ("3</a, b) (c>, \"x\", 1) = 1", &[Some(3), None, Some(1)]),
            (
                "AT_FDCWD</>, 7<TCP:[10.0.0.1:80->10.0.0.2:5, x]>, 1</dev/pts/0<char 136:0>>, 5) = 0",
                &[None, Some(7), Some(1), Some(5)],
            ),
            ("1<<5, 1<<40, 1<<99) = 0", &[Some(32), Some(1 << 40), None]),
            (
                "0x3f /* AF_??? */, SOCK_NOSUCH) = -1 EINVAL (Invalid)",
                &[Some(0x3f), None],
            ),
            (
                "1, 2, 3, 4, 5, 6, 7, 8) = 0",
                &[Some(1), Some(2), Some(3), Some(4), Some(5), Some(6)],
            ),
        ];
        for (text, wanted) in table {
            let got = arguments(text).unwrap_or_else(|| panic!("{text}"));
            let mut full = [None; 6];
            full[..wanted.len()].copy_from_slice(wanted);
            assert_eq!(got, full, "{text}");
        }
    }

    #[test]
    fn what_is_cut_has_no_arguments() {
        for text in [
            "1, 2",
            "3</a, 1) = 0",
            "\"never closed) = 1",
            "{[) = 1",
            "\"\\",
            "",
        ] {
            assert_eq!(arguments(text), None, "{text}");
        }
    }
}
