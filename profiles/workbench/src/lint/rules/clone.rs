//! Restrictions of `clone` that do not restrict.

use cofferdam_profiles::seccomp::Op;

use crate::lint::finding::Report;
use crate::lint::rule::{Rule, Severity};
use crate::lint::subject::{Reach, Subject, action};

pub(in crate::lint) const RULES: &[&Rule] = &[&CLONE3, &NEWUSER];

pub(in crate::lint) static CLONE3: Rule = Rule {
    id: "CD601",
    name: "clone3-unmasked",
    severity: Severity::Error,
    fixable: false,
    why: "clone3 has its flags in memory, where no filter looks: whoever may call it needs no clone, and \
          the condition on clone's flags keeps nobody from making namespaces.",
    fix: "Refuse clone3 with errnoRet 38 (ENOSYS), on which libraries use clone (moby #42681).",
};

pub(in crate::lint) static NEWUSER: Rule = Rule {
    id: "CD602",
    name: "clone-mask",
    severity: Severity::Error,
    fixable: false,
    why: "The mask refuses other namespaces but not CLONE_NEWUSER (0x10000000), the one that needs no \
          capability and gives all of them inside: it is the way to most kernel exploits.",
    fix: "Use the mask 2114060288 (0x7e020000): every namespace flag of clone.",
};

/// CLONE_NEWUSER (linux/sched.h).
const NEW_USER: u64 = 0x1000_0000;
/// The flags that make the other namespaces: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWPID, NEWNET.
const NEW_OTHERS: u64 = 0x6e02_0000;

pub(in crate::lint) fn check(subject: &Subject, report: &mut Report) {
    let narrowed = subject.reach("clone", &[]) == Reach::Sometimes;
    if narrowed && subject.reach("clone3", &[]) != Reach::Never {
        let (at, pointer) = subject.allowed_at("clone3");
        let words = "clone3 is allowed, while clone is allowed with some flags only";
        report.note(&CLONE3, at, pointer, words);
    }
    for (entry, places) in subject.draft.entries() {
        if !entry.names.iter().any(|name| name == "clone") || !action(entry).allows() {
            continue;
        }
        for (index, arg) in places.args.iter().enumerate() {
            let Op::MaskedEq(mask) = arg.test.op else {
                continue;
            };
            // The flags are the first argument; the second on s390 (clone(2)).
            let flags = arg.index <= 1 && mask & NEW_OTHERS != 0 && arg.test.value == 0;
            if flags && mask & NEW_USER == 0 {
                let pointer = format!("{}/args/{index}", entry.pointer);
                let words = format!("the mask {mask:#x} lets CLONE_NEWUSER pass");
                report.note(&NEWUSER, arg.at, pointer, words);
            }
        }
    }
}
