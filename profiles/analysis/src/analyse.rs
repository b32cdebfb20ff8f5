//! One program, from path to result.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use cofferdam_profiles::seccomp::{self, Arch};
use serde::Serialize;

use crate::error::AnalysisError;
use crate::kind::{self, Confidence, Kind};
use crate::link::{Loaded, Loader, Memory, Node, Reach, Role, facts, plugins};
use crate::rootfs::RootFs;
use crate::rootfs::script::{self, Search};
use crate::summary::Why;

/// What an analysis depends on besides the files.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where summaries are kept between runs; nowhere if not set.
    pub cache: Option<PathBuf>,
}

/// How it is known that a call can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// The number stands beside a `syscall` instruction that can be reached.
    Constant,
    /// The number is handed to a function that makes whichever call it is told to.
    Argument,
    /// Every process needs it.
    Always,
}

/// Why a call is in the result.
#[derive(Debug, Clone, Serialize)]
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
    fn join(&mut self, other: Self) {
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
#[derive(Debug, Clone, Serialize)]
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
#[derive(Debug, Clone, Serialize)]
pub struct ObjectInfo {
    /// As seen from inside.
    pub path: PathBuf,
    /// The linker's id, in hex; empty if it has none.
    pub build_id: String,
    /// Loaded by name while the program runs.
    pub plugin: bool,
}

/// Which system calls a program can make.
#[derive(Debug, Clone, Serialize)]
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
}

/// What every process needs: it is started by `execve`, ends, returns from signal handlers,
/// continues interrupted calls, and waits for its own locks.
const ALWAYS: &[&str] = &[
    "execve",
    "exit",
    "exit_group",
    "futex",
    "restart_syscall",
    "rt_sigreturn",
];

const MAX_INTERPRETERS: usize = 5;

/// What the analyses of one container share.
pub(crate) struct Context<'a> {
    pub(crate) root: &'a RootFs,
    pub(crate) options: &'a Options,
    /// Where the process finds commands.
    pub(crate) search: Search<'a>,
    pub(crate) memory: Memory,
    /// Where it works: interpreters may be named from there.
    pub(crate) cwd: &'a Path,
}

/// Finds the calls of a program of `root`. A script stands for its interpreter; the programs a
/// shell script names are in [`Analysis::starts`].
pub fn analyse(
    root: &RootFs,
    program: &Path,
    options: &Options,
) -> Result<Analysis, AnalysisError> {
    let context = Context {
        root,
        options,
        search: Search::new(root, None),
        memory: Memory::default(),
        cwd: Path::new("/"),
    };
    let mut analysis = analyse_in(&context, program)?;
    if !analysis.starts.is_empty() {
        let count = analysis.starts.len();
        analysis.lower(
            Confidence::Medium,
            format!("it names {count} programs that it may start; they share its profile"),
        );
    }
    Ok(analysis)
}

/// The same, for one of several programs; says nothing of those that it starts.
pub(crate) fn analyse_in(context: &Context<'_>, program: &Path) -> Result<Analysis, AnalysisError> {
    let root = context.root;
    let mut path = canonical(root, program)?;
    let mut starts = BTreeSet::new();
    let mut is_script = false;
    for _ in 0..=MAX_INTERPRETERS {
        let Some(script) = read_script(root, &path)? else {
            let mut analysis = Linked::new(context, &path)?.finish();
            analysis.starts.extend(starts);
            if is_script {
                analysis.program = canonical(root, program)?;
                analysis.script();
            }
            return Ok(analysis);
        };
        is_script = true;
        if let Some(text) = root.text(&path, script::MAX_SCRIPT) {
            starts.extend(context.search.commands(&text));
        }
        path = canonical(root, &context.cwd.join(&script.interpreter))?;
        let command = script.command;
        if let Some(command) = command.and_then(|name| context.search.which(&name)) {
            starts.insert(path);
            path = command;
        }
    }
    Err(AnalysisError::Interpreters {
        path: program.to_owned(),
    })
}

fn canonical(root: &RootFs, path: &Path) -> Result<PathBuf, AnalysisError> {
    root.canonical(path).ok_or_else(|| AnalysisError::Read {
        path: path.to_owned(),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

fn read_script(root: &RootFs, path: &Path) -> Result<Option<script::Script>, AnalysisError> {
    let failed = |source| AnalysisError::Read {
        path: path.to_owned(),
        source,
    };
    let (file, _) = root.file(path).map_err(failed)?;
    let mut head = Vec::new();
    file.take(256).read_to_end(&mut head).map_err(failed)?;
    Ok(script::parse(&head))
}

/// A program with everything it can load, searched.
struct Linked<'a> {
    loader: Loader<'a>,
    reach: Reach,
    notes: BTreeSet<String>,
}

/// A plugin can load plugins; more rounds than this would be a loop of our own making.
const MAX_ROUNDS: usize = 16;

impl<'a> Linked<'a> {
    fn new(context: &'a Context<'a>, path: &Path) -> Result<Self, AnalysisError> {
        let cache = context.options.cache.as_deref();
        let mut loader = Loader::new(context.root, cache, &context.memory);
        loader.program(path)?;
        let mut linked = Self {
            loader,
            reach: Reach::default(),
            notes: BTreeSet::new(),
        };
        for _ in 0..MAX_ROUNDS {
            linked.reach.extend(&linked.loader.objects);
            linked.look_up();
            let found = plugins::find(&linked.loader, &linked.reach);
            linked.notes.extend(found.notes);
            let before = linked.loader.objects.len();
            let files = found.files.into_iter().map(|path| (path, Role::Plugin));
            linked.loader.load(files.collect())?;
            if linked.loader.objects.len() == before {
                break;
            }
        }
        Ok(linked)
    }

    /// Names that reachable code looks up with `dlsym`.
    fn look_up(&mut self) {
        let mut names = BTreeSet::new();
        let objects = &self.loader.objects;
        for (object, index) in objects.iter().zip(0_u32..) {
            for argument in &object.summary.arguments {
                let import = usize::try_from(argument.import).unwrap_or(usize::MAX);
                let import = object.summary.imports.get(import);
                let node = Node {
                    object: index,
                    node: argument.node,
                };
                if import.is_some_and(|import| import.name == "dlsym")
                    && self.reach.is_reached(node)
                {
                    names.extend(argument.texts.iter().cloned());
                    if !argument.complete {
                        self.notes.insert(format!(
                            "{} looks up functions by names that are not constants",
                            object.path.display()
                        ));
                    }
                }
            }
        }
        for name in names {
            self.reach.look_up(&self.loader.objects, &name);
        }
    }

    fn finish(self) -> Analysis {
        let objects = &self.loader.objects;
        let kind = kind::of(objects);
        let mut analysis = Analysis {
            program: objects.first().map(|o| o.path.clone()).unwrap_or_default(),
            kind,
            confidence: Confidence::High,
            reasons: self.notes.iter().cloned().collect(),
            syscalls: BTreeMap::new(),
            unresolved: Vec::new(),
            objects: objects.iter().map(info).collect(),
            starts: BTreeSet::new(),
            functions: self.reach.functions(objects),
        };
        for (object, index) in objects.iter().zip(0_u32..) {
            self.collect(object, index, &mut analysis);
        }
        for name in ALWAYS {
            let evidence = || Evidence {
                certainty: Certainty::Always,
                objects: BTreeSet::new(),
                path: Vec::new(),
                arguments: BTreeSet::new(),
            };
            analysis
                .syscalls
                .entry((*name).to_owned())
                .or_insert_with(evidence);
        }
        self.arguments(&mut analysis);
        self.starts(&mut analysis);
        analysis.judge();
        analysis
    }

    fn collect(&self, object: &Loaded, index: u32, analysis: &mut Analysis) {
        let reached = |node: u32| {
            let node = Node {
                object: index,
                node,
            };
            self.reach.is_reached(node).then_some(node)
        };
        for call in &object.summary.calls {
            let Some(node) = reached(call.node) else {
                continue;
            };
            let Some(name) = seccomp::name(Arch::X86_64, call.number) else {
                continue;
            };
            if facts::is_glibc(object) && !self.happens(&name) {
                continue;
            }
            let certainty = if call.wrapped {
                Certainty::Argument
            } else {
                Certainty::Constant
            };
            let evidence = analysis.syscalls.entry(name).or_insert_with(|| Evidence {
                certainty,
                objects: BTreeSet::new(),
                path: self.path(node),
                arguments: BTreeSet::new(),
            });
            evidence.certainty = evidence.certainty.min(certainty);
            evidence.objects.insert(object.path.clone());
        }
        let by_pointer = facts::by_pointer(object);
        for site in &object.summary.sites {
            if let Some(node) = reached(site.node) {
                if let (Why::PointerToWrapper, Some(known)) = (site.why, by_pointer) {
                    self.by_pointer(object, node, known, analysis);
                    continue;
                }
                analysis.unresolved.push(Unresolved {
                    object: object.path.clone(),
                    address: site.address,
                    function: self.name(node),
                    why: site.why,
                    path: self.path(node),
                });
            }
        }
    }

    /// Calls through a table of functions whose numbers are known.
    fn by_pointer(
        &self,
        object: &Loaded,
        node: Node,
        known: &[(&str, &[&str])],
        analysis: &mut Analysis,
    ) {
        for (call, functions) in known {
            if !self.reach.uses_any(&self.loader.objects, functions) {
                continue;
            }
            let entry = analysis.syscalls.entry((*call).to_owned());
            let evidence = entry.or_insert_with(|| Evidence {
                certainty: Certainty::Argument,
                objects: BTreeSet::new(),
                path: self.path(node),
                arguments: BTreeSet::new(),
            });
            evidence.objects.insert(object.path.clone());
        }
    }

    /// Whether what the C library needs to make a call by itself is there.
    fn happens(&self, call: &str) -> bool {
        let Some(functions) = facts::condition(call) else {
            return true;
        };
        let objects = &self.loader.objects;
        self.reach.uses_any(objects, &[call]) || self.reach.uses_any(objects, functions)
    }

    /// Constant arguments of reachable calls by way of imports.
    fn arguments(&self, analysis: &mut Analysis) {
        let mut open: BTreeSet<&str> = BTreeSet::new();
        let mut found: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for (object, index) in self.loader.objects.iter().zip(0_u32..) {
            for (import, at) in object.summary.imports.iter().zip(0_u32..) {
                let of_import = object.summary.arguments.iter().filter(|a| a.import == at);
                for argument in of_import {
                    let node = Node {
                        object: index,
                        node: argument.node,
                    };
                    if !self.reach.is_reached(node) {
                        continue;
                    }
                    if !argument.complete {
                        open.insert(&import.name);
                    }
                    let values = found.entry(&import.name).or_default();
                    values.extend(&argument.constants);
                }
            }
        }
        for (name, values) in found {
            if let (Some(evidence), false) = (analysis.syscalls.get_mut(name), open.contains(name))
            {
                evidence.arguments = values;
            }
        }
    }

    /// Programs whose paths reachable code names.
    fn starts(&self, analysis: &mut Analysis) {
        let execve = analysis.syscalls.get("execve");
        if execve.is_none_or(|evidence| evidence.certainty == Certainty::Always) {
            return;
        }
        for (object, index) in self.loader.objects.iter().zip(0_u32..) {
            for (node, name) in &object.summary.strings {
                let node = Node {
                    object: index,
                    node: *node,
                };
                if name.starts_with('/') && self.reach.is_reached(node) {
                    analysis
                        .starts
                        .extend(script::program(self.loader.root, Path::new(name)));
                }
            }
        }
        let own: BTreeSet<&PathBuf> = self.loader.objects.iter().map(|o| &o.path).collect();
        analysis.starts.retain(|path| !own.contains(path));
    }

    fn path(&self, node: Node) -> Vec<String> {
        self.reach
            .path(node)
            .into_iter()
            .map(|node| self.name(node))
            .collect()
    }

    fn name(&self, node: Node) -> String {
        let object = usize::try_from(node.object).unwrap_or(usize::MAX);
        let Some(object) = self.loader.objects.get(object) else {
            return String::new();
        };
        let file = object
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        match object.summary.name(node.node) {
            Some(name) => format!("{file}:{name}"),
            None => format!("{file}:{:#x}", object.summary.address(node.node)),
        }
    }
}

fn info(object: &Loaded) -> ObjectInfo {
    use std::fmt::Write as _;
    let mut build_id = String::new();
    for byte in &object.summary.build_id {
        // Writing to a String does not fail.
        let _ = write!(build_id, "{byte:02x}");
    }
    ObjectInfo {
        path: object.path.clone(),
        build_id,
        plugin: matches!(object.role, Role::Plugin | Role::PluginLibrary),
    }
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
        self
    }

    pub(crate) fn lower(&mut self, to: Confidence, reason: String) {
        self.confidence = self.confidence.min(to);
        self.reasons.push(reason);
    }

    fn judge(&mut self) {
        if !self.reasons.is_empty() {
            self.confidence = Confidence::Medium;
        }
        match self.kind.clone() {
            Kind::Jit(engine) => self.lower(
                Confidence::Low,
                format!("{engine} makes machine code while it runs; only its own code was seen"),
            ),
            Kind::Interpreter(language) => self.lower(
                Confidence::Medium,
                format!(
                    "it interprets {language}: modules and programs that the script loads or \
                     starts count only as far as they are listed"
                ),
            ),
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

    fn script(&mut self) {
        let interpreter = match &self.kind {
            Kind::Interpreter(name) | Kind::Jit(name) => name.clone(),
            _ => self.program.display().to_string(),
        };
        self.kind = Kind::Script(interpreter);
    }
}
