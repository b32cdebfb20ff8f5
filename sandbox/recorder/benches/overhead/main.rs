//! What recording costs: a loop of nothing but system calls; redis under its own benchmark; nginx under wrk.
//!
//! `cargo bench -p cofferdam-recorder --bench overhead` as root, best on an idle machine. What is measured is
//! the CPU time of the process that is recorded, which other work on the machine disturbs less than the
//! clock; modes take turns within a round, so that it meets all of them alike, and are compared within the
//! round. The figures to read are the medians of the rounds' ratios, with the quartiles beside them.
//! COFFERDAM_BENCH_ROUNDS sets how many rounds there are. The servers are looked for below
//! COFFERDAM_BENCH_ROOTS, where `make programs` puts them.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

/// Servers, and those who load them.
mod loads;

use std::collections::BTreeSet;
use std::error::Error;
use std::hint::black_box;
use std::os::unix::process::parent_id;
use std::process::{Command, Stdio};
use std::time::Instant;

use cofferdam_recorder::{Abi, Capacity, Floor, NotifyRecorder, Phase, Recorder};
use loads::{Nginx, Redis};

const LOOP_ROUNDS: usize = 41;
const SERVER_ROUNDS: usize = 25;
const NOTIFY_ROUNDS: usize = 11;
const CALLS: u32 = 100_000;
const ASKED_CALLS: u32 = 10_000;
/// `getppid`
const CALL: u32 = 110;
/// Makes a process of this program the loop itself.
const LOOP: &str = "COFFERDAM_BENCH_LOOP";

/// Who is recorded while the measure is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nobody,
    /// Not even that: an empty program is on the tracepoint.
    Floor,
    SomebodyElse,
    TheMeasured,
}

const MODES: [(Mode, &str); 4] = [
    (Mode::Nobody, "without a recorder"),
    (Mode::Floor, "an empty program"),
    (Mode::SomebodyElse, "beside one"),
    (Mode::TheMeasured, "recorded by BPF"),
];

const TWINS: [&str; 2] = ["without a recorder", "recorded, predicted"];

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    if let Some(calls) = std::env::var_os(LOOP) {
        return child_loop(&calls.to_string_lossy());
    }
    let own = std::process::id();
    let table = rounds(LOOP_ROUNDS, own, || {
        for _ in 0..CALLS {
            black_box(parent_id());
        }
        Ok(f64::from(CALLS))
    })?;
    print(
        "getppid, ns a call",
        &MODES.map(|(_, name)| name),
        &table.taken,
    );
    let by_call = table.added();
    notifications()?;
    match Redis::start(None)? {
        Some(redis) => {
            let table = rounds(SERVER_ROUNDS, redis.id(), || redis.load())?;
            print(
                "redis, ns a request",
                &MODES.map(|(_, name)| name),
                &table.taken,
            );
            table.estimate(by_call);
            if let Some(twin) = Redis::start(Some(&table.numbers))? {
                let figures = twins([redis.id(), twin.id()], |second| {
                    if second { twin.load() } else { redis.load() }
                })?;
                print("redis by notifications, predicted", &TWINS, &figures);
            }
        }
        None => println!("redis: none, left out (make programs)"),
    }
    match Nginx::start(None)? {
        Some(nginx) => {
            let table = rounds(SERVER_ROUNDS, nginx.id(), || nginx.load())?;
            print(
                "nginx, ns a request",
                &MODES.map(|(_, name)| name),
                &table.taken,
            );
            table.estimate(by_call);
            if let Some(twin) = Nginx::start(Some(&table.numbers))? {
                let figures = twins([nginx.id(), twin.id()], |second| {
                    if second { twin.load() } else { nginx.load() }
                })?;
                print("nginx by notifications, predicted", &TWINS, &figures);
            }
        }
        None => println!("nginx or wrk: none, left out (make programs)"),
    }
    Ok(())
}

/// How many rounds: what the user says, else as many as are usual.
fn count(usual: usize) -> usize {
    let wanted = std::env::var("COFFERDAM_BENCH_ROUNDS").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(usual).max(1)
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

/// In each mode and round the CPU time of process `measured` for one unit of the work that `work` does; it
/// returns how many units that was.
fn rounds(usual: usize, measured: u32, mut work: impl FnMut() -> Outcome<f64>) -> Outcome<Table> {
    let mut taken = vec![Vec::new(); MODES.len()];
    let mut calls = Vec::new();
    let mut numbers = BTreeSet::new();
    for round in 0..count(usual) {
        for step in 0..MODES.len() {
            let which = (round + step) % MODES.len();
            let mut floor = None;
            let recorder = match MODES[which].0 {
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
                let observed = recorder.finish()?;
                let lost = observed.lost.total();
                if lost != 0 {
                    return Err(format!("{lost} events were lost").into());
                }
                if MODES[which].0 == Mode::TheMeasured {
                    // What is recorded with its arguments asks whatever was predicted.
                    let told = |site| observed.arguments.iter().any(|seen| seen.site == site);
                    let native = observed.calls.iter().map(|call| call.site);
                    let native = native.filter(|site| site.abi == Abi::Native && !told(*site));
                    numbers.extend(native.map(|site| site.number));
                    let count: u64 = observed.calls.iter().map(|call| call.count).sum();
                    calls.push(count as f64 / units);
                }
            }
        }
    }
    Ok(Table {
        taken,
        calls,
        numbers,
    })
}

/// The CPU time for one unit of work of a server, and of its twin under a filter that asks about all calls
/// but those it was seen to make when it serves; they take turns.
fn twins(servers: [u32; 2], mut work: impl FnMut(bool) -> Outcome<f64>) -> Outcome<Vec<Vec<f64>>> {
    let mut taken = vec![Vec::new(); servers.len()];
    for round in 0..count(SERVER_ROUNDS) {
        for step in 0..servers.len() {
            let which = (round + step) % servers.len();
            let before = cpu_time(servers[which])?;
            let units = work(which == 1)?;
            taken[which].push((cpu_time(servers[which])? - before) / units);
        }
    }
    Ok(taken)
}

/// What was measured.
struct Table {
    /// By mode and round: nanoseconds for a unit of work.
    taken: Vec<Vec<f64>>,
    /// By round: calls for a unit of work.
    calls: Vec<f64>,
    /// The native calls that were seen.
    numbers: BTreeSet<u32>,
}

impl Table {
    fn median(&self, mode: Mode) -> f64 {
        let figures = MODES.iter().position(|(other, _)| *other == mode);
        let figures = figures.and_then(|index| self.taken.get(index));
        quantile(&mut figures.cloned().unwrap_or_default(), 0.5)
    }

    /// What recording adds to a call: by an empty program, and by ours.
    fn added(&self) -> [f64; 2] {
        [Mode::Floor, Mode::TheMeasured].map(|mode| self.median(mode) - self.median(Mode::Nobody))
    }

    /// What the calls of a unit of work come to at the price that the loop paid for each. Other work on the
    /// machine disturbs this least; caches that a server has cold make it a low estimate.
    fn estimate(&self, [floor, ours]: [f64; 2]) {
        let calls = quantile(&mut self.calls.clone(), 0.5);
        let base = self.median(Mode::Nobody);
        println!(
            "  {calls:.2} calls a request; at the loop's prices recording adds {:.1} %, of which {:.1} % by the tracepoint",
            100.0 * calls * ours / base,
            100.0 * calls * floor / base,
        );
    }
}

/// The loop under a filter that asks: by the clock, for a process that waits for an answer is on no CPU.
fn notifications() -> Outcome<()> {
    let names = ["without a filter", "predicted", "asked for"];
    let mut taken = vec![Vec::new(); names.len()];
    for round in 0..count(NOTIFY_ROUNDS) {
        for step in 0..names.len() {
            let which = (round + step) % names.len();
            let predicted = match which {
                0 => None,
                1 => Some([CALL].into()),
                _ => Some([].into()),
            };
            let mut command = Command::new(std::env::current_exe()?);
            command.env(LOOP, ASKED_CALLS.to_string());
            command.stdout(Stdio::piped());
            let (recorder, child) = match predicted {
                None => (None, command.spawn()?),
                Some(predicted) => {
                    let capacity = Capacity::default();
                    let (recorder, child) =
                        NotifyRecorder::spawn(&mut command, &predicted, &capacity, true)?;
                    (Some(recorder), child)
                }
            };
            let output = child.wait_with_output()?;
            let text = String::from_utf8(output.stdout)?;
            taken[which].push(text.trim().parse()?);
            if let Some(recorder) = recorder {
                recorder.keep_answering()?;
            }
        }
    }
    print("getppid by notifications, ns a call", &names, &taken);
    Ok(())
}

fn child_loop(calls: &str) -> Outcome<()> {
    let calls: u32 = calls.parse()?;
    let start = Instant::now();
    for _ in 0..calls {
        black_box(parent_id());
    }
    println!("{}", start.elapsed().as_secs_f64() * 1e9 / f64::from(calls));
    Ok(())
}

/// The part of the sorted figures that lies below the one returned.
fn quantile(figures: &mut [f64], part: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a small length"
    )]
    let index = (last as f64 * part).round() as usize;
    figures.get(index).copied().unwrap_or(f64::NAN)
}

/// The first mode is what the others are compared with.
fn print(what: &str, names: &[&str], taken: &[Vec<f64>]) {
    println!("{what}, {} rounds:", taken.first().map_or(0, Vec::len));
    for (name, figures) in names.iter().zip(taken) {
        let mut ratios: Vec<f64> = figures
            .iter()
            .zip(&taken[0])
            .map(|(figure, base)| figure / base)
            .collect();
        println!(
            "  {name:18} median {:9.1}   ratio {:.3} (quartiles {:.3} to {:.3})",
            quantile(&mut figures.clone(), 0.5),
            quantile(&mut ratios, 0.5),
            quantile(&mut ratios, 0.25),
            quantile(&mut ratios, 0.75),
        );
    }
}
