//! The built-in default against its promises and against Docker's.

use std::collections::HashSet;

use cofferdam_profiles::seccomp::{
    Action, Arch, Call, Compat32, DefaultProfile, Evaluator, Warning, allowed_native,
    default_profile, resolve, validate,
};
use oci_spec::runtime::Capability;

use crate::profiles::{docker_capabilities, engine_profiles};

const ENOSYS: Action = Action::Errno(38);
const EPERM: Action = Action::Errno(1);

fn ask(evaluator: &Evaluator, arch: Arch, name: &str, args: [u64; 6]) -> Action {
    let number = resolve(arch, name).unwrap_or_else(|| panic!("{name} on {arch:?}"));
    evaluator.answer(&Call {
        audit: arch.audit(),
        number,
        args,
    })
}

#[test]
fn what_it_promises() {
    let profile = default_profile(&docker_capabilities(), Arch::NATIVE);
    let elsewhere = |warning: &Warning| matches!(warning, Warning::ForeignName(_));
    assert!(validate(&profile).unwrap().iter().all(elsewhere));
    let evaluator = Evaluator::new(&profile).unwrap();
    let high = 1u64 << 32;
    let table: &[(&str, u64, u64, Action)] = &[
        ("clone3", 0, 0, ENOSYS),
        ("clone", 0x1200011, 0, Action::Allow),
        ("clone", 0x3d0f00, 0, Action::Allow),
        ("clone", 0x1000_0011, 0, EPERM),
        ("clone", 0x0002_0011, 0, EPERM),
        ("clone", 0x4000_0000 | high, 0, EPERM),
        ("unshare", 0, 0, EPERM),
        ("setns", 0, 0, EPERM),
        ("mount", 0, 0, EPERM),
        ("umount2", 0, 0, EPERM),
        ("open_tree", 0, 0, EPERM),
        ("move_mount", 0, 0, EPERM),
        ("pivot_root", 0, 0, EPERM),
        ("bpf", 0, 0, EPERM),
        ("perf_event_open", 0, 0, EPERM),
        ("userfaultfd", 0, 0, EPERM),
        ("keyctl", 0, 0, EPERM),
        ("add_key", 0, 0, EPERM),
        ("request_key", 0, 0, EPERM),
        ("kexec_load", 0, 0, EPERM),
        ("init_module", 0, 0, EPERM),
        ("finit_module", 0, 0, EPERM),
        ("open_by_handle_at", 0, 0, EPERM),
        ("pidfd_getfd", 0, 0, EPERM),
        ("kcmp", 0, 0, EPERM),
        ("reboot", 0, 0, EPERM),
        ("swapon", 0, 0, EPERM),
        ("acct", 0, 0, EPERM),
        ("settimeofday", 0, 0, EPERM),
        ("io_uring_setup", 0, 0, ENOSYS),
        ("io_uring_enter", 0, 0, ENOSYS),
        ("io_uring_register", 0, 0, ENOSYS),
        ("socket", 1, 0, Action::Allow),
        ("socket", 2, 0, Action::Allow),
        ("socket", 10, 0, Action::Allow),
        ("socket", 16, 0, Action::Allow),
        ("socket", 17, 0, Action::Allow),
        ("socket", 38, 0, EPERM),
        ("socket", 40, 0, EPERM),
        ("socket", 30, 0, EPERM),
        ("socketpair", 1, 0, Action::Allow),
        ("socketpair", 30, 0, EPERM),
        // The kernel reads an int: the upper half must not turn AF_VSOCK into something allowed.
        ("socket", high | 40, 0, EPERM),
        ("socket", high | 38, 0, EPERM),
        ("socket", high | 2, 0, EPERM),
        ("personality", 0, 0, Action::Allow),
        ("personality", 0xffff_ffff, 0, Action::Allow),
        ("personality", 0x0040_0000, 0, EPERM),
        ("ioctl", 0, 0x5401, Action::Allow),
        ("ioctl", 0, 0x5412, EPERM),
        ("ioctl", 0, 0x541c, EPERM),
        ("ioctl", 0, high | 0x5412, EPERM),
        ("ioctl", 0, 0xffff_ffff_0000_541c, EPERM),
        ("ioctl", 0, 0xffff_ffff_8004_5430, Action::Allow),
        ("rseq", 0, 0, Action::Allow),
        ("close_range", 0, 0, Action::Allow),
        ("faccessat2", 0, 0, Action::Allow),
        ("openat2", 0, 0, Action::Allow),
        ("statx", 0, 0, Action::Allow),
        ("fchmodat2", 0, 0, Action::Allow),
        ("futex_waitv", 0, 0, Action::Allow),
        ("mseal", 0, 0, Action::Allow),
        ("cachestat", 0, 0, Action::Allow),
        ("map_shadow_stack", 0, 0, Action::Allow),
        ("landlock_restrict_self", 0, 0, Action::Allow),
        ("ptrace", 0, 0, Action::Allow),
    ];
    for (name, first, second, expected) in table {
        for arch in Arch::FAMILY.iter().filter(|arch| **arch != Arch::X32) {
            let args = [*first, *second, 0, 0, 0, 0];
            let got = ask(&evaluator, *arch, name, args);
            assert_eq!(got, *expected, "{name} {args:x?} on {arch:?}");
        }
    }
}

#[test]
fn numbers_nobody_knows_and_foreign_calls_are_absent() {
    let profile = default_profile(&docker_capabilities(), Arch::NATIVE);
    let evaluator = Evaluator::new(&profile).unwrap();
    for arch in Arch::FAMILY {
        for number in [470, 600, 4000, 0x3fff_ffff] {
            let call = Call {
                audit: arch.audit(),
                number,
                args: [0; 6],
            };
            assert_eq!(evaluator.answer(&call), ENOSYS, "{call:?}");
        }
    }
    for number in (0..600).map(|n| 0x4000_0000 | n) {
        let call = Call {
            audit: Arch::X86_64.audit(),
            number,
            args: [0; 6],
        };
        assert_eq!(evaluator.answer(&call), ENOSYS, "x32: {call:?}");
    }
    let call = Call {
        audit: 0x8000_0016,
        number: 1,
        args: [0; 6],
    };
    assert_eq!(evaluator.answer(&call), ENOSYS, "s390x: {call:?}");
}

/// 32-bit x86 hides the socket family from filters: `socketcall` takes it from memory.
#[cfg(target_arch = "x86_64")]
#[test]
fn socketcall_makes_no_sockets() {
    let capabilities = docker_capabilities();
    let table = [
        (Compat32::Filtered, 1, EPERM),
        (Compat32::Filtered, 8, EPERM),
        (Compat32::Filtered, (1 << 32) | 1, EPERM),
        (Compat32::Filtered, 3, Action::Allow),
        (Compat32::Socketcall, 1, Action::Allow),
        (Compat32::Refused, 3, ENOSYS),
    ];
    for (compat32, subcall, expected) in table {
        let profile = DefaultProfile {
            capabilities: &capabilities,
            arch: Arch::X86_64,
            compat32,
        };
        let evaluator = Evaluator::new(&profile.build()).unwrap();
        let got = ask(
            &evaluator,
            Arch::X86,
            "socketcall",
            [subcall, 0, 0, 0, 0, 0],
        );
        assert_eq!(got, expected, "{compat32:?} {subcall}");
    }
}

#[test]
fn capabilities_open_their_calls_only() {
    let table = [
        (
            Capability::SysAdmin,
            &[
                "mount",
                "clone3",
                "unshare",
                "setns",
                "bpf",
                "perf_event_open",
            ] as &[_],
        ),
        (Capability::Bpf, &["bpf"]),
        (Capability::Perfmon, &["perf_event_open"]),
        (Capability::SysPtrace, &["kcmp", "pidfd_getfd"]),
        (Capability::SysModule, &["init_module"]),
        (Capability::SysTime, &["settimeofday"]),
        (Capability::SysBoot, &["reboot"]),
        (Capability::DacReadSearch, &["open_by_handle_at"]),
        (Capability::SysChroot, &["chroot"]),
        (Capability::SysNice, &["mbind"]),
    ];
    let every: HashSet<&str> = table
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .collect();
    for (capability, names) in &table {
        let capabilities = HashSet::from([*capability]);
        let profile = default_profile(&capabilities, Arch::NATIVE);
        let evaluator = Evaluator::new(&profile).unwrap();
        for name in &every {
            let got = ask(&evaluator, Arch::NATIVE, name, [0; 6]);
            assert_eq!(
                got.allows(),
                names.contains(name),
                "{name} with {capability:?}"
            );
        }
    }
}

/// Never more than Docker's, for any capability set: every call, many arguments.
#[test]
fn at_least_as_tight_as_dockers() {
    let every = [
        Capability::SysAdmin,
        Capability::NetAdmin,
        Capability::Bpf,
        Capability::Perfmon,
        Capability::SysPtrace,
        Capability::SysModule,
        Capability::SysTime,
        Capability::SysBoot,
        Capability::DacReadSearch,
        Capability::SysChroot,
        Capability::SysNice,
        Capability::SysRawio,
        Capability::SysPacct,
        Capability::SysTtyConfig,
        Capability::Syslog,
    ];
    let sets = every.iter().map(|one| HashSet::from([*one])).chain([
        docker_capabilities(),
        HashSet::new(),
        HashSet::from(every),
    ]);
    for capabilities in sets {
        let ours = Evaluator::new(&default_profile(&capabilities, Arch::NATIVE)).unwrap();
        for (name, theirs) in engine_profiles(&capabilities) {
            if !name.contains("moby") {
                continue;
            }
            let allowed = allowed_native(&theirs);
            let own = allowed_native(&default_profile(&capabilities, Arch::NATIVE));
            assert!(own.always <= allowed.always, "{own:?} {allowed:?}");
            let theirs = Evaluator::new(&theirs).unwrap();
            for arch in Arch::FAMILY {
                for number in (0..600).chain(0x4000_0000..0x4000_0300) {
                    for value in [
                        0,
                        1,
                        2,
                        8,
                        16,
                        17,
                        30,
                        38,
                        39,
                        40,
                        44,
                        0x5412,
                        0x1000_0000,
                        u64::MAX,
                    ] {
                        let args = [value, value, 0, 0, 0, 0];
                        let call = Call {
                            audit: arch.audit(),
                            number,
                            args,
                        };
                        if ours.answer(&call).allows() {
                            assert!(
                                theirs.answer(&call).allows(),
                                "{call:?} with {capabilities:?}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Docker's unconditional list that containers of the field rely on is there, but for these.
#[test]
fn as_usable_as_dockers() {
    let tighter = ["ioctl", "socketpair", "socketcall"];
    let capabilities = docker_capabilities();
    let ours = Evaluator::new(&default_profile(&capabilities, Arch::NATIVE)).unwrap();
    for (name, theirs) in engine_profiles(&capabilities) {
        if !name.contains("moby") {
            continue;
        }
        for entry in theirs.syscalls().iter().flatten() {
            let plain = entry.args().iter().flatten().next().is_none();
            for name in entry
                .names()
                .iter()
                .filter(|name| plain && !tighter.contains(&name.as_str()))
            {
                for arch in Arch::FAMILY.iter().filter(|arch| **arch != Arch::X32) {
                    if resolve(*arch, name).is_some() {
                        let allowed =
                            entry.action() == oci_spec::runtime::LinuxSeccompAction::ScmpActAllow;
                        let got = ask(&ours, *arch, name, [0; 6]);
                        assert_eq!(got.allows(), allowed, "{name} on {arch:?}");
                    }
                }
            }
        }
    }
}
