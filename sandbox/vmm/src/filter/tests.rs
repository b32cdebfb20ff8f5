//! The built filters against the profiles, and the profiles against the documentation.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cofferdam_profiles::seccomp::{Arch, Call, Evaluator, compile, interpret, resolve, table};
use oci_spec::runtime::LinuxSeccomp;

use super::Thread;

/// linux/seccomp.h.
const TRAP: u32 = 0x0003_0000;
const ALLOW: u32 = 0x7fff_0000;
const NO_CALL: u32 = 0x0005_0000 | libc::ENOSYS.cast_unsigned();

fn profile(thread: Thread) -> LinuxSeccomp {
    let path = format!("{}/profiles/{thread}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read(&path).expect("the profile is there");
    serde_json::from_slice(&text).expect("it is one")
}

/// The answer of the built filter.
fn answer(thread: Thread, audit: u32, number: u32, args: [u64; 6]) -> u32 {
    let call = Call {
        audit,
        number,
        args,
    };
    interpret(thread.program(), &call).expect("an answer")
}

fn native(thread: Thread, name: &str, args: [u64; 6]) -> u32 {
    let number = resolve(Arch::NATIVE, name).expect("a call of that name");
    answer(thread, Arch::NATIVE.audit(), number, args)
}

#[test]
fn what_was_built_is_what_the_profiles_say() {
    for thread in Thread::ALL {
        let profile = profile(thread);
        let evaluator = Evaluator::new(&profile).expect("a valid profile");
        for args in [[0; 6], [1; 6], [u64::MAX; 6]] {
            for (&number, name) in table(Arch::NATIVE) {
                // Debug builds look at descriptors before they close them.
                if name == "fcntl" && args == [1; 6] {
                    continue;
                }
                let call = Call {
                    audit: Arch::NATIVE.audit(),
                    number,
                    args,
                };
                let got = answer(thread, call.audit, number, args);
                let allowed = evaluator.answer(&call).allows();
                assert_eq!(got == ALLOW, allowed, "{thread}: {name} of {args:?}");
                // Newer calls than a profile knows are said not to be there.
                assert!([ALLOW, TRAP, NO_CALL].contains(&got), "{thread}: {name}");
            }
        }
    }
}

#[test]
fn calls_of_other_architectures_end_the_process() {
    for thread in Thread::ALL {
        // 32-bit x86 (linux/audit.h), and x32: write(2) would be allowed.
        for (audit, number) in [(0x4000_0003, 4), (Arch::NATIVE.audit(), 0x4000_0001)] {
            let got = answer(thread, audit, number, [2, 0, 0, 0, 0, 0]);
            assert_ne!(got, ALLOW, "{thread}");
        }
    }
}

/// What turns a foothold into more: programs, processes, code, sockets, descriptors of others, other ids.
#[test]
fn no_thread_can_do_what_attackers_want() {
    let never = [
        "execve",
        "execveat",
        "fork",
        "vfork",
        "clone",
        "clone3",
        "ptrace",
        "process_vm_writev",
        "process_vm_readv",
        "pidfd_getfd",
        "kill",
        "tkill",
        "socket",
        "socketpair",
        "connect",
        "bind",
        "listen",
        "sendmsg",
        "recvmsg",
        "mount",
        "umount2",
        "move_mount",
        "open_tree",
        "pivot_root",
        "chroot",
        "unshare",
        "setns",
        "seccomp",
        "bpf",
        "userfaultfd",
        "io_uring_setup",
        "perf_event_open",
        "memfd_create",
        "keyctl",
        "rt_sigaction",
        "open_by_handle_at",
        "personality",
    ];
    for thread in Thread::ALL {
        for name in never {
            for args in [[0; 6], [1; 6], [u64::MAX; 6]] {
                assert_ne!(native(thread, name, args), ALLOW, "{thread}: {name}");
            }
        }
        let executable = [0, 4096, 7, 0x22, u64::MAX, 0];
        assert_eq!(native(thread, "mmap", executable), TRAP, "{thread}");
        assert_eq!(native(thread, "mprotect", [0, 4096, 5, 0, 0, 0]), TRAP);
        // KVM_SET_USER_MEMORY_REGION would give the guest the monitor's own memory.
        assert_eq!(native(thread, "ioctl", [9, 0x4020_ae46, 0, 0, 0, 0]), TRAP);
        let files = thread == Thread::Share;
        let opens = native(thread, "openat", [0; 6]) == ALLOW;
        assert_eq!(opens, files, "{thread}");
        assert_eq!(native(thread, "setresuid", [0; 6]) == ALLOW, files);
    }
    assert_eq!(
        native(Thread::Vcpu, "ioctl", [9, 0xae80, 0, 0, 0, 0]),
        ALLOW
    );
    assert_eq!(
        native(Thread::Devices, "ioctl", [9, 0xae80, 0, 0, 0, 0]),
        TRAP
    );
}

/// Every filter lets through what the report of a refusal takes.
#[test]
fn every_thread_can_say_what_was_refused() {
    for thread in Thread::ALL {
        assert_eq!(native(thread, "write", [2, 1, 1, 0, 0, 0]), ALLOW);
        assert_eq!(native(thread, "exit_group", [4, 0, 0, 0, 0, 0]), ALLOW);
    }
}

/// The table of docs/vmm.md.
fn documented() -> String {
    let mut text = String::from(
        "| thread | calls | instructions | which: with how many conditions, where there are any |\n|---|---|---|---|\n",
    );
    for thread in Thread::ALL {
        let profile = profile(thread);
        let mut calls: BTreeMap<String, usize> = BTreeMap::new();
        for entry in profile.syscalls().iter().flatten() {
            let conditions =
                usize::from(entry.args().as_ref().is_some_and(|args| !args.is_empty()));
            for name in entry.names() {
                *calls.entry(name.clone()).or_default() += conditions;
            }
        }
        let names: Vec<String> = calls
            .iter()
            .map(|(name, conditions)| match conditions {
                0 => format!("`{name}`"),
                some => format!("`{name}` ({some})"),
            })
            .collect();
        let filter = compile(&profile).expect("it compiles");
        let instructions = filter.program.len() / super::RECORD;
        writeln!(
            text,
            "| {thread} | {} | {instructions} | {} |",
            calls.len(),
            names.join(", ")
        )
        .expect("a string takes it");
    }
    text
}

#[test]
fn the_documentation_counts_right() {
    let path = format!("{}/../../docs/vmm.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the documentation is there");
    let table = documented();
    assert!(text.contains(&table), "docs/vmm.md must have:\n{table}");
}
