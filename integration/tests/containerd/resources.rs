use cofferdam_integration::{cases::Case, containerd::Containerd, error::Result};

pub(crate) const CASES: &[Case<Containerd>] = &[
    ("applies_limits", applies_limits),
    ("gives_statistics", gives_statistics),
    ("lists_processes", lists_processes),
];

fn applies_limits(engine: &Containerd) -> Result<()> {
    let flags = [
        "--memory-limit",
        "33554432",
        "--cpu-quota",
        "50000",
        "--cpu-period",
        "100000",
    ];
    let container = engine.detached(&flags, "limits", &["sleep", "1000"])?;
    let read = |v1: &str, v2: &str| -> String {
        let below = format!("{}/limits", engine.namespace());
        let candidates = [
            format!("/sys/fs/cgroup/{v1}"),
            format!("/sys/fs/cgroup/{v2}"),
        ];
        let files = candidates.iter().map(|path| path.replace('*', &below));
        let text = files
            .filter_map(|file| std::fs::read_to_string(file).ok())
            .next();
        text.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(
        read("memory/*/memory.limit_in_bytes", "*/memory.max"),
        "33554432"
    );
    let quota = read("cpu/*/cpu.cfs_quota_us", "*/cpu.max");
    assert!(
        ["50000", "50000 100000"].contains(&quota.as_str()),
        "{quota}"
    );
    container.remove()
}

fn gives_statistics(engine: &Containerd) -> Result<()> {
    let container = engine.sleeper("metrics")?;
    let done = engine
        .ctr(["tasks", "metrics", "--format", "json", "metrics"])
        .ok()?;
    let json = done.json()?;
    let pids = json
        .pointer("/pids/current")
        .and_then(serde_json::Value::as_u64);
    assert_eq!(pids, Some(1), "{json}");
    // Memory is `usage.usage` in the v1 message and a plain `usage` in the v2 message.
    let memory = json
        .pointer("/memory/usage/usage")
        .or_else(|| json.pointer("/memory/usage"));
    assert!(
        memory
            .and_then(serde_json::Value::as_u64)
            .is_some_and(|used| used > 0),
        "{json}"
    );
    assert!(
        json.get("cpu").or_else(|| json.get("CPU")).is_some(),
        "{json}"
    );
    container.remove()
}

fn lists_processes(engine: &Containerd) -> Result<()> {
    let container = engine.detached(&[], "ps", &["sh", "-c", "sleep 1000 & sleep 1000 & wait"])?;
    let mut count = 0;
    cofferdam_integration::command::eventually(
        "three processes are listed",
        std::time::Duration::from_secs(5),
        || {
            let done = engine.ctr(["tasks", "ps", "ps"]).run();
            let text = done.map(|done| done.stdout).unwrap_or_default();
            count = text.lines().count().saturating_sub(1);
            if count == 3 { Ok(()) } else { Err(text) }
        },
    )?;
    container.remove()
}
