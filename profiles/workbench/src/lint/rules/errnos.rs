//! Refusals that a library takes for a defect instead of for an older kernel.

use std::collections::BTreeMap;

use cofferdam_profiles::seccomp::{Action, Decision, table};

use crate::dialect::Kernel;
use crate::knowledge;
use crate::lint::finding::Report;
use crate::lint::rule::{Rule, Severity};
use crate::lint::subject::Subject;

pub(in crate::lint) const RULES: &[&Rule] = &[&FALLBACK, &NEWER];

pub(in crate::lint) static FALLBACK: Rule = Rule {
    id: "CD501",
    name: "errno-breaks-fallback",
    severity: Severity::Warning,
    fixable: false,
    why: "C libraries try this call and fall back to an older one, but on ENOSYS only: with EPERM glibc \
          2.34 cannot make threads (moby #42680: clone3), and access and open fail for files that \
          are there.",
    fix: "Add a rule with SCMP_ACT_ERRNO and errnoRet 38 (ENOSYS) for the call, or allow it.",
};

pub(in crate::lint) static NEWER: Rule = Rule {
    id: "CD502",
    name: "newer-calls-refused",
    severity: Severity::Note,
    fixable: false,
    why: "The profile names calls that are newer than these, so a runtime takes these for known and \
          refused on purpose, and answers the default's errno instead of ENOSYS. Libraries that \
          begin to use them will not fall back.",
    fix: "Name them: allow them, or refuse them with errnoRet 38 (ENOSYS); or use 38 as \
          defaultErrnoRet.",
};

/// From here on numbers are the same on every architecture, and runtimes take those above a profile's
/// highest for unknown to its author (runc 1.0).
const RECENT: Kernel = Kernel { major: 5, minor: 1 };

/// ENOSYS.
const ENOSYS: u16 = 38;

/// Calls with which libraries fall back. Sources: clone3: moby #42680; faccessat2: glibc 2.33's
/// faccessat; openat2: runc's and systemd's path walks; statx: moby #36417; fchmodat2: glibc 2.39's
/// fchmodat; rseq: glibc 2.35's start of a thread; close_range: glibc 2.34's closefrom.
const FALL_BACK: &[&str] = &[
    "clone3",
    "close_range",
    "faccessat2",
    "fchmodat2",
    "openat2",
    "rseq",
    "statx",
];

pub(in crate::lint) fn check(subject: &Subject, report: &mut Report) {
    let refused = |name: &str| match subject.decision(name) {
        Some(Decision::Always(Action::Errno(errno))) if errno != ENOSYS => Some(errno),
        _ => None,
    };
    // One finding for all calls that one place refuses.
    let mut found: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for name in FALL_BACK {
        if refused(name).is_some() {
            let place = subject.said_at(name, |action| action.denies());
            found.entry(place).or_default().push(name);
        }
    }
    for ((at, pointer), names) in found {
        let words = format!("{} refused with another errno than ENOSYS", list(&names));
        report.note(&FALLBACK, at, pointer, words);
    }
    let mut newer: Vec<(Kernel, &str)> = table(subject.target.arch)
        .values()
        .map(String::as_str)
        .filter_map(|name| Some((Kernel::parse(knowledge::of(name).since?)?, name)))
        .filter(|(since, name)| *since >= RECENT && !FALL_BACK.contains(name))
        .filter(|(_, name)| subject.named(name).next().is_none() && refused(name).is_some())
        .collect();
    newer.sort_unstable_by(|a, b| b.cmp(a));
    let names: Vec<&str> = newer.iter().map(|(_, name)| *name).collect();
    if let Some((since, first)) = newer.first() {
        let words = format!(
            "{} refused by default, not with ENOSYS ({first} is of Linux {since})",
            list(&names)
        );
        let pointer = subject.draft.pointer("defaultAction");
        report.note(&NEWER, subject.draft.default_at, pointer, words);
    }
}

/// `a and b are`, with no more than a line holds.
fn list(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    let verb = if names.len() == 1 { "is" } else { "are" };
    let shown = names.get(..SHOWN).unwrap_or(names).join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => format!("{shown} {verb}"),
        more => format!("{shown} and {more} more {verb}"),
    }
}
