//! `cofferdam profile test`: a command in a container under a profile, and what it was denied.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use cofferdam_integration::{binaries::build_dir, gate};
use cofferdam_profiles::capability::ENGINE_DEFAULT;
use cofferdam_profiles::seccomp::{Arch, default_profile};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The built-in default without one call, as a file.
fn profile(dir: &Path, without: &str, default: &str) -> Result<std::path::PathBuf> {
    let mut profile = json!(default_profile(&ENGINE_DEFAULT.to_oci(), Arch::NATIVE));
    profile["defaultAction"] = json!(default);
    if let Some(fields) = profile.as_object_mut() {
        fields.remove("defaultErrnoRet");
    }
    for rule in profile["syscalls"].as_array_mut().into_iter().flatten() {
        if let Some(names) = rule["names"].as_array_mut() {
            names.retain(|name| name != without);
        }
    }
    let path = dir.join(format!("without-{without}-{default}.json"));
    fs::write(&path, profile.to_string())?;
    Ok(path)
}

/// Runs `cofferdam profile test` with its temporary files below `dir`.
fn test(dir: &Path, words: &[&str], profile: &Path) -> Result<(Option<i32>, Value, Output)> {
    let temporary = dir.join("tmp");
    fs::create_dir_all(&temporary)?;
    let output = Command::new(build_dir()?.join("cofferdam"))
        .args(["profile", "test", "--format", "json"])
        .arg(profile)
        .args(words)
        .env("TMPDIR", &temporary)
        .current_dir(dir)
        .output()?;
    assert_eq!(
        fs::read_dir(&temporary)?.count(),
        0,
        "nothing is left: {output:?}"
    );
    let said = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    Ok((output.status.code(), said, output))
}

#[test]
fn a_profile_is_tried_on_a_command() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    let (errno, kill) = ("SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS");
    let list: &[&str] = &["--", "ls", "/usr"];
    let soft: &[&str] = &["--no-kill", "--", "ls", "/usr"];

    // Nothing denied, and the command's own failure told apart from that.
    let whole = profile(dir, "nothing", errno)?;
    let (status, said, output) = test(dir, list, &whole)?;
    assert_eq!(
        (status, &said["denied"], &said["killed"]),
        (Some(0), &json!([]), &json!(false)),
        "{output:?}"
    );
    let (status, said, output) = test(dir, &["--", "false"], &whole)?;
    assert_eq!(
        (status, &said["status"]),
        (Some(3), &json!(1)),
        "{output:?}"
    );

    // What is denied is named, with the edit that would allow it.
    let named = |said: &Value| said["denied"][0]["syscall"].clone();
    let (status, said, output) = test(dir, list, &profile(dir, "getdents64", errno)?)?;
    assert_eq!(
        (status, named(&said)),
        (Some(1), json!("getdents64")),
        "{output:?}"
    );
    let edit = &said["denied"][0]["cause"]["edit"]["add"]["names"];
    assert_eq!(edit, &json!(["getdents64"]), "{said}");

    // A kill is told; --no-kill finds its call.
    let killing = profile(dir, "getdents64", kill)?;
    let (status, said, output) = test(dir, list, &killing)?;
    assert_eq!(
        (status, &said["killed"]),
        (Some(1), &json!(true)),
        "{output:?}"
    );
    let (status, said, output) = test(dir, soft, &killing)?;
    assert_eq!(
        (status, named(&said)),
        (Some(1), json!("getdents64")),
        "{output:?}"
    );

    // The host's directories are read-only, but for those that are named.
    let target = dir.join("written");
    let text = target.to_string_lossy();
    let write = ["--", "touch", text.as_ref()];
    let (status, ..) = test(dir, &write, &whole)?;
    assert!(status == Some(3) && !target.exists());
    let place = dir.to_string_lossy();
    let allowed = [&["--write", place.as_ref()][..], &write].concat();
    let (status, _, output) = test(dir, &allowed, &whole)?;
    assert!(status == Some(0) && target.exists(), "{output:?}");

    // A command that is not there is no result of the profile.
    let (status, ..) = test(dir, &["--", "no-such-command"], &whole)?;
    assert_eq!(status, Some(2));
    Ok(())
}

/// Each is in a cgroup of its own, which is named after the container.
#[test]
fn two_are_tried_at_a_time() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let dirs = [tempfile::tempdir()?, tempfile::tempdir()?];
    let results = std::thread::scope(|scope| {
        let running = dirs.each_ref().map(|dir| {
            scope.spawn(|| {
                let whole = profile(dir.path(), "nothing", "SCMP_ACT_ERRNO");
                let whole = whole.map_err(|error| error.to_string())?;
                let tried = test(dir.path(), &["--", "sleep", "1"], &whole);
                tried.map_err(|error| error.to_string())
            })
        });
        running.map(std::thread::ScopedJoinHandle::join)
    });
    for result in results {
        let (status, said, output) = result.map_err(|_| "a test panicked")??;
        assert_eq!(
            (status, &said["status"]),
            (Some(0), &json!(0)),
            "{output:?}"
        );
    }
    Ok(())
}
