//! What people do with Docker, with 20.10 by runtime path and 28 by path and by `runtimeType`.

use std::{fs, time::Duration};

use cofferdam_integration::{
    cases::{self, Case, Engine},
    client::{self, Client},
    command::eventually,
    docker::{Docker, Door, Version},
    error::{At, Result},
    gate,
};

const CASES: &[Case<Docker>] = &[
    ("gives_statistics", gives_statistics),
    ("updates_limits", updates_limits),
    ("checks_health", checks_health),
    ("has_a_network", has_a_network),
    ("lists_processes", lists_processes),
    ("says_that_memory_ran_out", says_that_memory_ran_out),
    (
        "gives_what_the_administrator_allows",
        gives_what_the_administrator_allows,
    ),
];

fn suite(version: Version, door: Door) -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(engine) = gate::present(Docker::start(version, door))? else {
        return Ok(());
    };
    cases::run(&engine, &[client::cases(), CASES.to_vec()].concat())
}

#[test]
fn docker_20_10_by_path() -> Result<()> {
    suite(Version::V20_10, Door::Path)
}

#[test]
fn docker_28_by_path() -> Result<()> {
    suite(Version::V28, Door::Path)
}

#[test]
fn docker_28_by_shim() -> Result<()> {
    suite(Version::V28, Door::Shim)
}

fn gives_statistics(docker: &Docker) -> Result<()> {
    docker.detached("stats", &[], &["sleep", "1000"])?;
    let done = docker
        .cli([
            "stats",
            "--no-stream",
            "--format",
            "{{.PIDs}} {{.MemUsage}}",
            "stats",
        ])
        .ok()?;
    assert!(
        done.stdout.starts_with("1 ") && !done.stdout.starts_with("1 0B"),
        "{}",
        done.stdout
    );
    docker.remove("stats")
}

fn updates_limits(docker: &Docker) -> Result<()> {
    docker.detached("update", &["--memory", "64m"], &["sleep", "1000"])?;
    docker
        .cli([
            "update",
            "--memory",
            "32m",
            "--memory-swap",
            "-1",
            "--pids-limit",
            "9",
            "update",
        ])
        .ok()?;
    let id = docker.inspect("update", ".Id")?;
    let parent = docker.enclave().tag();
    let files = [
        format!("/sys/fs/cgroup/memory/{parent}/{id}/memory.limit_in_bytes"),
        format!("/sys/fs/cgroup/{parent}/{id}/memory.max"),
    ];
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
    assert_eq!(text.unwrap_or_default().trim(), "33554432");
    docker.remove("update")
}

fn checks_health(docker: &Docker) -> Result<()> {
    let flags = [
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
    ];
    docker.detached("health", &flags, &["sleep", "1000"])?;
    let is = |wanted: &'static str| {
        eventually(wanted, Duration::from_secs(15), || {
            match docker.inspect("health", ".State.Health.Status") {
                Ok(status) if status == wanted => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    };
    is("unhealthy")?;
    docker.cli(["exec", "health", "touch", "/tmp/well"]).ok()?;
    is("healthy")?;
    docker.remove("health")
}

fn has_a_network(docker: &Docker) -> Result<()> {
    let done = docker.run(&["--network", "none"], &["ip", "-o", "link"])?;
    assert!(
        done.stdout.contains("lo:") && !done.stdout.contains("eth0"),
        "{}",
        done.stdout
    );
    docker.detached(
        "server",
        &[],
        &["sh", "-c", "while :; do echo hello | nc -l -p 80; done"],
    )?;
    let address = docker.inspect("server", ".NetworkSettings.Networks.bridge.IPAddress")?;
    let script =
        format!("for i in 1 2 3 4 5 6 7 8 9; do nc -w 2 {address} 80 && exit; sleep 0.2; done");
    let done = docker.run(&[], &["sh", "-c", &script])?;
    assert_eq!(done.stdout, "hello\n", "{done:?}");
    docker.remove("server")
}

fn lists_processes(docker: &Docker) -> Result<()> {
    docker.detached("top", &[], &["sleep", "1000"])?;
    let done = docker.cli(["top", "top"]).ok()?;
    assert!(done.stdout.contains("sleep 1000"), "{}", done.stdout);
    docker.remove("top")
}

fn says_that_memory_ran_out(docker: &Docker) -> Result<()> {
    let flags = ["--name", "oom", "--memory", "16m"];
    let done = docker.run_with(&flags, &["tail", "/dev/zero"]).run()?;
    assert_eq!(done.code(), 137, "{done:?}");
    assert_eq!(docker.inspect("oom", ".State.OOMKilled")?, "true");
    docker.remove("oom")
}

fn gives_what_the_administrator_allows(docker: &Docker) -> Result<()> {
    const SYS_ADMIN: u64 = 1 << 21;
    let file = docker.enclave().dir().join("policy.toml");
    let policy = "default = \"wide\"\n[policy.wide.capabilities]\nbounding = [\"SYS_ADMIN\"]\n";
    fs::write(&file, policy).at("write", &file)?;
    let granted = client::bounding(docker, &["--cap-drop", "ALL", "--cap-add", "SYS_ADMIN"]);
    fs::write(&file, "").at("empty", &file)?;
    assert_eq!(granted?, SYS_ADMIN);
    Ok(())
}
