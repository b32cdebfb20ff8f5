//! Limits and permissions: what is read-only, users, capabilities, seccomp, memory, processes.

use std::fs;

use super::Client;
use crate::{
    binaries::Runtime,
    error::{At, Result},
};

pub(super) fn is_read_only_when_asked<E: Client>(engine: &E) -> Result<()> {
    let done = engine
        .run_with(
            &["--rm", "--read-only", "--tmpfs", "/tmp"],
            &["sh", "-c", "touch /tmp/x && touch /x"],
        )
        .run()?;
    assert_eq!(done.code(), 1, "{done:?}");
    assert!(
        done.stderr.contains("/x: Read-only file system"),
        "{done:?}"
    );
    Ok(())
}

pub(super) fn takes_a_user<E: Client>(engine: &E) -> Result<()> {
    for (user, expected) in [("1000", "1000 1000"), ("user", "1000 1000"), ("7:8", "7 8")] {
        let done = engine.run(&["--user", user], &["sh", "-c", "echo $(id -u) $(id -g)"])?;
        assert_eq!(done.stdout.trim(), expected, "{user}");
    }
    let done = engine.run(&["--user", "user", "--group-add", "3000"], &["id", "-G"])?;
    assert!(done.stdout.contains("3000"), "{done:?}");
    Ok(())
}

/// The capability bounding set of a container that is run with these flags.
///
/// # Errors
/// If it does not run.
pub fn bounding<E: Client>(engine: &E, flags: &[&str]) -> Result<u64> {
    let script = "grep CapBnd /proc/self/status | cut -f2";
    let done = engine.run(flags, &["sh", "-c", script])?;
    Ok(u64::from_str_radix(done.stdout.trim(), 16).unwrap_or(u64::MAX))
}

pub(super) fn gives_capabilities_by_policy_only<E: Client>(engine: &E) -> Result<()> {
    const NET_BIND_SERVICE: u64 = 1 << 10;
    const SYS_ADMIN: u64 = 1 << 21;
    assert_eq!(bounding(engine, &["--cap-drop", "ALL"])?, 0);
    assert_eq!(
        bounding(
            engine,
            &["--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE"]
        )?,
        NET_BIND_SERVICE
    );
    assert_eq!(bounding(engine, &[])? & SYS_ADMIN, 0);
    if engine.runtime() == Runtime::Cofferdam {
        let done = engine
            .run_with(&["--rm", "--cap-add", "SYS_ADMIN"], &["true"])
            .run()?;
        assert_ne!(done.code(), 0, "the policy does not allow SYS_ADMIN");
        assert!(done.stderr.contains("SYS_ADMIN"), "{}", done.stderr);
        let done = engine
            .run_with(&["--rm", "--privileged"], &["true"])
            .run()?;
        assert_ne!(done.code(), 0, "the policy does not allow --privileged");
    }
    Ok(())
}

pub(super) fn takes_a_seccomp_profile<E: Client>(engine: &E) -> Result<()> {
    let file = engine.enclave().dir().join("seccomp.json");
    let profile = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 37 }],
    });
    fs::write(&file, profile.to_string()).at("write", &file)?;
    let option = format!("seccomp={}", file.display());
    let done = engine
        .run_with(
            &["--rm", "--security-opt", &option],
            &["sh", "-c", "touch /y && mkdir /x"],
        )
        .run()?;
    // 37 is ENOLCK.
    assert!(
        done.code() == 1 && done.stderr.contains("No locks available"),
        "{done:?}"
    );
    Ok(())
}

pub(super) fn limits_memory_and_processes<E: Client>(engine: &E) -> Result<()> {
    let done = engine
        .run_with(
            &["--name", "limits", "--memory", "16m"],
            &["tail", "/dev/zero"],
        )
        .run()?;
    assert_eq!(done.code(), 137, "{done:?}");
    engine.remove("limits")?;
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1 & done; wait";
    let done = engine
        .run_with(&["--rm", "--pids-limit", "5"], &["sh", "-c", script])
        .run()?;
    assert!(done.stderr.contains("can't fork"), "{done:?}");
    Ok(())
}
