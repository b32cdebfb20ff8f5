use cofferdam_integration::{
    command::Cmd,
    error::{At as _, Result},
    gate::Guest,
};
use serde_json::json;

use crate::yard::{self, Yard};

/// A property of a unit, as systemd has it.
fn property(unit: &str, name: &str) -> Result<String> {
    let done = Cmd::new("systemctl")
        .args(["show", "--value", "--property", name, unit])
        .ok()?;
    Ok(done.stdout.trim().to_owned())
}

/// systemd then writes again what it believes to be the limits.
fn reload() -> Result<()> {
    Cmd::new("systemctl").arg("daemon-reload").ok().map(drop)
}

#[test]
fn a_scope_lives_as_long_as_its_container() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Systemd)? else {
        return Ok(());
    };
    let container = yard.sleeper("alive", &json!({}))?;
    assert!(container.cgroup()?.ends_with("lab.slice/lab-alive.scope"));
    assert_eq!(property("lab-alive.scope", "ActiveState")?, "active");
    assert_eq!(property("lab-alive.scope", "Delegate")?, "yes");
    let there = container.exec(&["cat", "/proc/self/cgroup"])?.ok()?;
    assert_eq!(there.stdout, "0::/\n", "exec is in the same cgroup");
    container.delete()?;
    assert_eq!(property("lab-alive.scope", "LoadState")?, "not-found");

    // One that ends by itself, and a name that is free again.
    for _ in 0..2 {
        let done = yard.run(&yard.bundle("short", &["true"], &json!({}))?, "short")?;
        assert!(done.status.success(), "{done:?}");
        assert_eq!(property("lab-short.scope", "LoadState")?, "not-found");
    }
    Ok(())
}

#[test]
fn limits_are_systemds_and_survive_a_reload() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Systemd)? else {
        return Ok(());
    };
    let (resources, expected) = yard::limits();
    let container = yard.sleeper("limited", &resources)?;
    container.holds(expected)?;
    for (name, value) in [
        ("MemoryMax", "33554432"),
        ("MemorySwapMax", "0"),
        ("MemoryLow", "16777216"),
        ("CPUQuotaPerSecUSec", "300ms"),
        ("CPUWeight", "174"),
        ("TasksMax", "64"),
    ] {
        assert_eq!(property("lab-limited.scope", name)?, value, "{name}");
    }
    reload()?;
    container.holds(expected)?;
    let flags = [
        "update",
        "--memory",
        "64M",
        "--memory-swap",
        "96M",
        "--pids-limit",
        "10",
        "limited",
    ];
    container.command(&flags)?.ok()?;
    let updated = [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("pids.max", "10"),
        ("cpu.max", "30000 100000"),
    ];
    container.holds(&updated)?;
    reload()?;
    container.holds(&updated)?;
    container.delete()
}

#[test]
fn memory_is_limited() -> Result<()> {
    Yard::new(Guest::Systemd)?.map_or(Ok(()), |yard| yard::memory_is_limited(&yard))
}

#[test]
fn processes_are_limited() -> Result<()> {
    Yard::new(Guest::Systemd)?.map_or(Ok(()), |yard| yard::processes_are_limited(&yard))
}

#[test]
fn devices_are_denied_after_a_reload_too() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Systemd)? else {
        return Ok(());
    };
    let container = yard.sleeper("nodes", &json!({}))?;
    yard::devices_are_denied(&container)?;
    reload()?;
    yard::devices_are_denied(&container)?;
    container.delete()
}

#[test]
fn frozen_processes_stand_still() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Systemd)? else {
        return Ok(());
    };
    let container = yard.sleeper("frozen", &json!({}))?;
    container.command(&["pause", "frozen"])?.ok()?;
    assert!(container.read("cgroup.events")?.contains("frozen 1"));
    container.command(&["resume", "frozen"])?.ok()?;
    assert!(container.read("cgroup.events")?.contains("frozen 0"));
    container.command(&["pause", "frozen"])?.ok()?;
    // What stands still is deleted as well.
    container.delete()
}

#[test]
fn a_pods_slices_are_made_and_names_are_judged() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Systemd)? else {
        return Ok(());
    };
    let mut bundle = yard.bundle("pod", &["sleep", "1000"], &json!({}))?;
    let path = "kubepods-burstable-pod1.slice:cri-containerd:pod";
    bundle.spec["linux"]["cgroupsPath"] = json!(path);
    let container = yard.start(&bundle, "pod")?;
    let within = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-pod.scope";
    assert!(container.cgroup()?.ends_with(within));

    // Another container does not get into a scope that is there.
    let mut second = yard.bundle("second", &["true"], &json!({}))?;
    second.spec["linux"]["cgroupsPath"] = json!(path);
    let done = yard.run(&second, "second")?;
    assert!(!done.status.success(), "{done:?}");
    assert!(done.stderr.contains("cri-containerd-pod.scope"), "{done:?}");
    assert!(
        container.exec(&["true"])?.run()?.status.success(),
        "the first lives on"
    );
    container.delete()?;

    let mut plain = yard.bundle("plain", &["true"], &json!({}))?;
    plain.spec["linux"]["cgroupsPath"] = json!("/lab/plain");
    let done = yard.run(&plain, "plain")?;
    assert!(
        !done.status.success() && done.stderr.contains("slice:prefix:name"),
        "{done:?}"
    );
    Ok(())
}

/// Podman as an administrator of such a host uses it, with the driver that it takes by default.
#[test]
fn podman_runs_containers_in_scopes() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Systemd)? else {
        return Ok(());
    };
    let dir = tempfile::tempdir().at("make", "a temporary directory")?;
    let podman = |words: &[&str]| -> Result<Cmd> {
        let runtime = cofferdam_integration::binaries::Runtime::under_test().oci()?;
        Ok(Cmd::new("podman")
            .arg("--root")
            .arg(dir.path().join("storage"))
            .arg("--runroot")
            .arg(dir.path().join("run"))
            .args([
                "--storage-driver",
                "vfs",
                "--cgroup-manager",
                "systemd",
                "--events-backend",
                "file",
            ])
            .arg("--runtime")
            .arg(runtime)
            .args(words))
    };
    let archive = yard.image().oci.display().to_string();
    podman(&["load", "--quiet", "--input", &archive])?.ok()?;
    let flags = "run --detach --network none --name scoped --memory 64m --pids-limit 50";
    let mut words: Vec<_> = flags.split(' ').collect();
    words.extend([yard.image().name.as_str(), "sleep", "1000"]);
    let id = podman(&words)?.ok()?.stdout.trim().to_owned();
    let unit = format!("libpod-{id}.scope");
    assert_eq!(property(&unit, "ActiveState")?, "active");
    assert_eq!(property(&unit, "MemoryMax")?, "67108864");
    assert_eq!(property(&unit, "TasksMax")?, "50");
    let there = podman(&["exec", "scoped", "cat", "/sys/fs/cgroup/memory.max"])?.ok()?;
    assert_eq!(there.stdout, "67108864\n");
    podman(&["rm", "--force", "--time", "0", "scoped"])?.ok()?;
    assert_eq!(property(&unit, "LoadState")?, "not-found");
    Ok(())
}
