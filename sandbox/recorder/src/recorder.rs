//! Loads the programs, seeds the group of processes, reads what they counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::asm::Insn;
use crate::error::RecorderError;
use crate::interest;
use crate::layout::{Layout, symbol};
use crate::observed::{CallSite, Lost, Observed, Phase, SeenArgument, SeenCall, SeenCapability};
use crate::path::{text, words};
use crate::program::{self, Counter, Maps, Setting};
use crate::sys::{self, Kind, Map, Plain, Program};
use crate::tasks::Tasks;

/// How much a recorder can hold. What does not fit is counted as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Processes at one time.
    pub tasks: u32,
    /// Executables, phases and calls together.
    pub calls: u32,
    /// Different values of arguments.
    pub arguments: u32,
    /// Executables.
    pub executables: u32,
    /// Files, by notifications only; with 0 what is done with files is not recorded.
    pub files: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            tasks: 32_768,
            calls: 16_384,
            arguments: 32_768,
            executables: 2_048,
            files: 0,
        }
    }
}

/// Numbers of executables that the kernel's side gives begin here; below are those found running.
const FIRST_EXECUTED: u64 = 4_096;
/// Rounds of looking for processes of a group that forks while it is looked at.
const ROUNDS: usize = 64;

/// Records until it is dropped.
#[derive(Debug)]
pub struct Recorder {
    maps: Maps,
    programs: Vec<(&'static str, Program)>,
    links: Vec<OwnedFd>,
    found_running: u64,
    knows_capabilities: bool,
    knows_accounting: bool,
}

impl Recorder {
    /// Loads the programs. They cost every process of the machine a tracepoint per system call until the
    /// recorder is dropped; `benches/overhead` measures it.
    pub fn load(capacity: &Capacity) -> Result<Self, RecorderError> {
        if !cfg!(target_arch = "x86_64") {
            return Err(RecorderError::Machine);
        }
        let layout = Layout::of_this_kernel()?;
        let accounting = symbol(program::ACCOUNTING);
        let maps = maps(capacity)?;
        let mut recorder = Self {
            maps,
            programs: Vec::new(),
            links: Vec::new(),
            found_running: 1,
            knows_capabilities: layout.capable.is_some(),
            knows_accounting: accounting.is_some(),
        };
        recorder.prepare()?;
        let maps = &recorder.maps;
        let mut programs = vec![
            ("fork", program::fork(maps, &layout), layout.fork),
            ("exec", program::exec(maps, &layout), layout.exec),
            ("exit", program::exit(maps, &layout), layout.exit),
            ("enter", program::enter(maps, &layout), layout.enter),
        ];
        if let Some(tracepoint) = layout.capable {
            let code = program::capable(maps, &layout, accounting);
            programs.push(("capable", code, tracepoint));
        }
        for (name, code, tracepoint) in programs {
            let code = code.map_err(|source| RecorderError::Program { name, source })?;
            recorder.attach(name, &code, tracepoint)?;
        }
        Ok(recorder)
    }

    fn prepare(&self) -> Result<(), RecorderError> {
        let mut counters = [0; program::WORDS];
        counters[Counter::NextExecutable as usize] = FIRST_EXECUTED;
        self.maps
            .counters
            .set(&0, counters)
            .map_err(using("counters"))?;
        for (index, what) in interest::table() {
            self.maps
                .interest
                .set(&index, what)
                .map_err(using("interest"))?;
        }
        Ok(())
    }

    fn attach(
        &mut self,
        name: &'static str,
        code: &[Insn],
        tracepoint: u32,
    ) -> Result<(), RecorderError> {
        let program = Program::load(&format!("cofferdam_{name}"), code, tracepoint)
            .map_err(|refused| RecorderError::refused(name, refused))?;
        let link = program
            .attach()
            .map_err(|source| RecorderError::Attach { name, source })?;
        self.links.push(link);
        self.programs.push((name, program));
        Ok(())
    }

    /// Follows what process `pid` forks from now on, and what that forks, but not `pid` itself.
    pub fn follow_children(&self, pid: u32) -> Result<(), RecorderError> {
        self.add(pid, 0, Phase::Setup, program::SPAWNER)
    }

    /// Ends `follow_children`; the children stay followed.
    pub fn leave(&self, pid: u32) -> Result<(), RecorderError> {
        self.maps.tasks.remove(pid).map_err(using("tasks"))
    }

    /// Follows process `pid` from now on, and what it forks.
    pub fn follow(&mut self, pid: u32, phase: Phase) -> Result<(), RecorderError> {
        if phase <= Phase::Runtime {
            return self.add(pid, 0, phase, 0);
        }
        let current = || fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let mut path = current();
        for _ in 0..ROUNDS {
            let executable = self.executable(&path)?;
            self.add(pid, executable, phase, 0)?;
            // What it executed before it was followed went unseen.
            let now = current();
            if now == path {
                break;
            }
            path = now;
        }
        Ok(())
    }

    /// Follows what is born into the pid namespace with that inode: from outside, as an `exec` is, and
    /// then from [`Phase::Setup`] on; or of a process that is inside and not followed yet, which is in the
    /// phase `inside`.
    pub fn follow_pid_namespace(&self, inode: u64, inside: Phase) -> Result<(), RecorderError> {
        self.set(Setting::Inside, inside.number().into())?;
        self.set(Setting::PidNamespace, inode)
    }

    /// Follows the processes whose ids `list` gives, again and again until it gives no new ones,
    /// so that none that was forked meanwhile is missed.
    pub fn follow_all(
        &mut self,
        phase: Phase,
        mut list: impl FnMut() -> io::Result<BTreeSet<u32>>,
    ) -> Result<usize, RecorderError> {
        let mut known = BTreeSet::new();
        for _ in 0..ROUNDS {
            let now = list().map_err(using("tasks"))?;
            let new: Vec<u32> = now.difference(&known).copied().collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                // The kernel's side may have it already, and knows more of it; but not what a child of
                // one that was not followed yet runs.
                let there = self.maps.tasks.get(pid).map_err(using("tasks"))?;
                let unnamed = u32::from_le_bytes([0, 0, phase.number(), 0]);
                if there.is_none_or(|there| there == unnamed) {
                    self.follow(pid, phase)?;
                }
                known.insert(pid);
            }
        }
        Ok(known.len())
    }

    /// The numbers by which the kernel knows the programs (`bpftool prog show id`).
    pub fn program_ids(&self) -> Result<Vec<u32>, RecorderError> {
        self.programs
            .iter()
            .map(|(name, program)| program.id().map_err(using(name)))
            .collect()
    }

    /// Whether the kernel has a program of that number, this recorder's or another's.
    pub fn is_loaded(id: u32) -> Result<bool, RecorderError> {
        sys::is_loaded(id).map_err(using("program"))
    }

    /// How many processes are followed at this moment.
    pub fn following(&self) -> Result<usize, RecorderError> {
        self.maps.tasks.count().map_err(using("tasks"))
    }

    /// Every call from now on is [`Phase::Serving`], whoever makes it.
    pub fn mark_serving(&self) -> Result<(), RecorderError> {
        self.set(Setting::Floor, program::SERVING.into())
    }

    /// Ends the recording and reads it.
    pub fn finish(mut self) -> Result<Observed, RecorderError> {
        let mut missed = 0u64;
        for (_, program) in &self.programs {
            missed = missed.saturating_add(program.misses().map_err(RecorderError::Misses)?);
        }
        self.links.clear();
        self.read(missed)
    }

    fn read(&self, missed: u64) -> Result<Observed, RecorderError> {
        let mut observed = Observed {
            knows_capabilities: self.knows_capabilities,
            knows_accounting: self.knows_accounting,
            lost: self.lost(missed)?,
            ..Observed::default()
        };
        for (path, number) in entries(&self.maps.executables, "executables")? {
            // An executable that lost the race for its number has none of its own.
            let number = u16::try_from(number).unwrap_or(0);
            observed.executables.insert(number, text(&path));
        }
        for (site, count) in self.calls()? {
            observed.calls.push(SeenCall {
                site: CallSite::unpack(site),
                count,
            });
        }
        for ([site, value, index], _) in entries(&self.maps.arguments, "arguments")? {
            observed.arguments.push(SeenArgument {
                site: CallSite::unpack(site),
                index: index.to_le_bytes()[0],
                value,
            });
        }
        for ([site, what], count) in entries(&self.maps.capabilities, "capabilities")? {
            let [capability, granted, accounting, ..] = what.to_le_bytes();
            observed.capabilities.push(SeenCapability {
                site: CallSite::unpack(site),
                capability,
                granted: granted != 0,
                accounting: accounting != 0,
                count,
            });
        }
        observed.calls.sort_by_key(|call| call.site);
        observed
            .arguments
            .sort_by_key(|argument| (argument.site, argument.index, argument.value));
        observed.capabilities.sort_by_key(|seen| seen.capability);
        observed.saw_filter = observed
            .calls
            .iter()
            .any(|call| call.site.phase == Phase::Runtime);
        Ok(observed)
    }

    /// How often each site called, as it was counted in two places.
    fn calls(&self) -> Result<BTreeMap<u64, u64>, RecorderError> {
        let mut calls: BTreeMap<u64, u64> =
            entries(&self.maps.calls, "calls")?.into_iter().collect();
        for place in 0..program::RECENT {
            for [site, count] in self.maps.recent.get(&place).map_err(using("recent"))? {
                if count != 0 {
                    let sum = calls.entry(site).or_default();
                    *sum = sum.saturating_add(count);
                }
            }
        }
        Ok(calls)
    }

    fn lost(&self, missed: u64) -> Result<Lost, RecorderError> {
        let counters = only(&self.maps.counters, "counters")?;
        let of = |what: Counter| counters[what as usize];
        Ok(Lost {
            calls: of(Counter::LostCalls),
            arguments: of(Counter::LostArguments),
            tasks: of(Counter::LostTasks),
            executables: of(Counter::LostExecutables),
            capabilities: of(Counter::LostCapabilities),
            missed,
            files: 0,
        })
    }

    fn add(&self, pid: u32, executable: u16, phase: Phase, flags: u8) -> Result<(), RecorderError> {
        let [low, high] = executable.to_le_bytes();
        let record = u32::from_le_bytes([low, high, phase.number(), flags]);
        self.maps.tasks.set(pid, record).map_err(using("tasks"))
    }

    /// The number of an executable that was running before.
    fn executable(&mut self, path: &Path) -> Result<u16, RecorderError> {
        let key = words(path);
        let known = self
            .maps
            .executables
            .get(&key)
            .map_err(using("executables"))?;
        if let Some(number) = known.first() {
            return Ok(u16::try_from(*number).unwrap_or(0));
        }
        let number = self.found_running;
        if number >= FIRST_EXECUTED {
            return Ok(0);
        }
        self.found_running += 1;
        self.maps
            .executables
            .set(&key, number)
            .map_err(using("executables"))?;
        Ok(u16::try_from(number).unwrap_or(0))
    }

    fn set(&self, setting: Setting, value: u64) -> Result<(), RecorderError> {
        let mut settings = only(&self.maps.settings, "settings")?;
        settings[setting as usize] = value;
        self.maps
            .settings
            .set(&0, settings)
            .map_err(using("settings"))
    }
}

fn only(
    map: &Map<u32, [u64; program::WORDS]>,
    name: &'static str,
) -> Result<[u64; program::WORDS], RecorderError> {
    let found = map.get(&0).map_err(using(name))?;
    found
        .first()
        .copied()
        .ok_or_else(|| using(name)(io::ErrorKind::NotFound.into()))
}

fn using(name: &'static str) -> impl Fn(io::Error) -> RecorderError {
    move |source| RecorderError::Use { name, source }
}

fn maps(capacity: &Capacity) -> Result<Maps, RecorderError> {
    fn make<K: Plain, V: Plain>(
        kind: Kind,
        name: &'static str,
        most: u32,
    ) -> Result<Map<K, V>, RecorderError> {
        Map::create(kind, name, most).map_err(|source| RecorderError::Map { name, source })
    }
    Ok(Maps {
        tasks: Tasks::create(capacity.tasks).map_err(|source| RecorderError::Map {
            name: "tasks",
            source,
        })?,
        settings: make(Kind::Array, "settings", 1)?,
        counters: make(Kind::Array, "counters", 1)?,
        interest: make(Kind::Array, "interest", 2 * interest::NUMBERS)?,
        executables: make(Kind::Hash, "executables", capacity.executables)?,
        calls: make(Kind::PerCpuHash, "calls", capacity.calls)?,
        recent: make(Kind::PerCpuArray, "recent", program::RECENT)?,
        arguments: make(Kind::Hash, "arguments", capacity.arguments)?,
        capabilities: make(Kind::Hash, "capabilities", capacity.calls)?,
    })
}

/// Keys and values, added up over the CPUs.
fn entries<K: Plain>(
    map: &Map<K, u64>,
    name: &'static str,
) -> Result<Vec<(K, u64)>, RecorderError> {
    let mut entries = Vec::new();
    for key in map.keys().map_err(using(name))? {
        let values = map.get(&key).map_err(using(name))?;
        let sum = values
            .iter()
            .fold(0u64, |sum, one| sum.saturating_add(*one));
        entries.push((key, sum));
    }
    Ok(entries)
}
