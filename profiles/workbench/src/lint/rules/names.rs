//! Names that name nothing, or nothing here.

use std::collections::{BTreeMap, BTreeSet};

use cofferdam_profiles::seccomp::{exists_on, known, known_elsewhere, resolve, table};
use oci_spec::runtime::Arch as OciArch;

use crate::lint::facts::names::behind;
use crate::lint::finding::{Finding, Repair, Report};
use crate::lint::rule::{Rule, Severity};
use crate::lint::subject::{Subject, name_pointer};

pub(in crate::lint) const RULES: &[&Rule] = &[&UNKNOWN, &WRAPPER, &FOREIGN, &EMPTY];

pub(in crate::lint) static UNKNOWN: Rule = Rule {
    id: "CD101",
    name: "unknown-name",
    severity: Severity::Error,
    fixable: false,
    why: "No architecture has a call of this name. Runtimes skip it with a message nobody sees, so a \
          call that was to be refused is not, and one that was to be allowed is refused.",
    fix: "Correct the name; the calls are listed in syscalls(2).",
};

pub(in crate::lint) static WRAPPER: Rule = Rule {
    id: "CD102",
    name: "wrapper-name",
    severity: Severity::Error,
    fixable: false,
    why: "It is a function of the C library, or a call of other machines; programs here make another \
          call, which the rule does not speak of.",
    fix: "Name the call that the function makes.",
};

pub(in crate::lint) static FOREIGN: Rule = Rule {
    id: "CD103",
    name: "foreign-name",
    severity: Severity::Note,
    fixable: false,
    why: "None of the architectures that the profile lists has this call, in 64-bit programs or 32-bit ones: \
          the name does nothing.",
    fix: "Remove the name, or list the architecture it is for.",
};

pub(in crate::lint) static EMPTY: Rule = Rule {
    id: "CD104",
    name: "no-names",
    severity: Severity::Error,
    fixable: true,
    why: "A rule needs the names of its calls; runtimes refuse a profile with a rule that has none, or \
          an empty one.",
    fix: "Name a call, or remove the rule.",
};

/// What else machines of an architecture run.
const FAMILIES: &[(OciArch, &[OciArch])] = &[
    (
        OciArch::ScmpArchX86_64,
        &[OciArch::ScmpArchX86, OciArch::ScmpArchX32],
    ),
    (OciArch::ScmpArchAarch64, &[OciArch::ScmpArchArm]),
];

/// Names that are farther from a wrong one are not what was meant.
const NEAR: usize = 2;
/// For so many unknown names a better one is looked for.
const MAX_HINTS: usize = 100;

pub(in crate::lint) fn check(subject: &Subject, report: &mut Report) {
    let draft = subject.draft;
    let mut listed = vec![];
    for (_, arch) in &draft.architectures {
        if !listed.contains(arch) {
            listed.push(*arch);
        }
    }
    if listed.is_empty() {
        listed.push(subject.target.arch.to_oci());
    }
    // Authors write the names of a machine's 32-bit programs beside the others, listed or not; whether
    // they are listed is a rule of its own.
    for (main, others) in FAMILIES {
        if listed.contains(main) {
            listed.extend(others.iter().copied());
        }
    }
    let all: BTreeSet<&str> = draft
        .entries()
        .flat_map(|(entry, _)| entry.names.iter().map(String::as_str))
        .collect();
    let table = table(subject.target.arch);
    let mut hints = 0;
    for (entry, places) in draft.entries() {
        if entry.names.is_empty() {
            report.add(Finding {
                rule: &EMPTY,
                at: entry.at,
                pointer: entry.pointer.clone(),
                message: "the rule names no system call".to_owned(),
                repair: Some(Repair::Remove {
                    pointer: entry.pointer.clone(),
                }),
            });
        }
        for (index, (name, at)) in entry.names.iter().zip(&places.names).enumerate() {
            let pointer = name_pointer(entry, index);
            if name.is_empty() {
                let repair = Some(Repair::Remove {
                    pointer: pointer.clone(),
                });
                let message = "a name is the empty string".to_owned();
                report.add(Finding {
                    rule: &EMPTY,
                    at: *at,
                    pointer,
                    message,
                    repair,
                });
            } else if let Some((rule, message)) = judge(subject, name, &listed, &all) {
                let mut message = message;
                if rule.id == UNKNOWN.id && hints < MAX_HINTS {
                    hints += 1;
                    message.push_str(&hint(name, table));
                }
                report.note(rule, *at, pointer, message);
            }
        }
    }
}

fn judge(
    subject: &Subject,
    name: &str,
    listed: &[OciArch],
    all: &BTreeSet<&str>,
) -> Option<(&'static Rule, String)> {
    let arch = subject.target.arch;
    if resolve(arch, name).is_some() {
        return None;
    }
    let somewhere = known(name) || known_elsewhere(name);
    if let Some(call) = behind(name)
        && (!somewhere || !all.contains(call))
    {
        return Some((
            &WRAPPER,
            format!(
                "{} is no system call here; the C library makes {call}",
                shown(name)
            ),
        ));
    }
    if !somewhere {
        return Some((&UNKNOWN, format!("there is no system call {}", shown(name))));
    }
    let here = listed.iter().any(|arch| exists_on(*arch, name));
    (!here).then(|| {
        let words = format!(
            "{} is a call of none of the architectures listed",
            shown(name)
        );
        (&FOREIGN, words)
    })
}

/// The call that was perhaps meant.
fn hint(name: &str, table: &BTreeMap<u32, String>) -> String {
    let near = table
        .values()
        .map(|own| (distance(name, own), own))
        .filter(|(far, own)| *far <= NEAR && *far < own.len())
        .min();
    near.map_or_else(String::new, |(_, own)| format!("; did you mean {own}?"))
}

/// A name as it is shown, cut to what a line holds.
fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(60).collect::<String>())
}

/// How many letters must be put in, taken out or changed to make one name of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<u8>, Vec<u8>) = (a.bytes().take(64).collect(), b.bytes().collect());
    if a.len().abs_diff(b.len()) > NEAR {
        return usize::MAX;
    }
    let mut before: Vec<usize> = (0..=b.len()).collect();
    for (row, x) in a.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, y) in b.iter().enumerate() {
            let get = |list: &[usize], at: usize| list.get(at).copied().unwrap_or(usize::MAX - 1);
            let change = get(&before, column) + usize::from(x != y);
            let cheapest = change
                .min(get(&before, column + 1) + 1)
                .min(get(&line, column) + 1);
            line.push(cheapest);
        }
        before = line;
    }
    before.last().copied().unwrap_or(usize::MAX)
}
