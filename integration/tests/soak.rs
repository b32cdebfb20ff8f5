//! Long runs: five hundred containers in a row, and processes killed at random moments of a
//! container's life. `COFFERDAM_SOAK=1` (`make soak`) kills twenty times as often.

#![expect(clippy::print_stderr, reason = "a long run tells how far it got")]

use std::{
    collections::hash_map::RandomState,
    fs,
    hash::{BuildHasher, Hasher},
    thread,
    time::{Duration, Instant},
};

use cofferdam_integration::{
    cases::{self, Case, Engine},
    command::Job,
    containerd::{Containerd, Version},
    enclave::Process,
    error::{At, Result},
    gate,
    residue::Residue,
};
use nix::sys::signal::Signal;

const CASES: &[Case<Containerd>] = &[
    ("five_hundred_in_a_row", five_hundred_in_a_row),
    ("killed_shim", |engine| killed(engine, Victim::Shim)),
    ("killed_helper", |engine| killed(engine, Victim::Helper)),
    ("killed_init", |engine| killed(engine, Victim::Init)),
    ("killed_containerd", |engine| {
        killed(engine, Victim::Containerd)
    }),
];

#[test]
fn soak() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(engine) = gate::present(Containerd::start(Version::V1_6))? else {
        return Ok(());
    };
    cases::run(&engine, CASES)
}

/// What a process must not grow in.
#[derive(Debug, Clone, Copy)]
struct Size {
    descriptors: usize,
    private_kib: usize,
}

fn size(process: &Process) -> Result<Size> {
    let pid = process.pid;
    let directory = format!("/proc/{pid}/fd");
    let rollup = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&rollup).at("read", &rollup)?;
    let field = |name: &str| -> usize {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    Ok(Size {
        descriptors: fs::read_dir(&directory).at("list", &directory)?.count(),
        private_kib: field("Private_Dirty:"),
    })
}

fn five_hundred_in_a_row(engine: &Containerd) -> Result<()> {
    // In one pod, so that there is a shim which lives long enough to grow.
    let pod = ["--annotation", "io.kubernetes.cri.sandbox-id=pod"];
    let sandbox = engine.detached(&pod, "pod", &["sleep", "1000"])?;
    let shims = engine.shims()?;
    let shim = shims.first().cloned();
    assert!(shim.is_some() && shims.len() == 1, "{shims:?}");
    let measure = || -> Result<(Size, Size)> {
        // What is freed late (sockets, reaped processes) gets a moment.
        thread::sleep(Duration::from_millis(500));
        let shim = shim.as_ref().map(size).transpose()?;
        Ok((
            shim.unwrap_or(Size {
                descriptors: 0,
                private_kib: 0,
            }),
            size(&engine.daemon()?)?,
        ))
    };
    let flags = [&["--rm", "--null-io"], &pod[..]].concat();
    let mut warm = None;
    for number in 0..500 {
        engine
            .ctr_run(&flags, &format!("row-{number}"), &["true"])
            .ok()?;
        if number == 100 {
            warm = Some(measure()?);
        }
    }
    let (end, start) = (measure()?, warm);
    if let Some((shim, daemon)) = start {
        assert!(
            end.0.descriptors <= shim.descriptors,
            "shim: {shim:?}, then {:?}",
            end.0
        );
        assert!(
            end.0.private_kib <= shim.private_kib + 200,
            "shim: {shim:?}, then {:?}",
            end.0
        );
        assert!(
            end.1.descriptors <= daemon.descriptors + 4,
            "{daemon:?}, then {:?}",
            end.1
        );
        // Go collects when it likes.
        assert!(
            end.1.private_kib <= daemon.private_kib + 40_000,
            "{daemon:?}, then {:?}",
            end.1
        );
    }
    sandbox.remove()
}

#[derive(Debug, Clone, Copy)]
enum Victim {
    Shim,
    Helper,
    Init,
    Containerd,
}

impl Victim {
    fn find(self, engine: &Containerd, floor: i32) -> Result<Option<Process>> {
        match self {
            // The short-lived `start` and `delete` too.
            Self::Shim => Ok(engine.shims()?.pop()),
            Self::Helper => engine.enclave().find_younger(floor, "shim-helper"),
            Self::Containerd => engine.daemon().map(Some),
            // The first process of a process namespace inside the enclave's.
            Self::Init => {
                let mut all = engine.enclave().processes()?;
                all.retain(|process| process.nested.len() == 3 && process.nested[2] == 1);
                Ok(all.pop())
            }
        }
    }
}

/// A number below `limit` that is different every time.
fn random(limit: u64) -> u64 {
    RandomState::new().build_hasher().finish() % limit
}

/// Starts a container, executes in it, removes it, and kills the victim at a random moment of that.
/// However it ends, containerd must be able to remove the container, and nothing may be left.
fn killed(engine: &Containerd, victim: Victim) -> Result<()> {
    let rounds = if std::env::var_os("COFFERDAM_SOAK").is_some() {
        400
    } else {
        20
    };
    let before = Residue::of(engine.enclave())?;
    // How long an undisturbed life takes: between a tenth and half of a second.
    let started = Instant::now();
    let mut whole = life(engine, "undisturbed")?;
    whole.wait(Duration::from_secs(20))?;
    engine.remove("undisturbed")?;
    let span = u64::try_from(started.elapsed().as_millis()).unwrap_or(500);
    let mut hits = 0;
    for round in 0..rounds {
        let id = format!("{victim:?}-{round}").to_lowercase();
        let mut life = life(engine, &id)?;
        let floor = i32::try_from(life.id()).unwrap_or(0);
        let delay = Duration::from_millis(random(span));
        thread::sleep(delay);
        hits += usize::from(strike(engine, victim, floor)?);
        let _ = life.wait(Duration::from_secs(20));
        drop(life);
        if engine.daemon().is_err() {
            engine.launch()?;
        }
        engine.remove(&id)?;
        if matches!(victim, Victim::Shim) {
            // containerd calls nobody for a shim that dies before it is known: its socket stays until
            // there is another shim, whatever its container.
            engine.run("sweeper", &["true"])?;
        }
        forget_what_is_not_ours(engine, victim)?;
        let context = |error: cofferdam_integration::error::Error| {
            eprintln!("round {round}: {victim:?} was killed {delay:?} into the life of {id}");
            error
        };
        before
            .regained(engine, Duration::from_secs(15))
            .map_err(context)?;
    }
    eprintln!("{victim:?}: hit in {hits} of {rounds} rounds");
    assert!(
        hits * 10 >= rounds,
        "{victim:?} was hit in {hits} of {rounds} rounds only"
    );
    Ok(())
}

/// A ctr whose call failed leaves its own FIFOs; no runtime could know them. A containerd that never
/// came to know the shim may forget the bundle, with the FIFO for the shim's log in it.
fn forget_what_is_not_ours(engine: &Containerd, victim: Victim) -> Result<()> {
    let mut script = "rm -rf /run/containerd/fifo/*".to_owned();
    if matches!(victim, Victim::Containerd | Victim::Shim) {
        script += &format!(
            "; rm -rf --one-file-system {}/*",
            engine.bundle("").display()
        );
    }
    engine
        .enclave()
        .cmd("sh")
        .args(["-c", &script])
        .run()
        .map(drop)
}

/// Create, start, exec twice, kill, delete, in the background. Failures are expected.
fn life(engine: &Containerd, id: &str) -> Result<Job> {
    let run = engine
        .ctr_run(&["--detach", "--null-io"], id, &["sleep", "1000"])
        .line();
    let exec = engine.exec_with(&[], id, &["true"]).line();
    let again = engine.exec_with(&[], id, &["true"]).line();
    let kill = engine
        .ctr(["tasks", "kill", "--signal", "SIGKILL", id])
        .line();
    let remove = engine.ctr(["tasks", "rm", "--force", id]).line();
    let script = [run, exec, again, kill, remove].join("; timeout 15 ");
    engine
        .enclave()
        .cmd("sh")
        .args(["-c", &format!("timeout 15 {script}")])
        .background(&engine.scratch("life.log"))
}

/// Kills the victim, if there is one within the time that one life takes.
fn strike(engine: &Containerd, victim: Victim, floor: i32) -> Result<bool> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(500) {
        if let Some(process) = victim.find(engine, floor)?
            && engine
                .enclave()
                .signal(process.pid, Signal::SIGKILL)
                .is_ok()
        {
            return Ok(true);
        }
    }
    Ok(false)
}
