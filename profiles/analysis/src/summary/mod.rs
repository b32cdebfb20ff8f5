//! What one object can do, independent of the objects it is loaded with: a graph of functions and
//! data, and the system calls of each function. Small, and kept by the content of the file.

/// Summaries on disk.
mod cache;
/// Data cut into the objects that pointers lead to.
mod data;
/// Edges in the order in which they are kept.
mod edges;
/// System calls, and the functions that make whichever call they are told to.
mod entries;
/// References to edges.
mod graph;
/// What references lead to.
mod resolve;
/// Names of nodes and of files.
mod text;

pub(crate) use cache::{SummaryCache, digest, hex};
pub(crate) use graph::summarise;

use serde::{Deserialize, Serialize};

use crate::elf::Image;
use text::text;

/// Counts up whenever a summary of the same file would come out differently.
pub(crate) const FORMAT: u32 = 4;

/// A name that another object is to define.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Import {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    /// Of a variable that is copied into the importer: its own definition does not count.
    pub(crate) copied: bool,
}

/// A name that other objects can use.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Export {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    /// What a reference without a version gets.
    pub(crate) default: bool,
    /// The function or data object; `None` for data without pointers.
    pub(crate) node: Option<u32>,
    pub(crate) function: bool,
}

/// A system call that a function makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) node: u32,
    pub(crate) number: u32,
    /// Handed to a function that makes whichever call it is told to.
    pub(crate) wrapped: bool,
}

/// Why the number of a system call is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Why {
    /// The number is computed, or comes from memory.
    Computed,
    /// The number is an argument, and a pointer to the function is handed around.
    PointerToWrapper,
    /// The number is an argument, and the function can be called from other objects.
    ExportedWrapper,
    /// The 32-bit entry into the kernel.
    Compat,
}

/// A system call whose number is not known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Site {
    pub(crate) node: u32,
    pub(crate) address: u64,
    pub(crate) why: Why,
}

/// What is known of an argument at one call of an interesting import.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Argument {
    pub(crate) node: u32,
    pub(crate) import: u32,
    pub(crate) constants: Vec<u64>,
    /// Constants that are addresses of text.
    pub(crate) texts: Vec<String>,
    /// There are no other values.
    pub(crate) complete: bool,
}

/// Where code came from, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Language {
    Go,
    Other,
}

/// What an object asks the loader for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asks {
    pub(crate) needed: Vec<String>,
    pub(crate) rpath: Option<String>,
    pub(crate) runpath: Option<String>,
    pub(crate) interpreter: Option<String>,
}

impl Asks {
    pub(crate) fn of(image: &Image<'_>) -> Self {
        let dynamic = &image.dynamic;
        Self {
            needed: dynamic.needed.iter().map(|name| text(name)).collect(),
            rpath: dynamic.rpath.as_deref().map(text),
            runpath: dynamic.runpath.as_deref().map(text),
            interpreter: image.interpreter.as_deref().map(text),
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) build_id: Vec<u8>,
    pub(crate) language: Language,
    pub(crate) soname: Option<String>,
    pub(crate) asks: Asks,
    /// How many of the nodes are functions; data objects follow them.
    pub(crate) functions: u32,
    /// Where each node starts.
    pub(crate) addresses: Vec<u64>,
    /// The edges of node `n` are `edges[offsets[n]..offsets[n + 1]]`.
    pub(crate) offsets: Vec<u32>,
    pub(crate) edges: Vec<Edge>,
    /// Run as soon as the object is loaded.
    pub(crate) roots: Vec<u32>,
    /// Run when the object is the program or the loader.
    pub(crate) entry: Option<u32>,
    pub(crate) imports: Vec<Import>,
    pub(crate) exports: Vec<Export>,
    pub(crate) calls: Vec<Call>,
    pub(crate) sites: Vec<Site>,
    pub(crate) arguments: Vec<Argument>,
    /// Names of files that a node refers to.
    pub(crate) strings: Vec<(u32, String)>,
    pub(crate) names: Vec<(u32, String)>,
}

/// From a node to another, or to an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Edge(u32);

/// Where an edge leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    Node(u32),
    Import(u32),
}

impl Edge {
    const IMPORT: u32 = 1;
    const CALL: u32 = 2;
    const LOOPED: u32 = 4;
    const SHIFT: u32 = 3;

    pub(crate) fn node(node: u32) -> Self {
        Self(node << Self::SHIFT)
    }

    pub(crate) fn import(import: u32) -> Self {
        Self(import << Self::SHIFT | Self::IMPORT)
    }

    /// The same edge, of a call or jump; others are references, which may be called by anybody later.
    pub(crate) fn called(self) -> Self {
        Self(self.0 | Self::CALL)
    }

    /// The same edge, from within a loop.
    pub(crate) fn looped(self) -> Self {
        Self(self.0 | Self::LOOPED)
    }

    pub(crate) fn is_call(self) -> bool {
        self.0 & Self::CALL != 0
    }

    pub(crate) fn is_looped(self) -> bool {
        self.0 & Self::LOOPED != 0
    }

    pub(crate) fn destination(self) -> Destination {
        if self.0 & Self::IMPORT == 0 {
            Destination::Node(self.0 >> Self::SHIFT)
        } else {
            Destination::Import(self.0 >> Self::SHIFT)
        }
    }
}

impl Summary {
    pub(crate) fn edges(&self, node: u32) -> &[Edge] {
        let at = |index: u32| {
            let offset = self.offsets.get(usize::try_from(index).ok()?)?;
            usize::try_from(*offset).ok()
        };
        let range = at(node).zip(node.checked_add(1).and_then(at));
        range
            .and_then(|(start, end)| self.edges.get(start..end))
            .unwrap_or(&[])
    }

    pub(crate) fn nodes(&self) -> u32 {
        u32::try_from(self.addresses.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn address(&self, node: u32) -> u64 {
        let index = usize::try_from(node).unwrap_or(usize::MAX);
        self.addresses.get(index).copied().unwrap_or(0)
    }

    pub(crate) fn name(&self, node: u32) -> Option<&str> {
        let index = self.names.binary_search_by_key(&node, |(node, _)| *node);
        index.ok().map(|index| self.names[index].1.as_str())
    }
}
