//! v1 values -> v2 values.

use crate::cgroup::Error;

/// `cpu.shares` (2..=262144, default 1024) -> `cpu.weight` (1..=10000, default 100).
///
/// The quadratic fit through (2, 1), (1024, 100), (262144, 10000) that runc 1.3.2 and
/// Kubernetes took up: the older linear one gave the default share a weight of 39, so
/// containers lost against everything on the host that had the default weight.
pub(super) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            // 3..262144 is exact in a double.
            #[expect(clippy::cast_precision_loss, reason = "below 2^18")]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10000"
            )]
            let weight = 10f64.powf(exponent).ceil() as u64;
            weight.clamp(1, 10_000)
        }
    }
}

/// `blkio.weight` (10..=1000) -> `io.weight` (1..=10000).
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

/// `memory.swap` of the spec counts memory and swap together; v2's `memory.swap.max` only swap.
/// `None`: nothing to write. A result of -1 means no limit.
pub(super) fn swap_max(swap: i64, memory: Option<i64>) -> Result<Option<i64>, Error> {
    let bad = |reason| {
        Err(Error::BadValue {
            field: "linux.resources.memory.swap".to_owned(),
            value: swap.to_string(),
            reason,
        })
    };
    match (swap, memory.unwrap_or(0)) {
        // An unlimited memory with no word on swap: swap is unlimited as well.
        (0, memory) if memory < 0 => Ok(Some(-1)),
        (0, _) => Ok(None),
        (swap, _) if swap < 0 => Ok(Some(-1)),
        (_, 0) => bad("counts memory and swap together, so it needs memory.limit beside it"),
        (_, memory) if memory < 0 => bad("is limited though memory is not"),
        (swap, memory) if swap < memory => bad("is smaller than memory.limit"),
        (swap, memory) => Ok(Some(swap - memory)),
    }
}

/// -1 -> `max`.
pub(super) fn or_max(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights() {
        for (shares, weight) in [
            (0, 1),
            (2, 1),
            (3, 2),
            (1024, 100),
            (512, 59),
            (2048, 174),
            (262_143, 10_000),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
    }

    #[test]
    fn blkio_weights_become_io_weights() {
        for (blkio, io) in [(10, 1), (0, 1), (500, 4950), (1000, 10_000), (9999, 10_000)] {
            assert_eq!(io_weight(blkio), io, "{blkio}");
        }
    }

    #[test]
    fn swap_is_what_lies_above_memory() {
        for (swap, memory, expected) in [
            (0, None, Some(None)),
            (0, Some(10), Some(None)),
            (0, Some(-1), Some(Some(-1))),
            (-1, Some(10), Some(Some(-1))),
            (-1, None, Some(Some(-1))),
            (10, Some(10), Some(Some(0))),
            (30, Some(10), Some(Some(20))),
            (5, Some(10), None),
            (5, None, None),
            (5, Some(-1), None),
        ] {
            assert_eq!(swap_max(swap, memory).ok(), expected, "{swap} {memory:?}");
        }
    }
}
