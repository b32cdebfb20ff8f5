//! What a server can still do once it waits for work.
//!
//! The main loop is looked for among the functions that are called, and called by those, from where
//! execution starts: one with a loop from which a function that waits for events is called. Serving
//! is what can be reached from within such loops, and from every function that something holds a
//! pointer to: a handler cannot be told from a step of the start-up that is called by pointer, so
//! all count. What is left over runs before the loop, or after it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use super::facts;
use super::loader::{Loaded, Role};
use super::reach::{Node, Reach};
use crate::summary::Edge;

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
    serving: Marks,
}

impl Phases {
    /// Whether a function can run once the main loop does.
    pub(crate) fn is_serving(&self, node: Node) -> bool {
        self.serving.has(node)
    }
}

/// A set of nodes.
#[derive(Debug)]
struct Marks(Vec<Vec<bool>>);

impl Marks {
    fn new(objects: &[Loaded]) -> Self {
        let sizes = objects.iter().map(|object| object.summary.addresses.len());
        Self(sizes.map(|size| vec![false; size]).collect())
    }

    fn slot(&mut self, node: Node) -> Option<&mut bool> {
        let object = self.0.get_mut(usize::try_from(node.object).ok()?)?;
        object.get_mut(usize::try_from(node.node).ok()?)
    }

    fn has(&self, node: Node) -> bool {
        let object = usize::try_from(node.object)
            .ok()
            .and_then(|o| self.0.get(o));
        let slot = object.zip(usize::try_from(node.node).ok());
        slot.and_then(|(object, node)| object.get(node)) == Some(&true)
    }

    /// Whether it was not there before.
    fn add(&mut self, node: Node) -> bool {
        self.slot(node)
            .is_some_and(|slot| !std::mem::replace(slot, true))
    }
}

/// An edge that the search followed.
#[derive(Debug, Clone, Copy)]
struct Way {
    from: Node,
    to: Node,
    edge: Edge,
}

/// Finds the main loop; `None` where there is none.
pub(crate) fn find(reach: &Reach, objects: &[Loaded]) -> Option<Phases> {
    let (program, index) = objects
        .iter()
        .zip(0_u32..)
        .find(|(o, _)| o.role == Role::Program)?;
    let entry = Node {
        object: index,
        node: program.summary.entry?,
    };
    let graph = Graph::new(reach, objects);
    let waits = graph.waiting();
    let mut loops: HashMap<Node, u32> = HashMap::new();
    for way in &graph.ways {
        let distance = waits.get(&way.to).copied();
        if let Some(distance) = distance.filter(|_| way.edge.is_call() && way.edge.is_looped()) {
            let nearest = loops.entry(way.from).or_insert(distance);
            *nearest = distance.min(*nearest);
        }
    }
    // The nearer a loop is to what it waits by, the more it is about waiting: `main` often has a loop
    // around everything.
    let called = graph.called_from(entry);
    let distances = called
        .iter()
        .filter_map(|node| Some((*loops.get(node)?, *node)));
    let (nearest, main_loop) = distances.min_by_key(|(distance, _)| *distance)?;
    loops.retain(|_, distance| *distance <= nearest);

    let mut serving = Marks::new(objects);
    let mut open = VecDeque::new();
    let mut start = |node| {
        if serving.add(node) {
            open.push_back(node);
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
        let looped = way.edge.is_looped() && loops.contains_key(&way.from);
        if by_pointer || looped {
            start(way.to);
        }
    }
    while let Some(node) = open.pop_front() {
        for way in graph.from(node) {
            if serving.add(way.to) {
                open.push_back(way.to);
            }
        }
    }
    Some(Phases { main_loop, serving })
}

/// Every edge that the search followed, in order of where it comes from.
struct Graph<'a> {
    objects: &'a [Loaded],
    ways: Vec<Way>,
    /// Functions with a call of an import that waits.
    waiters: Vec<Node>,
}

impl<'a> Graph<'a> {
    fn new(reach: &Reach, objects: &'a [Loaded]) -> Self {
        let mut ways = Vec::new();
        let mut waiters = Vec::new();
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
                for edge in object.summary.edges(node) {
                    let to = reach.followed(from, *edge);
                    ways.extend(to.into_iter().map(|to| Way {
                        from,
                        to,
                        edge: *edge,
                    }));
                    if outside
                        && edge.is_call()
                        && let crate::summary::Destination::Import(import) = edge.destination()
                        && usize::try_from(import).is_ok_and(|i| waits.get(i) == Some(&true))
                    {
                        waiters.push(from);
                        // A wait in the function's own loop makes it a main loop by itself.
                        if edge.is_looped() {
                            ways.push(Way {
                                from,
                                to: from,
                                edge: *edge,
                            });
                        }
                    }
                }
            }
        }
        Self {
            objects,
            ways,
            waiters,
        }
    }

    fn from(&self, node: Node) -> impl Iterator<Item = &Way> {
        let first = self.ways.partition_point(|way| way.from < node);
        let ways = self.ways.get(first..).unwrap_or(&[]).iter();
        ways.take_while(move |way| way.from == node)
    }

    /// Functions that wait, by themselves or by what they call, and by how many calls.
    fn waiting(&self) -> HashMap<Node, u32> {
        let calls = self.ways.iter().filter(|way| way.edge.is_call());
        let mut callers: Vec<(Node, Node)> = calls.map(|way| (way.to, way.from)).collect();
        callers.sort_unstable();
        let mut distances: HashMap<Node, u32> = HashMap::new();
        let mut open = VecDeque::new();
        for node in &self.waiters {
            if distances.insert(*node, 0).is_none() {
                open.push_back((*node, 0));
            }
        }
        while let Some((node, distance)) = open.pop_front() {
            let first = callers.partition_point(|(to, _)| *to < node);
            let of_node = callers.get(first..).unwrap_or(&[]).iter();
            for (_, caller) in of_node.take_while(|(to, _)| *to == node) {
                if let Entry::Vacant(new) = distances.entry(*caller) {
                    new.insert(distance + 1);
                    open.push_back((*caller, distance + 1));
                }
            }
        }
        distances
    }

    /// What is called from a function and from what it calls, nearest first; the first function gets
    /// pointers to those it has the C library call for it.
    fn called_from(&self, entry: Node) -> Vec<Node> {
        let mut seen = Marks::new(self.objects);
        seen.add(entry);
        let mut order = vec![entry];
        let mut at = 0;
        while let Some(node) = order.get(at).copied() {
            at += 1;
            for way in self.from(node) {
                if (way.edge.is_call() || node == entry) && seen.add(way.to) {
                    order.push(way.to);
                }
            }
        }
        order
    }
}
