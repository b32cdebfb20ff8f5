//! Profiles that are refused, and what is warned about.

use cofferdam_profiles::seccomp::{CompileError, Warning, compile, validate};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompFilterFlag};
use serde_json::{Value, json};

fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

fn with_rule(rule: Value) -> LinuxSeccomp {
    profile(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}))
}

#[test]
fn invalid_profiles() {
    let arg = |index: usize| json!([{"index": index, "value": 1, "op": "SCMP_CMP_EQ"}]);
    let many: Vec<String> = (0..20_000).map(|n| format!("call{n}")).collect();
    let table = [
        (
            with_rule(json!({"names": [], "action": "SCMP_ACT_ALLOW"})),
            "rule 0 names no system call",
        ),
        (
            with_rule(json!({"names": ["read", ""], "action": "SCMP_ACT_ALLOW"})),
            "rule 0 has an empty name",
        ),
        (
            with_rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": arg(6)})),
            "rule 0 (read) tests argument 6",
        ),
        (
            with_rule(
                json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": arg(usize::MAX)}),
            ),
            "tests argument 18446744073709551615",
        ),
        (
            with_rule(json!({"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
            "errno 4096 of rule 0 (read) is too large",
        ),
        (
            with_rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1})),
            "rule 0 (read) has an errno",
        ),
        (
            with_rule(json!({"names": ["read"], "action": "SCMP_ACT_NOTIFY"})),
            "no listenerPath is set",
        ),
        (
            profile(
                json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "",
                "syscalls": [{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}]}),
            ),
            "no listenerPath is set",
        ),
        (
            profile(json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/l"})),
            "SCMP_ACT_NOTIFY cannot be the default action",
        ),
        (
            profile(
                json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/l",
                "syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]}),
            ),
            "SCMP_ACT_NOTIFY cannot be used on write",
        ),
        (
            profile(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000})),
            "errno 70000 of the default",
        ),
        (
            with_rule(json!({"names": many, "action": "SCMP_ACT_ALLOW"})),
            "too large: 20000 names and 0 conditions up to rule 0",
        ),
        (
            with_rule(
                json!({"names": ["read", "write"], "action": "SCMP_ACT_ALLOW",
                "args": vec![arg(0)[0].clone(); 2049]}),
            ),
            "too large: 2 names and 4098 conditions up to rule 0",
        ),
    ];
    for (profile, message) in table {
        let error = validate(&profile).unwrap_err();
        assert!(error.to_string().contains(message), "{error} / {message}");
        let Err(CompileError::Invalid(same)) = compile(&profile) else {
            panic!("compiled although: {message}");
        };
        assert_eq!(same, error);
    }
}

/// A profile within all bounds whose filter would not load is an error, not a failed start.
#[test]
fn too_many_conditions() {
    let rules: Vec<Value> = (0..2000)
        .map(|value| {
            json!({"names": ["ioctl"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
        })
        .collect();
    let profile = profile(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}));
    assert_eq!(validate(&profile), Ok(vec![]));
    assert!(matches!(
        compile(&profile),
        Err(CompileError::TooLong { .. })
    ));
}

#[test]
fn warnings() {
    let profile = profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_S390X"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls": [{
            "names": ["read", "s390_pci_mmio_read", "frobnicate", "nul\0"],
            "action": "SCMP_ACT_ALLOW",
            "args": [
                {"index": 1, "value": 3, "op": "SCMP_CMP_GE"},
                {"index": 1, "value": 5, "op": "SCMP_CMP_LE"}
            ],
        }],
    }));
    let expected = [
        Warning::ForeignArchitecture(Arch::ScmpArchS390x),
        Warning::UselessFlag(LinuxSeccompFilterFlag::SeccompFilterFlagTsync),
        Warning::ForeignName("s390_pci_mmio_read".to_owned()),
        Warning::UnknownName("frobnicate".to_owned()),
        Warning::UnknownName("nul\0".to_owned()),
        Warning::ArgumentTwice { rule: 0, index: 1 },
    ];
    if cfg!(target_arch = "x86_64") {
        assert_eq!(validate(&profile).unwrap(), expected);
    }
    let filter = compile(&profile).unwrap();
    assert_eq!(filter.flags, cofferdam_profiles::seccomp::FLAG_LOG);
    assert!(matches!(
        validate(&with_rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"}))),
        Ok(warnings) if warnings.is_empty()
    ));
}
