//! Who asks: found out from /proc, and remembered.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use crate::observed::Phase;
use crate::process;

/// How long what is known of a thread's number is believed. Numbers do not come round so soon.
const BELIEVED: Duration = Duration::from_secs(1);

/// With fewer entries nobody is forgotten.
const FORGET: usize = 1024;

/// A thread group: its id, and when it began, in ticks since the boot.
pub(super) type Key = (u32, u64);

/// What is known of a thread group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    /// It is recorded.
    pub(super) followed: bool,
    pub(super) phase: Phase,
    /// It, or what it came from, has called `listen`.
    pub(super) listened: bool,
    pub(super) executable: u16,
    /// Its address space before it asked to execute something: gone if that succeeded.
    pub(super) executing: Option<Vec<u8>>,
}

/// Whose calls are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Nobody,
    Everyone,
    /// What is in a pid namespace, or, without one of its own, descends from its first process.
    Container {
        init: u32,
        namespace: Option<u64>,
    },
}

/// Thread groups that asked.
#[derive(Debug)]
pub(super) struct Processes {
    group: Group,
    threads: HashMap<u32, (Key, Instant)>,
    known: HashMap<Key, Process>,
    /// Who forked last: the parent of a child whose own parent is gone.
    forked: Option<Process>,
    pub(super) executables: HashMap<String, u16>,
    /// Executables that found no number.
    pub(super) unnamed: u64,
    most_executables: usize,
    /// With so many entries it is looked who has ended.
    forget_at: usize,
}

impl Processes {
    pub(super) fn new(group: Group, most_executables: usize) -> Self {
        Self {
            group,
            threads: HashMap::new(),
            known: HashMap::new(),
            forked: None,
            executables: HashMap::new(),
            unnamed: 0,
            most_executables,
            forget_at: FORGET,
        }
    }

    /// From now on these are recorded; what was known is forgotten.
    pub(super) fn follow(&mut self, group: Group) {
        self.group = group;
        self.threads.clear();
        self.known.clear();
        self.forked = None;
    }

    /// The thread group of a thread; none if it is gone.
    pub(super) fn of(&mut self, thread: u32) -> Option<&mut Process> {
        let now = Instant::now();
        let key = match self.threads.get(&thread) {
            Some((key, until)) if *until > now && self.known.contains_key(key) => *key,
            _ => self.look(thread, now)?,
        };
        if self.known.get(&key)?.executing.is_some() {
            self.executed(key);
        }
        self.known.get_mut(&key)
    }

    /// It asks to be executed something else.
    pub(super) fn executes(&mut self, thread: u32) {
        if let Some(process) = self.of(thread) {
            process.executing = Some(address_space(thread));
        }
    }

    /// It asks to fork.
    pub(super) fn forks(&mut self, thread: u32) {
        let parent = self.of(thread).cloned();
        self.forked = parent.or(self.forked.take());
    }

    /// Forgets those that have ended, once in a while.
    fn forget(&mut self, now: Instant) {
        if self.known.len() + self.threads.len() < self.forget_at {
            return;
        }
        self.threads.retain(|_, (_, until)| *until > now);
        self.known
            .retain(|(group, began), _| began_at(*group) == Some(*began));
        self.forget_at = FORGET + 2 * (self.known.len() + self.threads.len());
    }

    /// How many that are recorded are alive.
    pub(super) fn alive(&self) -> usize {
        let alive = |(group, began): &Key| began_at(*group) == Some(*began);
        let followed = self.known.iter().filter(|(_, process)| process.followed);
        followed.filter(|(key, _)| alive(key)).count()
    }

    fn look(&mut self, thread: u32, now: Instant) -> Option<Key> {
        self.forget(now);
        let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u32>().ok()
        };
        let group = field("Tgid:")?;
        let key = (group, began_at(group)?);
        if !self.known.contains_key(&key) {
            let parent = field("PPid:").and_then(|parent| Some((parent, began_at(parent)?)));
            let process = self.inherit(group, parent);
            self.known.insert(key, process);
        }
        self.threads.insert(thread, (key, now + BELIEVED));
        Some(key)
    }

    fn inherit(&mut self, group: u32, parent: Option<Key>) -> Process {
        let parent = parent.and_then(|key| self.known.get(&key));
        let parent = parent.or(self.forked.as_ref()).cloned();
        let followed = match self.group {
            Group::Nobody => false,
            Group::Everyone => true,
            Group::Container { init, namespace } => {
                group == init
                    || match namespace {
                        Some(wanted) => {
                            process::pid_namespace(group).is_ok_and(|own| own == wanted)
                        }
                        None => parent.as_ref().is_some_and(|parent| parent.followed),
                    }
            }
        };
        // Of one that is not followed, nothing is inherited.
        let parent = parent.filter(|parent| parent.followed == followed);
        let mut process = parent.unwrap_or(Process {
            followed,
            phase: Phase::Setup,
            listened: false,
            executable: 0,
            executing: None,
        });
        process.executing = None;
        if process.phase >= Phase::Startup {
            process.executable = self.executable(group);
        }
        process
    }

    fn executed(&mut self, key: Key) {
        let now = address_space(key.0);
        let executable = match self.known.get(&key) {
            Some(process) if process.executing.as_ref() != Some(&now) => {
                Some(self.executable(key.0))
            }
            _ => None,
        };
        let Some(process) = self.known.get_mut(&key) else {
            return;
        };
        process.executing = None;
        if let Some(executable) = executable {
            process.executable = executable;
            process.phase = process.phase.max(Phase::Startup);
        }
    }

    fn executable(&mut self, group: u32) -> u16 {
        let Ok(path) = fs::read_link(format!("/proc/{group}/exe")) else {
            return 0;
        };
        let path = path.to_string_lossy();
        let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
        if let Some(number) = self.executables.get(path) {
            return *number;
        }
        let next = self.executables.len() + 1;
        match u16::try_from(next) {
            Ok(number) if next <= self.most_executables => {
                self.executables.insert(path.to_owned(), number);
                number
            }
            _ => {
                self.unnamed = self.unnamed.saturating_add(1);
                0
            }
        }
    }
}

/// When a thread group began, by the 22nd field of its stat.
fn began_at(group: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{group}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

/// What tells an address space from the next one: where the kernel put things at random, and the file.
fn address_space(thread: u32) -> Vec<u8> {
    let mut space = fs::read(format!("/proc/{thread}/auxv")).unwrap_or_default();
    if let Ok(file) = fs::metadata(format!("/proc/{thread}/exe")) {
        space.extend(file.dev().to_ne_bytes());
        space.extend(file.ino().to_ne_bytes());
    }
    space
}
