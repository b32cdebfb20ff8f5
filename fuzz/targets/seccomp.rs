//! A seccomp profile: as JSON, or built from the input so that valid ones are the rule.
//!
//! Whatever is accepted compiles, the filter answers as the profile says, and the intersection
//! with the built-in default allows what both allow.
#![no_main]

use std::collections::HashSet;
use std::sync::OnceLock;

use cofferdam_profiles::seccomp::{
    Action, Arch, Call, CompileError, Evaluator, Intersection, compile, default_profile, interpret,
    intersect, validate,
};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};

fuzz_target!(|data: &[u8]| {
    let (profile, mut rest) = if data.first() == Some(&b'{') {
        let Ok(profile) = serde_json::from_slice(data) else {
            return;
        };
        (profile, Unstructured::new(data))
    } else {
        let mut rest = Unstructured::new(data);
        let Ok(profile) = profile(&mut rest) else {
            return;
        };
        (profile, rest)
    };
    let accepted = validate(&profile);
    let filter = match compile(&profile) {
        Ok(filter) => filter,
        Err(CompileError::TooLong { .. }) => return,
        Err(error) => {
            assert!(accepted.is_err(), "{error}");
            return;
        }
    };
    assert!(accepted.is_ok());
    let (ours, own) = ours();
    let both = intersect(&profile, ours).unwrap();
    let evaluator = Evaluator::new(&profile).unwrap();
    let meet = match &both {
        Intersection::Single(both) => Some(Evaluator::new(both).unwrap()),
        Intersection::Stacked { .. } => None,
    };
    for _ in 0..64 {
        let Ok(call) = call(&mut rest) else { return };
        let answer = evaluator.answer(&call);
        assert_eq!(
            interpret(&filter.program, &call),
            Ok(ret(answer)),
            "{call:?}"
        );
        if let Some(meet) = &meet {
            let expected = answer.allows() && own.answer(&call).allows();
            assert_eq!(meet.answer(&call).allows(), expected, "{call:?}");
        }
    }
});

fn ours() -> &'static (LinuxSeccomp, Evaluator) {
    static OURS: OnceLock<(LinuxSeccomp, Evaluator)> = OnceLock::new();
    OURS.get_or_init(|| {
        let profile = default_profile(&HashSet::new(), Arch::NATIVE);
        let evaluator = Evaluator::new(&profile).unwrap();
        (profile, evaluator)
    })
}

const NAMES: [&str; 16] = [
    "read",
    "write",
    "openat",
    "clone",
    "clone3",
    "ioctl",
    "socket",
    "sendmsg",
    "socketcall",
    "ipc",
    "mseal",
    "fchmodat2",
    "uretprobe",
    "umount",
    "personality",
    "no_such_call",
];

const VALUES: [u64; 12] = [
    0,
    1,
    2,
    8,
    16,
    38,
    40,
    0x5412,
    0xffff_ffff,
    1 << 32,
    (1 << 32) | 2,
    u64::MAX,
];

fn profile(input: &mut Unstructured) -> Result<LinuxSeccomp> {
    let mut profile = LinuxSeccomp::default();
    let (action, errno) = action(input)?;
    profile.set_default_action(action);
    profile.set_default_errno_ret(errno);
    let arches = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64];
    let listed = arches.iter().filter(|_| input.arbitrary().unwrap_or(false));
    profile.set_architectures(Some(listed.map(|arch| arch.to_oci()).collect()));
    if input.arbitrary()? {
        profile.set_listener_path(Some("/listener".into()));
    }
    let rules = (0..input.int_in_range(0..=12)?)
        .map(|_| rule(input))
        .collect::<Result<_>>()?;
    profile.set_syscalls(Some(rules));
    Ok(profile)
}

fn rule(input: &mut Unstructured) -> Result<LinuxSyscall> {
    let mut rule = LinuxSyscall::default();
    let (action, errno) = action(input)?;
    rule.set_action(action);
    rule.set_errno_ret(errno);
    let names = 1 + input.int_in_range(0..=2)?;
    let names = (0..names).map(|_| input.choose(&NAMES).map(|name| (*name).to_owned()));
    rule.set_names(names.collect::<Result<_>>()?);
    let args = (0..input.int_in_range(0..=3)?).map(|_| {
        use LinuxSeccompOperator::*;
        let operators = [
            ScmpCmpNe,
            ScmpCmpLt,
            ScmpCmpLe,
            ScmpCmpEq,
            ScmpCmpGe,
            ScmpCmpGt,
            ScmpCmpMaskedEq,
        ];
        let arg = LinuxSeccompArgBuilder::default()
            .index(input.int_in_range(0..=6usize)?)
            .value(value(input)?)
            .value_two(value(input)?)
            .op(*input.choose(&operators)?);
        Ok(arg.build().unwrap())
    });
    rule.set_args(Some(args.collect::<Result<_>>()?));
    Ok(rule)
}

fn action(input: &mut Unstructured) -> Result<(LinuxSeccompAction, Option<u32>)> {
    use LinuxSeccompAction::*;
    Ok(*input.choose(&[
        (ScmpActAllow, None),
        (ScmpActAllow, None),
        (ScmpActErrno, None),
        (ScmpActErrno, Some(38)),
        (ScmpActErrno, Some(13)),
        (ScmpActErrno, Some(4096)),
        (ScmpActKill, None),
        (ScmpActKillProcess, None),
        (ScmpActTrap, None),
        (ScmpActLog, None),
        (ScmpActTrace, Some(5)),
        (ScmpActNotify, None),
    ])?)
}

fn value(input: &mut Unstructured) -> Result<u64> {
    if input.ratio(1, 8)? {
        input.arbitrary()
    } else {
        input.choose(&VALUES).copied()
    }
}

fn call(input: &mut Unstructured) -> Result<Call> {
    let arch = *input.choose(&[Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64])?;
    let name = *input.choose(&NAMES)?;
    let number = match cofferdam_profiles::seccomp::resolve(arch, name) {
        Some(number) if !input.is_empty() => number,
        _ => input.arbitrary()?,
    };
    let mut args = [0; 6];
    for arg in &mut args {
        *arg = value(input)?;
    }
    Ok(Call {
        audit: arch.audit(),
        number,
        args,
    })
}

/// `SECCOMP_RET_*` (linux/seccomp.h).
fn ret(action: Action) -> u32 {
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
