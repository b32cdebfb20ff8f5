//! `explain`: why a profile answers a call as it does.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use cofferdam_profiles::seccomp::known;
use serde_json::{Value, json};

use super::container::Container;
use super::{CliError, Format, files};
use crate::dialect::Document;
use crate::explain::{self, Edit, Explanation, Profile, Reason, RuleAt, Summary};
use crate::knowledge::{self, Danger};
use crate::words;

/// Tell what a profile answers to a call, which rule decides, and what would change it
///
/// Without a call, tells how many calls run, and which dangerous ones. Arguments are numbers or
/// names, joined with `|`; those not given are taken as 0.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cofferdam profile explain docker-default.json
  cofferdam profile explain docker-default.json clone 0x10000000
  cofferdam profile explain --cap SYS_ADMIN docker-default.json socket AF_ALG SOCK_SEQPACKET
  cofferdam profile explain nginx.yaml ioctl 0 TIOCSTI --format json")]
pub(super) struct Arguments {
    /// The profile; `-` is the standard input.
    file: PathBuf,
    /// The system call.
    syscall: Option<String>,
    /// Its arguments, at most six.
    #[arg(num_args = 0..=6, allow_negative_numbers = true)]
    args: Vec<String>,
    #[command(flatten)]
    container: Container,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, CliError> {
    let document = files::document(&arguments.file)?;
    let target = arguments.container.target();
    let profile = Profile::new(&document, target).map_err(|source| CliError::Explain {
        path: arguments.file.clone(),
        source,
    })?;
    match (&arguments.syscall, format) {
        (None, Format::Human) => files::print(&glance(&profile, &explain::summary(&profile)))?,
        (None, Format::Json) => files::print_json(&glance_json(&explain::summary(&profile)))?,
        (Some(name), format) => {
            let given = values(name, &arguments.args)?;
            let mut args = [0; 6];
            for (place, value) in args.iter_mut().zip(&given) {
                *place = *value;
            }
            let found = profile.explain(name, &args);
            if found.is_empty() {
                return Err(CliError::NoSuchCall {
                    name: name.clone(),
                    elsewhere: known(name),
                });
            }
            match format {
                Format::Human => files::print(&text(&profile, name, &given, &found))?,
                Format::Json => files::print_json(&as_json(&profile, name, &given, &found))?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn values(name: &str, texts: &[String]) -> Result<Vec<u64>, CliError> {
    let value = |text: &String| {
        knowledge::value(name, text).ok_or_else(|| CliError::Argument { text: text.clone() })
    };
    texts.iter().map(value).collect()
}

fn text(profile: &Profile, name: &str, given: &[u64], found: &[Explanation]) -> String {
    let mut out = String::new();
    let known = knowledge::of(name);
    let _ = writeln!(out, "{name}: {}", known.purpose);
    if let (Some(danger), Some(why)) = (known.danger, known.why) {
        let _ = writeln!(out, "  danger:       {}: {why}", danger.title());
    }
    if !known.capabilities.is_empty() {
        let names: Vec<String> = known
            .capabilities
            .iter()
            .map(|one| format!("CAP_{one}"))
            .collect();
        let held = known
            .capabilities
            .iter()
            .any(|one| profile.target.capabilities.contains(*one));
        let held = if held {
            "the container has it"
        } else {
            "the container lacks it"
        };
        let _ = writeln!(
            out,
            "  capability:   {} for what is dangerous in it; {held}",
            names.join(" or ")
        );
    }
    if let Some(since) = known.since {
        let _ = writeln!(out, "  since:        Linux {since}");
    }
    if let Some(first) = given.first() {
        let flags = knowledge::flag_names(name, *first);
        let named = if flags.is_empty() {
            String::new()
        } else {
            format!(" ({})", flags.join("|"))
        };
        let shown: Vec<String> = given.iter().map(|value| words::number(*value)).collect();
        let _ = writeln!(out, "  arguments:    {}{named}", shown.join(" "));
    }
    // What is the same on several architectures is told once.
    let mut blocks: Vec<(Vec<String>, String)> = Vec::new();
    for one in found {
        let on = format!("{} (number {})", words::arch(one.arch), one.number);
        let block = block(profile, name, given, one);
        match blocks.iter_mut().find(|(_, own)| *own == block) {
            Some((arches, _)) => arches.push(on),
            None => blocks.push((vec![on], block)),
        }
    }
    for (arches, block) in blocks {
        let _ = write!(out, "on {}: {block}", arches.join(", "));
    }
    out
}

fn block(profile: &Profile, name: &str, given: &[u64], one: &Explanation) -> String {
    let mut out = format!("{}\n", words::action(one.answer));
    let _ = writeln!(out, "  decided by:   {}", reason(profile.document, one));
    for rule in one.rules.iter().filter(|rule| !decides(one, rule)) {
        let _ = writeln!(out, "  also:         {}", rule_text(rule));
    }
    for edit in explain::edits(profile, name, given, one) {
        let _ = writeln!(out, "  to change it: {}", edit.text);
    }
    out
}

fn decides(one: &Explanation, rule: &RuleAt) -> bool {
    matches!(&one.reason, Reason::Rule(own) if own == rule)
}

fn rule_text(rule: &RuleAt) -> String {
    let when = if rule.tests.is_empty() {
        String::new()
    } else {
        format!(" if {}", words::tests(&rule.tests))
    };
    format!(
        "rule {} ({}, {}): {}{when}",
        rule.index,
        rule.pointer,
        rule.at,
        words::action(rule.action)
    )
}

fn reason(document: &Document, one: &Explanation) -> String {
    match &one.reason {
        Reason::Rule(rule) => {
            let entry = document.profile.syscalls.get(rule.index);
            let comment = entry
                .and_then(|entry| entry.comment.as_deref())
                .filter(|text| !text.is_empty());
            let comment = comment.map(|text| format!(", whose comment is {text:?}"));
            format!("{}{}", rule_text(rule), comment.unwrap_or_default())
        }
        Reason::Default if one.rules.is_empty() => "the default; no rule names it".to_owned(),
        Reason::Default => "the default; no rule for it matches these arguments".to_owned(),
        Reason::Newer { newest } => format!(
            "its age: no rule names it and it is newer than number {newest}, the newest the profile \
             can be taken to know, so that it counts as missing"
        ),
        Reason::Foreign => "its architecture, which the profile does not list".to_owned(),
    }
}

fn as_json(profile: &Profile, name: &str, given: &[u64], found: &[Explanation]) -> Value {
    let known = knowledge::of(name);
    let rule = |rule: &RuleAt| {
        let tests: Vec<_> = rule.tests.iter().map(|test| test.to_oci()).collect();
        json!({
            "index": rule.index,
            "pointer": rule.pointer,
            "line": rule.at.line,
            "column": rule.at.column,
            "args": tests,
            "answer": words::action_json(rule.action),
        })
    };
    let edit = |edit: Edit| json!({ "text": edit.text, "patch": edit.patch });
    let one = |one: &Explanation| {
        let (kind, by) = match &one.reason {
            Reason::Rule(own) => ("rule", rule(own)),
            Reason::Default => ("default", Value::Null),
            Reason::Newer { newest } => ("newer", json!({ "newest": newest })),
            Reason::Foreign => ("architecture", Value::Null),
        };
        let edits = explain::edits(profile, name, given, one);
        json!({
            "arch": words::arch(one.arch),
            "number": one.number,
            "answer": words::action_json(one.answer),
            "allowed": one.answer.allows(),
            "reason": kind,
            "decided_by": by,
            "rules": one.rules.iter().map(rule).collect::<Vec<_>>(),
            "edits": edits.into_iter().map(edit).collect::<Vec<_>>(),
        })
    };
    json!({
        "syscall": name,
        "args": given,
        "purpose": known.purpose,
        "danger": known.danger,
        "why": known.why,
        "capabilities": known.capabilities.iter().map(|one| format!("CAP_{one}")).collect::<Vec<_>>(),
        "since": known.since,
        "architectures": found.iter().map(one).collect::<Vec<_>>(),
    })
}

fn glance(profile: &Profile, summary: &Summary) -> String {
    let mut out = String::new();
    let document = profile.document;
    let rules = document.profile.syscalls.len();
    let _ = writeln!(
        out,
        "{} profile, {rules} rules, of which {} are not for this container; default: {}",
        document.dialect.name(),
        profile.resolved.excluded.len(),
        words::action(summary.default)
    );
    let _ = writeln!(
        out,
        "{:<10} {:>7} {:>11} {:>6}",
        "calls of", "allowed", "conditional", "denied"
    );
    for count in &summary.counts {
        let note = if count.listed { "" } else { "  (not listed)" };
        let _ = writeln!(
            out,
            "{:<10} {:>7} {:>11} {:>6}{note}",
            words::arch(count.arch),
            count.allowed,
            count.conditional,
            count.denied
        );
    }
    if summary.dangerous.is_empty() {
        let _ = writeln!(out, "no dangerous call runs");
    } else {
        let _ = writeln!(
            out,
            "dangerous calls that run (with * only for some arguments):"
        );
    }
    for danger in Danger::ALL {
        if let Some((always, sometimes)) = summary.dangerous.get(&danger) {
            let starred = sometimes.iter().map(|name| format!("{name}*"));
            let names: Vec<String> = always.iter().cloned().chain(starred).collect();
            let _ = writeln!(out, "  {:<16} {}", danger.title(), names.join(" "));
        }
    }
    for (at, pointer) in &document.unknown {
        let _ = writeln!(out, "{at}: nobody reads {pointer}");
    }
    out
}

fn glance_json(summary: &Summary) -> Value {
    let count = |count: &explain::Count| {
        json!({
            "arch": words::arch(count.arch),
            "listed": count.listed,
            "allowed": count.allowed,
            "conditional": count.conditional,
            "denied": count.denied,
        })
    };
    let dangerous = summary.dangerous.iter().map(|(danger, (always, sometimes))| {
        json!({ "class": danger, "always": always, "conditional": sometimes })
    });
    json!({
        "default": words::action_json(summary.default),
        "architectures": summary.counts.iter().map(count).collect::<Vec<_>>(),
        "dangerous": dangerous.collect::<Vec<_>>(),
    })
}
