//! References to edges: from what the sweep saw to a summary.

use std::collections::{BTreeMap, HashMap};

use super::data::{self, Objects};
use super::edges::sorted;
use super::resolve::{Goal, Resolver};
use super::text::{names, strings, text};
use super::{Asks, Destination, Edge, Export, Import, Language, Summary, entries};
use crate::code::bounds::Bounds;
use crate::code::go;
use crate::code::sweep::{Reference, Sweep, Use, sweep};
use crate::elf::{Image, SymbolKind, Target};

/// Everything about one object while its summary is made.
pub(super) struct Object<'a> {
    pub(super) resolver: Resolver<'a>,
    pub(super) sweep: Sweep,
    pub(super) imports: Vec<Import>,
    imported: HashMap<Import, u32>,
    /// Dynamic symbols' imports, by index of the symbol.
    symbol_imports: Vec<Option<u32>>,
    /// References to imports whose arguments say more than their names: the function and the
    /// import.
    pub(super) told: Vec<(u32, u32, Reference)>,
    /// Where code can jump to from a `switch`, by index of its function.
    pub(super) cases: BTreeMap<usize, Vec<u64>>,
    /// Edges as pairs, sorted later.
    pairs: Vec<(u32, Edge)>,
}

/// The summary of a file.
pub(crate) fn summarise(image: &Image<'_>) -> Summary {
    let mut bounds = Bounds::find(image);
    let sweep = sweep(image, &bounds.ranges);
    let falls = refine(image, &mut bounds, &sweep);
    let objects = Objects::cut(image, &referred(image, &sweep));
    let mut object = Object {
        resolver: Resolver {
            image,
            bounds,
            objects,
        },
        pairs: Vec::with_capacity(sweep.references.iter().map(Vec::len).sum()),
        sweep,
        imports: Vec::new(),
        imported: HashMap::new(),
        symbol_imports: vec![None; image.dynamic.symbols.len()],
        told: Vec::new(),
        cases: BTreeMap::new(),
    };
    object.read_jump_tables();
    for (from, to) in falls {
        object.flow(from, to);
    }
    object.code_edges();
    object.data_edges();
    object.finish()
}

/// Starts of functions that no table names: what is called or pointed to there.
fn refine(image: &Image<'_>, bounds: &mut Bounds, sweep: &Sweep) -> Vec<(u64, u64)> {
    let mut starts: Vec<u64> = sweep
        .references
        .iter()
        .flatten()
        .filter(|reference| matches!(reference.how, Use::Call | Use::Address))
        .map(|reference| reference.to)
        .chain(
            image
                .relocations
                .iter()
                .filter_map(|r| data::local(r.target)),
        )
        .chain(image.dynamic.called.iter().copied())
        .chain([image.entry])
        .filter(|address| bounds.is_unknown(*address))
        .collect();
    starts.sort_unstable();
    starts.dedup();
    bounds.refine(&starts, &sweep.breaks)
}

/// Every address in data that something refers to, sorted.
fn referred(image: &Image<'_>, sweep: &Sweep) -> Vec<u64> {
    let by_code = sweep.references.iter().flatten();
    let by_code = by_code.filter(|reference| reference.how == Use::Address);
    let by_data = data::pointers(image).filter_map(|r| data::local(r.target));
    let mut referred: Vec<u64> = by_code
        .map(|reference| reference.to)
        .chain(by_data)
        .collect();
    referred.retain(|address| !image.is_code(*address));
    referred.sort_unstable();
    referred.dedup();
    referred
}

impl Object<'_> {
    pub(super) fn function(&self, address: u64) -> Option<u32> {
        self.resolver.function(address)
    }

    /// Whether the bytes there are likely not code: no table has a function there, and between the
    /// last address that anything refers to and here lie bytes that are no instruction.
    pub(super) fn is_doubtful(&self, address: u64) -> bool {
        let bounds = &self.resolver.bounds;
        let range = bounds.containing(address).map(|index| bounds.ranges[index]);
        let Some(range) = range.filter(|range| !range.known) else {
            return false;
        };
        let first = self.sweep.invalid.partition_point(|at| *at < range.start);
        self.sweep
            .invalid
            .get(first)
            .is_some_and(|at| *at < address)
    }

    fn import(&mut self, symbol: u32, copied: bool) -> Option<u32> {
        let index = usize::try_from(symbol).ok()?;
        if let (Some(Some(known)), false) = (self.symbol_imports.get(index), copied) {
            return Some(*known);
        }
        let dynamic = &self.resolver.image.dynamic;
        let entry = dynamic.symbols.get(index)?;
        if entry.name.is_empty() {
            return None;
        }
        let version = dynamic.version(entry);
        let import = Import {
            name: text(entry.name),
            version: version.map(|version| text(version.name)),
            copied,
        };
        let next = u32::try_from(self.imports.len()).ok()?;
        let number = *self.imported.entry(import.clone()).or_insert_with(|| {
            self.imports.push(import);
            next
        });
        if !copied && let Some(known) = self.symbol_imports.get_mut(index) {
            *known = Some(number);
        }
        Some(number)
    }

    /// The edge to where something leads: symbols get numbers as imports in the order in which they are
    /// asked for.
    fn edge(&mut self, goal: Goal) -> Option<Edge> {
        match goal {
            Goal::Node(node) => Some(Edge::node(node)),
            Goal::Symbol(symbol) => self.import(symbol, false).map(Edge::import),
            Goal::Copy(symbol) => self.import(symbol, true).map(Edge::import),
        }
    }

    fn link(&mut self, from: u32, edge: Edge) {
        if edge.destination() != Destination::Node(from) {
            self.pairs.push((from, edge));
        }
    }

    fn flow(&mut self, from: u64, to: u64) {
        if let Some(from) = self.function(from)
            && let Some(goal) = self.resolver.code(to)
            && let Some(edge) = self.edge(goal)
        {
            self.link(from, edge.called());
        }
    }

    fn code_edges(&mut self) {
        let symbols = self.resolver.image.dynamic.symbols.iter();
        let told: Vec<bool> = symbols
            .map(|symbol| entries::is_told(symbol.name))
            .collect();
        for links in self.resolver.links(&self.sweep, &told) {
            for link in links.all {
                if let Some(edge) = self.edge(link.goal) {
                    let edge = if link.called { edge.called() } else { edge };
                    self.link(link.from, if link.looped { edge.looped() } else { edge });
                }
            }
            for (from, goal, reference) in links.told {
                if let Some(Destination::Import(import)) = self.edge(goal).map(Edge::destination) {
                    self.told.push((from, import, reference));
                }
            }
        }
        let cases = std::mem::take(&mut self.cases);
        for (function, targets) in &cases {
            let Ok(from) = u32::try_from(*function) else {
                continue;
            };
            for target in targets {
                if let Some(goal) = self.resolver.code(*target)
                    && let Some(edge) = self.edge(goal)
                {
                    self.link(from, edge.called());
                }
            }
        }
        self.cases = cases;
    }

    fn data_edges(&mut self) {
        for (from, goal) in self.resolver.data_links() {
            if let Some(edge) = self.edge(goal) {
                self.link(from, edge);
            }
        }
    }

    /// Tables of a `switch`: 32-bit offsets from the table itself, next to a computed jump. Their
    /// targets can lie in a part of the function that the compiler moved elsewhere.
    fn read_jump_tables(&mut self) {
        let mut computed: Vec<usize> = self
            .sweep
            .computed
            .iter()
            .filter_map(|at| self.resolver.bounds.containing(*at))
            .collect();
        computed.dedup();
        let mut tables: Vec<(usize, u64)> = Vec::new();
        for reference in self.sweep.references.iter().flatten() {
            if reference.how == Use::Address
                && let Some(function) = self.resolver.bounds.containing(reference.from)
                && computed.binary_search(&function).is_ok()
                && !self.resolver.image.is_code(reference.to)
            {
                tables.push((function, reference.to));
            }
        }
        let mut starts: Vec<u64> = tables.iter().map(|(_, table)| *table).collect();
        starts.sort_unstable();
        for (function, table) in tables {
            let next = starts.partition_point(|start| *start <= table);
            let end = starts.get(next).copied().unwrap_or(u64::MAX);
            let targets = jump_table(self.resolver.image, &self.resolver.bounds, table, end);
            if !targets.is_empty() {
                self.cases.entry(function).or_default().extend(targets);
            }
        }
    }

    fn roots(&mut self) -> Vec<u32> {
        let image = self.resolver.image;
        let mut roots: Vec<u32> = Vec::new();
        let called = image.dynamic.called.iter().copied();
        roots.extend(called.filter_map(|address| self.function(address)));
        let mut arrays = image.dynamic.arrays.clone();
        for name in [
            &b".init_array"[..],
            b".fini_array",
            b".preinit_array",
            b".init",
            b".fini",
        ] {
            let Some(section) = image.section(name) else {
                continue;
            };
            arrays.push((section.address, section.size));
            roots.extend(self.function(section.address));
        }
        for relocation in &image.relocations {
            let inside = |(start, size): &(u64, u64)| {
                relocation.address >= *start && relocation.address - start < *size
            };
            if arrays.iter().any(inside)
                && let Some(address) = defined(image, relocation.target)
            {
                roots.extend(self.function(address));
            }
        }
        for personality in std::mem::take(&mut self.resolver.bounds.personalities) {
            let word = self.resolver.word(personality);
            let edge = word.and_then(|goal| self.edge(goal));
            let edge = edge.or_else(|| match self.resolver.pointer(personality) {
                Some(goal) => self.edge(goal),
                None => None,
            });
            // Unwinding starts anywhere: the first root stands for "as soon as it is loaded".
            if let (Some(edge), Some(root)) = (edge, roots.first().copied()) {
                self.link(root, edge);
            }
        }
        roots.sort_unstable();
        roots.dedup();
        roots
    }

    fn finish(mut self) -> Summary {
        let mut roots = self.roots();
        let found = entries::find(&mut self);
        let resolver = &self.resolver;
        let image = resolver.image;
        let nodes = resolver.bounds.ranges.len() + resolver.objects.len();
        let (offsets, edges) = sorted(nodes, std::mem::take(&mut self.pairs));
        let language = if go::is_go(image) {
            Language::Go
        } else {
            Language::Other
        };
        if resolver.bounds.catches {
            roots.extend(self.unreferenced(&edges));
        }
        let ranges = resolver.bounds.ranges.iter().map(|range| range.start);
        Summary {
            build_id: build_id(image),
            language,
            soname: image.dynamic.soname.as_deref().map(text),
            asks: Asks::of(image),
            functions: resolver.functions(),
            addresses: ranges
                .chain(resolver.objects.starts().iter().copied())
                .collect(),
            offsets,
            edges,
            roots,
            entry: resolver.function(image.entry),
            exports: self.exports(),
            strings: strings(resolver, &self.sweep),
            names: names(resolver),
            imports: self.imports,
            calls: found.calls,
            sites: found.sites,
            arguments: found.arguments,
        }
    }

    /// Functions nothing refers to: where exceptions are caught, they can be parts of others.
    fn unreferenced(&self, edges: &[Edge]) -> Vec<u32> {
        let bounds = &self.resolver.bounds;
        let mut referred = vec![false; bounds.ranges.len()];
        for edge in edges {
            if let Destination::Node(node) = edge.destination()
                && let Some(slot) = usize::try_from(node).ok().and_then(|n| referred.get_mut(n))
            {
                *slot = true;
            }
        }
        for symbol in self
            .resolver
            .image
            .dynamic
            .symbols
            .iter()
            .filter(|s| s.defined)
        {
            if let Some(index) = bounds.containing(symbol.value) {
                referred[index] = true;
            }
        }
        let orphans = referred
            .iter()
            .enumerate()
            .filter(|(_, referred)| !**referred);
        orphans
            .filter_map(|(index, _)| u32::try_from(index).ok())
            .collect()
    }

    fn exports(&self) -> Vec<Export> {
        let resolver = &self.resolver;
        let image = resolver.image;
        let symbols = image.dynamic.symbols.iter();
        let visible = symbols.filter(|s| s.defined && s.global && !s.name.is_empty());
        visible
            .map(|symbol| {
                let version = image.dynamic.version(symbol);
                let function = matches!(symbol.kind, SymbolKind::Function | SymbolKind::Indirect);
                Export {
                    name: text(symbol.name),
                    default: version.as_ref().is_none_or(|version| version.default),
                    version: version.map(|version| text(version.name)),
                    node: resolver
                        .function(symbol.value)
                        .or_else(|| resolver.object(symbol.value)),
                    function,
                }
            })
            .collect()
    }
}

/// Where a relocation leads within its object: exported functions are named by their symbol.
fn defined(image: &Image<'_>, target: Target) -> Option<u64> {
    let symbol = match target {
        Target::Symbol(symbol) | Target::Copy(symbol) => usize::try_from(symbol).ok()?,
        Target::Local(address) | Target::Chosen(address) => return Some(address),
    };
    let symbol = image.dynamic.symbols.get(symbol)?;
    symbol.defined.then_some(symbol.value)
}

/// The targets of a table of 32-bit offsets, as far as they lead to code.
fn jump_table(image: &Image<'_>, bounds: &Bounds, table: u64, end: u64) -> Vec<u64> {
    let mut targets = Vec::new();
    let words = image.at(table).unwrap_or(&[]);
    let limit = usize::try_from((end - table) / 4)
        .unwrap_or(usize::MAX)
        .min(4096);
    for word in words.chunks_exact(4).take(limit) {
        let offset = i32::from_le_bytes(word.try_into().unwrap_or_default());
        let Some(target) = table.checked_add_signed(offset.into()) else {
            break;
        };
        if bounds.containing(target).is_none() {
            break;
        }
        targets.push(target);
    }
    targets
}

fn build_id(image: &Image<'_>) -> Vec<u8> {
    let note = image.section(b".note.gnu.build-id");
    let note = note.and_then(|section| image.section_bytes(section));
    // Sizes and type (12 bytes), then "GNU\0".
    note.and_then(|note| note.get(16..36))
        .unwrap_or(&[])
        .to_vec()
}
