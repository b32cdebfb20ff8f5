//! What recording costs: a loop of nothing but system calls, and redis under its own benchmark.
//!
//! `cargo bench -p cofferdam-recorder` as root. What is measured is the CPU time of the process, which
//! other work on the machine disturbs less than the clock; modes take turns within a round, so that it
//! meets all of them alike. Compare the ratios of the medians, not figures of different runs.
//! Redis is looked for in COFFERDAM_BENCH_REDIS_ROOT, a directory to change root into.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::error::Error;
use std::hint::black_box;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use cofferdam_recorder::{Capacity, Floor, Phase, Recorder};

const LOOP_ROUNDS: usize = 31;
const CALLS: u32 = 100_000;
const REDIS_ROUNDS: usize = 9;
const REQUESTS: u32 = 40_000;
const REDIS_ROOT: &str = "/var/cache/cofferdam-tests/roots/redis";
const PORT: &str = "16379";

/// Who is recorded while the measure is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nobody,
    /// Not even that: an empty program is on the tracepoint.
    Floor,
    SomebodyElse,
    TheMeasured,
}

const MODES: [Mode; 4] = [
    Mode::Nobody,
    Mode::Floor,
    Mode::SomebodyElse,
    Mode::TheMeasured,
];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let own = std::process::id();
    let nanoseconds = rounds(LOOP_ROUNDS, own, || {
        for _ in 0..CALLS {
            black_box(parent_id());
        }
        Ok(f64::from(CALLS))
    })?;
    print("getppid, ns a call", nanoseconds);

    let root =
        std::env::var_os("COFFERDAM_BENCH_REDIS_ROOT").map_or(REDIS_ROOT.into(), PathBuf::from);
    if !root.join("usr/bin/redis-server").exists() {
        println!("redis: none in {}, left out", root.display());
        return Ok(());
    }
    let server = Server::start(&root)?;
    let nanoseconds = rounds(REDIS_ROUNDS, server.0.id(), || benchmark(&root))?;
    print("redis, ns a request", nanoseconds);
    Ok(())
}

/// How long a process has been on a CPU, in nanoseconds.
fn cpu_time(pid: u32) -> Outcome<f64> {
    let mut total = 0.0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().unwrap_or_default();
        total += first.parse::<f64>()?;
    }
    Ok(total)
}

/// The medians in each mode of the CPU time of process `measured` for one unit of the work that `work` does;
/// it returns how many units that was.
fn rounds(
    rounds: usize,
    measured: u32,
    mut work: impl FnMut() -> Outcome<f64>,
) -> Outcome<[f64; 4]> {
    let mut taken: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        for step in 0..MODES.len() {
            let which = (round + step) % MODES.len();
            let mut floor = None;
            let recorder = match MODES[which] {
                Mode::Nobody => None,
                Mode::Floor => {
                    floor = Some(Floor::load()?);
                    None
                }
                mode => {
                    let mut recorder = Recorder::load(&Capacity::default())?;
                    if mode == Mode::TheMeasured {
                        recorder.follow(measured, Phase::Serving)?;
                    }
                    Some(recorder)
                }
            };
            let before = cpu_time(measured)?;
            let units = work()?;
            taken[which].push((cpu_time(measured)? - before) / units);
            drop(floor);
            if let Some(recorder) = recorder {
                let lost = recorder.finish()?.lost.total();
                if lost != 0 {
                    return Err(format!("{lost} events were lost").into());
                }
            }
        }
    }
    Ok(taken.map(|mut figures| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    }))
}

fn print(what: &str, [base, floor, bystander, followed]: [f64; 4]) {
    println!("{what}: {base:.1} without a recorder");
    for (how, figure) in [
        ("an empty program", floor),
        ("beside one", bystander),
        ("recorded", followed),
    ] {
        println!("  {how:17} {figure:.1}, {:.3} times as much", figure / base);
    }
}

/// A redis that ends when dropped.
struct Server(Child);

impl Server {
    fn start(root: &Path) -> Outcome<Self> {
        let server = Command::new("chroot")
            .arg(root)
            .args([
                "/usr/bin/redis-server",
                "--port",
                PORT,
                "--bind",
                "127.0.0.1",
            ])
            .args(["--save", "", "--dir", "/tmp"])
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self(server);
        sleep(Duration::from_secs(1));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is our child; if it has ended already, so much the better.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends requests; how many were answered.
fn benchmark(root: &Path) -> Outcome<f64> {
    let done = Command::new("chroot")
        .arg(root)
        .args(["/usr/bin/redis-benchmark", "-p", PORT, "-t", "set,get"])
        .args(["-n", &REQUESTS.to_string(), "-c", "20", "--csv"])
        .output()?;
    let text = String::from_utf8(done.stdout)?;
    let tests = text
        .lines()
        .filter(|line| line.starts_with("\"SET\"") || line.starts_with("\"GET\""));
    if tests.count() != 2 {
        return Err(format!("redis-benchmark said: {text}").into());
    }
    Ok(2.0 * f64::from(REQUESTS))
}
