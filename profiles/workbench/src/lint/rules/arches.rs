//! Ways round a filter through another calling convention.

use cofferdam_profiles::seccomp::{Arch, resolve};
use oci_spec::runtime::Arch as OciArch;

use crate::lint::facts::names::{FOR_32_BITS, MULTIPLEXED};
use crate::lint::finding::Report;
use crate::lint::rule::{Rule, Severity};
use crate::lint::subject::{Reach, Subject};

pub(in crate::lint) const RULES: &[&Rule] = &[&UNSTATED, &ROUND];

pub(in crate::lint) static UNSTATED: Rule = Rule {
    id: "CD401",
    name: "compat-unstated",
    severity: Severity::Note,
    fixable: false,
    why: "A 64-bit x86 kernel also takes calls of 32-bit (int 0x80) and x32 programs. A profile that \
          lists neither leaves to the runtime what becomes of them: libseccomp kills, Cofferdam answers \
          ENOSYS, and runtimes that write their own filter have let them through.",
    fix: "List SCMP_ARCH_X86 and SCMP_ARCH_X32 to filter them alike, or keep the list as it is and know \
          that 32-bit programs do not run.",
};

pub(in crate::lint) static ROUND: Rule = Rule {
    id: "CD402",
    name: "round-the-filter",
    severity: Severity::Warning,
    fixable: false,
    why: "Any program can make 32-bit calls with int 0x80. There, socketcall and ipc do many calls with \
          arguments in memory, where no filter looks, and other calls have a second name.",
    fix: "Take SCMP_ARCH_X86 off the list, or refuse the other way too.",
};

pub(in crate::lint) fn check(subject: &Subject, report: &mut Report) {
    let draft = subject.draft;
    let lists = |arch: OciArch| draft.architectures.iter().any(|(_, own)| *own == arch);
    let on_x86 = subject.target.arch == Arch::X86_64;
    if on_x86 && !lists(OciArch::ScmpArchX86) && !lists(OciArch::ScmpArchX32) {
        let field = if draft.document.profile.arch_map.is_some() {
            "archMap"
        } else {
            "architectures"
        };
        let at = draft.architectures.first().map_or(draft.at, |(at, _)| *at);
        let words = "neither SCMP_ARCH_X86 nor SCMP_ARCH_X32 is listed";
        report.note(&UNSTATED, at, draft.pointer(field), words);
    }
    if on_x86 && subject.judges(Arch::X86) {
        multiplexed(subject, report);
        second_names(subject, report);
    }
}

/// What 64-bit programs are refused, 32-bit ones get by a number in memory.
fn multiplexed(subject: &Subject, report: &mut Report) {
    for (through, calls) in MULTIPLEXED {
        let round: Vec<&str> = calls
            .iter()
            .filter(|(number, name)| {
                subject.reach(name, &[]) != Reach::Always
                    && subject.reach_on(Arch::X86, through, &[(0, *number)]) != Reach::Never
            })
            .map(|(_, name)| *name)
            .collect();
        if round.is_empty() {
            continue;
        }
        let (at, pointer) = subject.allowed_at(through);
        let words = format!(
            "32-bit programs do by {through} what is refused, in part or whole, by name: {}",
            round.join(", ")
        );
        report.note(&ROUND, at, pointer, words);
    }
}

fn second_names(subject: &Subject, report: &mut Report) {
    for (name, second) in FOR_32_BITS {
        // Where 64-bit programs have no such call, nothing is refused to them.
        let refused = resolve(subject.target.arch, name).is_some()
            && subject.reach(name, &[]) == Reach::Never;
        if refused && subject.reach_on(Arch::X86, second, &[]) != Reach::Never {
            let (at, pointer) = subject.allowed_at(second);
            let words = format!("{second} does in 32-bit programs what {name} is refused");
            report.note(&ROUND, at, pointer, words);
        }
    }
}
