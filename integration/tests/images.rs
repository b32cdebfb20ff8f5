//! `cofferdam profile generate` on real programs and on an image, as a user goes on with what it writes:
//! the profile is checked by the other commands, and the program runs under it in a container.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use cofferdam_integration::{binaries::build_dir, gate, image::Image, loads::stage::rootfs};
use cofferdam_profiles::seccomp::compile;
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Runs a command with its temporary files and its cache below `dir`; no temporary file is left.
fn profile(dir: &Path, words: &[&str]) -> Result<Output> {
    let temporary = dir.join("tmp");
    fs::create_dir_all(&temporary)?;
    let output = Command::new(build_dir()?.join("cofferdam"))
        .arg("profile")
        .args(words)
        .env("TMPDIR", &temporary)
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .current_dir(dir)
        .output()?;
    let left = fs::read_dir(&temporary)?.count();
    assert_eq!(left, 0, "nothing is left: {output:?}");
    Ok(output)
}

/// What a command printed as JSON.
fn printed(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{error} in {output:?}").into())
}

/// Generates, checks what was written, and runs the command under it. `from` says where the program is;
/// `root` is the same as a directory.
fn judge(dir: &Path, from: &[&str], root: &Path, command: &[&str]) -> Result<Value> {
    let mut words = vec!["generate", "--format", "json", "--output", "p.json"];
    words.extend(["--evidence", "e.json"]);
    words.extend(from);
    words.push("--");
    words.extend(command);
    let output = profile(dir, &words)?;
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    let made = printed(&output)?;
    let written: LinuxSeccomp = serde_json::from_slice(&fs::read(dir.join("p.json"))?)?;
    compile(&written)?;
    let lint = profile(dir, &["lint", "p.json"])?;
    assert!(
        matches!(lint.status.code(), Some(0 | 1)),
        "errors: {lint:?}"
    );
    let explain = profile(dir, &["explain", "p.json", "execve"])?;
    assert_eq!(explain.status.code(), Some(0), "{explain:?}");
    let page = [
        "report",
        "p.json",
        "--evidence",
        "e.json",
        "--output",
        "p.html",
    ];
    let report = profile(dir, &page)?;
    assert_eq!(report.status.code(), Some(0), "{report:?}");
    assert!(fs::read_to_string(dir.join("p.html"))?.contains("execve"));
    let root = root.display().to_string();
    let mut trial = vec![
        "test", "p.json", "--format", "json", "--rootfs", &root, "--",
    ];
    trial.extend(command);
    let trial = profile(dir, &trial)?;
    let said = printed(&trial)?;
    assert_eq!(
        (&said["status"], &said["killed"]),
        (&json!(0), &json!(false)),
        "{trial:?}"
    );
    // Calls with an older fallback answer ENOSYS on purpose; those counted later are of the same.
    let denied: Vec<_> = said["denied"].as_array().into_iter().flatten().collect();
    let (counted, told): (Vec<_>, Vec<_>) = denied
        .into_iter()
        .partition(|line| line["type"] == "suppressed");
    for line in &told {
        assert_eq!(line["errno"], "ENOSYS", "{command:?}: {line}");
    }
    for line in counted {
        let known = told.iter().any(|one| one["syscall"] == line["syscall"]);
        assert!(known, "{command:?}: {line}");
    }
    // The control: without a call that every program makes, the same command fails.
    let mut without = written;
    let rules = without.syscalls().clone().unwrap_or_default();
    let rules = rules.into_iter().map(|mut rule| {
        let names = rule
            .names()
            .iter()
            .filter(|name| *name != "mmap" && *name != "write");
        let names = names.cloned().collect();
        rule.set_names(names);
        rule
    });
    without.set_syscalls(Some(rules.collect()));
    fs::write(dir.join("without.json"), serde_json::to_vec(&without)?)?;
    let mut trial = vec!["test", "without.json", "--rootfs", &root, "--"];
    trial.extend(command);
    let trial = profile(dir, &trial)?;
    assert_eq!(trial.status.code(), Some(1), "{command:?}: {trial:?}");
    Ok(made)
}

#[test]
fn programs_run_under_what_is_generated_for_them() -> Result<()> {
    if gate::root().is_none() || gate::present(rootfs("clients"))?.is_none() {
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let shell = "ls /usr | sort | wc -l; test -d /etc && id -u";
    let table: &[(&str, &[&str], &str)] = &[
        ("curl", &["curl", "--version"], "/usr/bin/curl"),
        (
            "sqlite",
            &["sqlite3", ":memory:", "select sum(1)"],
            "/usr/bin/sqlite3",
        ),
        (
            "redis",
            &["redis-server", "--version"],
            "/usr/bin/redis-check-rdb",
        ),
        ("git", &["git", "--version"], "/usr/bin/git"),
        ("bash", &["bash", "-c", shell], "/usr/bin/bash"),
        (
            "python",
            &["python3", "-c", "print(sum(range(9)))"],
            "/usr/bin/python3.11",
        ),
        (
            "containerd",
            &["containerd", "--version"],
            "/usr/bin/containerd",
        ),
    ];
    for (name, command, program) in table {
        let root = rootfs(name)?;
        let place = root.display().to_string();
        let made = judge(dir.path(), &["--rootfs", &place], &root, command)?;
        assert_eq!(made["program"], *program);
        let allowed = made["allowed"].as_u64().unwrap_or_default();
        let widened = made["unresolved"]
            .as_array()
            .is_some_and(|sites| !sites.is_empty());
        let docker = made["compared"]["docker_default"]
            .as_u64()
            .unwrap_or_default();
        assert!(
            widened || (20..docker).contains(&allowed),
            "{name}: {allowed}"
        );
    }
    Ok(())
}

#[test]
fn an_image_runs_under_what_is_generated_for_it() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(image) = gate::present(Image::busybox())? else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let command: &[&str] = &["sh", "-c", "ls / | sort | wc -l"];
    let mut profiles = Vec::new();
    for archive in [&image.oci, &image.docker] {
        let archive = archive.display().to_string();
        let made = judge(dir.path(), &["--image", &archive], &image.rootfs, command)?;
        assert_eq!(made["program"], "/bin/busybox");
        assert_eq!(made["image"]["layers"], 1);
        profiles.push(made["profile"].clone());
    }
    assert_eq!(
        profiles[0], profiles[1],
        "both archives are of the same image"
    );
    // The image's own command is a shell without a script, which is said by the exit status too.
    let archive = image.oci.display().to_string();
    let bare = profile(
        dir.path(),
        &["generate", "--image", &archive, "--output", "b.json"],
    )?;
    assert_eq!(bare.status.code(), Some(1), "{bare:?}");
    let text = String::from_utf8(bare.stdout)?;
    assert!(text.contains("what it will start is not known"), "{text}");
    Ok(())
}
