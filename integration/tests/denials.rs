//! Denied calls, explained, under real engines: what was denied can be read while the container
//! lives and afterwards, containerd tells of it, and nothing but the log is left.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use cofferdam_integration::{
    binaries::{Runtime, build_dir},
    cases::{self, Case, Engine},
    client::Client,
    command::eventually,
    containerd::{self, Containerd},
    docker::{self, Docker, Door},
    error::{At as _, Result},
    gate,
    podman::Podman,
};

const POLICIES: &str = "default = \"explained\"\n[policy.explained]\ndenials = \"explain\"\n";

/// The process that answers; it must be gone with the container.
const LISTENER: &str = "denials-listener";

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
    let all: &[Case<Containerd>] = &[
        ("a_running_container_is_explained", running),
        ("containerd_tells_of_it", published),
        ("two_containers_are_told_apart", told_apart),
    ];
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

/// `cofferdam denials` on a container of containerd.
fn denials(engine: &Containerd, id: &str) -> Result<String> {
    let root = format!("/run/containerd/cofferdam/{}", engine.namespace());
    let done = engine
        .enclave()
        .cmd(build_dir()?.join("cofferdam"))
        .env("COFFERDAM_LOGS", engine.enclave().dir().join("logs"))
        .args(["--root", &root, "denials", id])
        .ok()?;
    Ok(done.stdout)
}

/// Waits for a line: the caller has its answer before the line is written.
fn says(engine: &Containerd, id: &str, what: &str) -> Result<String> {
    let mut seen = String::new();
    eventually(
        &format!("{id} says {what}"),
        Duration::from_secs(10),
        || {
            seen = denials(engine, id).map_err(|error| error.chain())?;
            seen.contains(what)
                .then_some(())
                .ok_or_else(|| seen.clone())
        },
    )?;
    Ok(seen)
}

fn running(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("explained")?;
    assert_eq!(
        engine.enclave().find(LISTENER)?.len(),
        2,
        "keeper and worker"
    );
    let done = engine
        .exec_with(&[], "explained", &["unshare", "-m", "true"])
        .run()?;
    assert!(done.stderr.contains("Operation not permitted"), "{done:?}");
    let text = says(engine, "explained", "unshare(flags=CLONE_NEWNS) = EPERM")?;
    assert!(text.contains("to allow it: allow unshare when"), "{text}");
    container.remove()?;
    assert_eq!(engine.enclave().find(LISTENER)?.len(), 0);
    // The log is still there, for a container that died of a denied call.
    assert!(denials(engine, "explained")?.contains("CLONE_NEWNS"));
    Ok(())
}

fn published(engine: &Containerd) -> Result<()> {
    let events = engine.events()?;
    let script =
        "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do unshare -m true; done";
    let done = engine
        .ctr_run(&["--rm"], "told", &["sh", "-c", script])
        .run()?;
    assert!(done.stderr.contains("Operation not permitted"), "{done:?}");
    eventually("the events arrive", Duration::from_secs(10), || {
        let text = events.output();
        let told = text.contains("/cofferdam/denied") && text.contains("/tasks/delete");
        told.then_some(()).ok_or(text)
    })?;
    let text = events.output();
    let told: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("/cofferdam/denied"))
        .collect();
    assert!((1..=12).contains(&told.len()), "{text}");
    assert!(told.iter().any(|line| line.contains("unshare")), "{text}");
    Ok(())
}

/// The first goes last: it made the cgroup that both are in.
fn told_apart(engine: &Containerd) -> Result<()> {
    let one = engine.sleeper("one")?;
    let two = engine.sleeper("two")?;
    engine
        .exec_with(&[], "one", &["mount", "-t", "tmpfs", "x", "/tmp"])
        .run()?;
    says(engine, "one", "mount(source=\"x\"")?;
    assert!(!denials(engine, "two")?.contains("mount("));
    two.remove()?;
    assert_eq!(engine.enclave().find(LISTENER)?.len(), 2);
    one.remove()
}

#[test]
fn under_docker_by_path() -> Result<()> {
    if gate::root().is_none() || Runtime::under_test() != Runtime::Cofferdam {
        return Ok(());
    }
    let files = [("policy.toml", POLICIES)];
    let started = Docker::start_with(
        docker::Version::V20_10,
        Door::Path,
        Runtime::Cofferdam,
        &files,
    );
    let Some(engine) = gate::present(started)? else {
        return Ok(());
    };
    let all: &[Case<Docker>] = &[("a_container_is_explained", docker_run)];
    cases::run(&engine, all)
}

#[test]
fn under_podman() -> Result<()> {
    if gate::root().is_none() || Runtime::under_test() != Runtime::Cofferdam {
        return Ok(());
    }
    let Some(engine) = gate::present(Podman::start())? else {
        return Ok(());
    };
    let all: &[Case<Podman>] = &[("a_container_is_explained", podman_run)];
    cases::run(&engine, all)
}

/// conmon passes none of our variables on, so a script sets them.
fn podman_run(engine: &Podman) -> Result<()> {
    let dir = engine.enclave().dir();
    let wrapper = dir.join("explaining");
    let script = format!(
        "#!/bin/sh\nexport COFFERDAM_POLICY_FILE={0}/policy.toml COFFERDAM_LOGS={0}/logs\n\
         exec {1} \"$@\"\n",
        dir.display(),
        Runtime::Cofferdam.oci()?.display()
    );
    for (path, text, mode) in [
        (dir.join("policy.toml"), POLICIES, 0o600),
        (wrapper.clone(), script.as_str(), 0o700),
    ] {
        std::fs::write(&path, text).at("write", &path)?;
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, mode).at("change", path)?;
    }
    let parent = format!("/{}", engine.enclave().tag());
    let done = engine
        .cli(["--runtime"])
        .arg(wrapper)
        .args(["run", "--rm", "--cgroup-parent", &parent, engine.image()])
        .args(["unshare", "-m", "true"])
        .run()?;
    let said = done.stderr.contains("Operation not permitted");
    assert!(said || engine.may_lose_output(), "{done:?}");
    read(engine)
}

fn docker_run(engine: &Docker) -> Result<()> {
    let done = engine
        .run_with(&["--rm"], &["unshare", "-m", "true"])
        .run()?;
    assert!(done.stderr.contains("Operation not permitted"), "{done:?}");
    read(engine)
}

/// What is left of a container that made a denied call: its log and nothing else.
fn read(engine: &impl Engine) -> Result<()> {
    let logs = engine.enclave().dir().join("logs");
    let done = engine
        .enclave()
        .cmd("grep")
        .args(["-r", "CLONE_NEWNS"])
        .arg(&logs)
        .ok()?;
    assert!(done.stdout.contains("\"errno\":\"EPERM\""), "{done:?}");
    assert_eq!(engine.enclave().find(LISTENER)?.len(), 0);
    Ok(())
}
