//! Parts of the kernel that few programs need and many exploits do.

use std::collections::BTreeMap;

use cofferdam_profiles::capability::Capability;

use crate::dialect::{Kernel, Place};
use crate::knowledge;
use crate::lint::finding::Report;
use crate::lint::rule::{Rule, Severity};
use crate::lint::subject::{Reach, Subject, action};

pub(in crate::lint) const RULES: &[&Rule] = &[
    &ADMIN,
    &IO_URING,
    &SURFACE,
    &FAMILIES,
    &PTRACE,
    &PERSONALITY,
    &TERMINAL,
];

pub(in crate::lint) static ADMIN: Rule = Rule {
    id: "CD603",
    name: "admin-calls",
    severity: Severity::Warning,
    fixable: false,
    why: "Without CAP_SYS_ADMIN the kernel refuses these calls, except inside a user namespace that the \
          program makes itself, with unshare for one: then they are what exploits of the last years \
          were built from.",
    fix: "Allow them for containers with CAP_SYS_ADMIN only (in Docker's dialect by includes.caps).",
};

pub(in crate::lint) static IO_URING: Rule = Rule {
    id: "CD604",
    name: "io-uring",
    severity: Severity::Warning,
    fixable: false,
    why: "io_uring makes other calls without passing the filter, and was behind 60 % of the exploits in \
          Google's kCTF programme of 2022, which turned it off; Docker and containerd took it off \
          their defaults in 2023 (moby #46762).",
    fix: "Refuse io_uring_setup, io_uring_enter and io_uring_register with errnoRet 38 (ENOSYS).",
};

pub(in crate::lint) static SURFACE: Rule = Rule {
    id: "CD605",
    name: "kernel-surface",
    severity: Severity::Warning,
    fixable: false,
    why: "Seldom needed in a container and often exploited: userfaultfd stops the kernel half-way through \
          a copy, bpf and perf_event_open run a compiler and counters inside it, and keyrings (keyctl, \
          add_key, request_key) are not kept apart between containers of one user.",
    fix: "Refuse the call, or allow it with the capability it belongs to only.",
};

pub(in crate::lint) static FAMILIES: Rule = Rule {
    id: "CD606",
    name: "socket-family",
    severity: Severity::Warning,
    fixable: false,
    why: "No network namespace confines AF_VSOCK (it reaches the hypervisor) and AF_ALG (it loads crypto \
          modules); AF_PACKET reads and forges every packet of the namespace and has had its own \
          root exploits (CVE-2017-7308, CVE-2020-14386).",
    fix: "Allow socket for the families that are needed, one SCMP_CMP_EQ rule each: 1 (unix), 2 (IPv4), \
          10 (IPv6), 16 (netlink).",
};

pub(in crate::lint) static PTRACE: Rule = Rule {
    id: "CD607",
    name: "ptrace-escape",
    severity: Severity::Note,
    fixable: false,
    why: "Before Linux 4.8 a tracer could change a call after the filter had judged it (seccomp(2), \
          \"the seccomp check will not be run again after the tracer is notified\"), so whoever may \
          ptrace is not filtered.",
    fix: "In Docker's dialect add includes.minKernel \"4.8\"; else lint with --kernel to say that no older \
          kernel is meant.",
};

pub(in crate::lint) static PERSONALITY: Rule = Rule {
    id: "CD608",
    name: "personality",
    severity: Severity::Warning,
    fixable: false,
    why: "READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT and MMAP_PAGE_ZERO take away a \
          program's defences against exploits (personality(2)).",
    fix: "Allow the values 0, 8, 131072, 131080 and 4294967295 with SCMP_CMP_EQ, as Docker does.",
};

pub(in crate::lint) static TERMINAL: Rule = Rule {
    id: "CD609",
    name: "terminal-injection",
    severity: Severity::Warning,
    fixable: false,
    why: "TIOCSTI (0x5412) and TIOCLINUX (0x541c) put input into the controlling terminal, which a \
          shell outside reads once the container's program ends (CVE-2017-5226). Linux 6.2 can turn \
          TIOCSTI off (dev.tty.legacy_tiocsti), most distributions leave it on.",
    fix: "Refuse ioctl where argument 1 is 0x5412 or 0x541c, comparing with SCMP_CMP_MASKED_EQ and the \
          mask 4294967295.",
};

const ADMIN_CALLS: &[&str] = &[
    "fsconfig",
    "fsmount",
    "fsopen",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "setns",
    "umount2",
    "unshare",
];
const IO_URING_CALLS: &[&str] = &["io_uring_enter", "io_uring_register", "io_uring_setup"];
const SURFACE_CALLS: &[&str] = &[
    "add_key",
    "bpf",
    "keyctl",
    "perf_event_open",
    "request_key",
    "userfaultfd",
];
/// linux/socket.h; with CAP_NET_RAW the kernel lets AF_PACKET through, without it does not.
const SOCKETS: &[(u64, &str, Option<Capability>)] = &[
    (40, "AF_VSOCK", None),
    (38, "AF_ALG", None),
    (17, "AF_PACKET", Some(Capability::NetRaw)),
];
/// linux/personality.h.
const PERSONALITIES: &[(u64, &str)] = &[
    (0x004_0000, "ADDR_NO_RANDOMIZE"),
    (0x010_0000, "MMAP_PAGE_ZERO"),
    (0x020_0000, "ADDR_COMPAT_LAYOUT"),
    (0x040_0000, "READ_IMPLIES_EXEC"),
];
/// asm-generic/ioctls.h.
const COMMANDS: &[(u64, &str)] = &[(0x5412, "TIOCSTI"), (0x541c, "TIOCLINUX")];
/// The first kernel that filters again after a tracer's stop.
const FILTERS_TRACED: Kernel = Kernel { major: 4, minor: 8 };
const TRACING: &[&str] = &["process_vm_readv", "process_vm_writev", "ptrace"];

pub(in crate::lint) fn check(subject: &Subject, report: &mut Report) {
    let has = |one: Capability| subject.target.capabilities.contains(one);
    let admin = has(Capability::SysAdmin);
    if !admin {
        calls(subject, &ADMIN, ADMIN_CALLS, report);
    }
    calls(subject, &IO_URING, IO_URING_CALLS, report);
    // A call is meant where the container has the capability for it.
    let meant = |name: &str| knowledge::of(name).capabilities.iter().any(|one| has(*one));
    let surface: Vec<&str> = SURFACE_CALLS
        .iter()
        .copied()
        .filter(|name| !meant(name))
        .collect();
    calls(subject, &SURFACE, &surface, report);
    let families = SOCKETS.iter().filter(|(_, _, need)| need.is_none_or(has));
    let families: Vec<(u64, &str)> = families.map(|(value, name, _)| (*value, *name)).collect();
    values(subject, &FAMILIES, ("socket", 0), &families, report);
    values(
        subject,
        &PERSONALITY,
        ("personality", 0),
        PERSONALITIES,
        report,
    );
    values(subject, &TERMINAL, ("ioctl", 1), COMMANDS, report);
    tracing(subject, report);
}

/// A finding per place that allows some of the calls.
fn calls(subject: &Subject, rule: &'static Rule, names: &[&str], report: &mut Report) {
    let mut found: BTreeMap<(Place, String), Vec<&str>> = BTreeMap::new();
    for name in names {
        if subject.reach(name, &[]) != Reach::Never {
            let (at, pointer) = subject.allowed_at(name);
            // Of names in one list the first is pointed at.
            let list = pointer
                .rsplit_once("/names/")
                .map_or(pointer.as_str(), |(list, _)| list);
            let known = found
                .keys()
                .find(|(_, own)| own.starts_with(&format!("{list}/")))
                .cloned();
            found
                .entry(known.unwrap_or((at, pointer)))
                .or_default()
                .push(name);
        }
    }
    for ((at, pointer), names) in found {
        let words = format!("{} allowed", many(&names));
        report.note(rule, at, pointer, words);
    }
}

fn many(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

/// A finding if an argument of a call may have one of some values.
fn values(
    subject: &Subject,
    rule: &'static Rule,
    (call, index): (&str, u8),
    values: &[(u64, &str)],
    report: &mut Report,
) {
    let names: Vec<&str> = values
        .iter()
        .filter(|(value, _)| subject.reach(call, &[(index, *value)]) != Reach::Never)
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() {
        return;
    }
    let (at, pointer) = subject.allowed_at(call);
    report.note(
        rule,
        at,
        pointer,
        format!("{call} is allowed with {}", names.join(", ")),
    );
}

fn tracing(subject: &Subject, report: &mut Report) {
    if subject
        .target
        .kernel
        .is_some_and(|kernel| kernel >= FILTERS_TRACED)
    {
        return;
    }
    // A rule for newer kernels only does not count here.
    let open: Vec<&str> = TRACING
        .iter()
        .copied()
        .filter(|name| subject.reach(name, &[]) != Reach::Never)
        .filter(|name| {
            let mut allowing = subject
                .named(name)
                .filter(|(_, entry)| action(entry).allows());
            let newer = |entry: &crate::dialect::Entry| {
                entry
                    .includes
                    .min_kernel
                    .is_some_and(|least| least >= FILTERS_TRACED)
            };
            subject.default().allows() || allowing.any(|(_, entry)| !newer(entry))
        })
        .collect();
    if let Some(first) = open.first() {
        let (at, pointer) = subject.allowed_at(first);
        report.note(
            &PTRACE,
            at,
            pointer,
            format!("{} allowed on any kernel", many(&open)),
        );
    }
}
