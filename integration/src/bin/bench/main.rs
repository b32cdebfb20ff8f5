//! `make bench`: compares Cofferdam with runc, crun and the Go shim on this machine.
//!
//! Every figure is a ratio of medians from one run. The candidates take turns in random order: what
//! runs after a Go runtime pays for its teardown, so a fixed order would favour someone. The raw rows
//! go to a file, which is named at the end.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints"
)]

/// What user ids of its own and Landlock cost a container.
mod confinement;
/// Shims' memory while containers sleep.
mod memory;
/// Samples, medians, rows.
mod sample;
/// Shared directories in guests.
mod shares;
/// Times of whole commands.
mod times;
/// Virtual machine monitors.
mod vmm;

use std::process::ExitCode;

use cofferdam_integration::{error::Result, gate};

use sample::Rows;

/// How often each candidate is measured; `COFFERDAM_BENCH_ROUNDS` changes it.
const ROUNDS: usize = 25;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        // In the enclave: time the commands there, so that entering it is not measured.
        Some((word, rest)) if word == "inside" => times::inside(rest),
        Some((word, [])) if word == "confinement" => {
            let mut rows = Rows::default();
            confinement(&mut rows, rounds()).and_then(|()| rows.save().map(drop))
        }
        Some((word, [place])) if word == "vmm" => {
            let mut rows = Rows::default();
            vmm::measure(&mut rows, rounds(), place.as_ref()).and_then(|()| rows.save().map(drop))
        }
        Some((word, [place])) if word == "shares" => {
            let mut rows = Rows::default();
            let measured = shares::measure(&mut rows, rounds(), place.as_ref());
            measured.and_then(|()| rows.save().map(drop))
        }
        Some((word, _)) => {
            eprintln!(
                "bench: takes no argument but confinement, or vmm or shares and a directory, was given {word}"
            );
            return ExitCode::FAILURE;
        }
        None if gate::root().is_none() => {
            eprintln!("bench: run it as root");
            return ExitCode::FAILURE;
        }
        None => bench(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn rounds() -> usize {
    let rounds = std::env::var("COFFERDAM_BENCH_ROUNDS").ok();
    rounds.and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// User namespace, id-mapped layers and Landlock against the same container without.
fn confinement(rows: &mut Rows, rounds: usize) -> Result<()> {
    confinement::measure(rows, rounds)?;
    let [without, own, landlock] = confinement::WHO;
    for what in confinement::STARTS {
        rows.added(what, "ms", own, without, 5);
        rows.added(what, "ms", landlock, without, 5);
    }
    for what in confinement::LOADS {
        rows.compare(what, "ms", own, &[(without, Some(1.01))]);
        rows.compare(what, "ms", landlock, &[(without, Some(1.01))]);
    }
    Ok(())
}

fn bench() -> Result<()> {
    let rounds = rounds();
    println!("{rounds} rounds each, in random order, medians; lower is better\n");
    let mut rows = Rows::default();

    times::containerd(&mut rows, rounds)?;
    rows.compare(
        "ctr run --rm busybox true",
        "ms",
        "cofferdam",
        &[("runc", Some(0.55))],
    );

    times::command_line(&mut rows, rounds)?;
    let goals = [("crun", Some(1.0)), ("runc", Some(0.55))];
    rows.compare("OCI command line, run true", "ms", "cofferdam", &goals);

    times::generated(&mut rows, rounds)?;
    let goals = [("intersect", Some(1.25))];
    rows.compare("run nginx -v, profile kept", "ms", "generate", &goals);

    memory::measure(&mut rows, rounds.div_ceil(5))?;
    rows.limit(
        "shim PSS, one container",
        "KiB",
        "cofferdam",
        "runc",
        3 * 1024,
    );
    rows.limit(
        "shim private dirty, one container",
        "KiB",
        "cofferdam",
        "runc",
        1024,
    );
    rows.limit("shim PSS, pod of ten", "KiB", "cofferdam", "runc", 4 * 1024);

    times::crowd(&mut rows, rounds)?;
    let goals = [("with none", Some(1.2))];
    rows.compare(
        "start to first output, 100 running",
        "ms",
        "with 100",
        &goals,
    );

    confinement(&mut rows, rounds)?;

    let file = rows.save()?;
    println!("\nraw rows: {}", file.display());
    println!("the filter cache has its own: cargo bench --package cofferdam-profiles");
    Ok(())
}
