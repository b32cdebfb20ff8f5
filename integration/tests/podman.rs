//! What people do with Podman 4.3, with the runtime given by `--runtime`.

use std::fs;

use cofferdam_integration::{
    cases::{self, Case, Engine},
    client::{self, Client},
    error::Result,
    gate,
    podman::Podman,
};

const CASES: &[Case<Podman>] = &[
    ("gives_statistics", gives_statistics),
    ("checks_health", checks_health),
    ("groups_a_pod", groups_a_pod),
    ("joins_a_containers_users", joins_a_containers_users),
];

#[test]
fn podman_4_3() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(engine) = gate::present(Podman::start())? else {
        return Ok(());
    };
    cases::run(&engine, &[client::cases(), CASES.to_vec()].concat())
}

fn gives_statistics(podman: &Podman) -> Result<()> {
    podman.detached("stats", &[], &["sleep", "1000"])?;
    let done = podman
        .cli([
            "stats",
            "--no-stream",
            "--format",
            "{{.PIDS}} {{.MemUsage}}",
            "stats",
        ])
        .ok()?;
    assert!(done.stdout.starts_with("1 "), "{}", done.stdout);
    let done = podman.cli(["top", "stats", "args"]).ok()?;
    assert!(done.stdout.contains("sleep 1000"), "{}", done.stdout);
    podman.remove("stats")
}

fn checks_health(podman: &Podman) -> Result<()> {
    // Without systemd nothing runs the check on a timer; it is run by hand.
    let flags = [
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "disable",
    ];
    podman.detached("health", &flags, &["sleep", "1000"])?;
    assert_ne!(
        podman.cli(["healthcheck", "run", "health"]).run()?.code(),
        0
    );
    podman.cli(["exec", "health", "touch", "/tmp/well"]).ok()?;
    podman.cli(["healthcheck", "run", "health"]).ok()?;
    podman.remove("health")
}

/// The ids of the first container stay the second one's when the first is gone.
fn joins_a_containers_users(podman: &Podman) -> Result<()> {
    // Who makes the cgroup that all are in removes it, when it goes last.
    podman.detached("first", &[], &["sleep", "1000"])?;
    podman.detached("owner", &[], &["sleep", "1000"])?;
    let joining = ["--userns", "container:owner"];
    podman.detached("joiner", &joining, &["sleep", "1000"])?;
    let map = |name: &str| podman.cli(["exec", name, "cat", "/proc/self/uid_map"]).ok();
    let shared = map("joiner")?.stdout;
    assert_eq!(map("owner")?.stdout, shared);
    let look = [
        "exec",
        "joiner",
        "sh",
        "-c",
        "touch /made && stat -c %u /made",
    ];
    assert_eq!(podman.cli(look).ok()?.stdout.trim(), "0");
    let first = shared.split_whitespace().nth(1).unwrap_or_default();
    let range = podman.enclave().path("/run/cofferdam/.ids").join(first);
    let holders = || fs::read_dir(&range).map_or(0, Iterator::count);
    assert_eq!(holders(), 2, "{shared}");
    // Podman deletes it when it has ended, and keeps its own record for the other's sake.
    podman.cli(["stop", "--time", "0", "owner"]).ok()?;
    for _ in 0..500 {
        if holders() < 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(map("joiner")?.stdout, shared);
    assert_eq!(holders(), 1, "{shared}: its ids are free");
    podman.remove("joiner")?;
    podman.remove("owner")?;
    podman.remove("first")?;
    assert!(!range.exists(), "{shared}: its ids are lost");
    Ok(())
}

fn groups_a_pod(podman: &Podman) -> Result<()> {
    let parent = format!("/{}", podman.enclave().tag());
    // No infra container: its image would have to be built or pulled.
    podman
        .cli([
            "pod",
            "create",
            "--name",
            "pod",
            "--infra=false",
            "--cgroup-parent",
            &parent,
        ])
        .ok()?;
    for name in ["one", "two"] {
        let flags = ["run", "--detach", "--pod", "pod", "--name", name];
        podman
            .cli(flags)
            .arg("localhost/busybox:latest")
            .args(["sleep", "1000"])
            .ok()?;
    }
    assert_eq!(
        podman.cli(["exec", "two", "echo", "here"]).ok()?.stdout,
        "here\n"
    );
    podman
        .cli(["pod", "rm", "--force", "--time", "0", "pod"])
        .ok()
        .map(drop)
}
