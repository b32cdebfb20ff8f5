//! From a profile, recordings and analyses to the rows of a page.

use std::collections::BTreeMap;

use cofferdam_profiles::seccomp::{Arch, Decision, Evaluator, InvalidProfile, table};
use oci_spec::runtime::LinuxSeccomp;
use serde::{Deserialize, Serialize};

use crate::recording::{Calls, Recording};
use crate::{knowledge, words};

/// What is written about one program by `cofferdam profile generate --evidence`: the part that is shown.
#[derive(Debug, Clone, Deserialize)]
pub struct Analysed {
    /// The program.
    pub program: String,
    /// How far the result can be trusted.
    pub confidence: String,
    /// Why not further.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Calls that can be reached.
    pub syscalls: BTreeMap<String, Way>,
}

/// How a call can be reached.
#[derive(Debug, Clone, Deserialize)]
pub struct Way {
    /// How that is known.
    pub certainty: String,
    /// `object:function`, start first.
    #[serde(default)]
    pub path: Vec<String>,
}

/// Everything on a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// What the profile is called.
    pub title: String,
    /// What it was held against.
    pub sources: Sources,
    /// Every call of this architecture, by name.
    pub rows: Vec<Row>,
}

/// What a profile was held against, a line each.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Sources {
    pub(super) lines: Vec<String>,
}

impl Sources {
    /// Whether nothing is known of the workload.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Under the profile.
    pub decided: Decided,
    /// In the recordings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// In the analyses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached: Option<Reached>,
    /// The class of danger, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub danger: Option<(String, String)>,
}

/// What a profile says of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind", content = "words")]
pub enum Decided {
    /// It runs.
    Allowed,
    /// It runs with some arguments: which.
    Conditional(String),
    /// It does not run: what happens.
    Denied(String),
}

impl Decided {
    /// Whether it runs, at least with some arguments.
    pub fn allows(&self) -> bool {
        !matches!(self, Self::Denied(_))
    }
}

/// How a call was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// How often.
    pub count: u64,
    /// `start-up`, `serving`.
    pub phases: Vec<&'static str>,
}

/// How a call can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// How that is known.
    pub certainty: String,
    /// One way to it, start first.
    pub path: Vec<String>,
}

impl Row {
    /// Seen or reachable for certain, but denied whatever its arguments.
    pub(super) fn is_missing(&self) -> bool {
        !self.decided.allows() && (self.observed.is_some() || self.reached.is_some())
    }

    /// Allowed without need, as far as is known.
    pub(super) fn is_unused(&self) -> bool {
        self.decided.allows() && self.observed.is_none() && self.reached.is_none()
    }
}

impl Page {
    /// Holds a profile against what is known of a workload.
    pub fn new(
        title: &str,
        profile: &LinuxSeccomp,
        recordings: &[Recording],
        analyses: &[Analysed],
    ) -> Result<Self, InvalidProfile> {
        let evaluator = Evaluator::new(profile)?;
        let rows = table(Arch::NATIVE).iter().map(|(number, name)| Row {
            decided: decided(&evaluator.decision(Arch::NATIVE, *number)),
            observed: observed(name, recordings),
            reached: reached(name, analyses).or_else(|| predicted(name, recordings)),
            danger: danger(name),
            name: name.clone(),
        });
        let mut rows: Vec<Row> = rows.collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self {
            title: title.to_owned(),
            sources: sources(recordings, analyses),
            rows,
        })
    }
}

fn sources(recordings: &[Recording], analyses: &[Analysed]) -> Sources {
    let recorded = recordings.iter().map(|recording| {
        let lost = match recording.lost {
            0 => String::new(),
            lost => format!("; {lost} events were lost, so calls are missing in it"),
        };
        format!(
            "Recording {:?} of {} run(s){lost}.",
            recording.name, recording.runs
        )
    });
    let analysed = analyses.iter().map(|analysis| {
        let reasons = match analysis.reasons.is_empty() {
            true => String::new(),
            false => format!(": {}", analysis.reasons.join("; ")),
        };
        format!(
            "Analysis of {}, confidence {}{reasons}.",
            analysis.program, analysis.confidence
        )
    });
    Sources {
        lines: recorded.chain(analysed).collect(),
    }
}

fn decided(decision: &Decision) -> Decided {
    match decision {
        Decision::Always(action) if action.allows() => Decided::Allowed,
        Decision::Always(action) => Decided::Denied(words::action(*action)),
        Decision::Depends { rules, otherwise } => {
            let allowing: Vec<String> = rules
                .iter()
                .filter(|rule| rule.action.allows())
                .map(|rule| format!("if {}", words::tests(&rule.tests)))
                .collect();
            match (allowing.is_empty(), otherwise.allows()) {
                (true, false) => Decided::Denied(words::action(*otherwise)),
                (false, false) => Decided::Conditional(allowing.join(", or ")),
                (_, true) => {
                    let refusing: Vec<String> = rules
                        .iter()
                        .filter(|rule| !rule.action.allows())
                        .map(|rule| format!("if {}", words::tests(&rule.tests)))
                        .collect();
                    Decided::Conditional(format!("except {}", refusing.join(", or ")))
                }
            }
        }
    }
}

fn reached(name: &str, analyses: &[Analysed]) -> Option<Reached> {
    let way = analyses
        .iter()
        .find_map(|analysis| analysis.syscalls.get(name))?;
    Some(Reached {
        certainty: way.certainty.clone(),
        path: way.path.clone(),
    })
}

/// What a recording took as known: it may well have been made.
fn predicted(name: &str, recordings: &[Recording]) -> Option<Reached> {
    let is = |recording: &Recording| recording.predicted.contains(name);
    recordings.iter().any(is).then(|| Reached {
        certainty: "predicted, not observed".to_owned(),
        path: Vec::new(),
    })
}

fn observed(name: &str, recordings: &[Recording]) -> Option<Observed> {
    let mut seen = Observed::default();
    for recording in recordings {
        let phases: [(&'static str, &Calls); 2] = [
            ("start-up", &recording.phases.startup),
            ("serving", &recording.phases.serving),
        ];
        for (phase, calls) in phases {
            let Some(call) = calls.get(name) else {
                continue;
            };
            seen.count = seen.count.saturating_add(call.count);
            if !seen.phases.contains(&phase) {
                seen.phases.push(phase);
            }
        }
    }
    (!seen.phases.is_empty()).then_some(seen)
}

fn danger(name: &str) -> Option<(String, String)> {
    let known = knowledge::of(name);
    let class = known.danger?;
    Some((
        class.title().to_owned(),
        known.why.unwrap_or_default().to_owned(),
    ))
}
