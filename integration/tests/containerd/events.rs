use std::time::Duration;

use cofferdam_integration::{
    cases::Case, command::eventually, containerd::Containerd, error::Result,
};

pub(crate) const CASES: &[Case<Containerd>] = &[
    ("come_in_order", come_in_order),
    ("tell_of_pause_and_resume", tell_of_pause_and_resume),
    ("tell_of_an_oom_kill", tell_of_an_oom_kill),
    ("give_the_exit_status", give_the_exit_status),
];

/// The task topics that name the container, in the order of their arrival, until `last` has come
/// `times` times.
fn topics(output: impl Fn() -> String, id: &str, last: &str, times: usize) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    eventually(&format!("{last} arrives"), Duration::from_secs(10), || {
        let text = output();
        let named = format!("\"{id}\"");
        let lines = text.lines().filter(|line| line.contains(&named));
        seen = lines
            .filter_map(|line| {
                line.split_whitespace()
                    .find(|word| word.starts_with("/tasks/"))
            })
            .map(str::to_owned)
            .collect();
        if seen.iter().filter(|topic| *topic == last).count() == times {
            Ok(())
        } else {
            Err(text)
        }
    })?;
    Ok(seen)
}

fn come_in_order(engine: &Containerd) -> Result<()> {
    let events = engine.events()?;
    let container = engine.sleeper("ordered")?;
    engine.exec("ordered", &["true"])?;
    container.remove()?;
    let seen = topics(|| events.output(), "ordered", "/tasks/delete", 1)?;
    assert_eq!(
        seen,
        [
            "/tasks/create",
            "/tasks/start",
            "/tasks/exec-added",
            "/tasks/exec-started",
            "/tasks/exit",
            "/tasks/exit",
            "/tasks/delete",
        ],
        "{}",
        events.output()
    );
    Ok(())
}

fn tell_of_pause_and_resume(engine: &Containerd) -> Result<()> {
    let events = engine.events()?;
    let container = engine.sleeper("paused")?;
    engine.ctr(["tasks", "pause", "paused"]).ok()?;
    engine.ctr(["tasks", "resume", "paused"]).ok()?;
    container.remove()?;
    let seen = topics(|| events.output(), "paused", "/tasks/delete", 1)?;
    let expected = ["create", "start", "paused", "resumed", "exit", "delete"];
    assert_eq!(seen, expected.map(|topic| format!("/tasks/{topic}")));
    Ok(())
}

fn tell_of_an_oom_kill(engine: &Containerd) -> Result<()> {
    let events = engine.events()?;
    let done = engine
        .ctr_run(
            &["--rm", "--memory-limit", "16777216"],
            "oom",
            &["tail", "/dev/zero"],
        )
        .run()?;
    assert_eq!(done.code(), 137, "{done:?}");
    let seen = topics(|| events.output(), "oom", "/tasks/delete", 1)?;
    assert!(seen.iter().any(|topic| topic == "/tasks/oom"), "{seen:?}");
    Ok(())
}

fn give_the_exit_status(engine: &Containerd) -> Result<()> {
    let events = engine.events()?;
    let done = engine
        .ctr_run(&["--rm"], "status", &["sh", "-c", "exit 42"])
        .run()?;
    assert_eq!(done.code(), 42);
    topics(|| events.output(), "status", "/tasks/delete", 1)?;
    let text = events.output();
    let exit = text
        .lines()
        .find(|line| line.contains("/tasks/exit") && line.contains("\"status\""));
    let exit = exit.unwrap_or_default();
    assert!(exit.contains("\"exit_status\":42"), "{text}");
    assert!(exit.contains("\"exited_at\""), "{text}");
    Ok(())
}
