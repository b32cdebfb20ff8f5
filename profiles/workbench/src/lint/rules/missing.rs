//! Calls without which programs cannot start, run or end.

use cofferdam_profiles::seccomp::{Action, Arch, resolve};

use crate::lint::facts::names::{FAMILIES, NEXT_FORM, TIME64};
use crate::lint::finding::Report;
use crate::lint::rule::{Rule, Severity};
use crate::lint::subject::{Reach, Subject, action};

pub(in crate::lint) const RULES: &[&Rule] = &[&NOTHING, &ESSENTIAL, &BOOTSTRAP, &SIBLING];

pub(in crate::lint) static NOTHING: Rule = Rule {
    id: "CD105",
    name: "nothing-allowed",
    severity: Severity::Error,
    fixable: false,
    why: "The default refuses and no rule allows a call: not even execve of the container's program runs.",
    fix: "Add a rule with SCMP_ACT_ALLOW; `cofferdam profile generate` and `record` find the calls.",
};

pub(in crate::lint) static ESSENTIAL: Rule = Rule {
    id: "CD801",
    name: "missing-essential",
    severity: Severity::Error,
    fixable: false,
    why: "execve starts the program; exit_group ends it; rt_sigreturn returns from every signal handler; \
          restart_syscall is put in by the kernel after a stop or a signal; every lock of the C \
          library is a futex. A recording in which one did not occur proves nothing.",
    fix: "Allow them.",
};

pub(in crate::lint) static BOOTSTRAP: Rule = Rule {
    id: "CD802",
    name: "missing-bootstrap",
    severity: Severity::Note,
    fixable: false,
    why: "runc attaches the filter before it gives capabilities and users away where noNewPrivileges is \
          not set, and always before its last steps: under it the container fails to start without \
          these calls. Cofferdam and crun attach right before execve.",
    fix: "Allow them if the profile is for runc too.",
};

pub(in crate::lint) static SIBLING: Rule = Rule {
    id: "CD803",
    name: "missing-sibling",
    severity: Severity::Warning,
    fixable: false,
    why: "The call comes in several forms, and libraries choose: glibc 2.26 made open an openat, and \
          32-bit programs use *_time64 since musl 1.2 and glibc 2.34. Allowing one breaks with the \
          next library; refusing one refuses nothing.",
    fix: "Treat every form alike.",
};

const ESSENTIALS: &[&str] = &[
    "execve",
    "exit_group",
    "futex",
    "restart_syscall",
    "rt_sigreturn",
];

/// What runc 1.4 calls with its filter on, as the Security Profiles Operator recorded it
/// (`examples/baseprofile-runc.yaml`), without what every program calls itself.
const RUNC: &[&str] = &[
    "capget",
    "capset",
    "chdir",
    "close",
    "epoll_ctl",
    "epoll_pwait",
    "execve",
    "exit_group",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getdents64",
    "getpid",
    "getppid",
    "mmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "prctl",
    "read",
    "rt_sigreturn",
    "setgid",
    "setgroups",
    "setuid",
    "write",
];

/// Whether no call at all is let through; says so.
pub(in crate::lint) fn allows_nothing(subject: &Subject, report: &mut Report) -> bool {
    let draft = subject.draft;
    let runs = |answer: Action| answer.allows() || answer == Action::Notify;
    let nothing = !has_base(subject)
        && !runs(subject.default())
        && !draft.entries().any(|(entry, _)| runs(action(entry)));
    if nothing {
        let words = "the default refuses every call, and no rule allows one";
        let pointer = draft.pointer("defaultAction");
        report.note(&NOTHING, draft.default_at, pointer, words);
    }
    nothing
}

/// What the base allows is not known here.
fn has_base(subject: &Subject) -> bool {
    subject.draft.document.profile.base.is_some()
}

pub(in crate::lint) fn check(subject: &Subject, report: &mut Report) {
    let draft = subject.draft;
    if has_base(subject) {
        return;
    }
    let refused = |name: &&&str| {
        resolve(subject.target.arch, name).is_some() && subject.reach(name, &[]) == Reach::Never
    };
    let missing: Vec<&str> = ESSENTIALS.iter().filter(refused).copied().collect();
    if !missing.is_empty() {
        let pointer = draft.pointer("syscalls");
        let words = format!("every program needs {}", missing.join(", "));
        report.note(&ESSENTIAL, draft.at, pointer, words);
    }
    let runc: Vec<&str> = RUNC
        .iter()
        .filter(refused)
        .filter(|name| !ESSENTIALS.contains(name))
        .copied()
        .collect();
    if !runc.is_empty() {
        let pointer = draft.pointer("syscalls");
        let words = format!("runc needs {} to start a container", runc.join(", "));
        report.note(&BOOTSTRAP, draft.at, pointer, words);
    }
    siblings(subject, report);
    if subject.default().allows() {
        families(subject, report);
    }
}

/// An older form is allowed, the newer one that libraries use is not.
fn siblings(subject: &Subject, report: &mut Report) {
    let native = NEXT_FORM.iter().map(|pair| (subject.target.arch, pair));
    let narrow = [Arch::X86, Arch::Arm]
        .into_iter()
        .filter(|arch| subject.judges(*arch));
    let narrow = narrow.flat_map(|arch| TIME64.iter().map(move |pair| (arch, pair)));
    for (arch, (old, new)) in native.chain(narrow) {
        let exist = resolve(arch, old).is_some() && resolve(arch, new).is_some();
        if exist
            && subject.reach_on(arch, old, &[]) == Reach::Always
            && subject.reach_on(arch, new, &[]) == Reach::Never
        {
            let (at, pointer) = subject.allowed_at(old);
            let words = format!("{old} is allowed, {new} is not");
            report.note(&SIBLING, at, pointer, words);
        }
    }
}

/// One form is refused by name, another is let through by default.
fn families(subject: &Subject, report: &mut Report) {
    for family in FAMILIES {
        let reach = |name: &str| subject.reach(name, &[]);
        let here = |name: &&&str| resolve(subject.target.arch, name).is_some();
        let refused: Vec<&str> = family
            .iter()
            .filter(here)
            .filter(|name| reach(name) == Reach::Never)
            .copied()
            .collect();
        let left: Vec<&str> = family
            .iter()
            .filter(here)
            .filter(|name| reach(name) == Reach::Always)
            .copied()
            .collect();
        if let (Some(first), false) = (refused.first(), left.is_empty()) {
            let (at, pointer) = subject.said_at(first, |action| action.denies());
            let words = format!("{first} is refused, {} not", left.join(", "));
            report.note(&SIBLING, at, pointer, words);
        }
    }
}
