use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use crate::{
    enclave::Enclave,
    error::{Error, Result},
    residue::Residue,
};

/// A name, and what is done and checked under it.
pub type Case<E> = (&'static str, fn(&E) -> Result<()>);

/// An engine that runs in an enclave.
pub trait Engine {
    /// Where it runs.
    fn enclave(&self) -> &Enclave;
    /// What it is called in messages.
    fn name(&self) -> String;
    /// Removes every container, whatever its state, so that one failed case does not spoil the next.
    ///
    /// # Errors
    /// If the engine no longer answers.
    fn clear(&self) -> Result<()>;
    /// Whether something that is left is the engine's own, and comes and goes whatever the runtime.
    fn is_own(&self, _left: &str) -> bool {
        false
    }
    /// What to show when a case fails: the end of the engine's log.
    fn log(&self) -> String;
}

/// Runs the cases in order; `COFFERDAM_CASE` picks those with its text in the name. After each, the
/// enclave must hold what it held before.
///
/// # Errors
/// [`Error::Cases`] naming those that failed; the reasons are printed.
#[expect(clippy::print_stderr, reason = "this is a test's report")]
pub fn run<E: Engine>(engine: &E, cases: &[Case<E>]) -> Result<()> {
    let wanted = std::env::var("COFFERDAM_CASE").unwrap_or_default();
    let chosen = || cases.iter().filter(|(name, _)| name.contains(&wanted));
    let mut failed = Vec::new();
    let mut before = Residue::of(engine.enclave())?;
    for (name, case) in chosen() {
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| case(engine)));
        let outcome = match outcome {
            Ok(Ok(())) => before
                .regained(engine, Duration::from_secs(10))
                .map_err(|error| error.chain()),
            Ok(Err(error)) => Err(error.chain()),
            Err(_) => Err("panicked; the message is above".to_owned()),
        };
        let took = started.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => eprintln!("{} {name}: ok ({took:.2} s)", engine.name()),
            Err(why) => {
                let engine_name = engine.name();
                eprintln!("{engine_name} {name}: FAILED ({took:.2} s)\n{why}");
                eprintln!("--- log of {engine_name}\n{}", engine.log());
                failed.push((*name).to_owned());
                engine.clear()?;
                before = Residue::of(engine.enclave())?;
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::Cases {
        failed,
        total: chosen().count(),
    })
}

/// Whether something that is left is the cgroup above all containers', which a runtime makes in each hierarchy
/// that it uses, and nobody removes.
#[must_use]
pub fn is_parent_cgroup(left: &str, enclave: &Enclave) -> bool {
    left.starts_with("cgroup ") && left.ends_with(&format!("/{}", enclave.tag()))
}

/// The last lines of a text.
#[must_use]
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
