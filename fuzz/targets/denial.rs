//! A denied call: any number and registers, and any memory behind them. What is said of it must be
//! bounded, printable and valid JSON, and the answer an errno.
#![no_main]

use std::sync::LazyLock;

use cofferdam_profiles::seccomp::denial::{Explainer, Memory};
use cofferdam_profiles::seccomp::{
    Arch, Call, Filter, compile, default_profile, errno_of, interpret, notifying,
};
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Capabilities;

/// The input's bytes at every multiple of a page, and nothing above 2^47.
struct Bytes<'a>(&'a [u8]);

impl Memory for Bytes<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        if address >> 47 != 0 {
            return 0;
        }
        let from = self.0.get((address % 4096) as usize..).unwrap_or_default();
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        count
    }
}

static SETTLED: LazyLock<(Explainer, Filter, Filter)> = LazyLock::new(|| {
    let profile = default_profile(&Capabilities::new(), Arch::NATIVE);
    let silent = compile(&profile).expect("the default compiles");
    let asking = notifying(&silent).expect("it fits").expect("it denies");
    let explainer = Explainer::new(profile).expect("the default is valid");
    (explainer, silent, asking)
});

fuzz_target!(|data: &[u8]| {
    let Some((head, memory)) = data.split_first_chunk::<56>() else {
        return;
    };
    let word =
        |at: usize| u64::from_le_bytes(head[8 * at..8 * at + 8].try_into().expect("8 bytes"));
    let audits = [Arch::X86_64.audit(), Arch::X86.audit(), word(0) as u32];
    let call = Call {
        audit: audits[head[7] as usize % 3],
        number: (word(0) >> 8) as u32 % 1024 | (u32::from(head[6]) & 0x40) << 24,
        args: [word(1), word(2), word(3), word(4), word(5), word(6)],
    };
    let (explainer, silent, asking) = &*SETTLED;
    let before = interpret(&silent.program, &call).expect("an answer");
    let after = interpret(&asking.program, &call).expect("an answer");
    if before & 0xffff_0000 == 0x5_0000 {
        assert!(after == 0x7fc0_0000 || after & 0xffff_0000 == 0x5_0000);
        assert_eq!(u32::from(errno_of(&silent.program, &call)), before & 0xfff);
    } else {
        assert!(after == before || after == 0x5_0000 | 16);
    }
    let arguments = explainer.arguments(&call, &Bytes(memory));
    let cause = explainer.explain(&call);
    for argument in &arguments {
        let text = argument.meaning.as_deref().unwrap_or_default();
        assert!(text.len() < 2048, "{text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    let json = serde_json::to_string(&(arguments, cause)).expect("JSON");
    serde_json::from_str::<serde_json::Value>(&json).expect("valid JSON");
});
