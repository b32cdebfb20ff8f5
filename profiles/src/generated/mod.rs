//! Profiles that are made of a container's files when it starts: what they say, how they are asked
//! for, and where they are kept.
//!
//! The analysis is a program of its own (`cofferdam-profile`), so that what starts containers links
//! no disassembler. Here is what both sides share: the request and the answer, as data, and the
//! cache, which only who starts containers writes.

/// Made profiles on disk.
mod cache;
/// Files that an analysis looked at, and whether they are what they were.
mod dependency;
/// What a container's root file system consists of.
mod layers;
/// File systems whose inodes tell a change.
mod medium;
/// The request and the answer.
mod message;

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use serde::{Deserialize, Serialize};

pub use cache::{GeneratedCache, Key, MountKey};
pub use dependency::{Dependency, Identity, MAX_DEPENDENCIES, Use};
pub use layers::{LayersError, RootIdentity};
pub use medium::Media;
pub use message::{
    Answer, Failure, FailureKind, MAX_ANSWER, MAX_REQUEST, Made, Mount, Process, Request, VERB,
    VERSION,
};

/// What a process needs between the moment it gets its filter and its program's first instruction:
/// the runtime's own calls, whatever the program is. Without `no_new_privs` the filter comes before
/// the privileges are dropped, and the rest is needed too.
pub const RUNTIME: &[&str] = &[
    "execve",
    "exit",
    "exit_group",
    "futex",
    "munmap",
    "rt_sigprocmask",
    "rt_sigreturn",
    "restart_syscall",
    "write",
];

/// See [`RUNTIME`].
pub const RUNTIME_WITHOUT_NO_NEW_PRIVS: &[&str] = &[
    "capget",
    "capset",
    "chdir",
    "close",
    "close_range",
    "faccessat",
    "faccessat2",
    "fcntl",
    "fstat",
    "getcwd",
    "getgid",
    "getpid",
    "getuid",
    "lseek",
    "mmap",
    "newfstatat",
    "openat",
    "poll",
    "prctl",
    "prlimit64",
    "read",
    "recvfrom",
    "rt_sigaction",
    "sendto",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
    "sigaltstack",
    "stat",
    "statx",
    "umask",
];

/// How far a made profile can be trusted to hold all that the workload needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// What it starts is not known.
    Low,
    /// Parts are not known.
    Medium,
    /// Nothing speaks against it.
    High,
}

impl Confidence {
    /// As reports say it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Where a call of a made profile comes from; of several, the first of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Found in the program's files.
    Analysis,
    /// Seen in a recording and not found in the files.
    Recording,
    /// Every process needs it, or the runtime does to start it.
    Always,
    /// Any call is possible there: a number could not be told.
    Unresolved,
}

/// Whether the profile was made for this start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Made now, and kept for the next start.
    #[default]
    Made,
    /// Kept from an earlier start of the same files.
    Kept,
    /// Made now and not kept, for this reason.
    NotKept(String),
}

/// What is told about a made profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The program the container starts with, as seen from inside, symlinks resolved.
    pub program: PathBuf,
    /// How many programs were looked at: that one and what it may start.
    pub programs: usize,
    /// How far it can be trusted.
    pub confidence: Confidence,
    /// Why not further, in plain words.
    pub reasons: Vec<String>,
    /// Reachable system calls whose number is not known. Any widens the profile.
    pub unresolved: usize,
    /// Where each call comes from.
    pub calls: BTreeMap<String, Source>,
    /// The recordings that were merged in.
    pub recordings: Vec<PathBuf>,
    /// Whether it was made for this start.
    #[serde(default)]
    pub origin: Origin,
}

impl Provenance {
    /// How many calls come from there.
    pub fn count(&self, source: Source) -> usize {
        self.calls.values().filter(|own| **own == source).count()
    }
}

/// A profile made of a container's files, and what is told about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// What it allows; the rest gets an errno.
    pub profile: LinuxSeccomp,
    /// Why.
    pub provenance: Provenance,
}

impl Generated {
    /// Allows `names` as well, and says that they come from `source`. A call that the profile answers
    /// with ENOSYS so that an older one is used instead keeps that answer if `keep_absent` has it.
    pub fn allow<'n>(
        &mut self,
        names: impl IntoIterator<Item = &'n str>,
        source: Source,
        keep_absent: &[&str],
    ) {
        let calls = &mut self.provenance.calls;
        let mut new: Vec<String> = Vec::new();
        for name in names {
            let known = calls.get(name);
            if keep_absent.contains(&name) || known.is_some_and(|k| *k != Source::Unresolved) {
                continue;
            }
            calls.insert(name.to_owned(), source);
            new.push(name.to_owned());
        }
        let mut rules = self.profile.syscalls().clone().unwrap_or_default();
        // An unconditional rule beside another answer for the same call would be a contradiction.
        for rule in &mut rules {
            let kept = rule.names().iter().filter(|name| !new.contains(name));
            let kept: Vec<String> = kept.cloned().collect();
            rule.set_names(kept);
        }
        rules.retain(|rule| !rule.names().is_empty());
        let allows = |rule: &&mut oci_spec::runtime::LinuxSyscall| {
            let bare = rule.args().as_ref().is_none_or(Vec::is_empty);
            bare && rule.action() == LinuxSeccompAction::ScmpActAllow
        };
        match rules.iter_mut().find(allows) {
            Some(rule) => {
                let mut all = rule.names().clone();
                all.extend(new);
                all.sort_unstable();
                all.dedup();
                rule.set_names(all);
            }
            None if new.is_empty() => {}
            None => {
                let mut rule = oci_spec::runtime::LinuxSyscall::default();
                rule.set_names(new);
                rule.set_action(LinuxSeccompAction::ScmpActAllow);
                rules.push(rule);
            }
        }
        self.profile.set_syscalls(Some(rules));
    }
}

/// What the caller got when it asked for a profile.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The profile.
    Made(Box<Generated>),
    /// None, and why.
    Failed {
        /// Why, in plain words.
        why: String,
        /// What can be done about it.
        remedy: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_allowed_besides_is_said_once_and_contradicts_nothing() {
        let mut generated: Generated = serde_json::from_value(json!({
            "profile": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "syscalls": [
                    {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
                    {"names": ["statx", "clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
                ]
            },
            "provenance": {
                "program": "/bin/x", "programs": 1, "confidence": "high", "reasons": [],
                "unresolved": 0, "calls": {"read": "analysis"}, "recordings": []
            }
        }))
        .unwrap();
        generated.allow(["read", "statx", "clone3"], Source::Recording, &["clone3"]);
        let rules = generated.profile.syscalls().clone().unwrap();
        let names: Vec<_> = rules.iter().map(|rule| rule.names().clone()).collect();
        assert_eq!(names, [vec!["read", "statx"], vec!["clone3"]]);
        let calls = &generated.provenance.calls;
        assert_eq!(calls["read"], Source::Analysis);
        assert_eq!(calls["statx"], Source::Recording);
        assert!(!calls.contains_key("clone3"));
        crate::seccomp::compile(&generated.profile).unwrap();
    }
}
