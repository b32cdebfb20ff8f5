//! What it costs that denied calls are explained, and who pays.
//!
//! `cargo build --release -p cofferdam-shim --example denied && cargo bench -p cofferdam-shim` as root. Sixteen
//! threads in two processes of one container make nothing but denied calls, as fast as they can: under the silent
//! filter, which is the control, and under the one that asks the listener. Beside them another container works.
//! Modes take turns within a round, so that other work on the machine meets all of them alike. Compare the
//! ratios of the medians, not figures of different runs.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

const ROUNDS: usize = 7;
const THREADS: u64 = 16;
/// Denied calls of the flood that is measured.
const CALLS: u64 = 1_000_000;
/// More than a flood makes while another container is measured.
const ENDLESS: u64 = 1 << 40;
/// Calls of the container beside the flood.
const WORK: u64 = 2_000_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What goes on beside the container that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    None,
    Silent,
    Explained,
}

impl Flood {
    fn policy(self) -> &'static str {
        match self {
            Self::Explained => "explained",
            Self::None | Self::Silent => "baseline",
        }
    }
}

fn main() -> Outcome<()> {
    let bench = Bench::new()?;
    println!("{THREADS} threads that make denied calls, medians of {ROUNDS} rounds");
    flood(&bench)?;
    let every = sched_getaffinity(Pid::from_raw(0))?;
    beside(&bench, "on every CPU")?;
    let mut first = CpuSet::new();
    let cpu = (0..CpuSet::count()).find(|cpu| every.is_set(*cpu).unwrap_or(false));
    first.set(cpu.ok_or("no CPU")?)?;
    // The containers and the listener inherit it.
    sched_setaffinity(Pid::from_raw(0), &first)?;
    beside(&bench, "all on one CPU")
}

/// Denied calls a second, and the memory of the listener early and late.
fn flood(bench: &Bench) -> Outcome<()> {
    let mut taken: [Vec<f64>; 2] = Default::default();
    let mut memory = (0, 0);
    for round in 0..ROUNDS {
        for step in 0..2 {
            let which = (round + step) % 2;
            let mode = [Flood::Silent, Flood::Explained].get(which).copied();
            let mode = mode.ok_or("no such mode")?;
            let each = CALLS / THREADS;
            let mut child = bench.storm(mode, each)?;
            let mut sizes = Vec::new();
            while child.try_wait()?.is_none() {
                sizes.extend((mode == Flood::Explained).then(|| bench.listener_memory()));
                sleep(Duration::from_millis(50));
            }
            sizes.retain(|size| *size > 0);
            if let Some((early, late)) = sizes.get(2).zip(sizes.iter().max()) {
                memory = (memory.0.max(*early), memory.1.max(*late));
            }
            let text = fs::read_to_string(bench.path("flood"))?;
            let slowest = text
                .lines()
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            let seconds = slowest.fold(0.0, f64::max) / 1e6;
            let wrong = text.lines().any(|line| !line.starts_with("{-1: "));
            if wrong || seconds <= 0.0 {
                return Err(format!("the flood got other answers: {text}").into());
            }
            if let Some(list) = taken.get_mut(which) {
                #[expect(clippy::cast_precision_loss, reason = "a million")]
                list.push(CALLS as f64 / seconds);
            }
        }
    }
    let [silent, explained] = taken.map(median);
    println!(
        "denied calls a second: silent {silent:.0}, explained {explained:.0} (1/{:.0})",
        silent / explained
    );
    println!(
        "the listener's private memory in a flood of {CALLS}: {} kB soon, {} kB at most",
        memory.0, memory.1
    );
    Ok(())
}

/// What another container takes for its work, beside a flood and beside none.
fn beside(bench: &Bench, place: &str) -> Outcome<()> {
    const MODES: [Flood; 3] = [Flood::None, Flood::Silent, Flood::Explained];
    let mut taken: [Vec<f64>; 3] = Default::default();
    for round in 0..ROUNDS {
        for step in 0..MODES.len() {
            let which = (round + step) % MODES.len();
            let (Some(mode), Some(list)) = (MODES.get(which), taken.get_mut(which)) else {
                continue;
            };
            let flood = match mode {
                Flood::None => None,
                mode => Some(bench.storm(*mode, ENDLESS)?),
            };
            sleep(Duration::from_millis(500));
            list.push(bench.work()?);
            if let Some(mut child) = flood {
                bench.command(&["delete", "--force", "flood"]).status()?;
                child.wait()?;
            }
        }
    }
    let [alone, silent, explained] = taken.map(median);
    println!(
        "another container's work, {place}: alone 1, beside a silent flood {:.2}, beside an explained one \
         {:.2}; explained to silent {:.2}",
        silent / alone,
        explained / alone,
        explained / silent
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Two bundles and a state root in a temporary directory.
struct Bench {
    dir: TempDir,
    program: PathBuf,
}

impl Bench {
    fn new() -> Outcome<Self> {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_cofferdam"));
        let denied = program.with_file_name("examples/denied");
        if !denied.exists() {
            return Err(format!(
                "there is no {}; run `cargo build --release -p cofferdam-shim --example denied` first",
                denied.display()
            )
            .into());
        }
        let bench = Self {
            dir: tempfile::tempdir()?,
            program,
        };
        fs::write(
            bench.path("policy.toml"),
            "[policy.explained]\ndenials = \"explain\"\n",
        )?;
        for name in ["flood", "work"] {
            let rootfs = bench.path(&format!("{name}.bundle/rootfs"));
            for directory in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
                fs::create_dir_all(rootfs.join(directory))?;
            }
            fs::copy(&denied, rootfs.join("bin/denied"))?;
            let bundle = bench.path(&format!("{name}.bundle"));
            let made = bench.command(&["spec"]).current_dir(&bundle).status()?;
            if !made.success() {
                return Err("no spec".into());
            }
            bench.configure(name, &[])?;
        }
        Ok(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn configure(&self, name: &str, args: &[&str]) -> Outcome<()> {
        let path = self.path(&format!("{name}.bundle/config.json"));
        let mut spec: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let args: Vec<&str> = ["/bin/denied"].iter().chain(args).copied().collect();
        spec["process"]["args"] = json!(args);
        spec["process"]["terminal"] = json!(false);
        spec["linux"]["cgroupsPath"] =
            json!(format!("/cofferdam-bench-{}-{name}", std::process::id()));
        fs::write(path, spec.to_string())?;
        Ok(())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(self.path("root"))
            .args(args)
            .env("COFFERDAM_CACHE", self.path("cache"))
            .env("COFFERDAM_LOGS", self.path("logs"))
            .env("COFFERDAM_POLICY_FILE", self.path("policy.toml"))
            .env_remove("COFFERDAM_POLICY")
            .stdin(Stdio::null());
        command
    }

    /// Starts a flood; what it says goes to the file `flood`.
    fn storm(&self, mode: Flood, each: u64) -> Outcome<Child> {
        self.configure("flood", &["storm", &THREADS.to_string(), &each.to_string()])?;
        let said = self.path("flood");
        let child = self
            .command(&["--policy", mode.policy(), "run", "--bundle"])
            .arg(self.path("flood.bundle"))
            .arg("flood")
            .stdout(fs::File::create(&said)?)
            .spawn()?;
        Ok(child)
    }

    /// What the other container's work takes, in seconds.
    fn work(&self) -> Outcome<f64> {
        self.configure("work", &["loop", &WORK.to_string()])?;
        let begin = Instant::now();
        let done = self
            .command(&["run", "--bundle"])
            .arg(self.path("work.bundle"))
            .arg("work")
            .output()?;
        let text = String::from_utf8_lossy(&done.stdout);
        let own: f64 = text.trim().parse().map_err(|_| {
            let said = String::from_utf8_lossy(&done.stderr);
            format!("the work failed after {:?}: {said}", begin.elapsed())
        })?;
        Ok(own / 1e6)
    }

    /// The private memory of the listener's two processes, in kB; 0 while there are not two.
    fn listener_memory(&self) -> u64 {
        let root = self.path("root").into_os_string().into_encoded_bytes();
        let sizes: Vec<u64> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                let is_one = contains(&line, b"denials-listener") && contains(&line, &root);
                is_one.then(|| private(&entry.path()))
            })
            .collect();
        if sizes.len() == 2 {
            sizes.iter().sum()
        } else {
            0
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for id in ["flood", "work"] {
            let mut delete = self.command(&["delete", "--force", id]);
            let _ = delete.stderr(Stdio::null()).status();
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn private(process: &Path) -> u64 {
    let text = fs::read_to_string(process.join("smaps_rollup")).unwrap_or_default();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("Private_"));
    lines
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}
