//! Threads that are denied the same call again and again.
//!
//! Who a thread is, `/proc` says, and that costs more than the rest of an answer. A thread whose calls of one
//! number have not been written down [`LONG`] times running is not asked about again until the next flush:
//! its calls are counted for the executable it had, but for every [`RENEWED`]th, which is asked about. One that
//! executes another program meanwhile has up to so many of that one's calls counted for the first: its first
//! line comes with the next call that is asked about, and one that makes fewer before the flush has none. No
//! line that describes a call is wrong by it, and no sum.
//!
//! The table has a fixed number of places: a container with more threads than that loses speed, no counts.

use super::tally::Key;

/// Places in the table.
const PLACES: usize = 256;
/// So many calls running are a streak.
const LONG: u32 = 16;
/// After so many calls of a streak it is asked again who the thread is.
const RENEWED: u32 = 64;

/// Who asks what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    /// The thread.
    pub(super) pid: i32,
    pub(super) audit: u32,
    pub(super) number: u32,
}

#[derive(Debug)]
struct Streak {
    asked: Asked,
    key: Key,
    /// Calls in it that were counted elsewhere.
    length: u32,
    /// Calls after those, counted nowhere yet.
    calls: u64,
    /// Calls since it was asked who the thread is.
    unasked: u32,
}

/// The streaks since the last flush.
#[derive(Debug)]
pub(super) struct Streaks {
    places: Vec<Option<Streak>>,
}

impl Streaks {
    pub(super) fn new() -> Self {
        Self {
            places: std::iter::repeat_with(|| None).take(PLACES).collect(),
        }
    }

    /// Counts a call that belongs to a streak; whether it does.
    pub(super) fn counts(&mut self, asked: Asked) -> bool {
        let streak = self.places.get_mut(place(asked)).and_then(Option::as_mut);
        match streak {
            Some(streak)
                if streak.asked == asked && streak.length >= LONG && streak.unasked < RENEWED =>
            {
                streak.calls += 1;
                streak.unasked += 1;
                true
            }
            _ => false,
        }
    }

    /// A call was counted and not written down. Returns what another thread leaves, whose place this one takes.
    pub(super) fn suppressed(&mut self, asked: Asked, key: Key) -> Option<(Key, u64)> {
        let place = self.places.get_mut(place(asked))?;
        match place {
            Some(streak) if streak.asked == asked && streak.key == key => {
                streak.length = streak.length.saturating_add(1);
                streak.unasked = 0;
                None
            }
            _ => {
                let new = Streak {
                    asked,
                    key,
                    length: 1,
                    calls: 0,
                    unasked: 0,
                };
                counted(place.replace(new))
            }
        }
    }

    /// Ends every streak; what is to be counted of each.
    pub(super) fn end(&mut self) -> impl Iterator<Item = (Key, u64)> {
        self.places
            .iter_mut()
            .filter_map(|place| counted(place.take()))
    }
}

fn counted(streak: Option<Streak>) -> Option<(Key, u64)> {
    streak.and_then(|streak| (streak.calls > 0).then_some((streak.key, streak.calls)))
}

/// Thread ids of one process follow each other.
fn place(asked: Asked) -> usize {
    let thread = usize::try_from(asked.pid).unwrap_or(0);
    let number = usize::try_from(asked.number).unwrap_or(0);
    (thread ^ number.wrapping_mul(31)) % PLACES
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

    fn asked(pid: i32) -> Asked {
        Asked {
            pid,
            audit: 0,
            number: 1,
        }
    }

    #[test]
    fn a_streak_begins_late_and_ends_with_the_flush() {
        let mut streaks = Streaks::new();
        for _ in 0..LONG {
            assert!(!streaks.counts(asked(1)));
            assert_eq!(streaks.suppressed(asked(1), key("a")), None);
        }
        for _ in 0..RENEWED {
            assert!(streaks.counts(asked(1)));
            assert!(!streaks.counts(asked(2)));
        }
        let counted = u64::from(RENEWED);
        assert_eq!(streaks.end().collect::<Vec<_>>(), [(key("a"), counted)]);
        assert!(!streaks.counts(asked(1)));
    }

    #[test]
    fn a_streak_is_renewed_and_another_program_found() {
        let mut streaks = Streaks::new();
        for _ in 0..LONG {
            streaks.suppressed(asked(1), key("a"));
        }
        for _ in 0..3 {
            assert!((0..RENEWED).all(|_| streaks.counts(asked(1))));
            assert!(!streaks.counts(asked(1)));
            assert_eq!(streaks.suppressed(asked(1), key("a")), None);
        }
        assert!((0..RENEWED).all(|_| streaks.counts(asked(1))));
        // The thread has executed another program: whoever asks finds it now.
        assert!(!streaks.counts(asked(1)));
        let counted = (key("a"), 4 * u64::from(RENEWED));
        assert_eq!(streaks.suppressed(asked(1), key("b")), Some(counted));
        assert!(!streaks.counts(asked(1)));
    }

    #[test]
    fn another_executable_begins_anew() {
        let mut streaks = Streaks::new();
        for _ in 1..LONG {
            streaks.suppressed(asked(1), key("a"));
        }
        streaks.suppressed(asked(1), key("b"));
        assert!(!streaks.counts(asked(1)));
    }

    #[test]
    fn who_takes_a_place_gives_the_count_back() {
        let mut streaks = Streaks::new();
        let (one, other) = (asked(1), asked(1 + i32::try_from(PLACES).unwrap()));
        for _ in 0..LONG {
            streaks.suppressed(one, key("a"));
        }
        assert!(streaks.counts(one) && streaks.counts(one));
        assert_eq!(streaks.suppressed(other, key("b")), Some((key("a"), 2)));
        assert!(!streaks.counts(one));
        assert_eq!(streaks.end().count(), 0);
    }
}
