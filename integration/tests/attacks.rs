//! Attacks from inside a container. Each is shown to work on an unprotected process first, so that a
//! pass means the guarantee holds and not that the attack was made wrongly. What could hurt a host
//! is opened, never written; everything runs in an enclave.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use cofferdam_integration::{
    binaries::{Runtime, on_path},
    bundle::Bundle,
    command::{Cmd, eventually},
    enclave::Enclave,
    error::{At, Error, Result},
    gate,
    image::{Extra, Image},
};
use serde_json::{Value, json};

/// What the probe says of one attempt.
#[derive(Debug, serde::Deserialize)]
struct Outcome {
    worked: bool,
    how: String,
}

struct Arena {
    enclave: Enclave,
    image: Image,
    probe: PathBuf,
}

impl Arena {
    fn new() -> Result<Option<Self>> {
        if gate::root().is_none() {
            return Ok(None);
        }
        let probe = PathBuf::from(env!("CARGO_BIN_EXE_attack-probe"));
        let extra = Extra {
            files: vec![("/bin/attack-probe".to_owned(), probe.clone(), 0o755)],
            config: Vec::new(),
        };
        Ok(Some(Self {
            enclave: Enclave::new()?,
            image: Image::busybox_with("attack", &extra)?,
            probe,
        }))
    }

    fn ordinary(&self, name: &str, args: &[&str]) -> Result<Bundle> {
        Bundle::ordinary(&self.enclave.dir().join(name), &self.image, args)
    }

    fn permissive(&self, name: &str, args: &[&str]) -> Result<Bundle> {
        Bundle::permissive(&self.enclave.dir().join(name), &self.image, args)
    }

    /// A command line of the runtime, with a state root of the enclave's own.
    fn oci(&self, runtime: Runtime) -> Result<Cmd> {
        Ok(self
            .enclave
            .cmd(runtime.oci()?)
            .args(["--root", &format!("/run/state-{}", runtime.shim_name())]))
    }

    /// Runs a bundle to its end and reads the probe's answer.
    fn attempt(&self, runtime: Runtime, bundle: &Bundle, id: &str) -> Result<Outcome> {
        bundle.save()?;
        let id = format!("{}-{id}", self.enclave.tag());
        let done = self
            .oci(runtime)?
            .args(["run", "--bundle"])
            .arg(bundle.dir())
            .arg(id)
            .run()?;
        outcome(&done.stdout).ok_or(Error::Command {
            command: done.command,
            status: done.status,
            stdout: done.stdout,
            stderr: done.stderr,
        })
    }

    /// Starts a bundle in the background; its id.
    fn start(&self, runtime: Runtime, bundle: &Bundle, id: &str) -> Result<String> {
        bundle.save()?;
        let id = format!("{}-{id}", self.enclave.tag());
        // The container keeps the descriptors it is given: not the pipes this test reads to their end.
        let script = format!(
            "exec {} --root /run/state-{} run --detach --bundle {} {id} </dev/null >/run/{id}.log 2>&1",
            runtime.oci()?.display(),
            runtime.shim_name(),
            bundle.dir().display(),
        );
        self.enclave.cmd("bash").args(["-c", &script]).ok()?;
        Ok(id)
    }

    fn delete(&self, runtime: Runtime, id: &str) -> Result<()> {
        self.oci(runtime)?
            .args(["delete", "--force", id])
            .ok()
            .map(drop)
    }
}

fn outcome(printed: &str) -> Option<Outcome> {
    printed
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok())
}

/// One system call each: works with every privilege, fails in a container that an engine would make.
const CALLS: &[&str] = &[
    "unshare-user",
    "unshare-mount",
    "clone-user",
    "clone3-user",
    "keyctl",
    "raw-socket",
    "packet-socket",
    "mknod",
    "mount-proc",
    "core-pattern",
    "drop-caches",
    "release-agent",
];

#[test]
fn forbidden_calls_fail_in_run_and_in_exec() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let sleeper = arena.ordinary("sleeper", &["attack-probe", "sleep"])?;
    let sleeping = arena.start(Runtime::Cofferdam, &sleeper, "sleeper")?;
    for attack in CALLS {
        let probe = ["attack-probe", attack];
        let control = arena.permissive(&format!("control-{attack}"), &probe)?;
        let free = arena.attempt(Runtime::Runc, &control, &format!("control-{attack}"))?;
        assert!(free.worked, "control of {attack}: {}", free.how);

        let bundle = arena.ordinary(attack, &probe)?;
        let run = arena.attempt(Runtime::Cofferdam, &bundle, attack)?;
        assert!(!run.worked, "{attack} in run: {}", run.how);

        let done = arena
            .oci(Runtime::Cofferdam)?
            .args(["exec", &sleeping])
            .args(probe)
            .ok()?;
        let exec = outcome(&done.stdout).expect("the probe answers");
        assert!(!exec.worked, "{attack} in exec: {}", exec.how);
    }
    arena.delete(Runtime::Cofferdam, &sleeping)
}

#[test]
fn clone3_looks_unimplemented_so_that_libraries_fall_back() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let bundle = arena.ordinary("clone3", &["attack-probe", "clone3-user"])?;
    let run = arena.attempt(Runtime::Cofferdam, &bundle, "clone3")?;
    assert!(run.how.contains("ENOSYS"), "{}", run.how);
    Ok(())
}

#[test]
fn a_neighbour_cannot_be_traced() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let victim = arena.ordinary("victim", &["attack-probe", "sleep", "the-victim"])?;
    let victim = arena.start(Runtime::Cofferdam, &victim, "victim")?;
    let attack = ["attack-probe", "ptrace-any", "the-victim"];
    // The control is a plain process beside the container.
    let done = arena.enclave.cmd(&arena.probe).args(&attack[1..]).ok()?;
    let free = outcome(&done.stdout).expect("the probe answers");
    assert!(free.worked, "control: {}", free.how);
    let mut bundle = arena.ordinary("tracer", &attack)?;
    let run = arena.attempt(Runtime::Cofferdam, &bundle, "tracer")?;
    assert!(!run.worked, "{}", run.how);
    // Asking for the host's processes is refused, not silently granted or dropped.
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut();
    namespaces
        .expect("an array")
        .retain(|namespace| namespace["type"] != "pid");
    refused(&arena, &bundle, "host-pid", "host-namespaces")?;
    arena.delete(Runtime::Cofferdam, &victim)
}

/// The bundle is refused with an error that names the rule, and nothing is left of it.
fn refused(arena: &Arena, bundle: &Bundle, id: &str, rule: &str) -> Result<()> {
    bundle.save()?;
    let id = format!("{}-{id}", arena.enclave.tag());
    let done = arena
        .oci(Runtime::Cofferdam)?
        .args(["run", "--bundle"])
        .arg(bundle.dir())
        .arg(&id)
        .run()?;
    assert!(!done.status.success(), "{id} was started: {}", done.stdout);
    assert!(done.stderr.contains(rule), "{id}: {}", done.stderr);
    let listed = arena.oci(Runtime::Cofferdam)?.args(["list", "-q"]).ok()?;
    assert!(!listed.stdout.contains(&id), "{}", listed.stdout);
    Ok(())
}

#[test]
fn a_setuid_program_gains_nothing() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let prepare = |bundle: &mut Bundle| -> Result<()> {
        let probe = fs::read(&arena.probe).at("read", &arena.probe)?;
        bundle.put("/bin/setuid-probe", &probe, 0o4755)?;
        bundle.spec["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        Ok(())
    };
    let attack = ["setuid-probe", "euid"];
    let mut control = arena.permissive("setuid-control", &attack)?;
    prepare(&mut control)?;
    let free = arena.attempt(Runtime::Runc, &control, "setuid-control")?;
    assert!(free.worked, "control: {}", free.how);
    let mut bundle = arena.ordinary("setuid", &attack)?;
    prepare(&mut bundle)?;
    let run = arena.attempt(Runtime::Cofferdam, &bundle, "setuid")?;
    assert!(!run.worked, "{}", run.how);
    Ok(())
}

#[test]
fn a_fork_bomb_stops_at_the_limit() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let attack = ["attack-probe", "fork-bomb", "200"];
    let control = arena.permissive("bomb-control", &attack)?;
    let free = arena.attempt(Runtime::Runc, &control, "bomb-control")?;
    assert!(free.worked, "control: {}", free.how);
    let mut bundle = arena.ordinary("bomb", &attack)?;
    bundle.spec["linux"]["resources"]["pids"] = json!({"limit": 50});
    let run = arena.attempt(Runtime::Cofferdam, &bundle, "bomb")?;
    assert!(!run.worked, "{}", run.how);
    assert!(
        run.how.contains("stopped at 4") && run.how.contains("EAGAIN"),
        "{}",
        run.how
    );
    Ok(())
}

/// CVE-2024-21626: a descriptor of a host directory that leaks into the container.
#[test]
fn a_leaked_directory_does_not_lead_outside() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let secret = arena.enclave.path("/run/tripwire");
    fs::write(&secret, "host secret").at("write", &secret)?;
    let attack = ["attack-probe", "leaked-directory", "run/tripwire"];
    let mut bundle = arena.ordinary("leak", &attack)?;
    let leak = |command: &str| {
        let script = format!("exec 7</ 8</run 63</ && exec {command}");
        arena.enclave.cmd("bash").args(["-c", &script]).run()
    };
    let rootfs = bundle.rootfs();
    let chroot = format!("chroot {} /bin/{}", rootfs.display(), attack.join(" "));
    let free = outcome(&leak(&chroot)?.stdout).expect("the probe answers");
    assert!(free.worked, "control: {}", free.how);

    let oci = Runtime::Cofferdam.oci()?;
    for cwd in [
        "/",
        "/proc/self/fd/7",
        "/proc/self/fd/8",
        "/proc/self/fd/63",
        "/proc/self/fd/3",
        "/proc/self/fd/5",
    ] {
        bundle.spec["process"]["cwd"] = json!(cwd);
        bundle.save()?;
        let run = format!(
            "{} --root /run/state-leak run --bundle {} {}-leak",
            oci.display(),
            bundle.dir().display(),
            arena.enclave.tag()
        );
        let done = leak(&run)?;
        match outcome(&done.stdout) {
            Some(outcome) => assert!(!outcome.worked, "cwd {cwd}: {}", outcome.how),
            // Refused: the working directory is not in the container.
            None => assert!(cwd != "/" && !done.status.success(), "cwd {cwd}: {done:?}"),
        }
        assert!(
            !done.stdout.contains("host secret") && !done.stderr.contains("host secret"),
            "{done:?}"
        );
    }
    Ok(())
}

/// CVE-2019-5736: overwriting the runtime's executable through /proc/self/exe.
#[test]
fn the_runtime_executable_cannot_be_opened_for_writing() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let attack = ["attack-probe", "steal-exe", "6"];
    // The trap: a program of the image that is whatever executable runs it. The name begins with
    // busybox, so that the control's copy of busybox takes its applet from the arguments.
    let trap = |bundle: &Bundle| {
        let link = bundle.rootfs().join("bin/busybox-trap");
        std::os::unix::fs::symlink("/proc/self/exe", &link).at("link", link)
    };
    let control = arena.permissive("exe-control", &attack)?;
    trap(&control)?;
    let scratch = arena.enclave.dir().join("busybox-scratch");
    fs::copy(on_path("busybox")?, &scratch).at("copy to", &scratch)?;
    let free = while_entered(&arena, Runtime::Runc, &control, "exe-control", |id| {
        let state = arena.oci(Runtime::Runc)?.args(["state", id]).run()?.stdout;
        let state: Value = serde_json::from_str(&state).unwrap_or_default();
        let pid = state["pid"].to_string();
        let enter = arena
            .enclave
            .cmd(&scratch)
            .args(["nsenter", "-t", &pid, "-m", "-p", "--"]);
        enter
            .args(["/bin/busybox-trap", "sleep", "0.3"])
            .run()
            .map(drop)
    })?;
    assert!(free.worked, "control: {}", free.how);

    let oci = Runtime::Cofferdam.oci()?;
    let before = fs::read(&oci).at("read", &oci)?;
    let bundle = arena.ordinary("exe", &attack)?;
    trap(&bundle)?;
    let run = while_entered(&arena, Runtime::Cofferdam, &bundle, "exe", |id| {
        for program in ["/bin/busybox-trap", "true"] {
            let exec = arena
                .oci(Runtime::Cofferdam)?
                .args(["exec", id, program, "sleep", "0.3"]);
            exec.run()?;
        }
        Ok(())
    })?;
    assert!(!run.worked, "{}", run.how);
    assert!(
        before == fs::read(&oci).at("read", &oci)?,
        "the executable has changed"
    );
    Ok(())
}

/// Runs the attack while `enter` goes into the container again and again.
fn while_entered(
    arena: &Arena,
    runtime: Runtime,
    bundle: &Bundle,
    id: &str,
    enter: impl Fn(&str) -> Result<()>,
) -> Result<Outcome> {
    let full = format!("{}-{id}", arena.enclave.tag());
    thread::scope(|scope| {
        let attack = scope.spawn(|| arena.attempt(runtime, bundle, id));
        eventually("the attacker runs", Duration::from_secs(10), || {
            let state = arena
                .oci(runtime)
                .and_then(|c| c.args(["state", &full]).run());
            let state = state.map_err(|error| error.to_string())?.stdout;
            state
                .contains("\"running\"")
                .then_some(())
                .ok_or_else(|| state.clone())
        })?;
        while !attack.is_finished() {
            enter(&full)?;
        }
        attack
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// CVE-2025-31133: an image's /dev/null that is a link to a kernel setting must not be what masked
/// paths are covered with.
#[test]
fn a_forged_dev_null_covers_nothing() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let setting = "/proc/sys/kernel/core_pattern";
    let pattern = fs::read_to_string(setting).at("read", setting)?;
    let forge = |bundle: &mut Bundle| -> Result<()> {
        let dev = bundle.dir().join("forged-dev");
        fs::create_dir(&dev).at("make", &dev)?;
        let null = dev.join("null");
        std::os::unix::fs::symlink(setting, &null).at("link", null)?;
        for dir in ["pts", "shm", "mqueue"] {
            fs::create_dir(dev.join(dir)).at("make", dev.join(dir))?;
        }
        let bind = json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind", "rw"]});
        bundle.spec["mounts"][1] = bind;
        bundle.spec["linux"]["maskedPaths"] = json!(["/proc/keys"]);
        Ok(())
    };
    let show = ["sh", "-c", "cat /proc/keys; echo shown"];
    let mut control = arena.permissive("null-control", &show)?;
    forge(&mut control)?;
    let seen = show_output(&arena, Runtime::Runc, &control, "null-control")?;
    let expected = format!("{pattern}shown\n");
    assert_eq!(seen, expected, "control: runc's mask shows the setting");
    let mut bundle = arena.ordinary("null", &show)?;
    forge(&mut bundle)?;
    let seen = show_output(&arena, Runtime::Cofferdam, &bundle, "null")?;
    assert!(!seen.contains(pattern.trim()), "{seen}");
    Ok(())
}

fn show_output(arena: &Arena, runtime: Runtime, bundle: &Bundle, id: &str) -> Result<String> {
    bundle.save()?;
    let id = format!("{}-{id}", arena.enclave.tag());
    let run = arena
        .oci(runtime)?
        .args(["run", "--bundle"])
        .arg(bundle.dir())
        .arg(id);
    let done = run.run()?;
    // The container ran, or was refused with a word why: a silent nothing proves nothing.
    assert!(
        done.stdout.ends_with("shown\n") || (!done.status.success() && !done.stderr.is_empty()),
        "{done:?}"
    );
    Ok(done.stdout)
}

/// CVE-2025-52881: a forged /proc must not receive what is meant for the kernel.
#[test]
fn a_forged_proc_receives_no_settings() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    const KEY: &str = "net.ipv4.ping_group_range";
    const FILE: &str = "proc/sys/net/ipv4/ping_group_range";
    let forge = |bundle: &mut Bundle| -> Result<PathBuf> {
        let file = bundle.rootfs().join(FILE);
        let parent = file.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).at("make", parent)?;
        fs::write(&file, "untouched").at("write", &file)?;
        let mounts = bundle.spec["mounts"].as_array_mut().expect("an array");
        mounts.retain(|mount| mount["destination"] != "/proc");
        bundle.spec["linux"]["sysctl"] = json!({KEY: "0 100"});
        bundle.spec["linux"]["maskedPaths"] = json!([]);
        bundle.spec["linux"]["readonlyPaths"] = json!([]);
        Ok(file)
    };
    let mut control = arena.permissive("proc-control", &["echo", "shown"])?;
    let file = forge(&mut control)?;
    show_output(&arena, Runtime::Runc, &control, "proc-control")?;
    let text = fs::read_to_string(&file).at("read", &file)?;
    assert!(
        text.starts_with("0 100"),
        "control: runc writes into the forged file: {text}"
    );
    let mut bundle = arena.ordinary("proc", &["echo", "shown"])?;
    let file = forge(&mut bundle)?;
    show_output(&arena, Runtime::Cofferdam, &bundle, "proc")?;
    assert_eq!(
        fs::read_to_string(&file).at("read", &file)?,
        "untouched",
        "the forged file"
    );
    Ok(())
}

/// What would hand over the host is refused by name, and nothing of the container is left.
#[test]
fn doors_to_the_host_are_refused_by_name() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    for socket in ["docker.sock", "containerd/containerd.sock"] {
        let path = arena.enclave.path(&format!("/run/{socket}"));
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).at("make", parent)?;
        fs::write(&path, "").at("write", path)?;
    }
    let sources = [
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/proc",
        "/sys",
        "/etc",
        "/",
        "/dev",
    ];
    for (number, source) in sources.into_iter().enumerate() {
        let name = format!("mount-{number}");
        let mut bundle = arena.ordinary(&name, &["true"])?;
        let mounts = bundle.spec["mounts"].as_array_mut().expect("an array");
        mounts.push(json!({"destination": "/host", "type": "bind", "source": source, "options": ["rbind", "rw"]}));
        refused(&arena, &bundle, &name, "sensitive-mounts")?;
    }
    let privileged = arena.permissive("privileged", &["true"])?;
    refused(&arena, &privileged, "privileged", "privileged")
}
