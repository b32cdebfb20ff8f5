//! System calls, and the functions that make whichever call they are told to (`syscall`, musl's
//! `__syscall_cp`, Go's `RawSyscall6`): those are resolved where they are called.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::Register;

use super::graph::Object;
use super::text::text;
use super::{Argument, Call, Site, Why};
use crate::code::go;
use crate::code::sweep::{Entry, Reference, Use};
use crate::code::trace::{Body, Place, Values};

/// What was found, sorted by node.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) calls: Vec<Call>,
    pub(super) sites: Vec<Site>,
    pub(super) arguments: Vec<Argument>,
}

/// Imports whose argument says more than their name, and where that argument is.
const INTERESTING: &[(&str, Register)] = &[
    ("socket", Register::RDI),
    ("socketpair", Register::RDI),
    ("prctl", Register::RDI),
    ("personality", Register::RDI),
    ("unshare", Register::RDI),
    ("setns", Register::RSI),
    ("clone", Register::RDX),
    ("dlopen", Register::RDI),
    ("dlsym", Register::RSI),
    ("iconv_open", Register::RDI),
    ("glob", Register::RSI),
    ("glob64", Register::RSI),
];

/// The C library's general system call function: number first.
const GENERAL: &str = "syscall";

/// Chains of wrappers longer than this, and objects with more of them, are left unresolved.
const MAX_WRAPPERS: usize = 4096;

/// Largest number a system call has, with room for kernels to come; above it a traced value is no
/// number but a mistake of the trace.
const MAX_NUMBER: u64 = 4096;

/// Whether the arguments of an import's calls are looked at.
pub(super) fn is_told(import: &[u8]) -> bool {
    let mut names = INTERESTING.iter().map(|(name, _)| *name);
    import == GENERAL.as_bytes() || names.any(|name| name.as_bytes() == import)
}

pub(super) fn find(object: &mut Object<'_>) -> Found {
    let mut finder = Finder {
        object,
        found: Found::default(),
        bodies: BTreeMap::new(),
        wrappers: BTreeSet::new(),
        open: Vec::new(),
        global: Vec::new(),
        callers: None,
    };
    finder.direct();
    finder.imported();
    finder.wrapped();
    finder.commands();
    let mut found = finder.found;
    found.calls.sort_unstable();
    found.calls.dedup();
    found.sites.sort_unstable();
    found.sites.dedup();
    found.arguments.sort_unstable();
    found.arguments.dedup();
    found
}

struct Finder<'a, 'b> {
    object: &'a mut Object<'b>,
    found: Found,
    bodies: BTreeMap<u32, Body>,
    /// Functions whose caller decides the number, and where it has to put it.
    wrappers: BTreeSet<(u32, Place)>,
    open: Vec<(u32, Place)>,
    /// System calls whose number is read by way of a global variable.
    global: Vec<(u32, u64)>,
    /// References to code in this object, by the address they lead to.
    callers: Option<Vec<Reference>>,
}

impl Finder<'_, '_> {
    /// As `trace`, of what a caller hands over; its stores may go by the stack pointer.
    fn trace_argument(&mut self, node: u32, address: u64, place: Place) -> Values {
        if let Place::Pointee(register, offset) = place {
            self.trace(node, address, Place::Register(register));
            let body = self.bodies.get(&node);
            let found = body.and_then(|body| body.points_to_stack(address, register));
            if let Some(from) = found {
                return self.trace(node, address, Place::Stack(from.wrapping_add(offset)));
            }
        }
        self.trace(node, address, place)
    }

    fn trace(&mut self, node: u32, address: u64, place: Place) -> Values {
        let object = &*self.object;
        let index = usize::try_from(node).unwrap_or(usize::MAX);
        let Some(range) = object.resolver.bounds.ranges.get(index) else {
            return Values {
                unknown: true,
                ..Values::default()
            };
        };
        let cases = object.cases.get(&index).map_or(&[][..], Vec::as_slice);
        let body = self
            .bodies
            .entry(node)
            .or_insert_with(|| Body::decode(object.resolver.image, range.start, range.end, cases));
        body.trace(address, place)
    }

    /// Makes calls, sites and wrappers of the values that a number can have.
    fn number(&mut self, node: u32, address: u64, values: &Values, wrapped: bool) {
        let mut unknown = values.unknown || (values.global && wrapped);
        for value in &values.constants {
            // Only the lower half is looked at; x32's bit belongs to the number.
            match u32::try_from(value & 0xffff_ffff) {
                Ok(number) if u64::from(number & !0x4000_0000) < MAX_NUMBER => {
                    self.found.calls.push(Call {
                        node,
                        number,
                        wrapped,
                    });
                }
                // `syscall(-1)` and the like fail in the kernel whatever the filter says.
                _ => {}
            }
        }
        for place in &values.inputs {
            if self.wrappers.len() >= MAX_WRAPPERS {
                unknown = true;
            } else if self.wrappers.insert((node, *place)) {
                self.open.push((node, *place));
            }
        }
        if unknown {
            self.found.sites.push(Site {
                node,
                address,
                why: Why::Computed,
            });
        }
    }

    fn direct(&mut self) {
        for (address, entry) in std::mem::take(&mut self.object.sweep.entries) {
            let Some(node) = self.object.function(address) else {
                continue;
            };
            if self.object.is_doubtful(address) {
                continue;
            }
            if entry == Entry::Compat {
                self.found.sites.push(Site {
                    node,
                    address,
                    why: Why::Compat,
                });
                continue;
            }
            let values = self.trace(node, address, Place::Register(Register::RAX));
            self.number(node, address, &values, false);
            if values.global {
                self.global.push((node, address));
            }
        }
    }

    /// glibc changes the credentials of every thread by a command (`struct xid_command`) that the
    /// caller passes to one function by pointer, and that function to signal handlers by a global
    /// variable. The callers were resolved, so the handlers' numbers are among theirs. Without
    /// such a function, numbers behind a global pointer stay unknown.
    fn commands(&mut self) {
        let by_pointer = |(_, place): &(u32, Place)| matches!(place, Place::Pointee(..));
        if self.wrappers.iter().any(by_pointer) {
            return;
        }
        let why = Why::Computed;
        let sites = std::mem::take(&mut self.global).into_iter();
        let sites = sites.map(|(node, address)| Site { node, address, why });
        self.found.sites.extend(sites);
    }

    /// Calls of imports whose arguments matter.
    fn imported(&mut self) {
        for (node, import, reference) in std::mem::take(&mut self.object.told) {
            self.import(node, import, reference);
        }
    }

    fn import(&mut self, node: u32, import: u32, reference: Reference) {
        let index = usize::try_from(import).unwrap_or(usize::MAX);
        let Some(name) = self.object.imports.get(index).map(|import| &import.name) else {
            return;
        };
        let general = name == GENERAL;
        let interesting = INTERESTING.iter().find(|(own, _)| own == name);
        let taken = matches!(reference.how, Use::Address | Use::Load(_));
        if general && taken {
            self.found.sites.push(Site {
                node,
                address: reference.from,
                why: Why::PointerToWrapper,
            });
        } else if general {
            let place = Place::Register(Register::RDI);
            let values = self.trace(node, reference.from, place);
            self.number(node, reference.from, &values, true);
        } else if let Some((_, register)) = interesting {
            let values = if taken {
                Values {
                    unknown: true,
                    ..Values::default()
                }
            } else {
                self.trace(node, reference.from, Place::Register(*register))
            };
            let image = self.object.resolver.image;
            let as_text = |value: &u64| image.string(*value, 4096).map(text);
            self.found.arguments.push(Argument {
                node,
                import,
                texts: values.constants.iter().filter_map(as_text).collect(),
                complete: !values.unknown && !values.global && values.inputs.is_empty(),
                constants: values.constants.into_iter().collect(),
            });
        }
    }

    /// Follows wrappers to their callers, and those to theirs.
    fn wrapped(&mut self) {
        while let Some((node, place)) = self.open.pop() {
            let index = usize::try_from(node).unwrap_or(usize::MAX);
            let Some(range) = self.object.resolver.bounds.ranges.get(index).copied() else {
                continue;
            };
            if self.pointed_to(range.start, range.end) {
                self.found.sites.push(Site {
                    node,
                    address: range.start,
                    why: Why::PointerToWrapper,
                });
            }
            let exported = self
                .object
                .resolver
                .image
                .dynamic
                .symbols
                .iter()
                .any(|symbol| {
                    symbol.defined
                        && symbol.global
                        && symbol.value == range.start
                        && symbol.name != GENERAL.as_bytes()
                });
            // Go's exports are for the C in the same file, which has no use for these.
            if exported && !go::is_go(self.object.resolver.image) {
                self.found.sites.push(Site {
                    node,
                    address: range.start,
                    why: Why::ExportedWrapper,
                });
            }
            for reference in self.callers_of(range.start, range.end) {
                self.caller(node, range.start, place, reference);
            }
        }
    }

    fn caller(&mut self, wrapper: u32, start: u64, place: Place, reference: Reference) {
        let Some(node) = self.object.function(reference.from) else {
            return;
        };
        if node == wrapper && reference.how == Use::Jump {
            return;
        }
        if reference.to != start || reference.how == Use::Address {
            self.found.sites.push(Site {
                node,
                address: reference.from,
                why: Why::PointerToWrapper,
            });
            return;
        }
        let place = match (place, reference.how) {
            // The call pushes the return address.
            (Place::Stack(offset), Use::Call) => Place::Stack(offset - 8),
            _ => place,
        };
        // A call's value counts before it; falling through, the last instruction counts too.
        let at = if reference.how == Use::Fall {
            reference.to
        } else {
            reference.from
        };
        let values = self.trace_argument(node, at, place);
        self.number(node, reference.from, &values, true);
    }

    fn callers_of(&mut self, start: u64, end: u64) -> Vec<Reference> {
        let references = &self.object.sweep.references;
        let callers = self.callers.get_or_insert_with(|| {
            let direct =
                |r: &&Reference| matches!(r.how, Use::Call | Use::Jump | Use::Fall | Use::Address);
            let all = references.iter().flatten();
            let mut callers: Vec<Reference> = all.filter(direct).copied().collect();
            callers.sort_unstable_by_key(|reference| reference.to);
            callers
        });
        let first = callers.partition_point(|reference| reference.to < start);
        let inside = callers[first..].iter().take_while(|r| r.to < end);
        inside.copied().collect()
    }

    /// Whether data holds a pointer into the function.
    fn pointed_to(&self, start: u64, end: u64) -> bool {
        let relocations = &self.object.resolver.image.relocations;
        relocations.iter().any(|relocation| {
            super::data::local(relocation.target).is_some_and(|to| to >= start && to < end)
        })
    }
}
