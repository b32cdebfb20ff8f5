//! References to edges: from what the sweep saw to a summary.

use std::collections::{BTreeMap, HashMap};

use super::data::{self, Objects};
use super::entries;
use super::{Edge, Export, Import, Language, Summary};
use crate::code::bounds::Bounds;
use crate::code::go;
use crate::code::sweep::{Reference, Sweep, Use, sweep};
use crate::elf::{ElfError, Image, SymbolKind, Target};

/// Everything about one object while its summary is made.
pub(super) struct Object<'a> {
    pub(super) image: &'a Image<'a>,
    pub(super) bounds: Bounds,
    pub(super) sweep: Sweep,
    pub(super) objects: Objects,
    pub(super) imports: Vec<Import>,
    imported: HashMap<Import, u32>,
    /// Dynamic symbols' imports, by index of the symbol.
    symbol_imports: HashMap<u32, u32>,
    /// Where code can jump to from a `switch`, by index of its function.
    pub(super) cases: BTreeMap<usize, Vec<u64>>,
    /// Edges as pairs, sorted later.
    pairs: Vec<(u32, Edge)>,
}

/// The summary of a file's bytes.
pub(crate) fn summarise(data: &[u8]) -> Result<Summary, ElfError> {
    let image = Image::parse(data)?;
    let mut bounds = Bounds::find(&image);
    let sweep = sweep(&image, &bounds.ranges);
    let falls = refine(&image, &mut bounds, &sweep);
    let objects = Objects::cut(&image, &referred(&image, &sweep));
    let mut object = Object {
        image: &image,
        bounds,
        sweep,
        objects,
        imports: Vec::new(),
        imported: HashMap::new(),
        symbol_imports: HashMap::new(),
        cases: BTreeMap::new(),
        pairs: Vec::new(),
    };
    object.read_jump_tables();
    for (from, to) in falls {
        object.flow(from, to);
    }
    object.code_edges();
    object.data_edges();
    Ok(object.finish())
}

/// Starts of functions that no table names: what is called or pointed to there.
fn refine(image: &Image<'_>, bounds: &mut Bounds, sweep: &Sweep) -> Vec<(u64, u64)> {
    let mut starts: Vec<u64> = sweep
        .references
        .iter()
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
        .filter(|address| image.is_code(*address))
        .collect();
    starts.sort_unstable();
    starts.dedup();
    bounds.refine(&starts, &sweep.breaks)
}

/// Every address in data that something refers to, sorted.
fn referred(image: &Image<'_>, sweep: &Sweep) -> Vec<u64> {
    let by_code = sweep.references.iter();
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
        let index = self.bounds.containing(address)?;
        u32::try_from(index).ok()
    }

    /// Whether the bytes there are likely not code: no table has a function there, and between the
    /// last address that anything refers to and here lie bytes that are no instruction.
    pub(super) fn is_doubtful(&self, address: u64) -> bool {
        let range = self
            .bounds
            .containing(address)
            .map(|index| self.bounds.ranges[index]);
        let Some(range) = range.filter(|range| !range.known) else {
            return false;
        };
        let first = self.sweep.invalid.partition_point(|at| *at < range.start);
        self.sweep
            .invalid
            .get(first)
            .is_some_and(|at| *at < address)
    }

    fn functions(&self) -> u32 {
        u32::try_from(self.bounds.ranges.len()).unwrap_or(u32::MAX)
    }

    fn object(&self, address: u64) -> Option<u32> {
        let index = u32::try_from(self.objects.containing(address)?).ok()?;
        self.functions().checked_add(index)
    }

    fn import(&mut self, symbol: u32, copied: bool) -> Option<u32> {
        if let (Some(known), false) = (self.symbol_imports.get(&symbol), copied) {
            return Some(*known);
        }
        let index = usize::try_from(symbol).ok()?;
        let entry = self.image.dynamic.symbols.get(index)?;
        if entry.name.is_empty() {
            return None;
        }
        let version = self.image.dynamic.version(entry);
        let import = Import {
            name: text(&entry.name),
            version: version.map(|version| text(&version.name)),
            copied,
        };
        let next = u32::try_from(self.imports.len()).ok()?;
        let index = *self.imported.entry(import.clone()).or_insert_with(|| {
            self.imports.push(import);
            next
        });
        if !copied {
            self.symbol_imports.insert(symbol, index);
        }
        Some(index)
    }

    /// What the loader puts into the word at an address.
    pub(super) fn word(&mut self, address: u64) -> Option<Edge> {
        let relocations = &self.image.relocations;
        let index = relocations.partition_point(|r| r.address < address);
        let relocation = relocations.get(index).filter(|r| r.address == address)?;
        self.target(relocation.target)
    }

    fn target(&mut self, target: Target) -> Option<Edge> {
        match target {
            Target::Local(address) | Target::Chosen(address) => self.pointer(address),
            Target::Symbol(symbol) => self.import(symbol, false).map(Edge::import),
            Target::Copy(symbol) => self.import(symbol, true).map(Edge::import),
        }
    }

    /// What an address is a pointer to.
    fn pointer(&mut self, address: u64) -> Option<Edge> {
        if let Some(function) = self.function(address) {
            return Some(Edge::node(function));
        }
        if self.image.is_code(address) {
            return self.linkage(address);
        }
        self.object(address).map(Edge::node)
    }

    /// What an entry of a procedure linkage table leads to.
    pub(super) fn linkage(&mut self, address: u64) -> Option<Edge> {
        use iced_x86::{Decoder, DecoderOptions, Mnemonic};
        let code = self.image.at(address)?;
        let code = &code[..code.len().min(32)];
        let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        for _ in 0..3 {
            let instruction = decoder.decode();
            if instruction.mnemonic() == Mnemonic::Jmp && instruction.is_ip_rel_memory_operand() {
                return self.word(instruction.ip_rel_memory_address());
            }
            if !matches!(instruction.mnemonic(), Mnemonic::Endbr64 | Mnemonic::Nop) {
                return None;
            }
        }
        None
    }

    /// Where a direct call or jump leads.
    pub(super) fn code(&mut self, address: u64) -> Option<Edge> {
        match self.function(address) {
            Some(function) => Some(Edge::node(function)),
            None => self.linkage(address),
        }
    }

    fn link(&mut self, from: u32, edge: Edge) {
        if edge.destination() != super::Destination::Node(from) {
            self.pairs.push((from, edge));
        }
    }

    fn flow(&mut self, from: u64, to: u64) {
        if let (Some(from), Some(edge)) = (self.function(from), self.code(to)) {
            self.link(from, edge.called());
        }
    }

    fn code_edges(&mut self) {
        let references = std::mem::take(&mut self.sweep.references);
        for reference in &references {
            if let Some(from) = self.function(reference.from) {
                self.reference(from, *reference);
            }
        }
        self.sweep.references = references;
        let cases = std::mem::take(&mut self.cases);
        for (function, targets) in &cases {
            let Ok(from) = u32::try_from(*function) else {
                continue;
            };
            for target in targets {
                if let Some(edge) = self.code(*target) {
                    self.link(from, edge.called());
                }
            }
        }
        self.cases = cases;
    }

    fn reference(&mut self, from: u32, reference: Reference) {
        let looped = self.sweep.is_looped(reference.from);
        let edge = match reference.how {
            Use::Call | Use::Jump | Use::Fall => self.code(reference.to).map(Edge::called),
            Use::CallThrough | Use::JumpThrough => self.word(reference.to).map(Edge::called),
            Use::Address => self.pointer(reference.to),
            Use::Load(size) => {
                let last = (u64::from(size).max(8) - 8) / 8;
                for index in 1..=last {
                    if let Some(edge) = self.word(reference.to.wrapping_add(index * 8)) {
                        self.link(from, edge);
                    }
                }
                self.word(reference.to)
            }
        };
        if let Some(edge) = edge {
            self.link(from, if looped { edge.looped() } else { edge });
        }
    }

    fn data_edges(&mut self) {
        let image = self.image;
        for relocation in data::pointers(image) {
            if let Some(from) = self.object(relocation.address)
                && let Some(edge) = self.target(relocation.target)
            {
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
            .filter_map(|at| self.bounds.containing(*at))
            .collect();
        computed.dedup();
        let mut tables: Vec<(usize, u64)> = Vec::new();
        for reference in &self.sweep.references {
            if reference.how == Use::Address
                && let Some(function) = self.bounds.containing(reference.from)
                && computed.binary_search(&function).is_ok()
                && !self.image.is_code(reference.to)
            {
                tables.push((function, reference.to));
            }
        }
        let mut starts: Vec<u64> = tables.iter().map(|(_, table)| *table).collect();
        starts.sort_unstable();
        for (function, table) in tables {
            let next = starts.partition_point(|start| *start <= table);
            let end = starts.get(next).copied().unwrap_or(u64::MAX);
            let targets = jump_table(self.image, &self.bounds, table, end);
            if !targets.is_empty() {
                self.cases.entry(function).or_default().extend(targets);
            }
        }
    }

    fn roots(&mut self) -> Vec<u32> {
        let image = self.image;
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
        for personality in std::mem::take(&mut self.bounds.personalities) {
            let edge = match self.word(personality) {
                Some(edge) => Some(edge),
                None => self.pointer(personality),
            };
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
        let image = self.image;
        let functions = self.functions();
        let nodes = self.bounds.ranges.len() + self.objects.len();
        self.pairs.sort_unstable();
        self.pairs.dedup();
        let language = if go::is_go(image) {
            Language::Go
        } else {
            Language::Other
        };
        if self.bounds.catches {
            roots.extend(self.unreferenced());
        }
        let strings = self.strings();
        let exports = self.exports();
        let names = self.names();
        let mut offsets = Vec::with_capacity(nodes + 1);
        let mut at = 0;
        for node in 0..nodes {
            offsets.push(u32::try_from(at).unwrap_or(u32::MAX));
            while self
                .pairs
                .get(at)
                .is_some_and(|(from, _)| usize::try_from(*from).is_ok_and(|from| from == node))
            {
                at += 1;
            }
        }
        offsets.push(u32::try_from(at).unwrap_or(u32::MAX));
        let ranges = self.bounds.ranges.iter().map(|range| range.start);
        Summary {
            build_id: build_id(image),
            language,
            soname: image.dynamic.soname.as_deref().map(text),
            needed: image.dynamic.needed.iter().map(|name| text(name)).collect(),
            rpath: image.dynamic.rpath.as_deref().map(text),
            runpath: image.dynamic.runpath.as_deref().map(text),
            interpreter: image.interpreter.as_deref().map(text),
            functions,
            addresses: ranges
                .chain(self.objects.starts().iter().copied())
                .collect(),
            offsets,
            edges: self.pairs.iter().map(|(_, edge)| *edge).collect(),
            roots,
            entry: self.function(image.entry),
            imports: self.imports,
            exports,
            calls: found.calls,
            sites: found.sites,
            arguments: found.arguments,
            strings,
            names,
        }
    }

    /// Functions nothing refers to: where exceptions are caught, they can be parts of others.
    fn unreferenced(&self) -> Vec<u32> {
        let mut referred = vec![false; self.bounds.ranges.len()];
        for (_, edge) in &self.pairs {
            if let super::Destination::Node(node) = edge.destination()
                && let Some(slot) = usize::try_from(node).ok().and_then(|n| referred.get_mut(n))
            {
                *slot = true;
            }
        }
        for symbol in self.image.dynamic.symbols.iter().filter(|s| s.defined) {
            if let Some(index) = self.bounds.containing(symbol.value) {
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

    fn exports(&mut self) -> Vec<Export> {
        let image = self.image;
        let symbols = image.dynamic.symbols.iter();
        let visible = symbols.filter(|s| s.defined && s.global && !s.name.is_empty());
        visible
            .map(|symbol| {
                let version = image.dynamic.version(symbol);
                let function = matches!(symbol.kind, SymbolKind::Function | SymbolKind::Indirect);
                Export {
                    name: text(&symbol.name),
                    default: version.as_ref().is_none_or(|version| version.default),
                    version: version.map(|version| text(&version.name)),
                    node: self
                        .function(symbol.value)
                        .or_else(|| self.object(symbol.value)),
                    function,
                }
            })
            .collect()
    }

    fn names(&self) -> Vec<(u32, String)> {
        let mut names: BTreeMap<u32, String> = BTreeMap::new();
        let image = self.image;
        for symbol in image.dynamic.symbols.iter().chain(&image.symbols) {
            if !symbol.defined || symbol.name.is_empty() {
                continue;
            }
            let node = self
                .function(symbol.value)
                .or_else(|| self.object(symbol.value));
            if let Some(node) = node {
                names.entry(node).or_insert_with(|| text(&symbol.name));
            }
        }
        for (address, name) in &self.bounds.go {
            if let Some(node) = self.function(*address) {
                names.entry(node).or_insert_with(|| name.clone());
            }
        }
        names.into_iter().collect()
    }

    /// Names of files that nodes refer to.
    fn strings(&self) -> Vec<(u32, String)> {
        let mut found: Vec<(u32, String)> = Vec::new();
        for reference in &self.sweep.references {
            if reference.how == Use::Address
                && let Some(name) = file_name(self.image, reference.to)
                && let Some(node) = self.function(reference.from)
            {
                found.push((node, name));
            }
        }
        for relocation in data::pointers(self.image) {
            if let Some(target) = data::local(relocation.target)
                && let Some(name) = file_name(self.image, target)
                && let Some(node) = self.object(relocation.address)
            {
                found.push((node, name));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
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

const MAX_NAME: usize = 256;

/// Text that names a file: a path, or a shared object.
fn file_name(image: &Image<'_>, address: u64) -> Option<String> {
    if image.is_code(address) {
        return None;
    }
    let name = image.string(address, MAX_NAME)?;
    let shared = name.windows(3).any(|part| part == b".so");
    let path = name.first() == Some(&b'/') && name.len() > 3;
    if !(shared || path) || !name.iter().all(|c| c.is_ascii_graphic()) {
        return None;
    }
    Some(text(name))
}

pub(super) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn build_id(image: &Image<'_>) -> Vec<u8> {
    let note = image.section(b".note.gnu.build-id");
    let note = note.and_then(|section| image.section_bytes(section));
    // Sizes and type (12 bytes), then "GNU\0".
    note.and_then(|note| note.get(16..36))
        .unwrap_or(&[])
        .to_vec()
}
