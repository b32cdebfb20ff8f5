//! Ranges of user and group ids for containers, from `/etc/subuid` and `/etc/subgid`.
//!
//! A container gets [`SIZE`] ids, the same numbers for users and for groups. They come from what the
//! files give the user [`USER`]; where they give nothing, from a part of the number space that no
//! convention hands out (systemd's `docs/UIDS-GIDS.md`: 1879048192 to 2147483647 is unused), without
//! what the files give to anybody else.

/// How many ids a container gets: all that a 16-bit id can name, as Docker and the kubelet give.
pub const SIZE: u32 = 65_536;

/// The user to whom the ids of containers are given in `/etc/subuid` and `/etc/subgid`.
pub const USER: &str = "cofferdam";

/// No file is longer, in bytes; a longer one is refused.
pub const MAX_FILE: usize = 1 << 20;

/// Where the ids begin if nobody gives any.
const DEFAULT_FIRST: u32 = 0x7000_0000;
/// One past their end; systemd's foreign ids begin there.
const DEFAULT_END: u32 = 0x7ffe_0000;

/// Why the files give no ranges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    /// A line for our user cannot be understood.
    #[error("{file}, line {line}: {problem}; a line is cofferdam:FIRST:COUNT")]
    Line {
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// A file is longer than [`MAX_FILE`].
    #[error("{file} is longer than {MAX_FILE} bytes")]
    TooLong {
        /// Which.
        file: &'static str,
    },
    /// What the two files give has no whole range in common.
    #[error(
        "/etc/subuid and /etc/subgid give the user cofferdam no {SIZE} ids in common; give it the \
         same numbers in both"
    )]
    NoneInCommon,
}

/// Numbers from `first` to below `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u32,
    end: u32,
}

/// The ranges that containers can get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    spans: Vec<Span>,
    /// The files give nothing to [`USER`].
    default: bool,
}

impl Ranges {
    /// Reads the two files' texts; a missing file is an empty one.
    pub fn of(subuid: &str, subgid: &str) -> Result<Self, RangesError> {
        let users = read("/etc/subuid", subuid)?;
        let groups = read("/etc/subgid", subgid)?;
        if users.ours.is_empty() && groups.ours.is_empty() {
            let taken: Vec<Span> = users.others.into_iter().chain(groups.others).collect();
            return Ok(Self::default_without(&taken));
        }
        let mut spans: Vec<Span> = Vec::new();
        for user in &users.ours {
            for group in &groups.ours {
                let (first, end) = (user.first.max(group.first), user.end.min(group.end));
                // Two lines may overlap; no id is handed out twice.
                let first = spans
                    .iter()
                    .filter(|s| s.first < end && first < s.end)
                    .fold(first, |first, s| first.max(s.end));
                if end > first && end - first >= SIZE {
                    let end = first + (end - first) / SIZE * SIZE;
                    spans.push(Span { first, end });
                }
            }
        }
        if spans.is_empty() {
            return Err(RangesError::NoneInCommon);
        }
        Ok(Self {
            spans,
            default: false,
        })
    }

    fn default_without(taken: &[Span]) -> Self {
        let mut spans: Vec<Span> = Vec::new();
        let mut first = DEFAULT_FIRST;
        while first < DEFAULT_END {
            let end = first + SIZE;
            if !taken.iter().any(|s| s.first < end && first < s.end) {
                match spans.last_mut() {
                    Some(last) if last.end == first => last.end = end,
                    _ => spans.push(Span { first, end }),
                }
            }
            first = end;
        }
        Self {
            spans,
            default: true,
        }
    }

    /// Whether the files give [`USER`] nothing, and the numbers are those that nobody uses.
    pub fn is_default(&self) -> bool {
        self.default
    }

    /// How many ranges there are.
    pub fn count(&self) -> u32 {
        self.spans.iter().map(|s| (s.end - s.first) / SIZE).sum()
    }

    /// Whether one of `count` ids from `first` on is in a range.
    pub fn meet(&self, first: u32, count: u32) -> bool {
        let end = u64::from(first) + u64::from(count);
        let mut spans = self.spans.iter();
        spans.any(|span| u64::from(span.first) < end && first < span.end)
    }

    /// The first id of the range with this index below [`Ranges::count`].
    pub fn first(&self, index: u32) -> Option<u32> {
        let mut left = index;
        for span in &self.spans {
            let count = (span.end - span.first) / SIZE;
            if left < count {
                return Some(span.first + left * SIZE);
            }
            left -= count;
        }
        None
    }
}

/// What a file gives.
#[derive(Debug, Default)]
struct Given {
    ours: Vec<Span>,
    others: Vec<Span>,
}

fn read(file: &'static str, text: &str) -> Result<Given, RangesError> {
    if text.len() > MAX_FILE {
        return Err(RangesError::TooLong { file });
    }
    let mut given = Given::default();
    for (index, line) in text.lines().enumerate() {
        let mut fields = line.trim().splitn(3, ':');
        let ours = fields.next() == Some(USER);
        let span = span(fields.next(), fields.next());
        match (ours, span) {
            (true, Ok(span)) => given.ours.push(span),
            (true, Err(problem)) => {
                let line = index + 1;
                return Err(RangesError::Line {
                    file,
                    line,
                    problem,
                });
            }
            (false, Ok(span)) => given.others.push(span),
            // Somebody else's line, or none at all.
            (false, Err(_)) => {}
        }
    }
    Ok(given)
}

fn span(first: Option<&str>, count: Option<&str>) -> Result<Span, &'static str> {
    let number = |text: Option<&str>| text?.trim().parse::<u32>().ok();
    let first = number(first).ok_or("the first id is no number")?;
    let count = number(count).ok_or("the count is no number")?;
    if first < SIZE {
        return Err("ids below 65536 belong to the host's own users");
    }
    // The last number, 2^32 - 1, means "no id".
    match first.checked_add(count) {
        Some(end) => Ok(Span { first, end }),
        None => Err("the ids end beyond 4294967294"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(ranges: &Ranges) -> Vec<u32> {
        (0..ranges.count())
            .map(|i| ranges.first(i).unwrap())
            .collect()
    }

    #[test]
    fn ranges_are_what_both_files_give() {
        let both = "root:100000:65536\ncofferdam:200000:196608\n";
        let ranges = Ranges::of(both, both).unwrap();
        assert!(!ranges.is_default());
        assert_eq!(all(&ranges), [200_000, 265_536, 331_072]);
        assert_eq!(ranges.first(3), None);
        let groups = "cofferdam:265536:65536\n";
        assert_eq!(all(&Ranges::of(both, groups).unwrap()), [265_536]);
        for (users, groups) in [
            (both, ""),
            ("", both),
            (both, "cofferdam:900000:65536"),
            ("cofferdam:200000:65535", "cofferdam:200000:65535"),
        ] {
            let none = Ranges::of(users, groups).unwrap_err();
            assert_eq!(none, RangesError::NoneInCommon, "{users:?} {groups:?}");
        }
    }

    #[test]
    fn without_a_line_for_us_the_ids_are_those_that_nobody_uses() {
        let ranges = Ranges::of("joe:100000:65536\n", "").unwrap();
        assert!(ranges.is_default());
        assert_eq!(ranges.first(0), Some(DEFAULT_FIRST));
        assert_eq!(ranges.count(), (DEFAULT_END - DEFAULT_FIRST) / SIZE);
        let line = format!("joe:{}:10\n", DEFAULT_FIRST + 5);
        let without = Ranges::of("", &line).unwrap();
        assert_eq!(without.first(0), Some(DEFAULT_FIRST + SIZE));
    }

    #[test]
    fn ids_are_in_a_range_or_beside_it() {
        let text = "cofferdam:200000:131072";
        let ranges = Ranges::of(text, text).unwrap();
        for (first, count, meet) in [
            (0, 200_000, false),
            (0, 200_001, true),
            (265_535, 1, true),
            (331_071, 1, true),
            (331_072, u32::MAX, false),
            (200_000, 0, false),
        ] {
            assert_eq!(ranges.meet(first, count), meet, "{first} {count}");
        }
    }

    #[test]
    fn what_would_map_the_hosts_users_is_refused() {
        for line in [
            "cofferdam:0:65536",
            "cofferdam:65535:65536",
            "cofferdam:4294967295:1",
            "cofferdam:x:1",
            "cofferdam:100000",
            "cofferdam",
            "cofferdam:4294901760:65537",
        ] {
            let error = Ranges::of(line, line).unwrap_err();
            assert!(matches!(error, RangesError::Line { line: 1, .. }), "{line}");
        }
        let long = " ".repeat(MAX_FILE + 1);
        let error = Ranges::of(&long, "").unwrap_err();
        assert!(matches!(error, RangesError::TooLong { .. }));
    }

    proptest! {
        #[test]
        fn ranges_never_overlap(lines in prop::collection::vec((65_536_u32.., 0_u32..500_000), 0..6)) {
            let text: String = lines.iter().map(|(f, c)| format!("cofferdam:{f}:{c}\n")).collect();
            let Ok(ranges) = Ranges::of(&text, &text) else {
                return Ok(());
            };
            let mut firsts = all(&ranges);
            firsts.sort_unstable();
            for pair in firsts.windows(2) {
                prop_assert!(pair[1] - pair[0] >= SIZE);
            }
            for first in firsts {
                prop_assert!(first >= SIZE);
                prop_assert!(first.checked_add(SIZE).is_some());
            }
        }
    }
}
