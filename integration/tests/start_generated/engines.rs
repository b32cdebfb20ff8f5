use cofferdam_integration::{
    binaries::{Runtime, build_dir},
    cases::{self, Case, Engine as _},
    client::Client as _,
    containerd::{self, Containerd},
    docker::{self, Docker, Door},
    enclave::Enclave,
    error::Result,
    gate,
};
use serde_json::Value;

use super::place::rest;

const POLICIES: &str = "default = \"made\"\n[policy.made]\nseccomp = \"generate\"\n";

/// The report of a running container.
fn made(enclave: &Enclave, root: &str, id: &str) -> Result<Value> {
    let done = enclave
        .cmd(build_dir()?.join("cofferdam"))
        .args([
            "--root", root, "inspect", "--report", "--format", "json", id,
        ])
        .ok()?;
    let text = done.json()?;
    let report = text.get("report").cloned().unwrap_or(text);
    Ok(report["summary"]["generated"].clone())
}

fn origin(made: &Value) -> String {
    match &made["origin"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn under_containerd(version: containerd::Version) -> Result<()> {
    if gate::root().is_none() || Runtime::under_test() != Runtime::Cofferdam {
        return Ok(());
    }
    let options = containerd::Options {
        files: vec![("policy.toml".to_owned(), POLICIES.to_owned())],
        ..Default::default()
    };
    let started = Containerd::start_with(version, Runtime::Cofferdam, &options);
    let Some(engine) = gate::present(started)? else {
        return Ok(());
    };
    let all: &[Case<Containerd>] = &[("an_image_is_analysed_once", once)];
    cases::run(&engine, all)
}

#[test]
fn under_containerd_1_6() -> Result<()> {
    under_containerd(containerd::Version::V1_6)
}

#[test]
fn under_containerd_2_1() -> Result<()> {
    under_containerd(containerd::Version::V2_1)
}

fn once(engine: &Containerd) -> Result<()> {
    let root = format!("/run/containerd/cofferdam/{}", engine.namespace());
    let of = |id: &str| made(engine.enclave(), &root, id);
    let first = engine.sleeper("first")?;
    let found = of("first")?;
    assert_eq!(origin(&found), "made", "{found}");
    assert_eq!(found["program"], "/bin/busybox");
    // Another container has other directories and the same layers.
    let second = engine.sleeper("second")?;
    let kept = of("second")?;
    assert_eq!(origin(&kept), "kept", "{kept}");
    assert_eq!(kept["calls"], found["calls"]);
    // A joined process has the same filter.
    let done = engine.exec("second", &["grep", "Seccomp:", "/proc/self/status"])?;
    assert!(done.stdout.contains("\t2"), "{done:?}");
    second.remove()?;
    first.remove()
}

#[test]
fn under_docker_by_path() -> Result<()> {
    docker(docker::Version::V20_10, Door::Path)
}

#[test]
fn under_docker_by_shim() -> Result<()> {
    docker(docker::Version::V28, Door::Shim)
}

fn docker(version: docker::Version, door: Door) -> Result<()> {
    if gate::root().is_none() || Runtime::under_test() != Runtime::Cofferdam {
        return Ok(());
    }
    let files = [("policy.toml", POLICIES)];
    let started = Docker::start_with(version, door, Runtime::Cofferdam, &files);
    let Some(engine) = gate::present(started)? else {
        return Ok(());
    };
    let all: &[Case<Docker>] = &[
        ("an_image_is_analysed_once", docker_once),
        ("a_changed_container_is_another_one", docker_changed),
    ];
    cases::run(&engine, all)
}

/// The state of Docker's containers lies where the door puts it; the cache tells the same for both.
fn entries(engine: &Docker) -> Result<Vec<String>> {
    let cache = engine.enclave().dir().join("cache/generated");
    let done = engine.enclave().cmd("ls").arg(cache).ok()?;
    Ok(done.stdout.lines().map(str::to_owned).collect())
}

fn docker_once(engine: &Docker) -> Result<()> {
    let run = || engine.run(&[], &["id", "-u"]);
    assert_eq!(run()?.stdout, "0\n");
    let before = entries(engine)?;
    assert_eq!(run()?.stdout, "0\n");
    assert_eq!(entries(engine)?, before, "the second start finds it");
    assert_eq!(engine.run(&[], &["id", "-un"])?.stdout, "root\n");
    assert_eq!(entries(engine)?.len(), before.len() + 1);
    Ok(())
}

/// A container that is started again has its own changes in its upper layer.
fn docker_changed(engine: &Docker) -> Result<()> {
    let script = "test -e /bin/new && exec /bin/new -c \"echo again\"; cp /bin/busybox /bin/new; \
                  ln -sf new /bin/sh; echo once";
    let flags = ["--name", "changed"];
    let done = engine.run_with(&flags, &["sh", "-c", script]).ok()?;
    assert_eq!(done.stdout, "once\n");
    let before = entries(engine)?;
    rest();
    // `sh` is another program now, which the pristine image does not have.
    for _ in 0..2 {
        engine.cli(["start", "--attach", "changed"]).run()?;
        assert_eq!(
            entries(engine)?.len(),
            before.len() + 1,
            "its own, and kept"
        );
    }
    engine.remove("changed")
}
