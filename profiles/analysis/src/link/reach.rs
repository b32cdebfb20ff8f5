//! What can be reached from where execution starts: a search over all objects' nodes.

use super::definitions::Definitions;
use super::facts;
use super::gates::{Gate, Gates};
use super::loader::{Loaded, Role};
use crate::summary::{Destination, Edge, Export, Import, Language, Summary};

/// A node of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node {
    pub(crate) object: u32,
    pub(crate) node: u32,
}

/// How a node was reached first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Nothing,
    Start,
    Node(Node),
}

/// The search's state; it goes on where it stopped when objects are added.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    from: Vec<Vec<From>>,
    imports: Vec<Vec<bool>>,
    /// What reachable imports were bound to, by object and import.
    bound: Vec<Vec<Vec<Node>>>,
    /// Reachable imports that nobody defined, and who uses them.
    unbound: Vec<(Node, u32)>,
    /// Who defines a name.
    definitions: Definitions,
    open: Vec<Node>,
    count: usize,
    gates: Gates,
    open_gates: Vec<Gate>,
    looked_up: std::collections::BTreeSet<String>,
    /// Edges that wait for their gate to be opened.
    waiting: Vec<(Gate, Node, Node)>,
}

impl Reach {
    /// A search with some gates open from the start.
    pub(crate) fn new(open_gates: Vec<Gate>) -> Self {
        Self {
            open_gates,
            ..Self::default()
        }
    }

    /// Adds the objects that were loaded since, and searches on.
    pub(crate) fn extend(&mut self, objects: &[Loaded]) {
        let first = self.from.len();
        for (index, object) in objects.iter().enumerate().skip(first) {
            let Ok(index) = u32::try_from(index) else {
                return;
            };
            let summary = &object.summary;
            self.from.push(vec![From::Nothing; summary.addresses.len()]);
            self.imports.push(vec![false; summary.imports.len()]);
            self.bound.push(vec![Vec::new(); summary.imports.len()]);
            self.gates.add(object, index);
            for (export, at) in summary.exports.iter().zip(0..) {
                self.definitions.add(&export.name, (index, at));
            }
        }
        if first < objects.len() {
            self.bind_again(objects);
        }
        for (object, index) in objects.iter().zip(0_u32..).skip(first) {
            for node in roots(object) {
                self.visit(
                    Node {
                        object: index,
                        node,
                    },
                    From::Start,
                );
            }
        }
        self.search(objects);
    }

    /// Makes every function of that name reachable.
    pub(crate) fn look_up(&mut self, objects: &[Loaded], name: &str) {
        self.open_for(name);
        self.looked_up.insert(name.to_owned());
        for (object, at) in self.definitions.of(objects, name) {
            if let Some(node) = export(objects, object, at).and_then(|export| export.node) {
                self.visit(Node { object, node }, From::Start);
            }
        }
        self.search(objects);
    }

    fn visit(&mut self, node: Node, from: From) {
        let slot = self
            .from
            .get_mut(index(node.object))
            .and_then(|nodes| nodes.get_mut(index(node.node)));
        if let Some(slot) = slot
            && *slot == From::Nothing
        {
            *slot = from;
            self.count += 1;
            self.open.push(node);
        }
    }

    fn search(&mut self, objects: &[Loaded]) {
        // Nearest first, so that the paths kept as evidence are short.
        let mut open: std::collections::VecDeque<Node> = self.open.drain(..).collect();
        while let Some(node) = open.pop_front() {
            let Some(object) = objects.get(index(node.object)) else {
                continue;
            };
            for edge in object.summary.edges(node.node) {
                match edge.destination() {
                    Destination::Node(to) => {
                        self.step(node, Node { node: to, ..node });
                    }
                    Destination::Import(import) => self.bind(objects, node, import),
                }
            }
            open.extend(self.open.drain(..));
        }
    }

    fn bind(&mut self, objects: &[Loaded], from: Node, number: u32) {
        let done = self
            .imports
            .get_mut(index(from.object))
            .and_then(|imports| imports.get_mut(index(number)));
        match done {
            Some(done) if !*done => *done = true,
            _ => return,
        }
        let summary = &objects[index(from.object)].summary;
        let Some(import) = summary.imports.get(index(number)) else {
            return;
        };
        let importer = &objects[index(from.object)];
        if facts::is_idle(importer, &import.name) {
            return;
        }
        if !facts::is_glibc(importer) {
            self.open_for(&import.name);
        }
        let definers = self.definers(objects, from.object, import);
        if definers.is_empty() {
            self.unbound.push((from, number));
        }
        for (object, at) in definers {
            if let Some(node) = export(objects, object, at).and_then(|export| export.node) {
                let to = Node { object, node };
                self.bound[index(from.object)][index(number)].push(to);
                // Not by way of a gate: an import is bound once, whoever uses it next.
                self.visit(to, From::Node(from));
            }
        }
    }

    /// Tries again what nobody defined: a plugin may, that was loaded since.
    fn bind_again(&mut self, objects: &[Loaded]) {
        for (from, number) in std::mem::take(&mut self.unbound) {
            let done = self.imports.get_mut(index(from.object));
            if let Some(done) = done.and_then(|imports| imports.get_mut(index(number))) {
                *done = false;
            }
            self.bind(objects, from, number);
        }
    }

    /// Follows an edge, unless it leads through a closed gate.
    fn step(&mut self, from: Node, to: Node) {
        match self.gates.on(from, to) {
            Some(gate) if !self.is_open(gate) => self.waiting.push((gate, from, to)),
            _ => self.visit(to, From::Node(from)),
        }
    }

    fn is_open(&self, gate: Gate) -> bool {
        self.open_gates.contains(&gate)
    }

    fn open_for(&mut self, function: &str) {
        for gate in Gate::opened_by(function) {
            self.open_gate(gate);
        }
    }

    fn open_gate(&mut self, gate: Gate) {
        if self.is_open(gate) {
            return;
        }
        self.open_gates.push(gate);
        for (waiting, from, to) in std::mem::take(&mut self.waiting) {
            if waiting == gate {
                self.visit(to, From::Node(from));
            } else {
                self.waiting.push((waiting, from, to));
            }
        }
    }

    /// Opens a gate and searches on.
    pub(crate) fn open(&mut self, objects: &[Loaded], gate: Gate) {
        self.open_gate(gate);
        self.search(objects);
    }

    /// Whether a function is known by something else than reachable calls of its import: by a pointer
    /// in data, or by a name that was looked up.
    pub(crate) fn has_pointer(&self, objects: &[Loaded], name: &str) -> bool {
        let in_data = |object: &Loaded, reached: &[From]| {
            let summary = &object.summary;
            let mut nodes = (summary.functions..summary.nodes()).filter(|node| {
                reached
                    .get(index(*node))
                    .is_some_and(|f| *f != From::Nothing)
            });
            nodes.any(|node| {
                let mut edges = summary.edges(node).iter();
                edges.any(|edge| match edge.destination() {
                    Destination::Import(import) => {
                        let import = summary.imports.get(index(import));
                        import.is_some_and(|import| import.name == name)
                    }
                    Destination::Node(_) => false,
                })
            })
        };
        let imports = |object: &Loaded| object.summary.imports.iter().any(|i| i.name == name);
        let mut all = objects.iter().zip(&self.from);
        self.looked_up.contains(name)
            || all.any(|(object, reached)| imports(object) && in_data(object, reached))
    }

    /// How many functions and data objects were reached.
    pub(crate) fn reached(&self) -> usize {
        self.count
    }

    /// Whether a reachable function gets to make this system call of its own.
    pub(crate) fn makes(&self, node: Node, number: u32) -> bool {
        let gate = self.gates.at_call(node, number);
        gate.is_none_or(|gate| self.is_open(gate))
    }

    /// Who an import can be bound to: the first of the objects loaded at start that defines it, as
    /// the loader has it; else whoever of the others does.
    fn definers(&self, objects: &[Loaded], importer: u32, import: &Import) -> Vec<(u32, u32)> {
        let all = self.definitions.of(objects, &import.name);
        let fits = |(object, at): &&(u32, u32)| {
            if import.copied && *object == importer {
                return false;
            }
            export(objects, *object, *at).is_some_and(|e| version_fits(import, e))
        };
        let mut fitting: Vec<(u32, u32)> = all.iter().filter(fits).copied().collect();
        if fitting.is_empty() {
            fitting = all;
        }
        let first = fitting.iter().map(|(object, _)| *object).find(|object| {
            let role = objects.get(index(*object)).map(|object| object.role);
            matches!(
                role,
                Some(Role::Program | Role::Library | Role::Interpreter)
            )
        });
        if let Some(first) = first {
            fitting.retain(|(object, _)| *object == first);
        }
        fitting
    }

    /// Calls `with` for where the search got to from a reachable node by one of its edges.
    pub(super) fn followed(&self, from: Node, edge: Edge, mut with: impl FnMut(Node)) {
        match edge.destination() {
            Destination::Node(node) => {
                let to = Node { node, ..from };
                let gate = self.gates.on(from, to);
                let open = gate.is_none_or(|gate| self.is_open(gate));
                if open && self.is_reached(to) {
                    with(to);
                }
            }
            Destination::Import(import) => {
                let bound = self.bound.get(index(from.object));
                let bound = bound.and_then(|imports| imports.get(index(import)));
                for to in bound
                    .into_iter()
                    .flatten()
                    .filter(|to| self.is_reached(**to))
                {
                    with(*to);
                }
            }
        }
    }

    pub(crate) fn is_reached(&self, node: Node) -> bool {
        self.from
            .get(index(node.object))
            .and_then(|nodes| nodes.get(index(node.node)))
            .is_some_and(|from| *from != From::Nothing)
    }

    /// Whether somebody who is reachable refers to an import of that name.
    pub(crate) fn uses(&self, objects: &[Loaded], object: usize, name: &str) -> bool {
        let imports = objects.get(object).map(|object| &object.summary.imports);
        let imports = imports.into_iter().flatten().zip(&self.imports[object]);
        let mut used = imports.filter(|(_, used)| **used);
        used.any(|(import, _)| import.name == name)
    }

    /// Whether a program uses one of these functions, from outside the C library.
    pub(crate) fn uses_any(&self, objects: &[Loaded], names: &[&str]) -> bool {
        let mut outside = (0..objects.len()).filter(|at| !facts::is_glibc(&objects[*at]));
        outside.any(|object| names.iter().any(|name| self.uses(objects, object, name)))
            || names.iter().any(|name| self.looked_up.contains(*name))
    }

    /// The way a node was reached, start first.
    pub(crate) fn path(&self, node: Node) -> Vec<Node> {
        let mut path = vec![node];
        let mut at = node;
        while let Some(From::Node(from)) = self
            .from
            .get(index(at.object))
            .and_then(|nodes| nodes.get(index(at.node)))
        {
            path.push(*from);
            at = *from;
        }
        path.reverse();
        path
    }

    /// How many functions can run, and of how many.
    pub(crate) fn functions(&self, objects: &[Loaded]) -> (usize, usize) {
        let mut reached = 0;
        let mut total = 0;
        for (object, from) in objects.iter().zip(&self.from) {
            let functions = index(object.summary.functions);
            total += functions;
            let own = from.iter().take(functions);
            reached += own.filter(|from| **from != From::Nothing).count();
        }
        (reached, total)
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn export(objects: &[Loaded], object: u32, at: u32) -> Option<&Export> {
    objects.get(index(object))?.summary.exports.get(index(at))
}

fn version_fits(import: &Import, export: &Export) -> bool {
    match (&import.version, &export.version) {
        (Some(wanted), Some(own)) => wanted == own,
        (None, Some(_)) => export.default,
        (_, None) => true,
    }
}

/// Where execution starts in an object.
fn roots(object: &Loaded) -> Vec<u32> {
    let summary: &Summary = &object.summary;
    let mut roots = summary.roots.clone();
    match object.role {
        Role::Program | Role::Interpreter => roots.extend(summary.entry),
        Role::Plugin => {
            let exports = summary.exports.iter();
            roots.extend(exports.filter_map(|export| export.node));
        }
        Role::Library | Role::PluginLibrary => {}
    }
    // Go's linker has removed what cannot run, and calls methods by tables of offsets.
    if summary.language == Language::Go {
        roots.extend(0..summary.nodes());
    }
    roots
}
