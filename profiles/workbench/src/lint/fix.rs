//! Repairs that do not change what a profile means.
//!
//! The text is edited in place, so that what is not repaired keeps its form. Every result is read again
//! and its meaning compared with the one before, for containers with every and without any capability; what
//! fails that is not written. Repeated until nothing is left to repair, so a second run changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use cofferdam_profiles::capability::{self, Set};

use super::draft::Draft;
use super::finding::{Repair, Report};
use super::subject::evaluator;
use super::{Options, lint, read};
use crate::dialect::node::{Node, Value};
use crate::dialect::{Kernel, Place, Target, json, text};

/// Repairs make others possible; so often the text is looked through again.
const MAX_ROUNDS: usize = 16;
/// If they cannot be made all at once, so many are tried one by one.
const MAX_SINGLE: usize = 200;

/// A repaired text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// The whole text.
    pub text: String,
    /// How many findings it had that this one has not.
    pub repaired: usize,
}

/// Repairs what can be repaired; `None` if there is nothing, or the file is no JSON.
pub fn fix(bytes: &[u8], options: &Options) -> Option<Fixed> {
    let before = text(bytes).ok()?;
    let mark = if bytes.starts_with("\u{feff}".as_bytes()) {
        "\u{feff}"
    } else {
        ""
    };
    let mut now = before.to_owned();
    let mut repaired = 0;
    for _ in 0..MAX_ROUNDS {
        let repairs = repairs(&now, options);
        if repairs.is_empty() {
            break;
        }
        let all: Vec<&Repair> = repairs.iter().collect();
        if let Some(next) = apply(&now, &all).filter(|next| same(&now, next, &options.target)) {
            repaired += repairs.len();
            now = next;
            continue;
        }
        // What has no meaning as a whole cannot be shown to keep it.
        if !same(&now, &now, &options.target) {
            break;
        }
        let mut some = 0;
        // From the end: what is taken out there leaves the pointers before it as they are.
        for repair in repairs.iter().rev().take(MAX_SINGLE) {
            let next = apply(&now, &[repair]).filter(|next| same(&now, next, &options.target));
            if let Some(next) = next {
                now = next;
                some += 1;
            }
        }
        repaired += some;
        if some == 0 {
            break;
        }
    }
    (now != before).then(|| Fixed {
        text: format!("{mark}{now}"),
        repaired,
    })
}

/// What there is to repair, in the order of the text.
fn repairs(text: &str, options: &Options) -> Vec<Repair> {
    let findings = lint(text.as_bytes(), options).findings;
    let unique: BTreeSet<(Place, Repair)> = findings
        .into_iter()
        .filter_map(|finding| Some((finding.at, finding.repair?)))
        .collect();
    unique.into_iter().map(|(_, repair)| repair).collect()
}

/// Whether two texts mean the same for every kind of container.
fn same(before: &str, after: &str, target: &Target) -> bool {
    let draft = |text: &str| read(text.as_bytes(), &mut Report::default()).pop();
    let (Some(before), Some(after)) = (draft(before), draft(after)) else {
        return false;
    };
    let old = Kernel { major: 3, minor: 0 };
    [target.capabilities, Set::EMPTY, Set::of(capability::ALL)]
        .into_iter()
        .flat_map(|capabilities| [None, Some(old)].map(|kernel| (capabilities, kernel)))
        .all(|(capabilities, kernel)| {
            let target = Target {
                capabilities,
                kernel,
                ..*target
            };
            mean_the_same(&before, &after, &target)
        })
}

fn mean_the_same(before: &Draft, after: &Draft, target: &Target) -> bool {
    match (evaluator(before, target), evaluator(after, target)) {
        (Some(before), Some(after)) => before.same_meaning(&after),
        _ => false,
    }
}

/// The text with repairs; `None` if one does not fit it.
fn apply(text: &str, repairs: &[&Repair]) -> Option<String> {
    let root = json::parse(text).ok()?;
    let places = Offsets::new(text);
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let mut removed: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for repair in repairs {
        match repair {
            Repair::Number { pointer, value } => {
                let start = places.of(find(&root, pointer)?.at)?;
                edits.push((start..end(text, start)?, value.to_string()));
            }
            Repair::Remove { pointer } => remove(&root, pointer, &mut removed)?,
        }
    }
    for (list, elements) in removed {
        let Value::List(nodes) = &find(&root, &list)?.value else {
            return None;
        };
        let mut spans = Vec::new();
        for node in nodes {
            let start = places.of(node.at)?;
            spans.push(start..end(text, start)?);
        }
        edits.extend(
            cut(&spans, &elements)?
                .into_iter()
                .map(|cut| (cut, String::new())),
        );
    }
    // What is inside of something that is taken out goes with it.
    edits.sort_by_key(|(span, _)| (span.start, std::cmp::Reverse(span.end)));
    let mut out = String::new();
    let mut done = 0;
    for (span, new) in edits {
        if span.start < done {
            continue;
        }
        out.push_str(text.get(done..span.start)?);
        out.push_str(&new);
        done = span.end;
    }
    out.push_str(text.get(done..)?);
    Some(out)
}

/// Notes that an element is to be taken out; if it is the last name of its rule, the rule.
fn remove(
    root: &Node,
    pointer: &str,
    removed: &mut BTreeMap<String, BTreeSet<usize>>,
) -> Option<()> {
    let (list, index) = pointer.rsplit_once('/')?;
    let elements = removed.entry(list.to_owned()).or_default();
    elements.insert(index.parse().ok()?);
    if let Some(rule) = list.strip_suffix("/names")
        && let Value::List(names) = &find(root, list)?.value
        && names.len() <= elements.len()
    {
        return remove(root, rule, removed);
    }
    Some(())
}

/// What to cut so that a list loses elements and keeps its form: each with what is before its successor, those
/// at the end with what is after their predecessor.
fn cut(spans: &[Range<usize>], elements: &BTreeSet<usize>) -> Option<Vec<Range<usize>>> {
    let kept = (0..spans.len()).rev().find(|at| !elements.contains(at));
    let Some(kept) = kept else {
        return Some(std::iter::once(spans.first()?.start..spans.last()?.end).collect());
    };
    let mut cuts = Vec::new();
    for at in elements.iter().take_while(|at| **at < kept) {
        cuts.push(spans.get(*at)?.start..spans.get(at + 1)?.start);
    }
    if kept + 1 < spans.len() {
        cuts.push(spans.get(kept)?.end..spans.last()?.end);
    }
    Some(cuts)
}

/// The value at a JSON pointer.
fn find<'a>(root: &'a Node, pointer: &str) -> Option<&'a Node> {
    pointer
        .split('/')
        .skip(1)
        .try_fold(root, |node, step| match &node.value {
            Value::List(list) => list.get(step.parse::<usize>().ok()?),
            _ => node.get(step),
        })
}

/// Where in the text a line and a column are. A text may be one line of megabytes, so within lines the offset of
/// every [`STEP`]th letter is kept.
struct Offsets<'a> {
    text: &'a str,
    lines: Vec<Vec<usize>>,
}

const STEP: usize = 256;

impl<'a> Offsets<'a> {
    fn new(text: &'a str) -> Self {
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let steps = line.char_indices().step_by(STEP);
            lines.push(steps.map(|(at, _)| start + at).collect());
            start += line.len();
        }
        Self { text, lines }
    }

    fn of(&self, place: Place) -> Option<usize> {
        let line = usize::try_from(place.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(place.column).ok()?.checked_sub(1)?;
        let start = *self.lines.get(line)?.get(column / STEP)?;
        let mut letters = self.text.get(start..)?.char_indices();
        letters.nth(column % STEP).map(|(at, _)| start + at)
    }
}

/// The end of the value that begins at an offset of a text that is JSON.
fn end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes().get(start..)?;
    let (mut depth, mut inside, mut escaped) = (0usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        if inside {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => inside = false,
                _ => continue,
            }
            if inside || depth > 0 {
                continue;
            }
            return Some(start + at + 1);
        }
        match byte {
            b'"' => inside = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some(start + at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(start + at + 1);
                }
            }
            b',' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => return Some(start + at),
            _ => {}
        }
    }
    Some(text.len())
}
