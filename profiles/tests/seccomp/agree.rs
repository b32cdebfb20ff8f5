//! A compiled filter answers every call as its profile says.

use cofferdam_profiles::seccomp::{
    Action, Arch, Call, Compat32, DefaultProfile, Evaluator, allowed_native, compile,
    default_profile, interpret,
};

use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;

use crate::profiles::{call, docker_capabilities, engine_profiles, profile};

/// `SECCOMP_RET_*` (linux/seccomp.h), written down a second time.
pub(crate) fn ret(action: Action) -> u32 {
    match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => 0,
        Action::Trap => 0x3_0000,
        Action::Errno(e) => 0x5_0000 | u32::from(e),
        Action::Notify => 0x7fc0_0000,
        Action::Trace(v) => 0x7ff0_0000 | u32::from(v),
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    }
}

/// Every number of every architecture with arguments that matter somewhere.
fn agree(name: &str, profile: &LinuxSeccomp) {
    let filter = compile(profile).unwrap();
    let evaluator = Evaluator::new(profile).unwrap();
    let values = [
        0,
        1,
        2,
        8,
        9,
        16,
        38,
        40,
        0x5412,
        0x541c,
        0x2_0000,
        0x1000_0000,
        0x1_0000_5412,
        u64::MAX,
    ];
    let audits = [
        Arch::X86_64.audit(),
        Arch::X86.audit(),
        Arch::Aarch64.audit(),
        0,
    ];
    let mut calls = 0;
    for audit in audits {
        for base in [0u32, 0x4000_0000, 0xffff_ff00] {
            for number in (0..600).map(|n| base.wrapping_add(n)) {
                for value in values {
                    let args = [value, value, 9, 0, value, 0];
                    let call = Call {
                        audit,
                        number,
                        args,
                    };
                    let expected = ret(evaluator.answer(&call));
                    let got = interpret(&filter.program, &call).unwrap();
                    assert_eq!(got, expected, "{name}: {call:x?}");
                    calls += 1;
                }
            }
        }
    }
    println!(
        "{name}: {calls} calls agree, {} instructions, {:?}",
        filter.program.len() / 8,
        allowed_native(profile)
    );
}

#[test]
fn the_default_and_the_engines_profiles_agree_with_their_filters() {
    let capabilities = docker_capabilities();
    agree("default", &default_profile(&capabilities, Arch::NATIVE));
    let all = DefaultProfile {
        capabilities: &capabilities,
        arch: Arch::NATIVE,
        compat32: Compat32::Socketcall,
    };
    agree("default with socketcall", &all.build());
    for (name, profile) in engine_profiles(&capabilities) {
        agree(&name, &profile);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn random_profiles_agree_with_their_filters(
        profile in profile(),
        calls in proptest::collection::vec(call(), 200),
    ) {
        let Ok(evaluator) = Evaluator::new(&profile) else { return Ok(()) };
        let filter = compile(&profile).unwrap();
        for call in calls {
            let expected = ret(evaluator.answer(&call));
            let got = interpret(&filter.program, &call).unwrap();
            prop_assert_eq!(got, expected, "{:x?}", call);
        }
    }
}
