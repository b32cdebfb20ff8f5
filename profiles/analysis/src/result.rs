//! What an analysis found.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kind::{Confidence, Kind};
use crate::summary::Why;

/// How it is known that a call can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The number stands beside a `syscall` instruction that can be reached.
    Constant,
    /// The number is handed to a function that makes whichever call it is told to.
    Argument,
    /// Every process needs it.
    Always,
    /// It was seen to happen, though the analysis did not find it.
    Observed,
}

/// Why a call is in the result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evidence {
    /// How it is known.
    pub certainty: Certainty,
    /// Every object with reachable code that makes it.
    pub objects: BTreeSet<PathBuf>,
    /// One way to it: `object:function`, start first.
    pub path: Vec<String>,
    /// Constant first arguments of reachable calls, for calls that have a kind (`socket`: families,
    /// `clone`: flags); empty where any value is possible.
    pub arguments: BTreeSet<u64>,
}

impl Evidence {
    /// Takes in what another program's analysis found of the same call.
    pub(crate) fn join(&mut self, other: Self) {
        if other.certainty < self.certainty {
            self.path = other.path;
        }
        self.certainty = self.certainty.min(other.certainty);
        self.objects.extend(other.objects);
        // An empty set stands for any value.
        if self.arguments.is_empty() || other.arguments.is_empty() {
            self.arguments.clear();
        } else {
            self.arguments.extend(other.arguments);
        }
    }
}

/// A reachable system call whose number is not known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unresolved {
    /// The object, as seen from inside.
    pub object: PathBuf,
    /// The instruction's address in the object.
    pub address: u64,
    /// Its function.
    pub function: String,
    /// Why it is not known.
    pub why: Why,
    /// One way to it, start first.
    pub path: Vec<String>,
}

/// A file of the program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ObjectInfo {
    /// As seen from inside.
    pub path: PathBuf,
    /// The linker's id, in hex; empty if it has none.
    pub build_id: String,
    /// Loaded by name while the program runs.
    pub plugin: bool,
}

/// Which system calls a program can make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Analysis {
    /// The program, as seen from inside, symlinks resolved.
    pub program: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// How far the result can be trusted.
    pub confidence: Confidence,
    /// Why not further, in plain words.
    pub reasons: Vec<String>,
    /// Native calls by name.
    pub syscalls: BTreeMap<String, Evidence>,
    /// What could not be told.
    pub unresolved: Vec<Unresolved>,
    /// Files that were looked at.
    pub objects: Vec<ObjectInfo>,
    /// Programs it names and may start, which run under the same profile.
    pub starts: BTreeSet<PathBuf>,
    /// How many functions can run, and of how many.
    pub functions: (usize, usize),
    /// What it can do once it waits for work, where it has a main loop that can be told.
    pub serving: Option<Serving>,
}

/// The calls that are left once a program runs its main loop. No filter is made of them: the program
/// would have to install it itself, and what it does after the loop is not among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// The function with the main loop, `object:function`.
    pub main_loop: String,
    /// Native calls by name.
    pub syscalls: BTreeSet<String>,
}

impl Analysis {
    /// Whether a profile has to allow more than [`Analysis::syscalls`], as numbers are not known.
    pub fn is_widened(&self) -> bool {
        !self.unresolved.is_empty()
    }

    /// What either program can do, for programs that share a container: the program of `self`
    /// stays the one that the result is named by.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.confidence = self.confidence.min(other.confidence);
        let new = other.reasons.into_iter();
        let new: Vec<String> = new
            .filter(|reason| !self.reasons.contains(reason))
            .collect();
        self.reasons.extend(new);
        for (name, evidence) in other.syscalls {
            match self.syscalls.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(evidence);
                }
                Entry::Occupied(mut entry) => entry.get_mut().join(evidence),
            }
        }
        for site in other.unresolved {
            let same = |own: &Unresolved| own.object == site.object && own.address == site.address;
            if !self.unresolved.iter().any(same) {
                self.unresolved.push(site);
            }
        }
        for object in other.objects {
            if !self.objects.iter().any(|own| own.path == object.path) {
                self.objects.push(object);
            }
        }
        self.starts.extend(other.starts);
        self.functions.0 += other.functions.0;
        self.functions.1 += other.functions.1;
        // Which of them serves is not known.
        self.serving = None;
        self
    }

    pub(crate) fn lower(&mut self, to: Confidence, reason: String) {
        self.confidence = self.confidence.min(to);
        self.reasons.push(reason);
    }

    pub(crate) fn judge(&mut self) {
        if !self.reasons.is_empty() {
            self.confidence = Confidence::Medium;
        }
        match self.kind.clone() {
            Kind::Jit(engine) => self.lower(
                Confidence::Low,
                format!("{engine} makes machine code while it runs; only its own code was seen"),
            ),
            Kind::Interpreter(language) => self.lower(Confidence::Medium, interprets(&language)),
            Kind::Native | Kind::Static | Kind::Go | Kind::Script(_) => {}
        }
        if !self.unresolved.is_empty() {
            let count = self.unresolved.len();
            self.lower(
                Confidence::Medium,
                format!("{count} reachable system calls have a number that is not known"),
            );
        }
    }

    pub(crate) fn script(&mut self) {
        let interpreter = match &self.kind {
            Kind::Interpreter(name) | Kind::Jit(name) => name.clone(),
            _ => self.program.display().to_string(),
        };
        self.kind = Kind::Script(interpreter);
    }
}

/// Why the result of an interpreter is not all there is.
pub(crate) fn interprets(language: &str) -> String {
    format!(
        "it interprets {language}: modules and programs that the script loads or starts count only as \
         far as they are listed"
    )
}
