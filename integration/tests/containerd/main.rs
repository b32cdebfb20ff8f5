//! Containers under containerd 1.6, 1.7 and 2.1: everything the Task service offers, through `ctr`.

use cofferdam_integration::{
    binaries::Runtime,
    cases::{self, Case},
    containerd::{Containerd, Options, Version},
    error::Result,
    gate::{self, Guest},
};

/// Events, and what they say.
mod events;
/// exec: standard streams, user, and that it is as confined as init.
mod exec;
/// What ends badly and must leave nothing behind.
mod faults;
/// Standard streams, terminals and loggers.
mod io;
/// Create, start, signal, pause, delete.
mod life;
/// Several containers in one shim.
mod pods;
/// Limits and statistics.
mod resources;
/// User ids of the engine's choice, and without one.
mod users;

fn suite(version: Version) -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(engine) = gate::present(Containerd::start(version))? else {
        return Ok(());
    };
    let all: [&[Case<Containerd>]; 8] = [
        life::CASES,
        io::CASES,
        exec::CASES,
        events::CASES,
        resources::CASES,
        pods::CASES,
        users::CASES,
        faults::CASES,
    ];
    cases::run(&engine, &all.concat())
}

/// In virtual machines: what an engine does with a container it does with one of these.
#[test]
fn runs_in_microvms() -> Result<()> {
    if gate::lab(Guest::Script).is_none() {
        return Ok(());
    }
    let engine = Containerd::start_with(Version::V1_6, Runtime::Machine, &Options::default())?;
    let all: [&[Case<Containerd>]; 4] = [life::CASES, io::CASES, exec::CASES, events::CASES];
    let mut some = all.concat();
    some.retain(|(name, _)| QUICK_IN_MICROVMS.contains(name));
    assert_eq!(
        some.len(),
        QUICK_IN_MICROVMS.len(),
        "a case has another name"
    );
    some.insert(0, ("has_a_kernel_of_its_own", has_a_kernel_of_its_own));
    cases::run(&engine, &some)
}

/// What shows most for its time: emulated in an emulated machine, each takes up to half a minute.
const QUICK_IN_MICROVMS: &[&str] = &[
    "keeps_the_exit_code",
    "signals_end_it",
    "says_why_a_start_fails",
    "reads_standard_input",
    "loses_no_output",
    "runs_beside_init",
    "is_confined_like_init",
    "come_in_order",
];

/// The runtime's name alone asks for it.
fn has_a_kernel_of_its_own(engine: &Containerd) -> Result<()> {
    let done = engine.run("kernel", &["uname", "-r"])?;
    assert!(done.stdout.ends_with("-cofferdam\n"), "{done:?}");
    Ok(())
}

#[test]
fn containerd_1_6() -> Result<()> {
    suite(Version::V1_6)
}

#[test]
fn containerd_1_7() -> Result<()> {
    suite(Version::V1_7)
}

#[test]
fn containerd_2_1() -> Result<()> {
    suite(Version::V2_1)
}
