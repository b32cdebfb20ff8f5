//! Names: of nodes, for people, and of files that nodes refer to.

use super::data;
use super::resolve::Resolver;
use crate::code::sweep::{Sweep, Use};
use crate::elf::Image;

const MAX_NAME: usize = 256;

pub(super) fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// A name for each node that has one: the first.
pub(super) fn names(resolver: &Resolver<'_>) -> Vec<(u32, String)> {
    let image = resolver.image;
    let symbols = image.dynamic.symbols.iter().chain(&image.symbols);
    let symbols = symbols.filter(|symbol| symbol.defined && !symbol.name.is_empty());
    let of_symbols = symbols.filter_map(|symbol| {
        let function = resolver.function(symbol.value);
        let node = function.or_else(|| resolver.object(symbol.value))?;
        Some((node, symbol.name))
    });
    let go = resolver.bounds.go.iter();
    let of_go =
        go.filter_map(|(address, name)| Some((resolver.function(*address)?, name.as_bytes())));
    let mut names: Vec<(u32, &[u8])> = of_symbols.chain(of_go).collect();
    // The first of a node stays before its others.
    names.sort_by_key(|(node, _)| *node);
    names.dedup_by_key(|(node, _)| *node);
    let names = names.into_iter();
    names.map(|(node, name)| (node, text(name))).collect()
}

/// Names of files that nodes refer to.
pub(super) fn strings(resolver: &Resolver<'_>, sweep: &Sweep) -> Vec<(u32, String)> {
    let image = resolver.image;
    let mut found: Vec<(u32, String)> = Vec::new();
    for reference in sweep.references.iter().flatten() {
        if reference.how == Use::Address
            && let Some(name) = file_name(image, reference.to)
            && let Some(node) = resolver.function(reference.from)
        {
            found.push((node, name));
        }
    }
    for relocation in data::pointers(image) {
        if let Some(target) = data::local(relocation.target)
            && let Some(name) = file_name(image, target)
            && let Some(node) = resolver.object(relocation.address)
        {
            found.push((node, name));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

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
