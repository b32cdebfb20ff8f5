use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use cofferdam_integration::{
    command::Cmd,
    error::{At, Error, Result},
    loads::{
        Load, Program,
        generated::{self, Generated},
        stage::{Stage, rootfs},
    },
};
use serde::{Deserialize, Serialize};

/// Calls that reach code of the kernel which attackers use and programs seldom need, or that undo a
/// container's confinement.
const DANGEROUS: &[&str] = &[
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "chroot",
    "clock_adjtime",
    "clock_settime",
    "clone3",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "mknod",
    "mknodat",
    "modify_ldt",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "name_to_handle_at",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "reboot",
    "request_key",
    "sethostname",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "umount2",
    "unshare",
    "userfaultfd",
    "vhangup",
];

/// A program's figures.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// The program.
    pub name: &'static str,
    /// What its main executable's analysis says.
    pub generated: Generated,
    /// Calls that its main executable made under both loads.
    pub observed: BTreeSet<String>,
    /// Observed calls that the analysis has not found, in any executable of the container.
    pub missed: Vec<String>,
    /// Allowed in the container, for all its executables.
    pub allowed_in_container: usize,
    /// Allowed calls that are [`DANGEROUS`].
    pub dangerous: Vec<String>,
    /// Without a cache and with one.
    pub seconds: (f64, f64),
    /// The most memory, in MB.
    pub megabytes: u64,
}

impl Row {
    /// Measures a program.
    ///
    /// # Errors
    /// If it cannot be analysed, or a load fails.
    pub(crate) fn of(program: &'static Program) -> Result<Self> {
        let stage = Stage::new(program, Load::Recorded)?;
        let root = stage.root();
        let cache = tempfile::tempdir().at("make a directory in", std::env::temp_dir())?;
        let cold = measure(&root, cache.path(), program.main)?;
        // A result is kept of files only that have been at rest, on a file system that this process sees.
        let plain = rootfs(program.name)?;
        measure(&plain, cache.path(), program.main)?;
        let warm = measure(&plain, cache.path(), program.main)?;
        let container = generated::of_container(&root, program, Some(cache.path()))?;
        let generated = cold.generated;
        let mut observed = BTreeSet::new();
        let mut missed = BTreeSet::new();
        let mut first = Some(stage);
        for load in program.loads() {
            let stage = match first.take() {
                Some(stage) => stage,
                None => Stage::new(program, load)?,
            };
            // The same files, without the load's.
            let root = rootfs(program.name)?;
            let outcome = stage.run(true)?;
            if let Some(why) = outcome.failed {
                return Err(Error::Load {
                    program: program.name,
                    load: load.step(),
                    why,
                });
            }
            for (executable, calls) in outcome.observed.by_executable {
                let is_main = same_file(&root, &executable, program.main);
                for call in calls {
                    let found = if is_main { &generated } else { &container };
                    if !found.found.contains(&call) {
                        missed.insert(format!("{call} of {executable}"));
                    }
                    if is_main {
                        observed.insert(call);
                    }
                }
            }
        }
        let dangerous = DANGEROUS
            .iter()
            .filter(|name| generated.allowed.contains(**name))
            .map(|name| (*name).to_owned())
            .collect();
        Ok(Self {
            name: program.name,
            observed,
            missed: missed.into_iter().collect(),
            allowed_in_container: container.allowed.len(),
            dangerous,
            seconds: (cold.seconds, warm.seconds),
            megabytes: cold.megabytes.max(warm.megabytes),
            generated,
        })
    }

    /// The share of observed calls that were found.
    #[must_use]
    pub(crate) fn recall(&self) -> f64 {
        share(self.hits(), self.observed.len())
    }

    /// The harmonic mean of recall and precision; what was found and not observed counts against it,
    /// though it may well be needed one day.
    #[must_use]
    pub(crate) fn f1(&self) -> f64 {
        let precision = share(self.hits(), self.generated.found.len());
        let sum = precision + self.recall();
        if sum == 0.0 {
            return 0.0;
        }
        2.0 * precision * self.recall() / sum
    }

    fn hits(&self) -> usize {
        self.observed.intersection(&self.generated.found).count()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of system calls")]
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

/// Whether two paths inside a root file system are the same file, by symbolic or hard links.
fn same_file(root: &Path, one: &str, other: &str) -> bool {
    let identity = |path: &str| {
        let mut path = path.to_owned();
        for _ in 0..8 {
            let full = root.join(path.trim_start_matches('/'));
            let Ok(target) = fs::read_link(&full) else {
                let meta = fs::metadata(&full).ok()?;
                return Some((meta.dev(), meta.ino()));
            };
            let parent = Path::new(&path).parent().unwrap_or(Path::new("/"));
            path = parent.join(target).to_string_lossy().into_owned();
        }
        None
    };
    identity(one).is_some_and(|one| Some(one) == identity(other))
}

/// What [`analyse`] prints.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    generated: Generated,
    seconds: f64,
    megabytes: u64,
}

fn measure(root: &Path, cache: &Path, program: &str) -> Result<Measured> {
    let own = std::env::current_exe().at("find", "/proc/self/exe")?;
    let done = Cmd::new(own)
        .arg("analyse")
        .arg(root)
        .arg(cache)
        .arg(program)
        .limit(Duration::from_secs(300))
        .ok()?;
    serde_json::from_str(&done.stdout).map_err(|source| Error::Json {
        what: done.command,
        text: done.stdout,
        source,
    })
}

/// One analysis; prints what it found, how long it took and how much memory.
///
/// # Errors
/// If it fails.
#[expect(clippy::print_stdout, reason = "the answer to `measure`")]
pub(crate) fn analyse(root: &str, cache: &str, program: &str) -> Result<()> {
    let started = Instant::now();
    let generated = Generated::recalled(Path::new(root), program, cache.into())?;
    let seconds = started.elapsed().as_secs_f64();
    let status = Path::new("/proc/self/status");
    let text = fs::read_to_string(status).at("read", status)?;
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let measured = Measured {
        generated,
        seconds,
        megabytes: peak.unwrap_or_default() / 1024,
    };
    let text = serde_json::to_string(&measured).map_err(|source| Error::Json {
        what: "the analysis of".to_owned(),
        text: program.to_owned(),
        source,
    })?;
    println!("{text}");
    Ok(())
}
