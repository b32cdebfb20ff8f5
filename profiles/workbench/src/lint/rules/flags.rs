//! Flags of `seccomp(2)` that weaken, do nothing, or are missing.

use cofferdam_profiles::seccomp::Action;
use oci_spec::runtime::LinuxSeccompFilterFlag as Flag;

use crate::lint::finding::Report;
use crate::lint::rule::{Rule, Severity};
use crate::lint::subject::{Subject, action};

pub(in crate::lint) const RULES: &[&Rule] = &[&SPEC_ALLOW, &LOG, &TSYNC];

pub(in crate::lint) static SPEC_ALLOW: Rule = Rule {
    id: "CD901",
    name: "spec-allow",
    severity: Severity::Warning,
    fixable: false,
    why: "SECCOMP_FILTER_FLAG_SPEC_ALLOW keeps speculative store bypass on for the container, which \
          before Linux 5.16 every filter turned off: code in it can then read memory of its process \
          that a sandbox inside should hide (seccomp(2), CVE-2018-3639).",
    fix: "Remove the flag.",
};

pub(in crate::lint) static LOG: Rule = Rule {
    id: "CD902",
    name: "no-log",
    severity: Severity::Note,
    fixable: false,
    why: "Calls that are refused with an errno leave no trace in the audit log without \
          SECCOMP_FILTER_FLAG_LOG: a program that fails does so without a word of seccomp.",
    fix: "Add SECCOMP_FILTER_FLAG_LOG to flags, or watch with `cofferdam denials`.",
};

pub(in crate::lint) static TSYNC: Rule = Rule {
    id: "CD903",
    name: "useless-tsync",
    severity: Severity::Note,
    fixable: false,
    why: "SECCOMP_FILTER_FLAG_TSYNC gives the filter to the other threads. A container's first process \
          has one thread when the filter goes on, and with a listener the kernel refuses the flag \
          (seccomp(2), TSYNC_ESRCH).",
    fix: "Remove the flag.",
};

pub(in crate::lint) fn check(subject: &Subject, report: &mut Report) {
    let draft = subject.draft;
    for (index, (at, flag)) in draft.flags.iter().enumerate() {
        let pointer = format!("{}/{index}", draft.pointer("flags"));
        match flag {
            Flag::SeccompFilterFlagSpecAllow => {
                report.note(&SPEC_ALLOW, *at, pointer, "speculation stays on");
            }
            Flag::SeccompFilterFlagTsync => {
                report.note(
                    &TSYNC,
                    *at,
                    pointer,
                    "there are no other threads to give the filter to",
                );
            }
            _ => {}
        }
    }
    let silent = |action: Action| matches!(action, Action::Errno(_));
    let refuses =
        silent(subject.default()) || draft.entries().any(|(entry, _)| silent(action(entry)));
    let logs = draft
        .flags
        .iter()
        .any(|(_, flag)| *flag == Flag::SeccompFilterFlagLog);
    if refuses && !logs {
        let words = "refused calls are not logged";
        report.note(&LOG, draft.at, draft.pointer("flags"), words);
    }
}
