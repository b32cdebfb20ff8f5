use cofferdam_integration::{error::Result, gate::Guest};
use serde_json::json;

use crate::yard::{self, Yard};

#[test]
fn limits_reach_the_kernel() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Script)? else {
        return Ok(());
    };
    let (resources, expected) = yard::limits();
    let container = yard.sleeper("limited", &resources)?;
    assert!(container.cgroup()?.ends_with("lab/limited"));
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
    container.holds(&[
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("pids.max", "10"),
        ("cpu.max", "30000 100000"),
    ])?;
    container.delete()
}

#[test]
fn memory_is_limited() -> Result<()> {
    Yard::new(Guest::Script)?.map_or(Ok(()), |yard| yard::memory_is_limited(&yard))
}

#[test]
fn processes_are_limited() -> Result<()> {
    Yard::new(Guest::Script)?.map_or(Ok(()), |yard| yard::processes_are_limited(&yard))
}

#[test]
fn devices_are_denied() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Script)? else {
        return Ok(());
    };
    let container = yard.sleeper("nodes", &json!({}))?;
    yard::devices_are_denied(&container)?;
    container.delete()
}

#[test]
fn processor_time_is_limited() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Script)? else {
        return Ok(());
    };
    let spin = ["sh", "-c", "while :; do :; done"];
    let tenth = json!({"cpu": {"quota": 10_000, "period": 100_000}});
    let mut used = Vec::new();
    for (id, resources) in [("slow", tenth), ("fast", json!({}))] {
        let container = yard.start(&yard.bundle(id, &spin, &resources)?, id)?;
        std::thread::sleep(std::time::Duration::from_secs(5));
        let stat = container.read("cpu.stat")?;
        let field = |name: &str| {
            let line = stat.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|text| text.trim().parse::<u64>().ok())
        };
        used.push((field("usage_usec"), field("nr_throttled")));
        container.delete()?;
    }
    let [(slow, throttled), (fast, free)] = used[..] else {
        return Ok(());
    };
    // The processor is the test's alone: the free one gets nearly all of it.
    assert!(throttled > Some(0) && free == Some(0), "{used:?}");
    assert!(slow.map(|time| time * 2) < fast, "{used:?}");
    Ok(())
}

#[test]
fn frozen_processes_stand_still() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Script)? else {
        return Ok(());
    };
    let container = yard.sleeper("frozen", &json!({}))?;
    container.command(&["pause", "frozen"])?.ok()?;
    assert!(container.read("cgroup.events")?.contains("frozen 1"));
    container.command(&["resume", "frozen"])?.ok()?;
    assert!(container.read("cgroup.events")?.contains("frozen 0"));
    container.delete()
}
