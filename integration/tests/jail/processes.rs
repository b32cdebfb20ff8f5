//! The two processes: ids, namespaces, ends.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::time::{Duration, Instant};

use cofferdam_integration::error::{At, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::yard::{ID, Yard};

/// A probe in the jail that waits.
struct Held {
    outer: Child,
    inner: i32,
    input: Option<ChildStdin>,
    output: BufReader<std::process::ChildStdout>,
}

impl Held {
    fn new(yard: &Yard, place: &str) -> Self {
        let mut command = yard.command(place, &["hold"]);
        let mut outer = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the probe runs");
        let mut output = BufReader::new(outer.stdout.take().expect("an output"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it says something");
        assert_eq!(line, "ready\n");
        let id = outer.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.expect("its children are listed");
        Self {
            input: outer.stdin.take(),
            inner: children.trim().parse().expect("one child"),
            outer,
            output,
        }
    }

    /// Lets it go on with a line, and returns what it says.
    fn say(&mut self, line: &str) -> String {
        let mut input = self.input.take().expect("an input");
        writeln!(input, "{line}").expect("it listens");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("it answers");
        answer.trim_end().to_owned()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.outer.kill());
        drop(self.outer.wait());
    }
}

fn status(pid: i32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
    line.expect("the field").replace('\t', " ")
}

fn gone(pid: i32) -> bool {
    let started = Instant::now();
    while Path::new(&format!("/proc/{pid}")).exists() {
        if started.elapsed() > Duration::from_secs(10) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn it_is_nobody_in_namespaces_of_its_own() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let held = Held::new(&yard, "jailed");
    let ids = [ID; 4].map(|id| id.to_string()).join(" ");
    for (field, value) in [
        ("Uid", ids.as_str()),
        ("Gid", &ids),
        ("Groups", " "),
        ("NoNewPrivs", "1"),
        // Owners and modes of files, within its ids.
        ("CapPrm", "00000000800000db"),
        ("CapEff", "00000000800000db"),
        ("CapBnd", "00000000800000db"),
        ("CapInh", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NSpid", &format!("{} 1", held.inner)),
    ] {
        assert_eq!(status(held.inner, field), value, "{field}");
    }
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
        let of = |pid: String| {
            let path = format!("/proc/{pid}/ns/{kind}");
            fs::read_link(&path).at("read", path)
        };
        assert_ne!(
            of(held.inner.to_string())?,
            of("self".to_owned())?,
            "{kind}"
        );
    }
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", held.inner));
    let mounts = mounts.expect("its mounts");
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", held.inner)).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let core: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(core.get(4..6), Some(&["0", "0"][..]), "{core:?}");
    // Whom it waits for can do nothing but that.
    let outer = i32::try_from(held.outer.id()).expect("an id");
    assert_eq!(status(outer, "Seccomp"), "2");
    assert_eq!(status(outer, "CapEff"), "0000000000000000");
    assert_eq!(status(outer, "Threads"), "1");
    Ok(())
}

#[test]
fn no_thread_of_the_machines_has_capabilities() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    // The devices' filter lets it read.
    let held = Held::new(&yard, "devices");
    assert_eq!(status(held.inner, "CapPrm"), "0000000000000000");
    assert_eq!(status(held.inner, "Seccomp"), "2");
    Ok(())
}

#[test]
fn what_the_host_mounts_later_is_seen() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let place = yard.inside("late");
    fs::create_dir(&place).at("make", &place)?;
    let mut held = Held::new(&yard, "jailed");
    let mut control = Held::new(&yard, "jailed");
    assert!(control.say("late/new").starts_with("refused: No such file"));
    let none = None::<&str>;
    mount(Some("late"), &place, Some("tmpfs"), MsFlags::MS_NODEV, none).expect("mount");
    fs::write(place.join("new"), "new").at("write", &place)?;
    assert_eq!(held.say("late/new"), "done");
    Ok(())
}

#[test]
fn both_processes_end_together() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    for status in [0, 7, 255] {
        let output = yard.output("jailed", &["end", &status.to_string()]);
        assert_eq!(output.status.code(), Some(status));
    }
    // The inner one is killed.
    let mut held = Held::new(&yard, "jailed");
    kill(Pid::from_raw(held.inner), Signal::SIGKILL).expect("kill");
    assert_eq!(held.outer.wait().expect("an end").code(), Some(137));
    // The outer one is, by what it cannot catch and by what it could.
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let mut held = Held::new(&yard, "jailed");
        kill(Pid::from_raw(held.outer.id().cast_signed()), signal).expect("kill");
        let ended = held.outer.wait().expect("an end");
        assert_eq!(ended.signal(), Some(signal as i32));
        assert!(gone(held.inner), "the inner process goes on");
    }
    Ok(())
}

#[test]
fn what_is_no_directory_or_no_range_is_refused() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    fs::remove_file(yard.inside("own")).at("remove", yard.inside("own"))?;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_jail-probe"));
    command.arg("jailed").arg(yard.beside("none"));
    let output = command.args(["3000000000", "hold"]).output();
    let output = output.expect("the probe runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot mount the shared directory for the machine's jail")
            && said.contains("No such file"),
        "{said}"
    );
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_jail-probe"));
    command.arg("jailed").arg(yard.root());
    // The range would end above all ids.
    let output = command.args(["4294967290", "hold"]).output();
    let said = output.expect("the probe runs").stdout;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("cannot map user ids"), "{said}");
    Ok(())
}
