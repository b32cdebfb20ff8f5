//! What a server can still do once it waits for work.
//!
//! The main loop is looked for among the functions that are called, and called by those, from where
//! execution starts: one with a loop from which a function that waits for events is called. Serving
//! is what can be reached from within such loops, and from every function that something holds a
//! pointer to: a handler cannot be told from a step of the start-up that is called by pointer, so
//! all count. What is left over runs before the loop, or after it.

use super::facts;
use super::loader::{Loaded, Role};
use super::reach::{Node, Reach};
use crate::summary::{Destination, Edge};

/// Imports that wait for events, of the C library and of libraries that are made of a main loop.
const WAITS: &[&str] = &[
    "accept",
    "accept4",
    "apr_poll",
    "apr_pollcb_poll",
    "apr_pollset_poll",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "ev_run",
    "event_base_dispatch",
    "event_base_loop",
    "event_dispatch",
    "event_loop",
    "g_main_loop_run",
    "io_getevents",
    "pause",
    "poll",
    "ppoll",
    "pselect",
    "select",
    "sigsuspend",
    "sigtimedwait",
    "sigwait",
    "sigwaitinfo",
    "uv_run",
];

/// See the module.
#[derive(Debug)]
pub(crate) struct Phases {
    /// The function with the main loop.
    pub(crate) main_loop: Node,
    serving: Marks<bool>,
}

impl Phases {
    /// Whether a function can run once the main loop does.
    pub(crate) fn is_serving(&self, node: Node) -> bool {
        self.serving.get(node) == Some(true)
    }
}

/// A value for every node of every object.
#[derive(Debug)]
struct Marks<T>(Vec<Vec<T>>);

impl<T: Copy + PartialEq> Marks<T> {
    fn new(objects: &[Loaded], value: T) -> Self {
        let sizes = objects.iter().map(|object| object.summary.addresses.len());
        Self(sizes.map(|size| vec![value; size]).collect())
    }

    fn get(&self, node: Node) -> Option<T> {
        let object = self.0.get(usize::try_from(node.object).ok()?)?;
        object.get(usize::try_from(node.node).ok()?).copied()
    }

    /// Whether it had another value before.
    fn set(&mut self, node: Node, value: T) -> bool {
        let object = usize::try_from(node.object).ok();
        let object = object.and_then(|object| self.0.get_mut(object));
        let slot = object.zip(usize::try_from(node.node).ok());
        let slot = slot.and_then(|(object, node)| object.get_mut(node));
        slot.is_some_and(|slot| std::mem::replace(slot, value) != value)
    }
}

/// An edge that the search followed.
#[derive(Debug, Clone, Copy)]
struct Way {
    from: Node,
    to: Node,
    edge: Edge,
}

/// How many calls a function is away from waiting.
type Distance = u32;
const NEVER: Distance = Distance::MAX;

/// Finds the main loop; `None` where there is none.
pub(crate) fn find(reach: &Reach, objects: &[Loaded]) -> Option<Phases> {
    let mut programs = objects.iter().zip(0_u32..);
    let (program, index) = programs.find(|(object, _)| object.role == Role::Program)?;
    let entry = Node {
        object: index,
        node: program.summary.entry?,
    };
    let graph = Graph::new(reach, objects);
    let waits = graph.waiting();
    let mut loops = Marks::new(objects, NEVER);
    for way in &graph.ways {
        if !(way.edge.is_call() && way.edge.is_looped()) {
            continue;
        }
        let distance = waits.get(way.to).unwrap_or(NEVER);
        if distance < loops.get(way.from).unwrap_or(0) {
            loops.set(way.from, distance);
        }
    }
    // The nearer a loop is to what it waits by, the more it is about waiting: `main` often has a loop
    // around everything.
    let called = graph.called_from(entry);
    let distances = called
        .iter()
        .filter_map(|node| Some((loops.get(*node)?, *node)));
    let (nearest, main_loop) = distances.min_by_key(|(distance, _)| *distance)?;
    if nearest == NEVER {
        return None;
    }

    let mut serving = Marks::new(objects, false);
    let mut open = Vec::new();
    let mut start = |node| {
        if serving.set(node, true) {
            open.push(node);
        }
    };
    for (object, index) in objects.iter().zip(0_u32..) {
        for root in &object.summary.roots {
            start(Node {
                object: index,
                node: *root,
            });
        }
    }
    for way in &graph.ways {
        let by_pointer = !way.edge.is_call() && way.from != entry;
        let looped = way.edge.is_looped() && loops.get(way.from).is_some_and(|d| d <= nearest);
        if by_pointer || looped {
            start(way.to);
        }
    }
    while let Some(node) = open.pop() {
        for way in graph.from(node) {
            if serving.set(way.to, true) {
                open.push(way.to);
            }
        }
    }
    Some(Phases { main_loop, serving })
}

/// Every edge that the search followed, in order of where it comes from.
struct Graph<'a> {
    objects: &'a [Loaded],
    ways: Vec<Way>,
    /// Where the ways of a node start and end.
    extents: Marks<(usize, usize)>,
    /// Functions with a call of an import that waits.
    waiters: Vec<Node>,
}

impl<'a> Graph<'a> {
    fn new(reach: &Reach, objects: &'a [Loaded]) -> Self {
        let mut graph = Self {
            objects,
            ways: Vec::new(),
            extents: Marks::new(objects, (0, 0)),
            waiters: Vec::new(),
        };
        for (object, index) in objects.iter().zip(0_u32..) {
            let names = object.summary.imports.iter();
            let waits: Vec<bool> = names.map(|i| WAITS.contains(&&*i.name)).collect();
            let outside = !facts::is_glibc(object) && object.role != Role::Interpreter;
            for node in 0..object.summary.nodes() {
                let from = Node {
                    object: index,
                    node,
                };
                if !reach.is_reached(from) {
                    continue;
                }
                let first = graph.ways.len();
                for edge in object.summary.edges(node) {
                    let edge = *edge;
                    let ways = &mut graph.ways;
                    reach.followed(from, edge, |to| ways.push(Way { from, to, edge }));
                    if let Destination::Import(import) = edge.destination()
                        && outside
                        && edge.is_call()
                        && usize::try_from(import).is_ok_and(|i| waits.get(i) == Some(&true))
                    {
                        graph.waiters.push(from);
                        // A wait in the function's own loop makes it a main loop by itself.
                        let to = from;
                        graph.ways.push(Way { from, to, edge });
                    }
                }
                graph.extents.set(from, (first, graph.ways.len()));
            }
        }
        graph
    }

    fn from(&self, node: Node) -> &[Way] {
        let extent = self.extents.get(node);
        let ways = extent.and_then(|(first, end)| self.ways.get(first..end));
        ways.unwrap_or(&[])
    }

    /// By how many calls functions wait, by themselves or by what they call.
    fn waiting(&self) -> Marks<Distance> {
        let mut distances = Marks::new(self.objects, NEVER);
        let mut changed: Vec<Node> = Vec::new();
        for node in &self.waiters {
            if distances.set(*node, 0) {
                changed.push(*node);
            }
        }
        let callers = Callers::of(&self.ways, self.objects);
        for distance in 1.. {
            let mut next = Vec::new();
            for node in changed {
                for caller in callers.of_node(node) {
                    if distances.get(*caller) == Some(NEVER) {
                        distances.set(*caller, distance);
                        next.push(*caller);
                    }
                }
            }
            if next.is_empty() {
                break;
            }
            changed = next;
        }
        distances
    }

    /// What is called from a function and from what it calls, nearest first; the first function gets
    /// pointers to those it has the C library call for it.
    fn called_from(&self, entry: Node) -> Vec<Node> {
        let mut seen = Marks::new(self.objects, false);
        seen.set(entry, true);
        let mut order = vec![entry];
        let mut at = 0;
        while let Some(node) = order.get(at).copied() {
            at += 1;
            for way in self.from(node) {
                if (way.edge.is_call() || node == entry) && seen.set(way.to, true) {
                    order.push(way.to);
                }
            }
        }
        order
    }
}

/// Who calls what, by what is called.
struct Callers {
    /// Where the callers of a node start and end.
    extents: Marks<(u32, u32)>,
    callers: Vec<Node>,
}

impl Callers {
    fn of(ways: &[Way], objects: &[Loaded]) -> Self {
        let calls = || ways.iter().filter(|way| way.edge.is_call());
        let mut extents = Marks::new(objects, (0_u32, 0_u32));
        for way in calls() {
            let (_, count) = extents.get(way.to).unwrap_or_default();
            extents.set(way.to, (0, count.saturating_add(1)));
        }
        let mut total = 0_u32;
        for extent in extents.0.iter_mut().flatten() {
            let count = extent.1;
            *extent = (total, total);
            total = total.saturating_add(count);
        }
        let size = usize::try_from(total).unwrap_or(0);
        let nobody = Node { object: 0, node: 0 };
        let mut callers = vec![nobody; size];
        for way in calls() {
            let (first, end) = extents.get(way.to).unwrap_or_default();
            let slot = usize::try_from(end).ok();
            if let Some(slot) = slot.and_then(|slot| callers.get_mut(slot)) {
                *slot = way.from;
                extents.set(way.to, (first, end.saturating_add(1)));
            }
        }
        Self { extents, callers }
    }

    fn of_node(&self, node: Node) -> &[Node] {
        let (first, end) = self.extents.get(node).unwrap_or_default();
        let range = usize::try_from(first).ok().zip(usize::try_from(end).ok());
        let callers = range.and_then(|(first, end)| self.callers.get(first..end));
        callers.unwrap_or(&[])
    }
}
