//! Ways through the C library that are only taken by programs that ask for them. The search stops at
//! a closed gate, and goes on from there once something opens it.
//!
//! Each gate names the source that it was read in (glibc 2.36), and holds for the shared library by
//! that name only: a static program does not profit.

/// Finds the functions of the C library that gates stand between.
mod library;

use std::collections::HashMap;
use std::path::Path;

use super::facts;
use super::loader::{Loaded, Role};
use super::reach::Node;
use crate::rootfs::RootFs;
use crate::summary::Summary;
use library::Library;

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

const SETITIMER: u32 = 38;

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
