//! Finds what is wrong with a profile, or more than a container should be allowed, and says where.
//!
//! A file is read leniently (`draft`), given a meaning for one container (`subject`), and held against
//! every rule of `rules`. What `fix` changes leaves the meaning as it is, which it proves by comparing
//! both. The time is bounded: by the bounds of the reader, and by [`MAX_ENTRIES`] for the rest.

/// The profile as it is written.
mod draft;
/// What rules know of Linux.
mod facts;
/// What was found.
mod finding;
/// Repairs that do not change what a profile means.
mod fix;
/// Values one by one.
mod reader;
/// What a rule is.
mod rule;
/// The rules, a file per theme.
mod rules;
/// Findings for code-scanning services.
pub mod sarif;
/// What a profile means for one container.
mod subject;

pub use finding::{Finding, MAX_FINDINGS, Repair, Report};
pub use fix::{Fixed, fix};
pub use rule::{Rule, Severity};

use crate::dialect::node::Node;
use crate::dialect::{DialectError, Place, Target, json, text, yaml};
use draft::Draft;
use rules::shape::{MALFORMED, TOO_LARGE};
use subject::Subject;

/// Names times conditions of a profile; the largest in the field has some 500. The model's own bound.
const MAX_ENTRIES: usize = 16_384;

/// What to look for, and for which container.
#[derive(Debug, Clone)]
pub struct Options {
    /// The container.
    pub target: Target,
    /// If not empty, only these rules, by id or name.
    pub only: Vec<String>,
    /// Not these rules.
    pub ignore: Vec<String>,
}

impl Options {
    /// Every rule.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            only: Vec::new(),
            ignore: Vec::new(),
        }
    }

    fn wants(&self, rule: &Rule) -> bool {
        let named = |list: &[String]| list.iter().any(|text| rule.is_called(text));
        (self.only.is_empty() || named(&self.only)) && !named(&self.ignore)
    }
}

/// Every rule, by theme.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    rules::all()
}

/// The rule of an id or a name.
pub fn rule(text: &str) -> Option<&'static Rule> {
    rules().find(|rule| rule.is_called(text))
}

/// Looks for everything that is wrong with a file.
pub fn lint(bytes: &[u8], options: &Options) -> Report {
    let mut report = Report::default();
    for draft in read(bytes, &mut report) {
        rules::check(&Subject::new(&draft, &options.target), &mut report);
    }
    report
        .findings
        .retain(|finding| options.wants(finding.rule));
    report
        .findings
        .sort_by(|a, b| (a.at, a.rule.id, &a.pointer).cmp(&(b.at, b.rule.id, &b.pointer)));
    report
}

/// Reads the profiles of a file as far as they can be read and are of a size that is worth looking at: one, or
/// in YAML several.
fn read(bytes: &[u8], report: &mut Report) -> Vec<Draft> {
    let roots = match text(bytes).and_then(tree) {
        Ok(roots) => roots,
        Err(error) => {
            let at = place(&error);
            report.note(&MALFORMED, at, "", words(&error));
            return Vec::new();
        }
    };
    let mut drafts = Vec::new();
    for root in &roots {
        // What else is in a file of several documents is not asked for.
        if roots.len() > 1 && root.get("kind").and_then(Node::text) != Some("SeccompProfile") {
            continue;
        }
        let Some(draft) = draft::read(root, report) else {
            continue;
        };
        let entries = draft.entries().fold(0usize, |sum, (entry, _)| {
            sum.saturating_add(entry.names.len().saturating_mul(entry.args.len().max(1)))
        });
        if entries > MAX_ENTRIES {
            let words = format!("{entries} names and conditions, at most {MAX_ENTRIES}");
            report.note(&TOO_LARGE, draft.at, draft.pointer("syscalls"), words);
        } else {
            drafts.push(draft);
        }
    }
    if drafts.is_empty() && report.findings.is_empty() {
        report.note(
            &MALFORMED,
            Place::START,
            "",
            "there is no seccomp profile in the file",
        );
    }
    drafts
}

/// The documents of a text, which is JSON if it begins like it, else YAML: as the readers of profiles decide.
fn tree(text: &str) -> Result<Vec<Node>, DialectError> {
    let start = text.trim_start();
    if start.is_empty() || start.starts_with(['{', '[']) {
        return json::parse(text).map(|root| vec![root]);
    }
    yaml::parse(text)
}

/// Where a reader stopped.
fn place(error: &DialectError) -> Place {
    error.place().unwrap_or(Place::START)
}

/// Why, without the place, which a finding has already.
fn words(error: &DialectError) -> String {
    let text = error.to_string();
    match error.place() {
        Some(at) => text
            .strip_prefix(&format!("{at}: "))
            .unwrap_or(&text)
            .to_owned(),
        None => text,
    }
}
