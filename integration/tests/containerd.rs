//! Containers under containerd 1.6, 1.7 and 2.1: everything the Task service offers, through `ctr`.

use cofferdam_integration::{
    cases::{self, Case},
    containerd::{Containerd, Version},
    error::Result,
    gate,
};

const CASES: &[Case<Containerd>] = &[
    ("runs_and_prints", runs_and_prints),
    ("keeps_the_exit_code", keeps_the_exit_code),
];

fn runs_and_prints(engine: &Containerd) -> Result<()> {
    let done = engine.run("hello", &["sh", "-c", "echo out; echo err >&2"])?;
    assert_eq!(
        (done.stdout.as_str(), done.stderr.as_str()),
        ("out\n", "err\n")
    );
    Ok(())
}

fn keeps_the_exit_code(engine: &Containerd) -> Result<()> {
    for code in [0, 1, 42, 137, 255] {
        let exit = format!("exit {code}");
        let done = engine
            .ctr_run(&["--rm"], "code", &["sh", "-c", &exit])
            .run()?;
        assert_eq!(done.code(), code, "{done:?}");
    }
    Ok(())
}

fn suite(version: Version) -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(engine) = gate::present(Containerd::start(version))? else {
        return Ok(());
    };
    cases::run(&engine, CASES)
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
