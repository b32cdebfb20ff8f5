//! Whatever a driver writes into its memory or its device's registers, the device goes on or stops.

#![no_main]

use cofferdam_vmm::virtio::hostile::share::limit_files;
use cofferdam_vmm::virtio::hostile::{Stage, registers};
use libfuzzer_sys::fuzz_target;

/// What one round writes: the rings, and some of what they point to.
const ROUND: usize = 0x3000;
/// The same for the balloon, whose third queue's rings lie behind.
const BALLOON: u8 = 6;
const BALLOON_ROUND: usize = 0x4800;

fuzz_target!(|bytes: &[u8]| {
    let Some((&which, rest)) = bytes.split_first() else {
        return;
    };
    if which & 7 == 7 {
        registers(rest).expect("a device");
        return;
    }
    if which % 5 == 4 {
        limit_files().expect("a limit");
    }
    let mut stage = Stage::new(which).expect("a stage");
    let size = if which & 7 == BALLOON {
        BALLOON_ROUND
    } else {
        ROUND
    };
    for round in rest.chunks(size) {
        let _ = stage.round(round).expect("memory");
    }
});
