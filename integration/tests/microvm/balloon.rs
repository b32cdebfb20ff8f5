//! Memory that goes back to the host.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use cofferdam_integration::error::{At as _, Result};

use crate::machine::{LIMIT, Machine};

/// MiB that the guest takes and leaves.
const TOUCHED: u32 = 60;

/// KiB of the guest's memory that the host holds: of the mapping that has its size, which no other test's has. What
/// lies beside it can be part of it.
fn held(megabytes: u32) -> Result<u32> {
    let path = "/proc/self/smaps";
    let text = fs::read_to_string(path).at("read", path)?;
    let number = |line: &str| {
        line.split_whitespace()
            .nth(1)
            .and_then(|word| word.parse::<u32>().ok())
    };
    let mut lines = text.lines();
    let sizes = megabytes << 10..(megabytes + 40) << 10;
    let found = lines.by_ref().any(|line| {
        line.starts_with("Size:") && number(line).is_some_and(|size| sizes.contains(&size))
    });
    assert!(found, "no mapping of {sizes:?} KiB");
    let held = lines.find(|line| line.starts_with("Rss:")).and_then(number);
    Ok(held.expect("how much of it is held"))
}

#[test]
fn memory_that_a_guest_does_not_need_goes_back() -> Result<()> {
    for (balloon, megabytes) in [(true, 201), (false, 202)] {
        let machine =
            Machine::boot(|config, _| (config.balloon, config.memory) = (balloon, megabytes))?;
        let Some(machine) = machine else {
            return Ok(());
        };
        let before = held(megabytes)?;
        assert_eq!(
            machine.ask_text(&format!("touch {TOUCHED}")),
            format!("{}\n", TOUCHED << 8)
        );
        let most = held(megabytes)?;
        // Some of it is the guest's from before.
        assert!(most >= before + (30 << 10), "{before} KiB, then {most}");
        // The kernel looks for free pages every two seconds.
        let (started, mut least) = (Instant::now(), most);
        let limit = if balloon {
            LIMIT
        } else {
            Duration::from_secs(10)
        };
        while started.elapsed() < limit && least > before + (10 << 10) {
            thread::sleep(Duration::from_millis(200));
            least = least.min(held(megabytes)?);
        }
        eprintln!(
            "balloon {balloon}: {before} KiB, {most} with {TOUCHED} MiB more, {least} in {:?}",
            started.elapsed()
        );
        assert_eq!(
            least <= before + (10 << 10),
            balloon,
            "{before}, {most}, {least} KiB"
        );
        // What it got back it can use again.
        assert_eq!(
            machine.ask_text(&format!("touch {TOUCHED}")),
            format!("{}\n", TOUCHED << 8)
        );
    }
    Ok(())
}
