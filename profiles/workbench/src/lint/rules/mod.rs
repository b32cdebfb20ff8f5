//! The rules, a file per theme: each has its rules with why and fix, and the check that applies them.

pub(super) mod arches;
pub(super) mod args;
pub(super) mod clone;
pub(super) mod conflicts;
pub(super) mod errnos;
pub(super) mod flags;
pub(super) mod missing;
pub(super) mod names;
pub(super) mod notify;
pub(super) mod reach;
pub(super) mod shape;

use super::finding::Report;
use super::rule::Rule;
use super::subject::Subject;

/// Every rule, by id.
pub(super) fn all() -> impl Iterator<Item = &'static Rule> {
    let themes = [
        shape::RULES,
        names::RULES,
        args::RULES,
        conflicts::RULES,
        arches::RULES,
        errnos::RULES,
        clone::RULES,
        reach::RULES,
        notify::RULES,
        missing::RULES,
        flags::RULES,
    ];
    themes.into_iter().flatten().copied()
}

/// Applies every rule. Those about meaning are left out where a profile has none.
pub(super) fn check(subject: &Subject, report: &mut Report) {
    names::check(subject, report);
    args::check(subject, report);
    conflicts::check(subject, report);
    notify::check(subject, report);
    flags::check(subject, report);
    arches::check(subject, report);
    if let Some(wrong) = &subject.too_large {
        let pointer = subject.draft.pointer("syscalls");
        report.note(
            &shape::TOO_LARGE,
            subject.draft.at,
            pointer,
            wrong.to_string(),
        );
    }
    // Of a profile that lets nothing run there is nothing more to say.
    if subject.is_meaningful() && !missing::allows_nothing(subject, report) {
        clone::check(subject, report);
        errnos::check(subject, report);
        reach::check(subject, report);
        missing::check(subject, report);
    }
}
