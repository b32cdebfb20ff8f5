//! What Landlock bounds: each attempt works in the same container without it, and fails in `run` and in
//! `exec` with it, while what the rules allow works.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use cofferdam_integration::{
    binaries::Runtime,
    bundle::Bundle,
    command::{Cmd, Done},
    error::{At, Error, Result},
    gate,
};
use serde_json::{Value, json};

use crate::arena::{Arena, Outcome, outcome};

/// A verb of the probe, what it may reach, what it may not.
const ATTEMPTS: &[(&str, &str, &str)] = &[
    ("read", "/vol/in/file", "/secret/key"),
    // The image has a link there, to lead the rule to the secret.
    ("read", "/vol/in/file", "/data/key"),
    // A rule for the directory alone says nothing of its files.
    ("read", "/vol/in/file", "/etc/passwd"),
    ("list", "/vol/in", "/secret"),
    ("open-for-writing", "/vol/in/file", "/vol/file"),
    ("open-for-writing", "/vol/in/file", "/etc/passwd"),
    ("create", "/vol/in/new", "/vol/new"),
    ("create", "/vol/in/new", "/tmp/new"),
    // The image has left out the directory of a rule.
    ("open-for-writing", "/vol/in/file", "/usr/file"),
    ("create", "/vol/in/new", "/usr/new"),
    // Another's directory may be made by its own rule, and is not there either.
    ("open-for-writing", "/made/file", "/usr/file"),
    ("truncate", "/vol/in/file", "/vol/file"),
    ("device-command", "/dev/null", "/dev/zero"),
    ("tcp-bind", "8080", "8081"),
    ("tcp-connect", "9090", "9091"),
];

/// What the ATTEMPTS are measured by.
fn document() -> Value {
    let run = json!(["read", "list", "execute", "map-execute"]);
    let change = json!(["read", "list", "write", "create", "remove"]);
    json!({"version": 1, "files": [
        {"path": "/bin", "subtree": true, "rights": run},
        {"path": "/proc", "subtree": true, "rights": ["read", "list", "write"]},
        {"path": "/dev", "subtree": true, "rights": ["read", "list", "write"]},
        {"path": "/dev/null", "rights": ["ioctl"]},
        {"path": "/vol/in", "subtree": true, "rights": change},
        {"path": "/data", "subtree": true, "rights": ["read"]},
        {"path": "/etc", "rights": ["read", "list"]},
        // What is not there is to be made in the root: a rule for that would hold for everything.
        {"path": "/absent", "subtree": true, "rights": change},
        {"path": "/absent/and/deeper", "subtree": true, "rights": change},
        {"path": "/absent-file", "rights": change},
        // Nor may the directory on the way to it be made.
        {"path": "/tmp/absent/and/deeper", "subtree": true, "rights": change},
        {"path": "/usr/app", "subtree": true, "rights": change},
        {"path": "/made/there", "rights": ["create"]},
        {"path": "/made/there", "subtree": true, "rights": change},
    ]})
}

/// BEST is what a kernel may lack.
const POLICY: &str = r#"
[policy.strict.landlock]
documents = ["DOCUMENT"]
tcp_bind = [8080]
tcp_connect = [9090]

[policy.bound]
extends = "strict"
best_effort = BEST

[policy.setuid]
extends = "bound"
no_new_privileges = false

[policy.scoped.landlock]
signals = "own"
abstract_sockets = "own"

[policy.mounts]
best_effort = BEST
[policy.mounts.landlock]
files = "mounts"
"#;

/// The ABI versions from which ports, and signals and sockets, are bounded.
const PORTS: u32 = 4;
const SCOPE: u32 = 6;

/// The version from which a verb of [`ATTEMPTS`] is bounded, and what the report calls it below that.
fn since(verb: &str) -> (u32, &'static str) {
    match verb {
        "truncate" => (3, "truncating files"),
        "tcp-bind" | "tcp-connect" => (PORTS, "TCP ports"),
        "device-command" => (5, "commands to devices"),
        _ => (1, "Landlock"),
    }
}

/// The version of this kernel's Landlock, as `doctor` has it.
fn abi(arena: &Arena) -> Result<u32> {
    let doctor = arena.oci(Runtime::Cofferdam)?.arg("doctor").run()?;
    let abi = doctor
        .stdout
        .split_once("ABI ")
        .map_or("", |(_, text)| text);
    let abi = abi.split(|c: char| !c.is_ascii_digit()).next();
    let abi = abi.and_then(|abi| abi.parse().ok());
    abi.ok_or_else(|| Error::Missing {
        what: "Landlock".to_owned(),
        remedy: "boot with lsm=landlock,...",
    })
}

/// An arena, a policy file, and two directories to mount.
struct Place {
    arena: Arena,
    /// What this kernel's Landlock can bound.
    abi: u32,
    policy: PathBuf,
    volume: PathBuf,
    secret: PathBuf,
}

impl Place {
    fn new() -> Result<Option<Self>> {
        let Some(arena) = Arena::new()? else {
            return Ok(None);
        };
        let dir = arena.enclave.dir().to_owned();
        let document_path = dir.join("access.json");
        let policy = dir.join("policy.toml");
        let Some(abi) = gate::present(abi(&arena))? else {
            return Ok(None);
        };
        // Where all that they ask for can be bounded, nothing of it may be lacking.
        let best = match abi {
            5.. => "[\"apparmor\"]",
            _ => "[\"apparmor\", \"landlock\"]",
        };
        let text = POLICY.replace("DOCUMENT", &document_path.display().to_string());
        let text = text.replace("BEST", best);
        let (volume, secret) = (dir.join("volume"), dir.join("secret"));
        fs::create_dir_all(volume.join("in")).at("make", &volume)?;
        fs::create_dir_all(&secret).at("make", &secret)?;
        for (path, text) in [
            (document_path, document().to_string()),
            (policy.clone(), text),
            (volume.join("file"), "x".to_owned()),
            (volume.join("in/file"), "x".to_owned()),
            (secret.join("key"), "x".to_owned()),
        ] {
            fs::write(&path, text).at("write", path)?;
        }
        Ok(Some(Self {
            arena,
            abi,
            policy,
            volume,
            secret,
        }))
    }

    /// An ordinary bundle with both directories, writable.
    fn bundle(&self, name: &str, args: &[&str]) -> Result<Bundle> {
        let mut bundle = self.arena.ordinary(name, args)?;
        for (at, source) in [("/vol", &self.volume), ("/secret", &self.secret)] {
            let mount = json!({"destination": at, "type": "bind", "source": source,
                "options": ["rbind", "rw"]});
            if let Some(mounts) = bundle.spec["mounts"].as_array_mut() {
                mounts.push(mount);
            }
        }
        for name in ["usr/file", "made/file"] {
            let file = bundle.rootfs().join(name);
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent).at("make", parent)?;
            }
            fs::write(&file, "x").at("write", file)?;
        }
        let link = bundle.rootfs().join("data");
        symlink("/secret", &link).at("link", link)?;
        Ok(bundle)
    }

    fn oci(&self, policy: &str) -> Result<Cmd> {
        let command = self.arena.oci(Runtime::Cofferdam)?;
        Ok(command
            .env("COFFERDAM_POLICY_FILE", &self.policy)
            .env("COFFERDAM_POLICY", policy))
    }

    /// Starts `bundle` in the background.
    fn start(&self, policy: &str, bundle: &Bundle, id: &str) -> Result<String> {
        bundle.save()?;
        let id = format!("{}-{id}", self.arena.enclave.tag());
        // The container keeps the descriptors it is given: not the pipes this test reads to their end.
        let script = "exec \"$0\" \"$@\" </dev/null >\"/run/$ID.log\" 2>&1";
        self.arena
            .enclave
            .cmd("bash")
            .env("COFFERDAM_POLICY_FILE", &self.policy)
            .env("COFFERDAM_POLICY", policy)
            .env("ID", &id)
            .args(["-c", script])
            .arg(Runtime::Cofferdam.oci()?)
            .args(["--root", "/run/state-containerd-shim-cofferdam-v2"])
            .args(["run", "--detach", "--bundle"])
            .arg(bundle.dir())
            .arg(&id)
            .ok()?;
        Ok(id)
    }

    fn exec(&self, id: &str, verb: &str, argument: &str) -> Result<Outcome> {
        let done = self
            .oci("baseline")?
            .args(["exec", id, "attack-probe", verb, argument])
            .ok()?;
        answer(done)
    }
}

/// What the probe says.
fn answer(done: Done) -> Result<Outcome> {
    outcome(&done.stdout).ok_or(Error::Command {
        command: done.command,
        status: done.status,
        stdout: done.stdout,
        stderr: done.stderr,
    })
}

/// Runs the probe as the container's own process.
fn run(place: &Place, policy: &str, verb: &str, argument: &str, id: &str) -> Result<Outcome> {
    let bundle = place.bundle(id, &["attack-probe", verb, argument])?;
    bundle.save()?;
    let done = place
        .oci(policy)?
        .args(["run", "--bundle"])
        .arg(bundle.dir())
        .arg(format!("{}-{id}", place.arena.enclave.tag()))
        .ok()?;
    answer(done)
}

#[test]
fn only_what_the_rules_allow_works_in_run_and_in_exec() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    let free = place.bundle("free", &["attack-probe", "sleep"])?;
    let free = place.start("baseline", &free, "free")?;
    let bound = place.bundle("bound", &["attack-probe", "sleep"])?;
    let bound = place.start("bound", &bound, "bound")?;
    let report = format!("/run/state-containerd-shim-cofferdam-v2/{bound}/record.json");
    let report = place.arena.enclave.cmd("cat").arg(report).ok()?.stdout;
    if place.abi < 5 {
        let strict = place.bundle("strict", &["attack-probe", "sleep"])?;
        strict.save()?;
        let run = place.oci("strict")?.args(["run", "--bundle"]);
        let run = run.arg(strict.dir()).arg("strict").run()?;
        assert!(!run.status.success(), "{run:?}");
        assert!(run.stderr.contains("best_effort"), "{run:?}");
    }
    for (number, (verb, allowed, denied)) in ATTEMPTS.iter().enumerate() {
        let control = place.exec(&free, verb, denied)?;
        assert!(
            control.worked,
            "control of {verb} {denied}: {}",
            control.how
        );
        let (since, named) = since(verb);
        if place.abi < since {
            assert!(report.contains(named), "{named}: {report}");
            gate::inapplicable(&format!(
                "{verb}: Landlock has ABI {}, not {since}",
                place.abi
            ));
            continue;
        }
        let exec = place.exec(&bound, verb, denied)?;
        assert!(!exec.worked, "{verb} {denied} in exec: {}", exec.how);
        let kept = place.exec(&bound, verb, allowed)?;
        assert!(kept.worked, "{verb} {allowed} in exec: {}", kept.how);

        let ran = run(&place, "bound", verb, denied, &format!("no-{number}"))?;
        assert!(!ran.worked, "{verb} {denied} in run: {}", ran.how);
        let kept = run(&place, "bound", verb, allowed, &format!("yes-{number}"))?;
        assert!(kept.worked, "{verb} {allowed} in run: {}", kept.how);
    }
    let told = place.oci("baseline")?.args(["inspect", &bound]).ok()?;
    for part in [
        "on, ABI",
        "/vol/in read, write, create, remove",
        "/made/there read, write, create, remove; or above, at /made",
        if place.abi < PORTS {
            ""
        } else {
            "bind TCP: 8080"
        },
    ] {
        assert!(told.stdout.contains(part), "{part}: {}", told.stdout);
    }
    place.arena.delete(Runtime::Cofferdam, &bound)?;
    place.arena.delete(Runtime::Cofferdam, &free)
}

/// Without no_new_privs it is put on while the process still has the runtime's privileges.
#[test]
fn the_rules_hold_without_no_new_privs() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    let denied = run(&place, "setuid", "read", "/secret/key", "denied")?;
    assert!(!denied.worked, "{}", denied.how);
    let allowed = run(&place, "setuid", "read", "/vol/in/file", "allowed")?;
    assert!(allowed.worked, "{}", allowed.how);
    Ok(())
}

/// An annotation bounds what the policy leaves alone, and cannot take away what the policy bounds.
#[test]
fn an_annotation_only_tightens() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    if place.abi < PORTS {
        gate::inapplicable(&format!("Landlock's ABI {} has no ports", place.abi));
        return Ok(());
    }
    for (policy, annotation, id) in [
        ("baseline", "tcp-bind=8080", "tightened"),
        ("bound", "off", "kept"),
        ("bound", "tcp-bind=8080:8081", "wider"),
    ] {
        let mut bundle = place.bundle(id, &["attack-probe", "tcp-bind", "8081"])?;
        bundle.spec["annotations"] = json!({"cofferdam.dev/landlock": annotation});
        bundle.save()?;
        let done = place
            .oci(policy)?
            .args(["run", "--bundle"])
            .arg(bundle.dir())
            .arg(format!("{}-{id}", place.arena.enclave.tag()))
            .ok()?;
        let ran = outcome(&done.stdout).expect("the probe answers");
        assert!(!ran.worked, "{policy} with {annotation}: {}", ran.how);
    }
    Ok(())
}

/// A domain is inherited by forking only, so what `exec` starts has one of its own: with the scope on it
/// cannot reach init, which is why no policy has it on by itself.
#[test]
fn the_scope_keeps_signals_and_abstract_sockets_inside() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    if place.abi < SCOPE {
        gate::inapplicable(&format!("Landlock's ABI {} has no scopes", place.abi));
        return Ok(());
    }
    for (policy, reaches) in [("baseline", true), ("scoped", false)] {
        let bundle = place.bundle(policy, &["attack-probe", "listen-abstract", "neighbour"])?;
        let id = place.start(policy, &bundle, policy)?;
        // The socket is there when init has had its time.
        let init = format!("{policy}: init listens");
        cofferdam_integration::command::eventually(
            &init,
            std::time::Duration::from_secs(10),
            || {
                let done = place
                    .oci("baseline")
                    .and_then(|c| c.args(["exec", &id, "cat", "/proc/net/unix"]).ok())
                    .map_err(|error| error.chain())?;
                let there = done.stdout.contains("@neighbour");
                there.then_some(()).ok_or(done.stdout)
            },
        )?;
        for (verb, argument) in [("signal", "1"), ("connect-abstract", "neighbour")] {
            let tried = place.exec(&id, verb, argument)?;
            assert_eq!(tried.worked, reaches, "{policy}: {verb}: {}", tried.how);
        }
        // Within one domain all is as ever.
        let script = "sleep 1000 & kill $! && wait $!; test $? = 143 && echo ended";
        let done = place
            .oci("baseline")?
            .args(["exec", &id, "sh", "-c", script])
            .ok()?;
        assert!(done.stdout.contains("ended"), "{policy}: {done:?}");
        place.arena.delete(Runtime::Cofferdam, &id)?;
    }
    Ok(())
}

/// What each `exec` in a domain of its own costs, and what it does not: why `baseline` has no Landlock.
#[test]
fn exec_can_signal_init_and_not_look_into_it() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    for (policy, looks) in [("baseline", true), ("mounts", false)] {
        let bundle = place.bundle(policy, &["attack-probe", "sleep"])?;
        let id = place.start(policy, &bundle, policy)?;
        let signal = place.exec(&id, "signal", "1")?;
        assert!(signal.worked, "{policy}: {}", signal.how);
        let environ = place.exec(&id, "read", "/proc/1/environ")?;
        assert_eq!(environ.worked, looks, "{policy}: {}", environ.how);
        place.arena.delete(Runtime::Cofferdam, &id)?;
    }
    Ok(())
}

/// An ordinary container does what it always does, `exec` included.
#[test]
fn mounts_alone_leave_ordinary_work_alone() -> Result<()> {
    let Some(place) = Place::new()? else {
        return Ok(());
    };
    let script = "set -e; echo x > /tmp/a; mv /tmp/a /var/b || mv /tmp/a /b; mkdir /tmp/d; ln /vol/file \
                  /vol/link; rm /vol/link; echo y > /vol/in/y; cat /proc/self/status > /dev/null; echo z > \
                  /dev/shm/z; ls /sys > /dev/null; echo 0 > /proc/self/oom_score_adj; echo done";
    let mut bundle = place.bundle("work", &["sh", "-c", script])?;
    bundle.save()?;
    let done = place
        .oci("mounts")?
        .args(["run", "--bundle"])
        .arg(bundle.dir())
        .arg(format!("{}-work", place.arena.enclave.tag()))
        .run()?;
    assert!(done.stdout.contains("done"), "{done:?}");
    // The root is read-only by rule, too: its own flag apart, a write fails.
    bundle.spec["root"]["readonly"] = json!(true);
    bundle.spec["process"]["args"] = json!(["sh", "-c", "echo x > /vol/in/file && echo kept"]);
    bundle.save()?;
    let done = place
        .oci("mounts")?
        .args(["run", "--bundle"])
        .arg(bundle.dir())
        .arg(format!("{}-read-only", place.arena.enclave.tag()))
        .ok()?;
    assert!(done.stdout.contains("kept"), "{done:?}");
    Ok(())
}
