//! Records by seccomp notifications, where BPF cannot be used.
//!
//! A filter on a command's process, and so on all that comes from it, asks this process about every call
//! that was not predicted, and is told to let it run. This is recording, not enforcing: between the
//! question and the call another thread may change what pointers lead to, and SECCOMP_USER_NOTIF_FLAG_CONTINUE
//! is no boundary of security (seccomp_unotify(2)).
//!
//! What was predicted is not seen. Capabilities are not seen at all, nor is what enters a container from
//! outside. The kernel knows one listener in a tree of processes, so what has one of its own cannot be
//! recorded so. And if the recorder goes before them, the processes' calls fail with ENOSYS: see
//! [`NotifyRecorder::keep_answering`].

/// What is done with files.
mod files;
/// The filter that asks.
mod filter;
/// Who asks.
mod processes;
/// seccomp(2).
mod sys;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::interest;
use crate::observed::{Abi, CallSite, Lost, Means, Observed, Phase, SeenArgument, SeenCall};
use crate::recorder::Capacity;
use files::Files;
use filter::NATIVE;
use processes::{Group, Process, Processes};
use sys::{Page, Question, Word};

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// Not a machine whose numbers are known here.
    #[error("the recorder knows x86-64 only, not {}", std::env::consts::ARCH)]
    Machine,
    /// No page, no thread.
    #[error("cannot prepare to record by seccomp notifications")]
    Prepare(#[source] io::Error),
    /// The command, or the filter on it: the kernel has no notifications before 5.5, and takes no second
    /// listener.
    #[error("cannot run the command under a filter that asks")]
    Spawn(#[source] io::Error),
    /// The listener, or a question.
    #[error("cannot hear the questions of seccomp's filter (pidfd_getfd needs Linux 5.6)")]
    Listen(#[source] io::Error),
}

/// How often it is looked whether the filter is on, or the listener gone.
const LOOK: Duration = Duration::from_micros(200);

/// Calls that always ask: who executes, forks, listens, or puts a filter on must be known. These are
/// execve, execveat, clone, clone3, fork, vfork, listen, accept, accept4, seccomp.
const ALWAYS: [u32; 10] = [59, 322, 56, 435, 57, 58, 50, 43, 288, 317];
const EXECUTE: [u32; 2] = [59, 322];
const FORK: [u32; 4] = [56, 435, 57, 58];
/// SECCOMP_SET_MODE_FILTER
const SET_MODE_FILTER: u64 = 1;

/// `AUDIT_ARCH_I386`
const X86: u32 = 0x4000_0003;

/// Records until it is dropped, and lets calls run until their processes have ended.
#[derive(Debug)]
pub struct NotifyRecorder {
    shared: Arc<Shared>,
    page: Arc<Page>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    floor: AtomicU8,
    /// Nothing will ever ask.
    abandoned: AtomicBool,
    predicted: BTreeSet<u32>,
    interest: HashMap<u32, u32>,
    capacity: Capacity,
}

#[derive(Debug)]
struct Seen {
    processes: Processes,
    calls: BTreeMap<CallSite, u64>,
    arguments: BTreeSet<(CallSite, u8, u64)>,
    lost: Lost,
    files: Files,
    /// The recording is over; questions are still answered.
    over: bool,
}

impl NotifyRecorder {
    /// Runs a command under a filter that asks about every call but those whose native numbers were
    /// `predicted`. All that it starts is recorded, or, unless `everyone`, nothing before
    /// [`Self::follow_container`].
    pub fn spawn(
        command: &mut Command,
        predicted: &BTreeSet<u32>,
        capacity: &Capacity,
        everyone: bool,
    ) -> Result<(Self, Child), NotifyError> {
        if !cfg!(target_arch = "x86_64") {
            return Err(NotifyError::Machine);
        }
        let mut predicted = predicted.clone();
        for number in Self::always_asked().chain(Files::asked(capacity.files)) {
            predicted.remove(&number);
        }
        let code = filter::asking(&predicted);
        let page = sys::prepare(command, code).map_err(NotifyError::Prepare)?;
        let group = if everyone {
            Group::Everyone
        } else {
            Group::Nobody
        };
        let executables = usize::try_from(capacity.executables).unwrap_or(usize::MAX);
        let shared = Arc::new(Shared {
            seen: Mutex::new(Seen {
                processes: Processes::new(group, executables),
                calls: BTreeMap::new(),
                arguments: BTreeSet::new(),
                lost: Lost::default(),
                files: Files::new(capacity.files),
                over: false,
            }),
            floor: AtomicU8::new(0),
            abandoned: AtomicBool::new(false),
            predicted,
            interest: interest::table().collect(),
            capacity: *capacity,
        });
        let (theirs, told) = (Arc::clone(&shared), Arc::clone(&page));
        let thread = thread::Builder::new()
            .name("seccomp-answers".to_owned())
            .spawn(move || answer(&theirs, &told))
            .map_err(NotifyError::Prepare)?;
        let mut recorder = Self {
            shared,
            page,
            thread: Some(thread),
        };
        // Returns when the command is executed, which it asks for.
        let child = command.spawn();
        match child {
            Ok(child) => Ok((recorder, child)),
            Err(error) => {
                recorder.shared.abandoned.store(true, Ordering::SeqCst);
                recorder.join()?;
                Err(NotifyError::Spawn(error))
            }
        }
    }

    /// The native numbers that ask even if they were predicted.
    pub fn always_asked() -> impl Iterator<Item = u32> {
        ALWAYS.into_iter()
    }

    /// From now on what is recorded is a container that waits for its start: its first process, and what
    /// is in its pid namespace, if that is its own, or else descends from it.
    pub fn follow_container(&self, init: u32, namespace: Option<u64>) {
        let mut seen = self.shared.seen();
        seen.processes.follow(Group::Container { init, namespace });
    }

    /// Every call from now on is [`Phase::Serving`], whoever makes it.
    pub fn mark_serving(&self) {
        let serving = Phase::Serving.number();
        self.shared.floor.store(serving, Ordering::SeqCst);
    }

    /// How many processes are followed at this moment, of those that ever asked.
    pub fn following(&self) -> usize {
        self.shared.seen().processes.alive()
    }

    /// Ends the recording and reads it. Calls go on being answered.
    pub fn finish(&self) -> Observed {
        let mut seen = self.shared.seen();
        seen.over = true;
        let executables = &seen.processes.executables;
        let mut lost = seen.lost;
        lost.executables = seen.processes.unnamed;
        lost.files = seen.files.touched.lost;
        let calls: Vec<SeenCall> = seen
            .calls
            .iter()
            .map(|(site, count)| SeenCall {
                site: *site,
                count: *count,
            })
            .collect();
        let arguments = seen
            .arguments
            .iter()
            .map(|(site, index, value)| SeenArgument {
                site: *site,
                index: *index,
                value: *value,
            });
        Observed {
            means: Means::Notify,
            executables: executables
                .iter()
                .map(|(path, number)| (*number, path.clone()))
                .collect(),
            arguments: arguments.collect(),
            saw_filter: calls.iter().any(|c| c.site.phase == Phase::Runtime),
            predicted: self.shared.predicted.clone(),
            touched: (self.shared.capacity.files > 0).then(|| seen.files.touched.clone()),
            lost_privileges: self.page.get(Word::NoNewPrivileges) != 0,
            lost,
            calls,
            ..Observed::default()
        }
    }

    /// Lets calls run until every process with the filter has ended. Whoever ends before fails their calls.
    pub fn keep_answering(mut self) -> Result<(), NotifyError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), NotifyError> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        match thread.join() {
            Ok(ended) => ended.map_err(NotifyError::Listen),
            Err(_) => Err(NotifyError::Listen(io::ErrorKind::Other.into())),
        }
    }
}

impl Shared {
    /// A thread that panicked while it wrote a count has left a count.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers until nobody is left to ask. If that fails, the recording is not complete.
fn answer(shared: &Shared, page: &Page) -> io::Result<()> {
    let answered = answer_all(shared, page);
    if answered.is_err() {
        let mut seen = shared.seen();
        seen.lost.missed = seen.lost.missed.saturating_add(1);
    }
    answered
}

fn answer_all(shared: &Shared, page: &Page) -> io::Result<()> {
    let Some(listener) = listener(shared, page)? else {
        return Ok(());
    };
    while sys::wait(listener.as_fd())? {
        let Some(question) = sys::receive(listener.as_fd())? else {
            continue;
        };
        shared.note(&question);
        sys::go_on(listener.as_fd(), question.id)?;
    }
    Ok(())
}

fn listener(shared: &Shared, page: &Page) -> io::Result<Option<OwnedFd>> {
    while page.get(Word::Listener) == 0 {
        if shared.abandoned.load(Ordering::SeqCst) {
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
    let taken = sys::take(page);
    if taken.is_err() {
        // It holds the listener itself, and would ask for ever.
        sys::kill(page);
    }
    taken.map(Some)
}

impl Shared {
    /// Writes down one call, before it runs: who asks does nothing meanwhile.
    fn note(&self, question: &Question) {
        let mut seen = self.seen();
        if seen.over {
            return;
        }
        let thread = question.thread;
        let (abi, number) = numbers(question);
        let Some(process) = seen.processes.of(thread) else {
            // Gone: its call does not run.
            return;
        };
        if process.followed {
            let interest = self.interest_in(abi, number);
            let phase = self.phase(process, interest);
            let site = CallSite {
                executable: if phase <= Phase::Runtime {
                    0
                } else {
                    process.executable
                },
                phase,
                abi,
                number,
            };
            if interest & interest::FILTER != 0
                && process.phase == Phase::Setup
                && question.arguments[0] == SET_MODE_FILTER
            {
                process.phase = Phase::Runtime;
            }
            let payload = process.phase >= Phase::Startup;
            seen.keep(site, interest, question, &self.capacity);
            match abi {
                Abi::Native => seen.files.note(question, number, payload),
                Abi::X32 | Abi::X86 => seen.files.foreign(),
            }
        }
        if abi != Abi::Native {
            return;
        }
        if EXECUTE.contains(&number) {
            seen.processes.executes(thread);
        } else if FORK.contains(&number) {
            seen.processes.forks(thread);
        }
    }

    fn interest_in(&self, abi: Abi, number: u32) -> u32 {
        let index = match abi {
            _ if number >= interest::NUMBERS => return 0,
            Abi::Native | Abi::X32 => number,
            Abi::X86 => number + interest::NUMBERS,
        };
        self.interest.get(&index).copied().unwrap_or(0)
    }

    /// The phase of this call, which may begin with it: as in `program::enter`.
    fn phase(&self, process: &mut Process, interest: u32) -> Phase {
        if interest & interest::LISTEN != 0 {
            process.listened = true;
        }
        let accepts = interest & interest::ACCEPT != 0;
        let waits = interest & interest::SERVE != 0 && process.listened;
        if process.phase >= Phase::Startup && (accepts || waits) {
            process.phase = Phase::Serving;
        }
        process
            .phase
            .max(Phase::of(self.floor.load(Ordering::SeqCst)))
    }
}

impl Seen {
    fn keep(&mut self, site: CallSite, interest: u32, question: &Question, capacity: &Capacity) {
        let most = usize::try_from(capacity.calls).unwrap_or(usize::MAX);
        if !self.calls.contains_key(&site) && self.calls.len() >= most {
            self.lost.calls = self.lost.calls.saturating_add(1);
            return;
        }
        let count = self.calls.entry(site).or_default();
        *count = count.saturating_add(1);
        let most = usize::try_from(capacity.arguments).unwrap_or(usize::MAX);
        for (index, value) in (0u8..).zip(question.arguments) {
            if interest & (1 << index) == 0 {
                continue;
            }
            let kept = (site, index, value);
            if self.arguments.len() < most || self.arguments.contains(&kept) {
                self.arguments.insert(kept);
            } else {
                self.lost.arguments = self.lost.arguments.saturating_add(1);
            }
        }
    }
}

/// Whose number it is, and the number without x32's bit.
fn numbers(question: &Question) -> (Abi, u32) {
    const X32_BIT: u32 = 0x4000_0000;
    let number = question.number.cast_unsigned();
    match question.arch {
        NATIVE if number & X32_BIT != 0 => (Abi::X32, number & !X32_BIT),
        X86 => (Abi::X86, number),
        _ => (Abi::Native, number),
    }
}
