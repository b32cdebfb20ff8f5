//! What a recording holds, on the running kernel. Needs root.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

/// Programs whose every call is known.
mod elf;

use std::collections::BTreeMap;
use std::process::Command;

use cofferdam_recorder::{Abi, Capacity, Observed, Phase, Recorder, SeenCapability};

fn record(capacity: &Capacity, commands: &mut [Command]) -> Observed {
    let recorder = Recorder::load(capacity).expect("the programs load (as root)");
    let own = std::process::id();
    recorder.follow_children(own).expect("followed");
    for command in commands {
        let status = command.status().expect("ran");
        assert!(status.success(), "{command:?}: {status}");
    }
    recorder.leave(own).expect("left");
    recorder.finish().expect("read")
}

fn calls_of(observed: &Observed, path: &str) -> BTreeMap<(Phase, Abi, u32), u64> {
    let is = |number: &u16| observed.executables.get(number).map(String::as_str) == Some(path);
    observed
        .calls
        .iter()
        .filter(|call| is(&call.site.executable))
        .map(|call| {
            (
                (call.site.phase, call.site.abi, call.site.number),
                call.count,
            )
        })
        .collect()
}

#[test]
fn a_programs_calls_are_recorded_exactly_and_32_bit_ones_told_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("probe");
    elf::write(&path, &elf::probe());
    let observed = record(&Capacity::default(), &mut [Command::new(&path)]);
    assert_eq!(observed.lost.total(), 0, "{:?}", observed.lost);
    let expected = BTreeMap::from([
        // getppid, exit_group of x86-64; getpid (20) by int 0x80
        ((Phase::Startup, Abi::Native, 110), 1000),
        ((Phase::Startup, Abi::Native, 231), 1),
        ((Phase::Startup, Abi::X86, 20), 3),
    ]);
    assert_eq!(calls_of(&observed, path.to_str().expect("UTF-8")), expected);
}

#[test]
fn capabilities_are_those_the_program_needs() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut chown = Command::new("chown");
    chown.arg("1:1").arg(file.path());
    let observed = record(&Capacity::default(), &mut [chown]);
    assert!(observed.knows_capabilities && observed.knows_accounting);
    let (accounting, needed): (Vec<_>, Vec<_>) = observed
        .capabilities
        .iter()
        .filter(|seen| seen.site.phase == Phase::Startup)
        .partition(|seen| seen.accounting);
    let needed: Vec<_> = needed
        .iter()
        .map(|seen: &&SeenCapability| (seen.capability, seen.granted))
        .collect();
    // CAP_CHOWN; of the memory that chown maps, CAP_SYS_ADMIN only by accounting.
    assert_eq!(needed, [(0, true)]);
    assert!(accounting.iter().all(|seen| seen.capability == 21));
    assert!(!accounting.is_empty());
}
