//! One program, from path to result.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use cofferdam_profiles::seccomp::{self, Arch};

use crate::error::AnalysisError;
use crate::kind::{self, Confidence};
use crate::link::{Gate, Loaded, Loader, Memory, Node, Reach, Role, facts, phases, plugins};
use crate::result::{Analysis, Certainty, Evidence, ObjectInfo, Serving, Unresolved};
use crate::rootfs::RootFs;
use crate::rootfs::script::{self, Search};
use crate::summary::{Argument, Why, hex};

/// What an analysis depends on besides the files.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where summaries are kept between runs; nowhere if not set.
    pub cache: Option<PathBuf>,
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
            reach: Reach::new(Gate::open_in(context.root)),
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

    /// What the arguments of reachable calls lead to, until they lead to no more.
    fn look_up(&mut self) {
        loop {
            let before = self.reach.reached();
            self.look_up_names();
            self.open_gates();
            if self.reach.reached() == before {
                return;
            }
        }
    }

    /// Calls of imports whose arguments are known, as far as they are reachable.
    fn arguments_of(&self, names: &[&str]) -> Vec<(&Loaded, &Argument)> {
        let mut found = Vec::new();
        for (object, index) in self.loader.objects.iter().zip(0_u32..) {
            for argument in &object.summary.arguments {
                let import = usize::try_from(argument.import).unwrap_or(usize::MAX);
                let import = object.summary.imports.get(import);
                let node = Node {
                    object: index,
                    node: argument.node,
                };
                if import.is_some_and(|import| names.contains(&&*import.name))
                    && self.reach.is_reached(node)
                {
                    found.push((object, argument));
                }
            }
        }
        found
    }

    /// Names that reachable code looks up with `dlsym`.
    fn look_up_names(&mut self) {
        let mut names = BTreeSet::new();
        let mut notes = BTreeSet::new();
        for (object, argument) in self.arguments_of(&["dlsym"]) {
            names.extend(argument.texts.iter().cloned());
            if !argument.complete {
                notes.insert(format!(
                    "{} looks up functions by names that are not constants",
                    object.path.display()
                ));
            }
        }
        self.notes.extend(notes);
        for name in names {
            self.reach.look_up(&self.loader.objects, &name);
        }
    }

    /// Gates of the C library that depend on an argument.
    fn open_gates(&mut self) {
        let mut gates = BTreeSet::new();
        for name in Gate::ARGUED {
            for (_, argument) in self.arguments_of(&[name]) {
                let constants = &argument.constants;
                gates.extend(Gate::opened_by_argument(name, constants, argument.complete));
            }
            if self.reach.has_pointer(&self.loader.objects, name) {
                gates.extend(Gate::opened_by_argument(name, &[], false));
            }
        }
        for gate in gates {
            self.reach.open(&self.loader.objects, gate);
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
            serving: None,
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
        analysis.serving = self.serving(&analysis);
        self.starts(&mut analysis);
        analysis.judge();
        analysis
    }

    /// The calls of the serving phase, of those that were found.
    fn serving(&self, analysis: &Analysis) -> Option<Serving> {
        if !analysis.unresolved.is_empty() {
            return None;
        }
        let objects = &self.loader.objects;
        let phases = phases::find(&self.reach, objects)?;
        let mut syscalls: BTreeSet<String> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
        for (object, index) in objects.iter().zip(0_u32..) {
            for call in &object.summary.calls {
                let node = Node {
                    object: index,
                    node: call.node,
                };
                if phases.is_serving(node) && self.reach.makes(node, call.number) {
                    syscalls.extend(seccomp::name(Arch::X86_64, call.number));
                }
            }
        }
        syscalls.retain(|name| analysis.syscalls.contains_key(name));
        Some(Serving {
            main_loop: self.name(phases.main_loop),
            syscalls,
        })
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
            if !self.reach.makes(node, call.number) {
                continue;
            }
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
    ObjectInfo {
        path: object.path.clone(),
        build_id: hex(&object.summary.build_id),
        plugin: matches!(object.role, Role::Plugin | Role::PluginLibrary),
    }
}
