//! Who defines a name. Objects have hundreds of thousands of names: none is copied, and the names with one
//! hash are told apart where one is looked for.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use super::loader::Loaded;

/// See the module. What is added is an object's number and that of an export of it.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    hasher: RandomState,
    /// By the hash of a name, the first and the last entry with it.
    by_hash: HashMap<u64, (usize, usize)>,
    all: Vec<Definition>,
}

#[derive(Debug)]
struct Definition {
    export: (u32, u32),
    /// The next entry with the same hash.
    next: Option<usize>,
}

impl Definitions {
    pub(super) fn add(&mut self, name: &str, export: (u32, u32)) {
        let new = self.all.len();
        let hash = self.hasher.hash_one(name);
        let (_, last) = self.by_hash.entry(hash).or_insert((new, new));
        if *last != new
            && let Some(last) = self.all.get_mut(*last)
        {
            last.next = Some(new);
        }
        *last = new;
        self.all.push(Definition { export, next: None });
    }

    /// The definitions of a name, in the order in which they were added.
    pub(super) fn of(&self, objects: &[Loaded], name: &str) -> Vec<(u32, u32)> {
        let hash = self.hasher.hash_one(name);
        let mut next = self.by_hash.get(&hash).map(|(first, _)| *first);
        let mut found = Vec::new();
        while let Some(definition) = next.and_then(|at| self.all.get(at)) {
            let (object, at) = definition.export;
            let own = usize::try_from(object).ok().zip(usize::try_from(at).ok());
            let own = own.and_then(|(object, at)| objects.get(object)?.summary.exports.get(at));
            if own.is_some_and(|export| export.name == name) {
                found.push(definition.export);
            }
            next = definition.next;
        }
        found
    }
}
