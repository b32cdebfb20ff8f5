use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use cofferdam_integration::{
    command::Cmd,
    error::{At as _, Result},
    gate::Guest,
};
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

/// This kernel cannot map owners on tmpfs, where Podman and CRI keep shared memory. That belongs to nobody
/// then and works; a volume is refused by name.
#[test]
fn engines_shared_memory_works_where_tmpfs_cannot_be_mapped() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Script)? else {
        return Ok(());
    };
    let place = tempfile::tempdir_in("/run").at("make a directory in", "/run")?;
    // Where Podman has it.
    let container = place.path().join("overlay-containers").join("5".repeat(64));
    let shm = container.join("userdata/shm");
    fs::create_dir_all(&shm).at("make", &shm)?;
    let options = ["-t", "tmpfs", "-o", "mode=1777", "tmpfs"];
    Cmd::new("mount").args(options).arg(&shm).ok()?;
    let other = shm.join("other");
    fs::create_dir(&other).at("make", &other)?;
    let made = || -> Result<()> {
        let script = "echo x >/dev/shm/made && stat -c %u:%a /dev/shm /dev/shm/made && sleep 1000";
        let mut bundle = yard.bundle("shm", &["sh", "-c", script], &json!({}))?;
        let bind = |source: &Path, destination: &str| {
            json!({"destination": destination, "type": "bind", "source": source,
                "options": ["rbind", "rw", "nosuid", "nodev", "noexec"]})
        };
        let mounts = bundle.spec["mounts"].as_array_mut();
        let mounts = mounts.map(|all| {
            all.retain(|mount| mount["destination"] != "/dev/shm");
            all.push(bind(&shm, "/dev/shm"));
        });
        assert!(mounts.is_some());
        let container = yard.start(&bundle, "shm")?;
        container.prints("65534:1777\n0:644\n")?;
        let file = shm.join("made");
        let owner = fs::metadata(&file).at("look at", file)?.uid();
        assert!(owner > 65_535, "the host's id {owner}");
        let record = container.record()?;
        assert!(record.contains("the engine made them"), "{record}");
        container.delete()?;

        // A volume, and one that calls itself shared memory.
        for (source, destination) in [(&shm, "/volume"), (&other, "/dev/shm")] {
            let mut bundle = yard.bundle("volume", &["true"], &json!({}))?;
            if let Some(mounts) = bundle.spec["mounts"].as_array_mut() {
                mounts.retain(|mount| mount["destination"] != destination);
                mounts.push(bind(source, destination));
            }
            let done = yard.run(&bundle, "volume")?;
            let said = "the file system tmpfs of the source cannot be id-mapped";
            assert!(
                !done.status.success() && done.stderr.contains(said),
                "{done:?}"
            );
        }
        Ok(())
    };
    let outcome = made();
    Cmd::new("umount").arg(&shm).ok()?;
    outcome
}
