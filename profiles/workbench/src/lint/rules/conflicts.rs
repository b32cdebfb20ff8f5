//! Rules that other rules of the profile make useless or contradict.

use std::collections::BTreeMap;

use cofferdam_profiles::seccomp::{Both, Test};

use super::shape::NOT_COMPARED;
use crate::dialect::Entry;
use crate::lint::draft::Places;
use crate::lint::finding::{Finding, Repair, Report};
use crate::lint::rule::{Rule, Severity};
use crate::lint::subject::{Subject, action, always_with, can_meet, is_sound, name_pointer};

pub(in crate::lint) const RULES: &[&Rule] = &[&SHADOWED, &DUPLICATE, &CONFLICT, &DEFAULT];

pub(in crate::lint) static SHADOWED: Rule = Rule {
    id: "CD301",
    name: "shadowed",
    severity: Severity::Warning,
    fixable: true,
    why: "Another rule answers the same calls, and more, at least as strictly: the conditions of this \
          one never decide anything.",
    fix: "Remove the rule, or take the call out of the wider one.",
};

pub(in crate::lint) static DUPLICATE: Rule = Rule {
    id: "CD302",
    name: "duplicate",
    severity: Severity::Warning,
    fixable: true,
    why: "The profile says the same twice. The next change will be made in one place and not in the \
          other.",
    fix: "Remove the second.",
};

pub(in crate::lint) static CONFLICT: Rule = Rule {
    id: "CD303",
    name: "conflict",
    severity: Severity::Warning,
    fixable: false,
    why: "Two rules give different answers to the same call. Cofferdam takes the stricter; libseccomp, \
          in other runtimes, drops the conditions of one call once a rule without conditions is \
          added, and else decides by the order of its tree.",
    fix: "Make the conditions exclude each other, or remove one of the rules.",
};

pub(in crate::lint) static DEFAULT: Rule = Rule {
    id: "CD304",
    name: "repeats-default",
    severity: Severity::Warning,
    fixable: true,
    why: "runc skips rules whose answer is the default's, with or without conditions: the rule refuses \
          nothing that another rule lets through.",
    fix: "Remove the rule, or give it another action or errno.",
};

/// Of different rules about one call, so many are compared with each other.
const MAX_RULES: usize = 256;

/// A rule with more tests than arguments has two of one, and is no conjunction.
const MAX_TESTS: usize = 6;

/// A call in a rule.
struct Use<'a> {
    number: usize,
    entry: &'a Entry,
    places: &'a Places,
    index: usize,
}

pub(in crate::lint) fn check(subject: &Subject, report: &mut Report) {
    let default = subject.default();
    let mut uses: BTreeMap<&str, Vec<Use>> = BTreeMap::new();
    for (number, (entry, places)) in subject.draft.entries().enumerate() {
        if !is_sound(entry) {
            continue;
        }
        if action(entry) == default {
            let conditional = !entry.args.is_empty();
            report.add(Finding {
                rule: &DEFAULT,
                at: entry.at,
                pointer: entry.pointer.clone(),
                message: "the rule's answer is the default's".to_owned(),
                repair: (!conditional).then(|| Repair::Remove {
                    pointer: entry.pointer.clone(),
                }),
            });
            if !conditional {
                continue;
            }
        }
        for (index, name) in entry.names.iter().enumerate() {
            uses.entry(name).or_default().push(Use {
                number,
                entry,
                places,
                index,
            });
        }
    }
    for (name, uses) in uses {
        let mut uses = once(name, uses, report);
        if let Some(first) = uses.get(MAX_RULES) {
            let words = format!(
                "{} rules about {name}; only the first {MAX_RULES} were compared with each other",
                uses.len()
            );
            let pointer = name_pointer(first.entry, first.index);
            report.note(&NOT_COMPARED, first.place(), pointer, words);
        }
        uses.truncate(MAX_RULES);
        compare(name, &uses, report);
    }
}

/// Each use but those that repeat an earlier one, which are told of. Quick however many there are, so that what
/// is left to compare with each other is little.
fn once<'a>(name: &str, uses: Vec<Use<'a>>, report: &mut Report) -> Vec<Use<'a>> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut left = Vec::new();
    for own in uses {
        let rule = own.entry;
        // What has two conditions of one argument means something else, see `argument-twice`.
        if twice(&own) {
            left.push(own);
            continue;
        }
        let mut tests: Vec<String> = own.tests().map(|test| format!("{test:?}")).collect();
        tests.sort_unstable();
        let key = format!(
            "{:?} {tests:?} {:?} {:?}",
            action(rule),
            rule.includes,
            rule.excludes
        );
        match seen.get(&key) {
            Some(first) => report.add(repetition(name, &own, *first, &DUPLICATE)),
            None => {
                seen.insert(key, own.number);
                left.push(own);
            }
        }
    }
    left
}

fn repetition(name: &str, own: &Use, first: usize, rule: &'static Rule) -> Finding {
    let pointer = name_pointer(own.entry, own.index);
    Finding {
        rule,
        at: own.place(),
        message: if own.number == first {
            format!("{name} stands twice in this rule")
        } else {
            format!("rule {first} says the same of {name}")
        },
        repair: (!own.entry.singular).then(|| Repair::Remove {
            pointer: pointer.clone(),
        }),
        pointer,
    }
}

fn compare(name: &str, uses: &[Use], report: &mut Report) {
    for (at, own) in uses.iter().enumerate() {
        // One finding a use is enough: the first that makes it useless, else the first it contradicts.
        let others = || uses.iter().enumerate().filter(|(other, _)| *other != at);
        let useless =
            others().find_map(|(other, use_)| Some((use_, useless(own, use_, at < other)?)));
        if let Some((other, rule)) = useless {
            let mut finding = repetition(name, own, other.number, rule);
            if rule.id != DUPLICATE.id {
                let what = if other.entry.args.is_empty() {
                    "whatever its arguments"
                } else {
                    // What a rule with wider conditions makes useless is left to the author.
                    finding.repair = None;
                    "too"
                };
                finding.message = format!("rule {} decides on {name} {what}", other.number);
            }
            report.add(finding);
            continue;
        }
        let earlier = uses.get(..at).unwrap_or_default();
        if let Some(other) = earlier.iter().find(|other| contradict(own, other)) {
            let words = format!(
                "rule {} answers some of the same calls of {name} otherwise",
                other.number
            );
            report.note(
                &CONFLICT,
                own.place(),
                name_pointer(own.entry, own.index),
                words,
            );
        }
    }
}

impl Use<'_> {
    fn place(&self) -> crate::dialect::Place {
        self.places
            .names
            .get(self.index)
            .copied()
            .unwrap_or(self.entry.at)
    }

    fn tests(&self) -> impl Iterator<Item = Test> {
        self.places.args.iter().map(|arg| arg.test)
    }

    /// Whether every call that this rule speaks of is one that `other` speaks of.
    fn within(&self, other: &Use) -> bool {
        // Conditions of one argument mean something else, see `argument-twice`.
        !twice(self)
            && !twice(other)
            && other.tests().all(|wanted| {
                self.tests()
                    .any(|own| own.index == wanted.index && own.implies(wanted) == Some(true))
            })
    }
}

fn twice(of: &Use) -> bool {
    let mut seen = 0u8;
    of.tests().any(|test| {
        let bit = 1u8.checked_shl(test.index.into()).unwrap_or(0);
        let again = seen & bit != 0;
        seen |= bit;
        again
    })
}

/// Whether `other` makes `own` useless. Of two equal ones the second is; `first`: `own` is the first.
fn useless(own: &Use, other: &Use, first: bool) -> Option<&'static Rule> {
    if !always_with(other.entry, own.entry) || !own.within(other) {
        return None;
    }
    let (answer, others) = (action(own.entry), action(other.entry));
    let same = other.within(own);
    if answer == others {
        // Of rules that make each other useless one must stay.
        if same && first && always_with(own.entry, other.entry) {
            return None;
        }
        return Some(if same { &DUPLICATE } else { &SHADOWED });
    }
    (!same && others.rank() < answer.rank()).then_some(&SHADOWED)
}

/// Whether some call of some container gets different answers from two rules.
fn contradict(a: &Use, b: &Use) -> bool {
    action(a.entry) != action(b.entry)
        && can_meet(a.entry, b.entry)
        && !a.tests().take(MAX_TESTS).any(|one| {
            b.tests()
                .take(MAX_TESTS)
                .any(|other| one.index == other.index && one.and(other) == Both::Never)
        })
}
