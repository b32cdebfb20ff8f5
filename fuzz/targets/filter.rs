//! A filter's bytes, as read back from the kernel or from a file.
#![no_main]

use cofferdam_profiles::seccomp::{Arch, Call, interpret};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for number in [0, 41, 435, 0x4000_0027, u32::MAX] {
        let args = [1, 2, 3, 4, 5, u64::MAX];
        let audit = Arch::NATIVE.audit();
        let _ = interpret(
            data,
            &Call {
                audit,
                number,
                args,
            },
        );
    }
});
