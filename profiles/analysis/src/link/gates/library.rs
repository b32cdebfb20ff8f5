//! Where the gates of the C library stand. Exported functions have names; the others are told by what
//! they call.

use std::collections::{HashMap, HashSet};

use super::super::reach::Node;
use super::{Gate, Gates};
use crate::summary::{Destination, Export, Summary};

const CLONE_CHILD: [u32; 2] = [SETRESUID, CLOSE_RANGE];
const TIME: u32 = 201;
const SETRESUID: u32 = 117;
const SETRESGID: u32 = 119;
const FACCESSAT: u32 = 269;
const CLOSE_RANGE: u32 = 436;
const PPOLL: u32 = 271;

/// The C library while its gates are looked for.
pub(super) struct Library<'a> {
    summary: &'a Summary,
    object: u32,
    exported: HashMap<&'a str, u32>,
    nodes: HashSet<u32>,
}

impl<'a> Library<'a> {
    pub(super) fn new(summary: &'a Summary, object: u32) -> Self {
        let named = |export: &'a Export| Some((export.name.as_str(), export.node?));
        Self {
            summary,
            object,
            exported: summary.exports.iter().filter_map(named).collect(),
            nodes: summary.exports.iter().filter_map(|e| e.node).collect(),
        }
    }

    fn node(&self, node: u32) -> Node {
        Node {
            object: self.object,
            node,
        }
    }

    pub(super) fn close(&self, gates: &mut Gates) {
        for (name, node) in &self.exported {
            if let Some(gate) = Gate::before(name) {
                gates.before.insert(self.node(*node), gate);
            }
        }
        self.spawn(gates);
        self.cache_daemon(gates);
        self.random(gates);
        for glob in ["glob", "glob64"] {
            if let Some(&from) = self.exported.get(glob) {
                for name in ["getlogin_r", "getpwnam", "getpwnam_r"] {
                    self.between(gates, from, name, Gate::GlobTilde);
                }
            }
        }
        // The kernel's vDSO has `time` and never falls back to the call
        // (`sysdeps/unix/sysv/linux/time.c`; the kernel's `lib/vdso/gettimeofday.c`).
        gates.close_call(self.summary, self.object, TIME);
        // What follows a failed `faccessat2`, which came with Linux 5.8
        // (`sysdeps/unix/sysv/linux/faccessat.c`).
        if let Some(&from) = self.exported.get("faccessat") {
            let used = [
                "getuid",
                "geteuid",
                "getgid",
                "getegid",
                "group_member",
                "fstatat64",
            ];
            for name in used {
                self.between(gates, from, name, Gate::Never);
            }
            gates
                .calls
                .insert((self.node(from), FACCESSAT), Gate::Never);
        }
    }

    fn between(&self, gates: &mut Gates, from: u32, to: &str, gate: Gate) {
        if let Some(&to) = self.exported.get(to) {
            gates.between.insert((self.node(from), self.node(to)), gate);
        }
    }

    /// `__spawni_child` has no name in the file; it is the one function that makes these calls itself.
    fn spawn(&self, gates: &mut Gates) {
        let makes = |node: u32, number: u32| {
            let calls = &self.summary.calls;
            calls.iter().any(|c| c.node == node && c.number == number)
        };
        let nodes = self.summary.calls.iter().map(|call| call.node);
        let mut children: Vec<u32> = nodes
            .filter(|node| CLONE_CHILD.iter().all(|number| makes(*node, *number)))
            .collect();
        children.dedup();
        let [child] = *children else {
            return;
        };
        for (name, gate) in [
            ("setsid", Gate::SpawnAttributes),
            ("setpgid", Gate::SpawnAttributes),
            ("getuid", Gate::SpawnAttributes),
            ("getgid", Gate::SpawnAttributes),
            ("sched_setparam", Gate::SpawnAttributes),
            ("sched_setscheduler", Gate::SpawnAttributes),
            ("chdir", Gate::SpawnChdir),
            ("fchdir", Gate::SpawnFchdir),
            ("getpgid", Gate::SpawnTerminal),
            ("tcsetpgrp", Gate::SpawnTerminal),
            ("dup2", Gate::SpawnDup),
        ] {
            self.between(gates, child, name, gate);
        }
        for (number, gate) in [
            (SETRESUID, Gate::SpawnAttributes),
            (SETRESGID, Gate::SpawnAttributes),
            (CLOSE_RANGE, Gate::SpawnCloseFrom),
        ] {
            gates.calls.insert((self.node(child), number), gate);
        }
        // Where `close_range` fails, both go on with one function that is not exported.
        if let Some(&other) = self.exported.get("closefrom") {
            let shared = self.summary.edges(child).iter().filter(|edge| {
                let local = match edge.destination() {
                    Destination::Node(node) => !self.is_exported(node),
                    Destination::Import(_) => false,
                };
                local && self.leads_by(other, edge.destination())
            });
            for edge in shared {
                if let Destination::Node(to) = edge.destination() {
                    let way = (self.node(child), self.node(to));
                    gates.between.insert(way, Gate::SpawnCloseFrom);
                }
            }
        }
    }

    /// What talks to the daemon once its socket was found: the one function that connects, sends and
    /// waits by itself (`open_socket`; the resolver uses `sendmmsg`), those that call it, and what
    /// they wait with. Beside them, only `preadv2` calls `readv`.
    fn cache_daemon(&self, gates: &mut Gates) {
        let functions = 0..self.summary.functions;
        let exported = |names: &[&str]| -> Option<Vec<u32>> {
            names
                .iter()
                .map(|n| self.exported.get(n).copied())
                .collect()
        };
        let (Some(does), Some(never)) = (
            exported(&["socket", "connect", "send", "poll"]),
            exported(&["sendmmsg", "bind"]),
        ) else {
            return;
        };
        let open_socket: Vec<u32> = functions
            .clone()
            .filter(|from| does.iter().all(|to| self.leads(*from, *to)))
            .filter(|from| !never.iter().any(|to| self.leads(*from, *to)))
            .filter(|from| !self.is_exported(*from))
            .collect();
        let [opens] = &*open_socket else {
            return;
        };
        let callers = functions
            .clone()
            .filter(|from| self.leads(*from, *opens) && !self.is_exported(*from));
        let users: Vec<u32> = callers.chain([*opens]).collect();
        for user in &users {
            for name in ["send", "poll", "recvmsg"] {
                self.between(gates, *user, name, Gate::Nscd);
            }
            for edge in self.summary.edges(*user) {
                if let Destination::Node(helper) = edge.destination()
                    && !self.is_exported(helper)
                {
                    self.between(gates, helper, "poll", Gate::Nscd);
                }
            }
        }
        for from in functions.filter(|from| !self.is_exported(*from)) {
            self.between(gates, from, "readv", Gate::Nscd);
        }
    }

    /// A random number generator that asks `/dev/random` where there is no `getrandom`, which came
    /// with Linux 3.17 (`stdlib/arc4random.c`).
    fn random(&self, gates: &mut Gates) {
        let Some(&exported) = self.exported.get("arc4random_buf") else {
            return;
        };
        let strings = self.summary.strings.iter();
        let mut named = strings.filter(|(_, text)| text == "/dev/random");
        let made = named.find(|(node, _)| *node == exported || self.leads(exported, *node));
        if let Some((node, _)) = made {
            gates.calls.insert((self.node(*node), PPOLL), Gate::Never);
            for name in ["ppoll", "__poll"] {
                self.between(gates, *node, name, Gate::Never);
            }
        }
    }

    fn leads(&self, from: u32, to: u32) -> bool {
        self.leads_by(from, Destination::Node(to))
    }

    fn leads_by(&self, from: u32, to: Destination) -> bool {
        let mut edges = self.summary.edges(from).iter();
        edges.any(|edge| edge.destination() == to)
    }

    fn is_exported(&self, node: u32) -> bool {
        self.nodes.contains(&node)
    }
}
