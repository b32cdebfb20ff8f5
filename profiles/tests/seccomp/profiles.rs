//! Profiles to test with: the field's own where they are installed, and random ones.

use std::collections::HashSet;
use std::path::Path;

use cofferdam_profiles::seccomp::{Arch, Call, resolve};
use oci_spec::runtime::{Capabilities, Capability, LinuxSeccomp};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// The capabilities Docker gives a container that asks for nothing.
pub(crate) fn docker_capabilities() -> Capabilities {
    use Capability::*;
    HashSet::from([
        AuditWrite,
        Chown,
        DacOverride,
        Fowner,
        Fsetid,
        Kill,
        Mknod,
        NetBindService,
        NetRaw,
        Setfcap,
        Setgid,
        Setpcap,
        Setuid,
        SysChroot,
    ])
}

/// The default profiles of other engines that this machine has, resolved for a capability set.
///
/// Debian's golang-github-containers-common brings Podman's; Docker's lies beside the project.
pub(crate) fn engine_profiles(capabilities: &Capabilities) -> Vec<(String, LinuxSeccomp)> {
    let beside = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/data/seccomp/moby-default.json"
    );
    let found: Vec<_> = ["/usr/share/containers/seccomp.json", beside]
        .into_iter()
        .filter(|path| Path::new(path).exists())
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let dialect: Value = serde_json::from_str(&text).unwrap();
            (path.to_owned(), resolve_dialect(&dialect, capabilities))
        })
        .collect();
    if found.len() < 2 {
        eprintln!(
            "skipped in part: {} of 2 engine profiles are installed",
            found.len()
        );
    }
    found
}

/// What an engine makes of its dialect before it reaches a runtime.
pub(crate) fn resolve_dialect(dialect: &Value, capabilities: &Capabilities) -> LinuxSeccomp {
    let arches: Vec<&Value> = dialect["archMap"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["architecture"] == "SCMP_ARCH_X86_64")
        .flat_map(|entry| {
            let others = entry["subArchitectures"].as_array().into_iter().flatten();
            [&entry["architecture"]].into_iter().chain(others)
        })
        .collect();
    let strings = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(|v| v.as_str()).map(str::to_owned).collect()
    };
    let has = |name: &String| {
        capabilities.iter().any(|capability| {
            serde_json::to_value(capability).unwrap() == Value::String(name.clone())
        })
    };
    let mut syscalls = Vec::new();
    for rule in dialect["syscalls"].as_array().into_iter().flatten() {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let wanted = strings(&includes["caps"]).iter().all(has)
            && !strings(&excludes["caps"]).iter().any(has)
            && (includes["arches"].is_null()
                || strings(&includes["arches"]).contains(&"amd64".to_owned()))
            && !strings(&excludes["arches"]).contains(&"amd64".to_owned());
        if wanted {
            let mut entry = json!({"names": rule["names"], "action": rule["action"]});
            for key in ["args", "errnoRet"] {
                if !rule[key].is_null() {
                    entry[key] = rule[key].clone();
                }
            }
            syscalls.push(entry);
        }
    }
    let mut profile = json!({
        "defaultAction": dialect["defaultAction"],
        "architectures": arches,
        "syscalls": syscalls,
    });
    if !dialect["defaultErrnoRet"].is_null() {
        profile["defaultErrnoRet"] = dialect["defaultErrnoRet"].clone();
    }
    serde_json::from_value(profile).unwrap()
}

/// Calls of every kind the compiler treats differently.
pub(crate) const NAMES: &[&str] = &[
    "read",
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
    "no_such_call",
];

/// The numbers behind [`NAMES`] and around them, with the x32 bit and without.
pub(crate) fn numbers() -> Vec<u32> {
    let mut out: Vec<u32> = Arch::FAMILY
        .iter()
        .flat_map(|arch| NAMES.iter().filter_map(|name| resolve(*arch, name)))
        .flat_map(|number| [number.wrapping_sub(1), number, number + 1])
        .chain([500, 0x4000_01f4, u32::MAX])
        .collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// Calls with few values, among them ones that differ only in the upper half.
pub(crate) fn call() -> impl Strategy<Value = Call> {
    let audit = select(vec![Arch::X86_64.audit(), Arch::X86.audit(), 0xc000_00b7]);
    let value = select(vec![0, 1, 2, 3, 7, 8, 1 << 32, (1 << 32) | 2, u64::MAX]);
    (audit, select(numbers()), proptest::array::uniform6(value)).prop_map(
        |(audit, number, args)| Call {
            audit,
            number,
            args,
        },
    )
}

/// Random profiles over [`NAMES`].
pub(crate) fn profile() -> impl Strategy<Value = LinuxSeccomp> {
    let default = select(vec![
        ("SCMP_ACT_ERRNO", Some(1)),
        ("SCMP_ACT_ERRNO", Some(38)),
        ("SCMP_ACT_ERRNO", None),
        ("SCMP_ACT_KILL_PROCESS", None),
        ("SCMP_ACT_KILL", None),
        ("SCMP_ACT_TRAP", None),
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_LOG", None),
    ]);
    let arches = proptest::sample::subsequence(
        vec![
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X32",
            "SCMP_ARCH_AARCH64",
        ],
        0..=4,
    );
    (default, arches, proptest::collection::vec(rule(), 0..10)).prop_map(
        |((action, errno), arches, rules)| {
            let mut profile = json!({
                "defaultAction": action,
                "architectures": arches,
                "listenerPath": "/nowhere",
                "syscalls": rules,
            });
            if let Some(errno) = errno {
                profile["defaultErrnoRet"] = json!(errno);
            }
            serde_json::from_value(profile).unwrap()
        },
    )
}

fn rule() -> impl Strategy<Value = Value> {
    let action = select(vec![
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_ERRNO", None),
        ("SCMP_ACT_ERRNO", Some(13)),
        ("SCMP_ACT_LOG", None),
        ("SCMP_ACT_NOTIFY", None),
        ("SCMP_ACT_TRACE", Some(7)),
        ("SCMP_ACT_KILL_PROCESS", None),
    ]);
    let op = select(vec![
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    ]);
    let value = || {
        select(vec![
            0,
            1,
            2,
            3,
            8,
            0xffff_ffff,
            1 << 32,
            (1 << 32) | 2,
            u64::MAX,
        ])
    };
    let arg = (0..3usize, value(), value(), op).prop_map(
        |(index, value, two, op)| json!({"index": index, "value": value, "valueTwo": two, "op": op}),
    );
    let names = proptest::sample::subsequence(NAMES.to_vec(), 1..4);
    let args = proptest::collection::vec(arg, 0..3);
    (names, action, args).prop_map(|(names, (action, errno), args)| {
        let mut rule = json!({"names": names, "action": action, "args": args});
        if let Some(errno) = errno {
            rule["errnoRet"] = json!(errno);
        }
        rule
    })
}
