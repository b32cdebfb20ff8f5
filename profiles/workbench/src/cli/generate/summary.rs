//! What was made, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use cofferdam_analysis::{Certainty, Confidence, Generated, Kind, LeftOut, Unresolved};
use cofferdam_profiles::capability;
use cofferdam_profiles::seccomp::{self, Arch, Decision, Evaluator, default_profile};
use oci_spec::runtime::LinuxSeccomp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::convert::To;
use crate::image::Image;
use crate::knowledge;

/// How many calls of x86-64 the default profile of Docker 20.10 lets a container make that has the
/// usual capabilities, on Debian 12, at least with some arguments.
pub(crate) const DOCKER: usize = 292;

/// See the module.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    command: Vec<String>,
    program: PathBuf,
    kind: Kind,
    confidence: Confidence,
    reasons: Vec<String>,
    /// Each program with the number of its calls, the first first.
    programs: Vec<(PathBuf, usize)>,
    left_out: Vec<LeftOut>,
    /// How many calls can be made, at least with some arguments.
    allowed: usize,
    compared: Compared,
    dangerous: Vec<Dangerous>,
    unresolved: Vec<Unresolved>,
    /// What recordings have and the analysis did not find.
    pub(super) holes: Vec<Hole>,
    image: Option<Unpacked>,
    seconds: f64,
    megabytes: u64,
}

/// How many calls other profiles allow.
#[derive(Debug, Serialize)]
struct Compared {
    native: usize,
    built_in_default: usize,
    docker_default: usize,
}

/// A call that is allowed and does harm.
#[derive(Debug, Serialize)]
struct Dangerous {
    name: String,
    class: &'static str,
    why: &'static str,
    certainty: Option<Certainty>,
    /// One way to it; empty if it is only allowed because a number is not known.
    path: Vec<String>,
}

/// What a recording has and the analysis did not find.
#[derive(Debug, Serialize)]
pub(super) struct Hole {
    pub(super) recording: PathBuf,
    /// Added to the profile.
    pub(super) calls: Vec<String>,
    /// Of another ABI, or unknown: not added.
    pub(super) foreign: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Unpacked {
    layers: usize,
    bytes: u64,
    notes: Vec<String>,
}

impl Summary {
    pub(super) fn new(
        command: &[String],
        made: &Generated,
        holes: Vec<Hole>,
        image: Option<&Image>,
        took: Duration,
    ) -> Self {
        let allowed = allowed(&made.profile);
        let dangerous = allowed.iter().filter_map(|name| dangerous(name, made));
        let usual = capability::ENGINE_DEFAULT.to_oci();
        let programs = made.programs.iter();
        Self {
            command: command.to_vec(),
            program: made.entry.clone(),
            kind: made
                .programs
                .first()
                .map_or(Kind::Native, |p| p.kind.clone()),
            confidence: made.confidence,
            reasons: made.reasons.clone(),
            programs: programs
                .map(|p| (p.program.clone(), p.syscalls.len()))
                .collect(),
            left_out: made.left_out.clone(),
            allowed: allowed.len(),
            compared: Compared {
                native: seccomp::table(Arch::X86_64).len(),
                built_in_default: self::allowed(&default_profile(&usual, Arch::X86_64)).len(),
                docker_default: DOCKER,
            },
            dangerous: dangerous.collect(),
            unresolved: made.unresolved.clone(),
            holes,
            image: image.map(|image| Unpacked {
                layers: image.layers,
                bytes: image.bytes,
                notes: image.ignored.notes(),
            }),
            seconds: took.as_secs_f64(),
            megabytes: peak_megabytes(),
        }
    }

    /// With the profile in it: as JSON, or as text where it is YAML.
    pub(super) fn json(&self, made: &Generated, text: &str, to: To) -> Value {
        let profile = match to {
            To::Spo => json!({ "yaml": text }),
            _ => serde_json::from_str(text).unwrap_or(Value::Null),
        };
        let calls: BTreeMap<&str, Certainty> = made
            .syscalls
            .iter()
            .map(|(name, evidence)| (name.as_str(), evidence.certainty))
            .collect();
        let mut value = json!(self);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("calls".to_owned(), json!(calls));
            fields.insert("profile".to_owned(), profile);
        }
        value
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let Compared {
            native,
            built_in_default,
            docker_default,
        } = self.compared;
        writeln!(text, "{}", self.command.join(" "))?;
        writeln!(
            text,
            "program     {} ({})",
            self.program.display(),
            kind(&self.kind)
        )?;
        if let Some((_, others)) = self
            .programs
            .split_first()
            .filter(|(_, rest)| !rest.is_empty())
        {
            let names: Vec<String> = others
                .iter()
                .map(|(p, _)| p.display().to_string())
                .collect();
            writeln!(text, "may start   {}", some(&names))?;
        }
        if let Some(image) = &self.image {
            let megabytes = image.bytes >> 20;
            writeln!(
                text,
                "image       {} layer{}, {megabytes} MiB unpacked",
                image.layers,
                if image.layers == 1 { "" } else { "s" }
            )?;
            for note in &image.notes {
                writeln!(text, "            {note}")?;
            }
        }
        writeln!(text, "confidence  {}", confidence(self.confidence))?;
        for reason in &self.reasons {
            writeln!(text, "            - {reason}")?;
        }
        for left in &self.left_out {
            writeln!(
                text,
                "            - {}: {}",
                left.program.display(),
                left.why
            )?;
        }
        writeln!(
            text,
            "allowed     {} of {native} calls (the built-in default {built_in_default}, Docker 20.10's on \
             Debian 12 {docker_default})",
            self.allowed
        )?;
        writeln!(
            text,
            "dangerous   {}",
            count(self.dangerous.len(), "allowed")
        )?;
        for call in &self.dangerous {
            writeln!(
                text,
                "            {} ({}): {}",
                call.name,
                call.class,
                way(call)
            )?;
        }
        writeln!(
            text,
            "unresolved  {}",
            count(self.unresolved.len(), "reachable sites")
        )?;
        for site in &self.unresolved {
            writeln!(
                text,
                "            {} {:#x} in {}: {}",
                site.object.display(),
                site.address,
                site.function,
                shortened(&site.path)
            )?;
        }
        for hole in &self.holes {
            let recording = hole.recording.display();
            if !hole.calls.is_empty() {
                let calls = hole.calls.join(" ");
                writeln!(
                    text,
                    "hole        {recording} has what was not found, now allowed: {calls}"
                )?;
            }
            if !hole.foreign.is_empty() {
                let calls = hole.foreign.join(" ");
                writeln!(
                    text,
                    "hole        {recording} has calls of another ABI, not allowed: {calls}"
                )?;
            }
        }
        writeln!(
            text,
            "took        {:.2} s, {} MB",
            self.seconds, self.megabytes
        )
    }
}

/// The calls that a profile lets pass, at least with some arguments.
fn allowed(profile: &LinuxSeccomp) -> Vec<String> {
    let Ok(evaluator) = Evaluator::new(profile) else {
        return Vec::new();
    };
    let calls = seccomp::table(Arch::X86_64).iter();
    let passing = calls.filter(
        |(number, _)| match evaluator.decision(Arch::X86_64, **number) {
            Decision::Always(action) => action.allows(),
            Decision::Depends { rules, otherwise } => {
                otherwise.allows() || rules.iter().any(|rule| rule.action.allows())
            }
        },
    );
    let mut names: Vec<String> = passing.map(|(_, name)| name.clone()).collect();
    names.sort_unstable();
    names
}

fn dangerous(name: &str, made: &Generated) -> Option<Dangerous> {
    let known = knowledge::of(name);
    let class = known.danger?;
    let evidence = made.syscalls.get(name);
    Some(Dangerous {
        name: name.to_owned(),
        class: class.title(),
        why: known.why.unwrap_or_default(),
        certainty: evidence.map(|evidence| evidence.certainty),
        path: evidence
            .map(|evidence| evidence.path.clone())
            .unwrap_or_default(),
    })
}

fn way(call: &Dangerous) -> String {
    match call.certainty {
        None => "a number is not known, and this may be it".to_owned(),
        Some(Certainty::Always) => "every process needs it".to_owned(),
        Some(Certainty::Observed) => "seen in a recording".to_owned(),
        Some(Certainty::Constant | Certainty::Argument) => shortened(&call.path),
    }
}

/// The beginning and the end of a way.
fn shortened(path: &[String]) -> String {
    match path {
        [first, middle @ .., before, last] if middle.len() > 1 => {
            format!("{first} > ... > {before} > {last}")
        }
        _ => path.join(" > "),
    }
}

fn some(names: &[String]) -> String {
    const MOST: usize = 8;
    let shown = names
        .iter()
        .take(MOST)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().checked_sub(MOST) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

fn count(count: usize, what: &str) -> String {
    match count {
        0 => "none".to_owned(),
        count => format!("{count} {what}"),
    }
}

fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Low => "low",
        Confidence::Medium => "medium",
        Confidence::High => "high",
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Native => "machine code and shared objects".to_owned(),
        Kind::Static => "machine code in one file".to_owned(),
        Kind::Go => "a Go program".to_owned(),
        Kind::Jit(engine) => format!("{engine}, which makes machine code while it runs"),
        Kind::Interpreter(language) => format!("an interpreter: {language}"),
        Kind::Script(interpreter) => format!("a script: {interpreter}"),
    }
}

fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    number.unwrap_or(0) / 1024
}
