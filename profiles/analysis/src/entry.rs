//! Everything that one process of a container may run: its program, found as the kernel would find
//! it, and the programs that one may start in turn, which share its profile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cofferdam_profiles::seccomp;
use oci_spec::runtime::LinuxSeccomp;
use serde::{Deserialize, Serialize};

use crate::analyse::{Context, Options, analyse_in};
use crate::error::AnalysisError;
use crate::kind::{Confidence, Kind};
use crate::link::Memory;
use crate::profile::{of_calls, to_profile};
use crate::result::{Analysis, Certainty, Evidence, Unresolved, interprets};
use crate::rootfs::RootFs;
use crate::rootfs::script::{self, Search};

/// What a container's process is started with.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its command line; the first word names the program.
    pub args: &'a [String],
    /// Its `PATH`; the usual directories if it has none.
    pub path: Option<&'a str>,
    /// Its working directory, as seen from inside.
    pub cwd: &'a Path,
}

/// A profile for a process, and why it is what it is. Serialised, this is the evidence that
/// `cofferdam profile generate --evidence` writes: everything but the profile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Generated {
    /// The program the process starts with, as seen from inside, symlinks resolved.
    pub entry: PathBuf,
    /// Every program it may run: the first is the one it starts with.
    pub programs: Vec<Analysis>,
    /// Programs it may run that could not be analysed; what only they need is not allowed.
    pub left_out: Vec<LeftOut>,
    /// How far the whole can be trusted.
    pub confidence: Confidence,
    /// Why not further, in plain words.
    pub reasons: Vec<String>,
    /// Native calls that any of the programs can make.
    pub syscalls: BTreeMap<String, Evidence>,
    /// What could not be told of any of them.
    pub unresolved: Vec<Unresolved>,
    /// The profile: see [`to_profile`].
    #[serde(skip)]
    pub profile: LinuxSeccomp,
}

/// A program that a process may run and that was not analysed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// As seen from inside.
    pub program: PathBuf,
    /// Why.
    pub why: String,
}

/// Why there is no profile for a process.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// There is no command line.
    #[error("there is no command to analyse; name one, as in `-- nginx -g 'daemon off;'`")]
    NoCommand,
    /// The command is not there.
    #[error("{command:?} is no program of the root file system; looked for in {searched}")]
    NotFound {
        /// The first word of the command line.
        command: String,
        /// Where it was looked for.
        searched: String,
    },
    /// It is there, but cannot be analysed.
    #[error("cannot analyse the program that the container starts with")]
    Analysis(#[from] AnalysisError),
}

/// More programs than this are not followed; a shell script may name any number.
const MAX_PROGRAMS: usize = 128;
/// After so long, programs that are still to be analysed are left out. Files are the image's: one
/// may be made to take long.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_PATH: usize = 64 * 1024;
/// Words of a command line that may name programs or scripts.
const MAX_WORDS: usize = 256;
/// As many programs are named in a reason.
const NAMED: usize = 6;

/// Makes a profile for a process: of its program and of all that this may start.
pub fn generate(
    root: &RootFs,
    entry: &Entry<'_>,
    options: &Options,
) -> Result<Generated, EntryError> {
    let context = Context {
        root,
        options,
        search: Search::new(root, entry.path.filter(|path| path.len() <= MAX_PATH)),
        memory: Memory::default(),
        cwd: entry.cwd,
    };
    let program = find(&context, entry)?;
    let started = Instant::now();
    let mut first = analyse_in(&context, &program)?;
    let has_script = named_by_arguments(&context, entry, &mut first);
    let mut open: VecDeque<PathBuf> = first.starts.iter().cloned().collect();
    let mut seen: BTreeSet<PathBuf> = open.iter().cloned().collect();
    seen.insert(program);
    let mut rest = Vec::new();
    let mut left_out = Vec::new();
    while let Some(program) = open.pop_front() {
        let why = if rest.len() + 1 >= MAX_PROGRAMS {
            format!("more than {MAX_PROGRAMS} programs are not followed")
        } else if started.elapsed() > PATIENCE {
            format!("the analysis took longer than {} s", PATIENCE.as_secs())
        } else {
            match analyse_in(&context, &program) {
                Ok(analysis) => {
                    let new = analysis.starts.iter().filter(|path| !seen.contains(*path));
                    let new: Vec<PathBuf> = new.cloned().collect();
                    seen.extend(new.iter().cloned());
                    open.extend(new);
                    rest.push(analysis);
                    continue;
                }
                Err(error) => chain(&error),
            }
        };
        left_out.push(LeftOut { program, why });
    }
    Ok(join(first, rest, left_out, has_script))
}

/// The program, found as `execvp` finds it at the start of a container.
fn find(context: &Context<'_>, entry: &Entry<'_>) -> Result<PathBuf, EntryError> {
    let command = entry.args.first().filter(|command| !command.is_empty());
    let command = command.ok_or(EntryError::NoCommand)?;
    let found = if command.contains('/') {
        script::program(context.root, &entry.cwd.join(command))
    } else {
        context.search.which(command)
    };
    found.ok_or_else(|| EntryError::NotFound {
        command: command.clone(),
        searched: match command.contains('/') {
            true => entry.cwd.display().to_string(),
            false => context.search.shown(),
        },
    })
}

/// Adds what the arguments name to what the program starts (`tini -- nginx`, `sh -c 'exec nginx'`,
/// an entry point script that ends in `exec "$@"`). Says whether there is a script among them.
fn named_by_arguments(context: &Context<'_>, entry: &Entry<'_>, first: &mut Analysis) -> bool {
    if !may_start(first) {
        return false;
    }
    let interprets = matches!(first.kind, Kind::Interpreter(_) | Kind::Jit(_));
    let mut has_script = false;
    for word in entry.args.iter().skip(1).take(MAX_WORDS) {
        let path = match word.contains('/') {
            true => script::program(context.root, &entry.cwd.join(word)),
            false => context.search.which(word),
        };
        first.starts.extend(path);
        if !interprets || word.starts_with('-') {
            continue;
        }
        let file = entry.cwd.join(word);
        match context.root.text(&file, script::MAX_SCRIPT) {
            Some(text) => {
                has_script = true;
                first.starts.extend(context.search.commands(&text));
            }
            // `sh -c TEXT`, `python3 -c TEXT`.
            None if entry.args.iter().any(|word| word == "-c") => {
                has_script = true;
                first.starts.extend(context.search.commands(word));
            }
            None => {}
        }
    }
    first.starts.remove(&first.program);
    has_script
}

/// Whether a program can execute another one.
fn may_start(analysis: &Analysis) -> bool {
    let calls = ["execve", "execveat"];
    let found = |name: &str| {
        let evidence = analysis.syscalls.get(name);
        evidence.is_some_and(|evidence| evidence.certainty != Certainty::Always)
    };
    analysis.is_widened() || calls.iter().any(|name| found(name))
}

/// Puts programs together, and says how far the whole can be trusted.
fn join(
    first: Analysis,
    rest: Vec<Analysis>,
    left_out: Vec<LeftOut>,
    has_script: bool,
) -> Generated {
    let whole = rest.iter().cloned().fold(first.clone(), Analysis::merge);
    let profile = to_profile(&whole);
    let programs: Vec<Analysis> = std::iter::once(first).chain(rest).collect();
    let mut reasons = Vec::new();
    for program in &programs {
        let name = program.program.display();
        // A shell loads no modules, and of what it starts the whole is told.
        let told = is_shell(&program.kind).then(|| interprets(SHELL));
        let own = program.reasons.iter();
        let own = own.filter(|why| Some(*why) != told.as_ref());
        reasons.extend(own.map(|why| format!("{name}: {why}")));
    }
    let mut generated = Generated {
        entry: whole.program,
        programs,
        left_out,
        confidence: whole.confidence,
        reasons,
        syscalls: whole.syscalls,
        unresolved: whole.unresolved,
        profile,
    };
    generated.judge(has_script);
    generated
}

impl Generated {
    /// Adds calls that were seen to happen, by name. What the analysis did not find is a hole in it:
    /// the profile then allows it, the confidence is low, and its names are the answer.
    pub fn observe<'a>(
        &mut self,
        calls: impl IntoIterator<Item = &'a str>,
        source: &str,
    ) -> Vec<String> {
        let mut holes = Vec::new();
        for name in calls {
            let is_native = seccomp::resolve(seccomp::Arch::X86_64, name).is_some();
            if !is_native || self.syscalls.contains_key(name) {
                continue;
            }
            let evidence = Evidence {
                certainty: Certainty::Observed,
                objects: BTreeSet::new(),
                path: Vec::new(),
                arguments: BTreeSet::new(),
            };
            self.syscalls.insert(name.to_owned(), evidence);
            holes.push(name.to_owned());
        }
        if !holes.is_empty() {
            self.profile = of_calls(self.syscalls.keys(), !self.unresolved.is_empty());
            self.confidence = Confidence::Low;
            let names = holes.join(", ");
            let why = format!("{source} has calls that the analysis did not find: {names}");
            self.reasons.insert(0, why);
        }
        holes
    }

    fn judge(&mut self, has_script: bool) {
        let mut lower = |to: Confidence, why: String| {
            self.confidence = self.confidence.min(to);
            // The most important first.
            self.reasons.insert(0, why);
        };
        let started: Vec<&Analysis> = self.programs.iter().skip(1).collect();
        let interpreters = started
            .iter()
            .filter(|program| is_interpreter(&program.kind));
        let interpreters: Vec<&Path> = interpreters.map(|p| p.program.as_path()).collect();
        if !interpreters.is_empty() {
            let names = list(&interpreters);
            lower(
                Confidence::Medium,
                format!(
                    "it may start {names}, which can start any program there is; only those that \
                     files name are counted"
                ),
            );
        }
        if let Some(first) = self.programs.first() {
            let name = first.program.display();
            let count = started.len();
            match &first.kind {
                Kind::Interpreter(language) if !has_script => lower(
                    Confidence::Low,
                    format!(
                        "the container starts with {name}, which interprets {language}, and no \
                         script is named: what it will start is not known"
                    ),
                ),
                Kind::Interpreter(_) | Kind::Script(_) => lower(
                    Confidence::Medium,
                    format!(
                        "the container starts with the interpreter or script {name}: what it \
                         starts is known only as far as the script names it ({count} found)"
                    ),
                ),
                Kind::Native | Kind::Static | Kind::Go | Kind::Jit(_) => {}
            }
        }
        if !self.left_out.is_empty() {
            let names: Vec<&Path> = self.left_out.iter().map(|l| l.program.as_path()).collect();
            let names = list(&names);
            lower(
                Confidence::Low,
                format!("it may start {names}, which could not be analysed"),
            );
        }
    }
}

fn is_interpreter(kind: &Kind) -> bool {
    matches!(kind, Kind::Interpreter(_) | Kind::Script(_))
}

/// What the kind of a shell says that it interprets.
const SHELL: &str = "shell";

fn is_shell(kind: &Kind) -> bool {
    matches!(kind, Kind::Interpreter(language) | Kind::Script(language) if language == SHELL)
}

/// Some of several names.
fn list(paths: &[&Path]) -> String {
    let named: Vec<String> = paths
        .iter()
        .take(NAMED)
        .map(|path| path.display().to_string())
        .collect();
    match paths.len().checked_sub(NAMED) {
        None | Some(0) => named.join(", "),
        Some(more) => format!("{} and {more} more", named.join(", ")),
    }
}

fn chain(error: &AnalysisError) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
