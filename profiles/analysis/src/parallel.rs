//! Work for all the processors there are. What comes out never depends on how many that is, nor on
//! which of them is done first.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Builder};

/// More than these share too little work, and each has a heap of its own.
const MAX_PROCESSORS: usize = 4;

/// Threads that were started here, for the whole process: what one of them works on may have pieces.
static STARTED: AtomicUsize = AtomicUsize::new(0);
/// As many at most.
const MAX_STARTED: usize = 2 * MAX_PROCESSORS;

/// How many threads can work at a time.
fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| {
        let there = thread::available_parallelism();
        there.map_or(1, usize::from).min(MAX_PROCESSORS)
    })
}

/// Runs the same work on this thread and on as many more as there are processors, but on no more than
/// `most`. The work shares itself out: where no more threads can be started, this one does all of it.
pub(crate) fn crew(most: usize, work: impl Fn() + Sync) {
    let own = || {
        work();
        STARTED.fetch_sub(1, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        for _ in 1..processors().min(most) {
            let allowed = STARTED.fetch_add(1, Ordering::Relaxed) < MAX_STARTED;
            if !allowed || Builder::new().spawn_scoped(scope, own).is_err() {
                STARTED.fetch_sub(1, Ordering::Relaxed);
                break;
            }
        }
        work();
    });
}

/// Does work on pieces of a list, each of at least `least` items; the results are in the list's order.
/// Where pieces begin and end is not to matter.
pub(crate) fn pieces<T: Sync, R: Send>(
    items: &[T],
    least: usize,
    work: impl Fn(&[T]) -> R + Sync,
) -> Vec<R> {
    // More than one each: they are not all of the same size.
    let size = items.len().div_ceil(processors() * 4).max(least).max(1);
    if items.len() <= size || processors() == 1 {
        return vec![work(items)];
    }
    let pieces: Vec<&[T]> = items.chunks(size).collect();
    let results: Vec<Mutex<Option<R>>> = pieces.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    crew(pieces.len(), || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let (Some(piece), Some(result)) = (pieces.get(index), results.get(index)) else {
                return;
            };
            let done = work(piece);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        }
    });
    let done =
        |result: Mutex<Option<R>>| result.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().filter_map(done).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_whatever_threads_there_are() {
        let items: Vec<u32> = (0..10_000).collect();
        for least in [1, 7, 5_000, 10_000, 20_000] {
            let done = pieces(&items, least, |piece| {
                // Each is cut again, as the parts of an object that is one of many.
                pieces(piece, 3, |part| {
                    part.iter().map(|item| item * 2).collect::<Vec<_>>()
                })
            });
            let flat: Vec<u32> = done.into_iter().flatten().flatten().collect();
            assert_eq!(flat, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
        assert_eq!(pieces(&items[..0], 1, <[u32]>::len), [0]);
    }
}
