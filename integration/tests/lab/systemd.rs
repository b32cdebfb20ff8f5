use cofferdam_integration::{command::Cmd, error::Result, gate::Guest};
use serde_json::json;

use crate::yard::{self, Yard};

/// Engines with the driver that they take by default on such a host.
mod engines;

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
