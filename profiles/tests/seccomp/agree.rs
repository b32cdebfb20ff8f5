//! A compiled filter answers every call as its profile says.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use cofferdam_profiles::seccomp::{
    Action, Arch, Call, Compat32, DefaultProfile, Evaluator, allowed_native, compile,
    default_profile, interpret, resolve,
};

use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};
use proptest::prelude::*;
use serde_json::json;

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
                    assert_eq!(got, expected, "{name}: {call:?}");
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

/// Values of one argument are tested together, as many as a jump spans; one of them is wider.
#[test]
fn long_lists_of_values_agree_with_their_filters() {
    for (count, wide) in [(1, 0), (2, 0), (254, 0), (255, 0), (300, 0), (5, 1 << 32)] {
        let rules: Vec<_> = (0..count)
            .map(|n| {
                let value: u64 = if n == 1 { wide | 1 } else { n };
                json!({"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
            })
            .collect();
        let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});
        let profile: LinuxSeccomp = serde_json::from_value(profile).unwrap();
        let filter = compile(&profile).unwrap();
        let evaluator = Evaluator::new(&profile).unwrap();
        for value in (0..=count).chain([wide, wide | 1, 1 << 32, u64::MAX]) {
            let call = Call {
                audit: Arch::NATIVE.audit(),
                number: resolve(Arch::NATIVE, "socket").unwrap(),
                args: [7, value, 0, 0, 0, 0],
            };
            let expected = ret(evaluator.answer(&call));
            let got = interpret(&filter.program, &call).unwrap();
            assert_eq!(got, expected, "{count} values, {call:?}");
        }
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
            prop_assert_eq!(got, expected, "{:?}", call);
        }
    }
}

/// libseccomp makes its own filters of the engines' profiles; where it knows the call, both agree.
#[test]
fn libseccomp_answers_the_same() {
    let values = [
        0,
        1,
        2,
        8,
        9,
        16,
        38,
        39,
        40,
        0x2_0000,
        0x1000_0000,
        1 << 32,
        u64::MAX,
    ];
    for (name, mut profile) in engine_profiles(&docker_capabilities()) {
        profile.set_architectures(None);
        let theirs = by_libseccomp(&profile);
        let ours = compile(&profile).unwrap().program;
        println!(
            "{name}: {} instructions, libseccomp {}",
            ours.len() / 8,
            theirs.len() / 8
        );
        let contradictory = contradictory(&profile);
        println!("{name} both allows and denies {contradictory:?}");
        let skipped: Vec<u32> = contradictory
            .iter()
            .filter_map(|name| resolve(Arch::NATIVE, name))
            .collect();
        // Up to Linux 5.0's last: above it the answer for unknown calls differs on purpose.
        for number in (0..=334).filter(|number| !skipped.contains(number)) {
            for (first, third) in values.into_iter().flat_map(|a| values.map(|b| (a, b))) {
                let args = [first, 0, third, 0, 0, 0];
                let call = Call {
                    audit: Arch::NATIVE.audit(),
                    number,
                    args,
                };
                let [ours, theirs] = [&ours, &theirs].map(|program| interpret(program, &call));
                assert_eq!(ours, theirs, "{name}: {call:?}");
            }
        }
    }
}

/// Names with two unconditional rules that differ: libseccomp takes the first, we the stricter.
fn contradictory(profile: &LinuxSeccomp) -> Vec<&str> {
    let mut seen = BTreeMap::new();
    let mut out = Vec::new();
    for entry in profile.syscalls().iter().flatten() {
        if entry.args().iter().flatten().next().is_none() {
            for name in entry.names() {
                if *seen.entry(name).or_insert(entry.action()) != entry.action() {
                    out.push(name.as_str());
                }
            }
        }
    }
    out
}

/// Adds each rule as runc does.
fn by_libseccomp(profile: &LinuxSeccomp) -> Vec<u8> {
    let action = |action: LinuxSeccompAction, errno: Option<u32>| match action {
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
        LinuxSeccompAction::ScmpActErrno => {
            ScmpAction::Errno(errno.unwrap_or(1).try_into().unwrap())
        }
        other => panic!("{other}"),
    };
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut context = ScmpFilterContext::new(default).unwrap();
    for entry in profile.syscalls().iter().flatten() {
        let action = action(entry.action(), entry.errno_ret());
        let conditions: Vec<ScmpArgCompare> = entry
            .args()
            .iter()
            .flatten()
            .map(|arg| {
                let (op, value) = match arg.op() {
                    LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, arg.value()),
                    LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, arg.value()),
                    LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, arg.value()),
                    LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, arg.value()),
                    LinuxSeccompOperator::ScmpCmpMaskedEq => {
                        let two = arg.value_two().unwrap_or(0);
                        (ScmpCompareOp::MaskedEqual(arg.value()), two)
                    }
                    other => panic!("{other:?}"),
                };
                ScmpArgCompare::new(arg.index().try_into().unwrap(), op, value)
            })
            .collect();
        for name in entry.names().iter().filter(|_| action != default) {
            if let Ok(call) = ScmpSyscall::from_name(name) {
                context
                    .add_rule_conditional(action, call, &conditions)
                    .unwrap();
            }
        }
    }
    let mut file = tempfile::tempfile().unwrap();
    context.export_bpf(&file).unwrap();
    let mut program = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut program).unwrap();
    program
}
