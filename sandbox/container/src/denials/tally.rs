//! Which denials are written down, and how many are not.
//!
//! A token bucket for each call of each executable, and one over all: a container can neither fill
//! the log nor, with many executables, the memory. What is not written is counted, and the counts are
//! written in time, so the sum of the log is the number of denied calls.

use std::collections::HashMap;

/// Lines at once, and lines in a second, of one call of one executable.
const OF_ONE: Rate = Rate {
    burst: 5,
    every: 1000,
};
/// The same over all.
const OF_ALL: Rate = Rate {
    burst: 100,
    every: 50,
};
/// How many calls of executables are told apart.
const MOST: usize = 256;

/// A call of an executable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) executable: String,
    pub(super) audit: u32,
    pub(super) number: u32,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    /// Milliseconds for one more.
    every: u64,
}

#[derive(Debug)]
struct Bucket {
    rate: Rate,
    tokens: u32,
    /// When the last token came, in milliseconds.
    since: u64,
}

impl Bucket {
    fn full(rate: Rate, now: u64) -> Self {
        Self {
            rate,
            tokens: rate.burst,
            since: now,
        }
    }

    fn fill(&mut self, now: u64) {
        let came = now.saturating_sub(self.since) / self.rate.every;
        self.since += came * self.rate.every;
        let came = u32::try_from(came).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(came).min(self.rate.burst);
    }
}

#[derive(Debug)]
struct Entry {
    bucket: Bucket,
    suppressed: u64,
}

/// Counts of what was suppressed: the key, unless there were too many, and how many.
pub(super) type Counts = Vec<(Option<Key>, u64)>;

/// Decides what is written down.
#[derive(Debug)]
pub(super) struct Tally {
    entries: HashMap<Key, Entry>,
    all: Bucket,
    /// Suppressed calls beyond [`MOST`] keys.
    others: u64,
    pending: bool,
}

impl Tally {
    pub(super) fn new(now: u64) -> Self {
        Self {
            entries: HashMap::new(),
            all: Bucket::full(OF_ALL, now),
            others: 0,
            pending: false,
        }
    }

    /// Counts a call; whether it is to be written down.
    pub(super) fn admit(&mut self, key: &Key, now: u64) -> bool {
        self.all.fill(now);
        if !self.entries.contains_key(key) {
            if self.entries.len() >= MOST {
                self.others += 1;
                self.pending = true;
                return false;
            }
            let entry = Entry {
                bucket: Bucket::full(OF_ONE, now),
                suppressed: 0,
            };
            self.entries.insert(key.clone(), entry);
        }
        let Some(entry) = self.entries.get_mut(key) else {
            return false;
        };
        entry.bucket.fill(now);
        if entry.bucket.tokens > 0 && self.all.tokens > 0 {
            entry.bucket.tokens -= 1;
            self.all.tokens -= 1;
            return true;
        }
        entry.suppressed += 1;
        self.pending = true;
        false
    }

    /// Counts calls that are not to be written down.
    pub(super) fn count(&mut self, key: &Key, calls: u64) {
        match self.entries.get_mut(key) {
            Some(entry) => entry.suppressed += calls,
            None => self.others += calls,
        }
        self.pending |= calls > 0;
    }

    /// There will be something to count at the next flush.
    pub(super) fn remember(&mut self) {
        self.pending = true;
    }

    /// Counts calls of which nothing more is known.
    pub(super) fn count_others(&mut self, calls: u64) {
        self.others += calls;
        self.pending |= calls > 0;
    }

    /// Whether there is something to flush.
    pub(super) fn pending(&self) -> bool {
        self.pending
    }

    /// What was suppressed since the last time. Keys that have been quiet long enough to be as good
    /// as new are forgotten.
    pub(super) fn flush(&mut self, now: u64) -> Counts {
        self.pending = false;
        let mut counts = Counts::new();
        self.entries.retain(|key, entry| {
            let count = std::mem::take(&mut entry.suppressed);
            if count > 0 {
                counts.push((Some(key.clone()), count));
            }
            entry.bucket.fill(now);
            count > 0 || entry.bucket.tokens < entry.bucket.rate.burst
        });
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            counts.push((None, others));
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(executable: &str) -> Key {
        Key {
            executable: executable.to_owned(),
            audit: 0,
            number: 1,
        }
    }

    fn sum(counts: &Counts) -> u64 {
        counts.iter().map(|(_, count)| count).sum()
    }

    #[test]
    fn every_call_is_either_written_or_counted() {
        let mut tally = Tally::new(0);
        let (mut written, mut counted, mut calls) = (0, 0, 0);
        for second in 0..20u64 {
            for n in 0..1000u64 {
                let name = format!("/bin/{}", n % (1 + second * 40));
                calls += 1;
                written += u64::from(tally.admit(&key(&name), second * 1000 + n));
            }
            assert!(tally.entries.len() <= MOST);
            counted += sum(&tally.flush(second * 1000 + 999));
        }
        assert_eq!(written + counted, calls);
        assert!(written <= 100 + 20 * 20 + 1, "{written}");
        assert_eq!(sum(&tally.flush(30_000)), 0);
    }

    #[test]
    fn one_call_has_a_burst_and_then_one_in_a_second() {
        let mut tally = Tally::new(0);
        let lines =
            |tally: &mut Tally, now| (0..50).filter(|_| tally.admit(&key("a"), now)).count();
        assert_eq!(lines(&mut tally, 0), 5);
        assert!(tally.pending());
        assert_eq!(sum(&tally.flush(0)), 45);
        assert!(!tally.pending());
        assert_eq!(lines(&mut tally, 1500), 1);
        assert_eq!(lines(&mut tally, 2000), 1);
        assert_eq!(lines(&mut tally, 60_000), 5);
    }

    #[test]
    fn the_quiet_are_forgotten() {
        let mut tally = Tally::new(0);
        tally.admit(&key("a"), 0);
        tally.flush(500);
        assert_eq!(tally.entries.len(), 1);
        tally.flush(10_000);
        assert!(tally.entries.is_empty());
    }
}
