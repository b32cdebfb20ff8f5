//! What people do with Docker, with 20.10 by runtime path and 28 by path and by `runtimeType`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use cofferdam_integration::{
    cases::{self, Case, Engine},
    client::{self, Client},
    command::{Cmd, eventually},
    docker::{Docker, Door, Version},
    error::{At, Result},
    gate,
};

const CASES: &[Case<Docker>] = &[
    ("gives_statistics", gives_statistics),
    ("updates_limits", updates_limits),
    ("checks_health", checks_health),
    ("has_a_network", has_a_network),
    ("lists_processes", lists_processes),
    ("says_that_memory_ran_out", says_that_memory_ran_out),
    ("copies_owners_both_ways", copies_owners_both_ways),
    (
        "gives_privileges_of_files_by_policy_only",
        gives_privileges_of_files_by_policy_only,
    ),
    (
        "gives_what_the_administrator_allows",
        gives_what_the_administrator_allows,
    ),
];

fn suite(version: Version, door: Door) -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(engine) = gate::present(Docker::start(version, door))? else {
        return Ok(());
    };
    let mut cases = [client::cases(), CASES.to_vec()].concat();
    leave_copies_out_where_docker_cannot(&engine, &mut cases)?;
    cases::run(&engine, &cases)
}

/// What copies into containers.
const COPYING: &[&str] = &[
    "copies_files",
    "copies_owners_both_ways",
    "gives_privileges_of_files_by_policy_only",
];

/// Docker 28 unpacks in a root without `/proc`, by a call that Linux has since 6.6 and that is made up for
/// through `/proc` before. A container of runc's shows whether that is so here.
fn leave_copies_out_where_docker_cannot(
    docker: &Docker,
    cases: &mut Vec<Case<Docker>>,
) -> Result<()> {
    let refused = docker.refuses_to_copy_into_runc()?;
    if let Some(refused) = refused {
        assert!(refused.contains("via /proc/self/fd/"), "{refused}");
        gate::inapplicable(&format!(
            "Docker copies into no container here, one of runc's neither ({refused}): {COPYING:?}"
        ));
        cases.retain(|(name, _)| !COPYING.contains(name));
    }
    Ok(())
}

#[test]
fn docker_20_10_by_path() -> Result<()> {
    suite(Version::V20_10, Door::Path)
}

#[test]
fn docker_28_by_path() -> Result<()> {
    suite(Version::V28, Door::Path)
}

#[test]
fn docker_28_by_shim() -> Result<()> {
    suite(Version::V28, Door::Shim)
}

/// Containers get the ids that dockerd says, not a range of the runtime's.
#[test]
fn docker_28_with_remapped_users() -> Result<()> {
    const FIRST: u32 = 1_000_000_000;
    if gate::root().is_none() {
        return Ok(());
    }
    for door in [Door::Shim, Door::Path] {
        let engine = Docker::start_remapped(Version::V28, door, FIRST);
        let Some(engine) = gate::present(engine)? else {
            return Ok(());
        };
        let mut cases = client::cases();
        cases.retain(|(name, _)| REMAPPED.contains(name));
        assert_eq!(cases.len(), REMAPPED.len());
        cases.push(("keeps_the_engines_ids", keeps_the_engines_ids));
        leave_copies_out_where_docker_cannot(&engine, &mut cases)?;
        cases::run(&engine, &cases)?;
    }
    Ok(())
}

/// What has the same outcome where dockerd maps the users.
const REMAPPED: &[&str] = &[
    "runs",
    "execs",
    "copies_files",
    "takes_a_user",
    "commits_what_root_made",
    "stops_kills_restarts",
];

fn keeps_the_engines_ids(docker: &Docker) -> Result<()> {
    let map = |text: &str| -> Vec<u32> {
        let words = text.split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    let expected = [0, 1_000_000_000, 65536].repeat(2);
    let script = "cat /proc/self/uid_map /proc/self/gid_map";
    docker.detached(
        "remapped",
        &["-v", "remapped:/v"],
        &["sh", "-c", "echo x >/v/f; chown 7:8 /v/f; exec sleep 1000"],
    )?;
    let init = docker.run(&[], &["sh", "-c", script])?;
    assert_eq!(map(&init.stdout), expected);
    let exec = docker.cli(["exec", "remapped", "sh", "-c", script]).ok()?;
    assert_eq!(map(&exec.stdout), expected);
    let volume = docker.cli(["volume", "inspect", "--format", "{{.Mountpoint}}"]);
    let volume = volume.arg("remapped").ok()?.stdout;
    let stat = docker.enclave().cmd("stat").args(["-c", "%u:%g"]);
    let owner = stat.arg(format!("{}/f", volume.trim())).ok()?.stdout;
    assert_eq!(owner, "1000000007:1000000008\n");
    docker.remove("remapped")?;
    docker.cli(["volume", "rm", "remapped"]).ok().map(drop)
}

fn copies_owners_both_ways(docker: &Docker) -> Result<()> {
    let script = "mkdir /tmp/d; cd /tmp/d; echo x >root; echo x >user; chown 1000:2000 user; \
                  chmod 600 user; echo x >last; chown 65535 last; echo made; exec sleep 1000";
    docker.detached("copies", &[], &["sh", "-euc", script])?;
    eventually(
        "everything is made",
        Duration::from_secs(10),
        || match docker.cli(["logs", "copies"]).run() {
            Ok(done) if done.stdout == "made\n" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )?;
    let archive = docker.cli(["cp", "copies:/tmp/d", "-"]).ok()?.stdout;
    let list = Cmd::new("tar").args(["--list", "--verbose", "--numeric-owner", "--file", "-"]);
    let list = list.stdin(archive).ok()?.stdout;
    for (name, owner) in [
        ("d/root", "-rw-r--r-- 0/0"),
        ("d/user", "-rw------- 1000/2000"),
        ("d/last", "-rw-r--r-- 65535/0"),
    ] {
        let line = list.lines().find(|line| line.ends_with(name));
        assert!(line.is_some_and(|line| line.starts_with(owner)), "{list}");
    }
    let dir = docker.enclave().dir().join("to-copy");
    fs::create_dir(&dir).at("make", &dir)?;
    for (name, owner, mode) in [("mine", "33:44", 0o600), ("its", "0:0", 0o644)] {
        let file = dir.join(name);
        fs::write(&file, name).at("write", &file)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).at("open", &file)?;
        Cmd::new("chown").arg(owner).arg(file).ok()?;
    }
    let archive = Cmd::new("tar").args(["--create", "--numeric-owner", "--file", "-"]);
    let archive = archive.arg("--directory").arg(&dir).args(["mine", "its"]);
    let archive = archive.ok()?.stdout;
    docker
        .cli(["cp", "-", "copies:/tmp/d"])
        .stdin(archive)
        .ok()?;
    let script = "cd /tmp/d && cat mine && stat -c %u:%g mine its && rm mine";
    let exec = docker.cli(["exec", "copies", "sh", "-c", script]).ok()?;
    assert_eq!(exec.stdout, "mine33:44\n0:0\n");
    fs::remove_dir_all(&dir).at("remove", &dir)?;
    docker.remove("copies")
}

/// A set-user-id program and one with a capability, both in an image of their own.
fn gives_privileges_of_files_by_policy_only(docker: &Docker) -> Result<()> {
    let dir = docker.enclave().dir().join("opt");
    fs::create_dir(&dir).at("make", &dir)?;
    let probe = Path::new(env!("CARGO_BIN_EXE_attack-probe"));
    for (name, mode) in [("set-id", 0o4755), ("capable", 0o755), ("plain", 0o755)] {
        let path = dir.join(name);
        fs::copy(probe, &path).at("copy", probe)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at("open", path)?;
    }
    let secret = dir.join("secret");
    fs::write(&secret, "of root's").at("write", &secret)?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).at("close", &secret)?;
    // struct vfs_cap_data, revision 2, effective: CAP_DAC_OVERRIDE.
    let mut capability = [0_u8; 20];
    capability[..5].copy_from_slice(&[1, 0, 0, 2, 1 << 1]);
    let flags = rustix::fs::XattrFlags::empty();
    let capable = dir.join("capable");
    rustix::fs::setxattr(&capable, "security.capability", &capability, flags)
        .map_err(std::io::Error::from)
        .at("give a capability to", &capable)?;
    docker.detached("maker", &[], &["sleep", "1000"])?;
    docker.cli(["cp"]).arg(&dir).arg("maker:/").ok()?;
    let image = "localhost/privileged:latest";
    let commit = docker.cli(["commit", "--change", "USER 1000", "maker", image]);
    commit.ok()?;
    docker.remove("maker")?;
    let policy = "default = \"gains\"\n[policy.gains]\nno_new_privileges = false\n";
    let file = docker.enclave().dir().join("policy.toml");
    // By a shell: Docker 28 permits a user's first program its capabilities anyway, under runc too.
    for (attack, works) in [
        ("/opt/plain read /opt/secret", false),
        ("/opt/set-id euid", true),
        ("/opt/capable read /opt/secret", true),
    ] {
        let argv = ["sh", "-c", attack];
        let worked = |cmd: Cmd| -> Result<bool> { Ok(cmd.ok()?.json()?["worked"] == true) };
        let control = docker.run_by_runc(image, &["--rm"], &argv)?;
        assert_eq!(worked(control)?, works, "control: {attack}");
        let run = || docker.run_of(image, &["--rm"], &argv);
        assert!(!worked(run())?, "baseline: {attack}");
        fs::write(&file, policy).at("write", &file)?;
        let granted = worked(run());
        fs::write(&file, "").at("empty", &file)?;
        assert_eq!(granted?, works, "by policy: {attack}");
    }
    fs::remove_dir_all(&dir).at("remove", &dir)?;
    docker.cli(["rmi", image]).ok().map(drop)
}

fn gives_statistics(docker: &Docker) -> Result<()> {
    docker.detached("stats", &[], &["sleep", "1000"])?;
    let done = docker
        .cli([
            "stats",
            "--no-stream",
            "--format",
            "{{.PIDs}} {{.MemUsage}}",
            "stats",
        ])
        .ok()?;
    assert!(
        done.stdout.starts_with("1 ") && !done.stdout.starts_with("1 0B"),
        "{}",
        done.stdout
    );
    docker.remove("stats")
}

fn updates_limits(docker: &Docker) -> Result<()> {
    docker.detached("update", &["--memory", "64m"], &["sleep", "1000"])?;
    docker
        .cli([
            "update",
            "--memory",
            "32m",
            "--memory-swap",
            "-1",
            "--pids-limit",
            "9",
            "update",
        ])
        .ok()?;
    let id = docker.inspect("update", ".Id")?;
    let parent = docker.enclave().tag();
    let files = [
        format!("/sys/fs/cgroup/memory/{parent}/{id}/memory.limit_in_bytes"),
        format!("/sys/fs/cgroup/{parent}/{id}/memory.max"),
    ];
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
    assert_eq!(text.unwrap_or_default().trim(), "33554432");
    docker.remove("update")
}

fn checks_health(docker: &Docker) -> Result<()> {
    let flags = [
        "--health-cmd",
        "test -e /tmp/well",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
    ];
    docker.detached("health", &flags, &["sleep", "1000"])?;
    let is = |wanted: &'static str| {
        eventually(wanted, Duration::from_secs(15), || {
            match docker.inspect("health", ".State.Health.Status") {
                Ok(status) if status == wanted => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
    };
    is("unhealthy")?;
    docker.cli(["exec", "health", "touch", "/tmp/well"]).ok()?;
    is("healthy")?;
    docker.remove("health")
}

fn has_a_network(docker: &Docker) -> Result<()> {
    let done = docker.run(&["--network", "none"], &["ip", "-o", "link"])?;
    assert!(
        done.stdout.contains("lo:") && !done.stdout.contains("eth0"),
        "{}",
        done.stdout
    );
    docker.detached(
        "server",
        &[],
        &["sh", "-c", "while :; do echo hello | nc -l -p 80; done"],
    )?;
    let address = docker.inspect("server", ".NetworkSettings.Networks.bridge.IPAddress")?;
    let script =
        format!("for i in 1 2 3 4 5 6 7 8 9; do nc -w 2 {address} 80 && exit; sleep 0.2; done");
    let done = docker.run(&[], &["sh", "-c", &script])?;
    assert_eq!(done.stdout, "hello\n", "{done:?}");
    docker.remove("server")
}

fn lists_processes(docker: &Docker) -> Result<()> {
    docker.detached("top", &[], &["sleep", "1000"])?;
    let done = docker.cli(["top", "top"]).ok()?;
    assert!(done.stdout.contains("sleep 1000"), "{}", done.stdout);
    docker.remove("top")
}

fn says_that_memory_ran_out(docker: &Docker) -> Result<()> {
    let flags = ["--name", "oom", "--memory", "16m"];
    let done = docker.run_with(&flags, &["tail", "/dev/zero"]).run()?;
    assert_eq!(done.code(), 137, "{done:?}");
    assert_eq!(docker.inspect("oom", ".State.OOMKilled")?, "true");
    docker.remove("oom")
}

fn gives_what_the_administrator_allows(docker: &Docker) -> Result<()> {
    const SYS_ADMIN: u64 = 1 << 21;
    let file = docker.enclave().dir().join("policy.toml");
    let policy = "default = \"wide\"\n[policy.wide.capabilities]\nbounding = [\"SYS_ADMIN\"]\n";
    fs::write(&file, policy).at("write", &file)?;
    let granted = client::bounding(docker, &["--cap-drop", "ALL", "--cap-add", "SYS_ADMIN"]);
    fs::write(&file, "").at("empty", &file)?;
    assert_eq!(granted?, SYS_ADMIN);
    Ok(())
}
