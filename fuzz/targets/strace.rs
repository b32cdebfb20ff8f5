//! A log of strace: bounded, every call of it judged once, and the same calls whichever arguments are wanted.
#![no_main]

use std::sync::LazyLock;

use cofferdam_profiles::seccomp::{Arch, default_profile};
use cofferdam_workbench::simulate::Simulator;
use cofferdam_workbench::trace::{MAX_VARIANTS, Trace, read, read_with};
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::{Capabilities, LinuxSeccomp};

static PROFILE: LazyLock<LinuxSeccomp> =
    LazyLock::new(|| default_profile(&Capabilities::new(), Arch::NATIVE));

static SIMULATOR: LazyLock<Simulator<'static>> =
    LazyLock::new(|| Simulator::new(&PROFILE).expect("the default is valid"));

fuzz_target!(|data: &[u8]| {
    let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
    let Ok(all) = read(data) else { return };
    // A line is one call, and may end one that had begun before.
    assert!(count(&all) <= 2 * lines as u64);
    assert!(all.calls.len() <= lines.min(2 * MAX_VARIANTS) + 4096);
    let some = read_with(data, |name| SIMULATOR.tests(name)).expect("it was a log");
    assert_eq!(count(&some), count(&all));
    assert_eq!(
        (some.unreadable, some.unfinished),
        (all.unreadable, all.unfinished)
    );
    let judged = SIMULATOR.trace(&some);
    assert_eq!(
        judged.allowed + judged.denied + judged.undetermined,
        count(&some)
    );
});

fn count(trace: &Trace) -> u64 {
    trace.calls.values().map(|seen| seen.count).sum()
}
