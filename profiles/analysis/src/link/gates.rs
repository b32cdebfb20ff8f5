//! Ways through the C library that are only taken by programs that ask for them. The search stops at
//! a closed gate, and goes on from there once something opens it.
//!
//! Each gate names the source that it was read in (glibc 2.36), and holds for the shared library by
//! that name only: a static program does not profit.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::facts;
use super::loader::{Loaded, Role};
use super::reach::Node;
use crate::rootfs::RootFs;
use crate::summary::{Destination, Summary};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gate {
    /// Sun RPC: a thread's end and others clean up what only its functions can have made
    /// (`sunrpc/rpc_thread.c`).
    Rpc,
    /// The `dns` service of the name service switch, which answers for hosts and networks only
    /// (`nss/nss_module.c` has its functions in one table with every service's).
    Dns,
    /// Attributes of `posix_spawn` but for signals (`sysdeps/unix/sysv/linux/spawni.c`,
    /// `__spawni_child`); `system` and `popen` set none of them.
    SpawnAttributes,
    /// File actions of `posix_spawn` (`sysdeps/unix/sysv/linux/spawni.c`), one gate for each that
    /// the library does not add by itself.
    SpawnChdir,
    /// See [`Gate::SpawnChdir`].
    SpawnFchdir,
    /// See [`Gate::SpawnChdir`].
    SpawnCloseFrom,
    /// See [`Gate::SpawnChdir`].
    SpawnTerminal,
    /// See [`Gate::SpawnChdir`]; `popen` and `wordexp` add this one.
    SpawnDup,
    /// Answers of the name service cache daemon (`nscd/nscd_helper.c`), which is found by its socket:
    /// open where the root file system has the daemon.
    Nscd,
    /// Home directories of users in patterns (`posix/glob.c`, GLOB_TILDE and GLOB_TILDE_CHECK).
    GlobTilde,
    /// What runs under no kernel that this project supports (5.12 and newer), or only for debugging
    /// of the loader.
    Never,
}

const CLONE_CHILD: [u32; 2] = [SETRESUID, CLOSE_RANGE];
const TIME: u32 = 201;
const SETITIMER: u32 = 38;
const SETRESUID: u32 = 117;
const SETRESGID: u32 = 119;
const FACCESSAT: u32 = 269;
const CLOSE_RANGE: u32 = 436;
const PPOLL: u32 = 271;

impl Gate {
    /// Every gate that can be opened by calling a function.
    const BY_CALL: [Self; 8] = [
        Self::Rpc,
        Self::Dns,
        Self::SpawnAttributes,
        Self::SpawnChdir,
        Self::SpawnFchdir,
        Self::SpawnCloseFrom,
        Self::SpawnTerminal,
        Self::SpawnDup,
    ];

    /// Functions that open a gate by what they are told.
    pub(crate) const ARGUED: [&str; 2] = ["glob", "glob64"];

    /// The gates that a program opens by calling a function of the C library.
    pub(super) fn opened_by(function: &str) -> impl Iterator<Item = Self> {
        let gates = Self::BY_CALL.into_iter();
        gates.filter(move |gate| gate.is_opened_by(function))
    }

    fn is_opened_by(self, function: &str) -> bool {
        match self {
            Self::Rpc => is_rpc(function),
            Self::Dns => HOSTS.iter().any(|prefix| function.starts_with(prefix)),
            Self::SpawnAttributes => function == "posix_spawnattr_setflags",
            Self::SpawnChdir => function == "posix_spawn_file_actions_addchdir_np",
            Self::SpawnFchdir => function == "posix_spawn_file_actions_addfchdir_np",
            Self::SpawnCloseFrom => function == "posix_spawn_file_actions_addclosefrom_np",
            Self::SpawnTerminal => function == "posix_spawn_file_actions_addtcsetpgrp_np",
            Self::SpawnDup => matches!(
                function,
                "posix_spawn_file_actions_adddup2"
                    | "posix_spawn_file_actions_addopen"
                    | "popen"
                    | "_IO_popen"
                    | "_IO_proc_open"
                    | "wordexp"
            ),
            Self::Nscd | Self::GlobTilde | Self::Never => false,
        }
    }

    /// The gate that a call of an imported function opens by its constant argument; any value may
    /// be among them where they are not complete.
    pub(crate) fn opened_by_argument(
        function: &str,
        constants: &[u64],
        complete: bool,
    ) -> Option<Self> {
        let glob = Self::ARGUED.contains(&function);
        let tilde = !complete || constants.iter().any(|flags| flags & GLOB_TILDES != 0);
        (glob && tilde).then_some(Self::GlobTilde)
    }

    /// The gates that the root file system opens.
    pub(crate) fn open_in(root: &RootFs) -> Vec<Self> {
        let daemon = ["/usr/sbin/nscd", "/run/nscd", "/var/run/nscd"];
        let has = |path: &&str| root.metadata(Path::new(path)).is_some();
        if daemon.iter().any(has) {
            vec![Self::Nscd]
        } else {
            Vec::new()
        }
    }

    /// The gate before an exported function, whoever of the C library leads there.
    fn before(function: &str) -> Option<Self> {
        if function.starts_with("_nss_dns_") {
            Some(Self::Dns)
        } else if is_rpc(function) {
            Some(Self::Rpc)
        } else {
            None
        }
    }
}

/// GLOB_TILDE and GLOB_TILDE_CHECK of `glob.h`.
const GLOB_TILDES: u64 = 1 << 12 | 1 << 14;

/// Where the gates of the loaded objects stand.
#[derive(Debug, Default)]
pub(super) struct Gates {
    before: HashMap<Node, Gate>,
    between: HashMap<(Node, Node), Gate>,
    calls: HashMap<(Node, u32), Gate>,
    /// Objects with gates on edges: few, and asked for each edge of every object.
    objects: Vec<u32>,
}

impl Gates {
    /// The gate on an edge.
    pub(super) fn on(&self, from: Node, to: Node) -> Option<Gate> {
        if from.object != to.object || !self.objects.contains(&from.object) {
            return None;
        }
        let gate = self
            .between
            .get(&(from, to))
            .or_else(|| self.before.get(&to));
        gate.copied()
    }

    /// The gate before a system call of a function.
    pub(super) fn at_call(&self, node: Node, number: u32) -> Option<Gate> {
        self.calls.get(&(node, number)).copied()
    }

    /// Takes in the gates of an object.
    pub(super) fn add(&mut self, object: &Loaded, index: u32) {
        if object.role == Role::Interpreter {
            // Profiling of a library that the variable LD_PROFILE names (`elf/dl-profile.c`).
            self.close_call(&object.summary, index, SETITIMER);
        }
        if facts::is_glibc(object) {
            self.objects.push(index);
            Library::new(&object.summary, index).close(self);
        }
    }

    fn close_call(&mut self, summary: &Summary, object: u32, number: u32) {
        let calls = summary.calls.iter().filter(|call| call.number == number);
        for call in calls {
            let node = call.node;
            self.calls
                .insert((Node { object, node }, number), Gate::Never);
        }
    }
}

/// The C library while its gates are looked for.
struct Library<'a> {
    summary: &'a Summary,
    object: u32,
    exported: HashMap<&'a str, u32>,
    nodes: HashSet<u32>,
}

impl<'a> Library<'a> {
    fn new(summary: &'a Summary, object: u32) -> Self {
        let named = |export: &'a crate::summary::Export| Some((export.name.as_str(), export.node?));
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

    fn close(&self, gates: &mut Gates) {
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

const RPC: &[&str] = &[
    "authdes_",
    "authnone_",
    "authunix_",
    "callrpc",
    "clnt",
    "get_myaddress",
    "getrpcport",
    "key_",
    "pmap_",
    "registerrpc",
    "rtime",
    "svc",
    "xdr",
];

fn is_rpc(function: &str) -> bool {
    RPC.iter().any(|prefix| function.starts_with(prefix))
}

/// Functions that look for hosts or networks by name or address.
const HOSTS: &[&str] = &[
    "__res",
    "gai_",
    "getaddrinfo",
    "gethostby",
    "gethostent",
    "gethostid",
    "getnameinfo",
    "getnetby",
    "getnetent",
    "iruserok",
    "ns_",
    "rcmd",
    "res_",
    "rexec",
    "ruserok",
    "sethostent",
    "setnetent",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_and_what_opens_them() {
        let table: [(&str, Option<Gate>, &[Gate]); 8] = [
            ("svc_unregister", Some(Gate::Rpc), &[Gate::Rpc]),
            ("_nss_dns_gethostbyname_r", Some(Gate::Dns), &[]),
            ("getaddrinfo", None, &[Gate::Dns]),
            ("getpwnam", None, &[]),
            ("read", None, &[]),
            ("popen", None, &[Gate::SpawnDup]),
            ("system", None, &[]),
            ("posix_spawnattr_setflags", None, &[Gate::SpawnAttributes]),
        ];
        for (function, before, opens) in table {
            let opened: Vec<Gate> = Gate::opened_by(function).collect();
            assert_eq!(
                (Gate::before(function), &*opened),
                (before, opens),
                "{function}"
            );
        }
    }
}
