//! `diff`: what two profiles answer differently.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use cofferdam_profiles::seccomp::{Action, Evaluator, Test};
use serde_json::{Value, json};

use super::container::{Abi, Container, abis};
use super::{CliError, Format, files};
use crate::algebra::{self, Calls, Change, Diff, Difference};
use crate::words;

/// Tell what one profile allows that another one denies, and the reverse
///
/// Compares what the profiles mean, per architecture, call and argument, not how they are written.
/// Exit status: 0 if they mean the same, 1 if not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cofferdam profile diff docker-default.json nginx.json
  cofferdam profile diff --cap SYS_ADMIN --abi x86_64 old.json new.yaml --format json")]
pub(super) struct Arguments {
    /// The first profile, A; `-` is the standard input.
    first: PathBuf,
    /// The second profile, B.
    second: PathBuf,
    #[command(flatten)]
    container: Container,
    /// Compare calls of this kind only. Repeatable.
    #[arg(long, value_enum)]
    abi: Vec<Abi>,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, CliError> {
    let native = arguments.container.target().arch;
    let read = |path: &PathBuf| -> Result<Evaluator, CliError> {
        let profile = files::profile(path, &arguments.container)?;
        Evaluator::on(&profile, native).map_err(|source| CliError::Invalid {
            path: path.clone(),
            source,
        })
    };
    let (left, right) = (read(&arguments.first)?, read(&arguments.second)?);
    let diff = algebra::diff(&left, &right, native, &abis(&arguments.abi))?;
    match format {
        Format::Json => files::print_json(&as_json(&diff))?,
        Format::Human => files::print(&as_text(&diff))?,
    }
    Ok(ExitCode::from(u8::from(!diff.is_empty())))
}

/// Which way a difference goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// The first profile lets the call run, the second does not.
    First,
    /// The reverse.
    Second,
    /// Both let it run or both do not, in different ways.
    Answer,
}

impl Way {
    fn of(difference: &Difference) -> Self {
        match (difference.left.allows(), difference.right.allows()) {
            (true, false) => Self::First,
            (false, true) => Self::Second,
            _ => Self::Answer,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::First => "A allows, B does not",
            Self::Second => "B allows, A does not",
            Self::Answer => "answered in different ways",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::First => "only_first_allows",
            Self::Second => "only_second_allows",
            Self::Answer => "answer",
        }
    }
}

fn as_text(diff: &Diff) -> String {
    if diff.is_empty() {
        return "A and B mean the same.\n".to_owned();
    }
    // Way, answers and condition, then the calls on each architecture.
    let mut groups: BTreeMap<(Way, String), BTreeMap<String, Vec<&'static str>>> = BTreeMap::new();
    for change in &diff.changes {
        for one in &change.differences {
            let line = sentence(one);
            let calls = groups.entry((Way::of(one), line)).or_default();
            let arches = calls.entry(called(&change.calls)).or_default();
            arches.push(words::arch(change.arch));
        }
    }
    let mut out = String::new();
    for way in [Way::First, Way::Second, Way::Answer] {
        let own = groups.iter().filter(|((own, _), _)| *own == way);
        let mut title = Some(way.title());
        for ((_, line), calls) in own {
            if let Some(title) = title.take() {
                let _ = writeln!(out, "{title}:");
            }
            let mut by_arches: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
            for (name, arches) in calls {
                by_arches.entry(arches.clone()).or_default().push(name);
            }
            for (arches, names) in by_arches {
                let _ = writeln!(out, "  {line} [{}]", arches.join(", "));
                wrap(&mut out, &names);
            }
        }
    }
    if let Some((a, b)) = diff.foreign {
        let _ = writeln!(
            out,
            "calls of all other architectures: A: {}, B: {}",
            words::action(a),
            words::action(b)
        );
    }
    let _ = writeln!(out, "{}", summary(diff));
    out
}

fn summary(diff: &Diff) -> String {
    let count = |wanted: Way| {
        let has = |change: &&Change| change.differences.iter().any(|one| Way::of(one) == wanted);
        diff.changes.iter().filter(has).count()
    };
    format!(
        "{} that only A allows, {} that only B allows, {} answered in different ways \
         (calls counted per architecture)",
        count(Way::First),
        count(Way::Second),
        count(Way::Answer)
    )
}

/// Names under their heading, 96 columns wide.
fn wrap(out: &mut String, names: &[&str]) {
    let mut line = String::from("   ");
    for name in names {
        if line.len() + name.len() > 95 {
            let _ = writeln!(out, "{line}");
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(name);
    }
    let _ = writeln!(out, "{line}");
}

/// Cases that are told one by one; a difference with more is told by an example.
const MAX_CASES: usize = 8;

fn sentence(difference: &Difference) -> String {
    let (a, b) = (
        words::action(difference.left),
        words::action(difference.right),
    );
    let mut cases: Vec<String> = difference.cases.iter().map(case).collect();
    cases.retain(|case| !case.is_empty());
    let when = if cases.len() < difference.cases.len() {
        String::new()
    } else if cases.len() > MAX_CASES {
        format!(
            " in {} cases, as with {}",
            cases.len(),
            words::arguments(&difference.example)
        )
    } else {
        format!(" {}", cases.join(", or "))
    };
    format!("A: {a}, B: {b}{when}")
}

fn case(case: &algebra::Case) -> String {
    let mut out = String::new();
    if !case.when.is_empty() {
        out.push_str("if ");
        out.push_str(&words::tests(&case.when));
    }
    if !case.unless.is_empty() {
        if !out.is_empty() {
            out.push(' ');
        }
        let each: Vec<String> = case
            .unless
            .iter()
            .map(|tests| words::tests(tests))
            .collect();
        out.push_str("unless ");
        out.push_str(&each.join(" or "));
    }
    out
}

/// A call's name, or the numbers of several without one.
pub(super) fn called(calls: &Calls) -> String {
    match calls {
        Calls::Named { name, .. } => name.clone(),
        Calls::Numbers { first, last } if first == last => format!("#{first}"),
        Calls::Numbers { first, last } => format!("#{first}-{last}"),
    }
}

fn as_json(diff: &Diff) -> Value {
    let conditions =
        |tests: &[Test]| -> Vec<_> { tests.iter().map(|test| test.to_oci()).collect() };
    let difference = |one: &Difference| {
        let cases: Vec<Value> = one
            .cases
            .iter()
            .map(|case| {
                let unless: Vec<_> = case.unless.iter().map(|tests| conditions(tests)).collect();
                json!({ "when": conditions(&case.when), "unless": unless })
            })
            .collect();
        json!({
            "kind": Way::of(one).word(),
            "first": words::action_json(one.left),
            "second": words::action_json(one.right),
            "cases": cases,
            "example": one.example,
        })
    };
    let change = |change: &Change| {
        let differences: Vec<Value> = change.differences.iter().map(difference).collect();
        let mut out = json!({ "arch": words::arch(change.arch), "differences": differences });
        match &change.calls {
            Calls::Named { name, number } => {
                out["name"] = json!(name);
                out["number"] = json!(number);
            }
            Calls::Numbers { first, last } => out["numbers"] = json!([first, last]),
        }
        out
    };
    let changes: Vec<Value> = diff.changes.iter().map(change).collect();
    let pair = |(a, b): (Action, Action)| json!({ "first": words::action_json(a), "second": words::action_json(b) });
    json!({
        "same": diff.is_empty(),
        "changes": changes,
        "other_architectures": diff.foreign.map(pair),
    })
}
