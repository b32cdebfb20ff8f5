//! Landlock under real engines, which know nothing of it.

use std::fs;
use std::path::Path;

use cofferdam_integration::{
    binaries::Runtime,
    cases::{self, Case, Engine},
    client::Client,
    command::Done,
    containerd::{self, Containerd},
    docker::{self, Docker, Door},
    error::{At, Result},
    gate,
};

use super::kernel::{assert_refused, lacking};
use super::{parsed, policy_of};

/// What an engine's container may do when nobody changed image or configuration of the engine.
const DOCUMENT: &str = r#"{"version": 1, "files": [
    {"path": "/bin", "subtree": true, "rights": ["read", "list", "execute", "map-execute"]},
    {"path": "/dev", "subtree": true, "rights": ["read", "write", "list", "ioctl"]},
    {"path": "/tmp", "subtree": true, "rights": ["read", "write", "create", "remove", "list"]},
    {"path": "/etc/hostname", "rights": ["read"]}]}"#;

const TRIAL: &str = "echo x > /tmp/x && cat /tmp/x > /dev/null && echo kept; \
                     cat /etc/passwd > /dev/null && echo read; echo x > /new && echo written";

/// Puts document and policy where the engine's runtime looks for its policy.
fn bind(dir: &Path, policy: &str) -> Result<()> {
    let document = dir.join("access.json");
    fs::write(&document, DOCUMENT).at("write", &document)?;
    let text = format!("default = \"{policy}\"\n{}", policy_of(&document));
    let policy = dir.join("policy.toml");
    fs::write(&policy, text).at("write", &policy)
}

/// The same, with the policy that can be held here: see `Place::bounding`.
fn bind_as_possible(dir: &Path, run: impl Fn() -> Result<Done>) -> Result<()> {
    let lacks = lacking(&parsed(DOCUMENT.to_owned())?)?;
    bind(dir, "bound")?;
    if lacks.is_empty() {
        return Ok(());
    }
    let refused = run()?;
    assert!(!refused.stdout.contains("kept"), "{refused:?}");
    assert_refused(&refused, &lacks);
    bind(dir, "possible")
}

fn free(dir: &Path) -> Result<()> {
    let policy = dir.join("policy.toml");
    fs::write(&policy, "").at("write", &policy)
}

fn assert_bound(done: &Done) {
    assert!(done.stdout.contains("kept"), "{done:?}");
    assert!(!done.stdout.contains("read"), "{done:?}");
    assert!(!done.stdout.contains("written"), "{done:?}");
}

fn assert_free(done: &Done) {
    for word in ["kept", "read", "written"] {
        assert!(done.stdout.contains(word), "{word}: {done:?}");
    }
}

#[test]
fn under_containerd() -> Result<()> {
    if gate::root().is_none() || Runtime::under_test() != Runtime::Cofferdam {
        return Ok(());
    }
    let options = containerd::Options {
        files: vec![("policy.toml".to_owned(), String::new())],
        ..Default::default()
    };
    let version = containerd::Version::V1_6;
    let started = Containerd::start_with(version, Runtime::Cofferdam, &options);
    let Some(engine) = gate::present(started)? else {
        return Ok(());
    };
    let all: &[Case<Containerd>] = &[("run_and_exec_are_bound", of_containerd)];
    cases::run(&engine, all)
}

fn of_containerd(engine: &Containerd) -> Result<()> {
    let dir = engine.enclave().dir().to_owned();
    let run = |id: &str| {
        let trial = ["sh", "-c", TRIAL];
        engine.ctr_run(&["--rm"], id, &trial).run()
    };
    assert_free(&run("free")?);
    bind_as_possible(&dir, || run("refused"))?;
    assert_bound(&run("bound")?);
    let sleeper = engine.sleeper("sleeper")?;
    // What the policy says meanwhile is not asked: exec gets what init got.
    free(&dir)?;
    assert_bound(
        &engine
            .exec_with(&[], "sleeper", &["sh", "-c", TRIAL])
            .run()?,
    );
    sleeper.remove()
}

#[test]
fn under_docker() -> Result<()> {
    if gate::root().is_none() || Runtime::under_test() != Runtime::Cofferdam {
        return Ok(());
    }
    let version = docker::Version::V20_10;
    let started = Docker::start_with(version, Door::Path, Runtime::Cofferdam, &[]);
    let Some(engine) = gate::present(started)? else {
        return Ok(());
    };
    let all: &[Case<Docker>] = &[("run_is_bound", of_docker)];
    cases::run(&engine, all)
}

fn of_docker(engine: &Docker) -> Result<()> {
    let dir = engine.enclave().dir().to_owned();
    let run = || engine.run_with(&["--rm"], &["sh", "-c", TRIAL]).run();
    assert_free(&run()?);
    bind_as_possible(&dir, run)?;
    assert_bound(&run()?);
    free(&dir)
}
