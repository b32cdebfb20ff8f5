//! Every program of [`PROGRAMS`] gets through both of its loads in a hardened container under the
//! profile that was generated from its files, where any other system call kills the process. The
//! second load has never been recorded from: no profile can have been made to fit it.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use cofferdam_integration::{
    error::{At, Error, Result},
    gate,
    loads::{Load, PROGRAMS, Program, generated, stage::Stage, stage::rootfs},
};

/// How many programs run at a time: their loads wait more than they compute.
const AT_ONCE: usize = 3;

#[test]
fn no_program_is_killed_under_its_generated_profile() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    if gate::present(rootfs("clients"))?.is_none() {
        return Ok(());
    }
    let cache = tempfile::tempdir().at("make a directory in", std::env::temp_dir())?;
    let wanted = std::env::var("COFFERDAM_CASE").unwrap_or_default();
    let chosen: Vec<_> = PROGRAMS
        .iter()
        .filter(|program| program.name.contains(&wanted))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failed = Vec::new();
        while let Some(program) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = enforce(program, cache.path()) {
                eprintln!("{}: FAILED\n{}", program.name, error.chain());
                failed.push(program.name.to_owned());
            }
        }
        failed
    };
    let failed: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| vec!["a worker".to_owned()])
            })
            .collect()
    });
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Cases {
        failed,
        total: chosen.len(),
    })
}

#[expect(clippy::print_stderr, reason = "this is a test's report")]
fn enforce(program: &'static Program, cache: &Path) -> Result<()> {
    for load in program.loads() {
        let mut stage = Stage::new(program, load)?;
        let generated = generated::of_container(&stage.root(), program, Some(cache))?;
        stage.confine(&generated.killing())?;
        let outcome = stage.run(false)?;
        let why = match (outcome.failed, outcome.killed.as_slice()) {
            (None, []) => {
                eprintln!(
                    "{} {}: ok under {} calls ({:.1} s)",
                    program.name,
                    load.step(),
                    generated.allowed.len(),
                    outcome.took.as_secs_f32()
                );
                continue;
            }
            (failed, killed) => format!(
                "killed by its filter: {killed:?}; {}\n{}",
                failed.unwrap_or_default(),
                kernel_log(killed)
            ),
        };
        return Err(Error::Load {
            program: program.name,
            load: load.step(),
            why,
        });
    }
    Ok(())
}

/// Which calls the kernel says it killed for: its log is for the whole machine, so this is a hint.
fn kernel_log(killed: &[String]) -> String {
    let log = cofferdam_integration::command::Cmd::new("dmesg").run();
    let log = log.map(|done| done.stdout).unwrap_or_default();
    let lines: Vec<_> = log
        .lines()
        .rev()
        .take(400)
        .filter(|line| line.contains("type=1326") && killed.iter().any(|name| line.contains(name)))
        .take(3)
        .collect();
    lines.join("\n")
}

/// The control: a profile that lacks a call the program needs kills it, and the harness notices. If
/// this failed, the test above would prove nothing.
#[test]
fn a_missing_call_is_noticed() -> Result<()> {
    if gate::root().is_none() || gate::present(rootfs("clients"))?.is_none() {
        return Ok(());
    }
    // nginx needs sendfile in a worker process only, whose end its master survives.
    for (name, call) in [("nginx", "sendfile"), ("sqlite", "pwrite64")] {
        let program = PROGRAMS.iter().find(|program| program.name == name);
        let program = program.ok_or_else(|| Error::Missing {
            what: name.to_owned(),
            remedy: "name a program of the table",
        })?;
        let cache = tempfile::tempdir().at("make a directory in", std::env::temp_dir())?;
        let mut stage = Stage::new(program, Load::Recorded)?;
        let mut generated = generated::of_container(&stage.root(), program, Some(cache.path()))?;
        assert!(generated.allowed.remove(call), "{name} has no {call}");
        stage.confine(&generated.killing())?;
        let outcome = stage.run(false)?;
        assert!(
            !outcome.killed.is_empty(),
            "{name} was not killed for {call}: {outcome:?}"
        );
        assert!(
            outcome.failed.is_some(),
            "{name} did its work without {call}"
        );
    }
    Ok(())
}

#[test]
fn every_program_has_a_root_file_system_and_its_executables() -> Result<()> {
    if gate::root().is_none() || gate::present(rootfs("clients"))?.is_none() {
        return Ok(());
    }
    for program in PROGRAMS {
        let root = rootfs(program.name)?;
        for executable in program.executables() {
            let path = root.join(executable.trim_start_matches('/'));
            assert!(
                path.symlink_metadata().is_ok(),
                "{} is missing",
                path.display()
            );
        }
    }
    assert!(
        PROGRAMS
            .iter()
            .filter(|program| program.has_held_out)
            .count()
            * 2
            >= PROGRAMS.len()
    );
    Ok(())
}
