//! `make demo`: runs a hardened container under a private containerd and under Docker, and prints
//! what is enforced on it. Everything it starts is gone when it ends.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a demonstration prints"
)]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use cofferdam_integration::{
    binaries::{Runtime, build_dir},
    cases::Engine,
    client::Client as _,
    containerd::{self, Containerd},
    docker::{self, Docker, Door},
    error::Result,
    gate,
};

/// What a hostile program would try first. Each is harmless if it should succeed.
const ATTEMPTS: &[(&str, &str)] = &[
    ("mount a file system", "mount -t tmpfs none /tmp"),
    ("make a device node", "mknod /tmp/disk b 8 0"),
    ("enter a new user namespace", "unshare -U true"),
    (
        "write a kernel setting",
        "p=/proc/sys/kernel/core_pattern; cat $p >/tmp/p; cat /tmp/p >$p",
    ),
    ("read the kernel log", "dmesg"),
    ("load a module", "insmod /etc/passwd"),
];

fn main() -> ExitCode {
    if gate::root().is_none() {
        eprintln!("demo: run it as root");
        return ExitCode::FAILURE;
    }
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {}", error.chain());
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let step = |text: &str| println!("\n\x1b[1m== {text}\x1b[0m");
    step("a private containerd (own root, state and socket), busybox made without a registry");
    let started = Instant::now();
    let engine = Containerd::start_with(
        containerd::Version::V1_6,
        Runtime::Cofferdam,
        &containerd::Options::default(),
    )?;
    println!("ready after {:.1} s", started.elapsed().as_secs_f32());

    step("ctr run --runtime io.containerd.cofferdam.v2 ... busybox demo");
    let container = engine.sleeper("demo")?;
    let done = engine.exec("demo", &["sh", "-c", "id; uname -sr"])?;
    print!("{}", done.stdout);
    for (what, command) in ATTEMPTS {
        let done = engine
            .exec_with(&[], "demo", &["sh", "-c", command])
            .limit(Duration::from_secs(20))
            .run()?;
        let outcome = if done.status.success() {
            "NOT PREVENTED".to_owned()
        } else {
            let reason = done.stderr.lines().next().unwrap_or_default();
            let reason = reason.rsplit(": ").next().unwrap_or(reason);
            format!("refused ({reason})")
        };
        println!("  {what:<30} {outcome}");
    }

    step("what the kernel enforces on it (cofferdam inspect demo)");
    print!("{}", cofferdam(&engine, &["inspect", "demo"])?);
    step("what was asked for, what it got, and why (cofferdam inspect --report demo)");
    print!("{}", cofferdam(&engine, &["inspect", "--report", "demo"])?);
    container.remove()?;
    drop(engine);

    step("docker run --runtime cofferdam ... busybox");
    let started = Instant::now();
    let engine = Docker::start_with(docker::Version::V20_10, Door::Path, Runtime::Cofferdam, &[])?;
    println!(
        "a private dockerd is ready after {:.1} s",
        started.elapsed().as_secs_f32()
    );
    let script =
        "echo hello from $(hostname); grep -E '^(Seccomp|NoNewPrivs|CapBnd):' /proc/self/status";
    print!("{}", engine.run(&[], &["sh", "-c", script])?.stdout);
    let refused = engine
        .run_with(&["--rm", "--privileged"], &["true"])
        .run()?;
    println!(
        "$ docker run --privileged ... (exit {})\n{}",
        refused.code(),
        refused.stderr.trim()
    );
    drop(engine);

    step("to install it for real");
    println!(
        "make install                      the three binaries to /usr/local/bin\n\
         contrib/containerd/cofferdam.toml the CRI handler for containerd (cofferdam-v3.toml for 2.x)\n\
         contrib/docker/daemon.json        the runtime for Docker\n\
         contrib/podman/cofferdam.conf     the runtime for Podman\n\
         contrib/kubernetes/               a RuntimeClass and a sample pod\n\
         contrib/README.md                 what goes where"
    );
    Ok(())
}

/// Our command line on the containers of the engine's namespace.
fn cofferdam(engine: &Containerd, args: &[&str]) -> Result<String> {
    let root = format!("/run/containerd/cofferdam/{}", engine.namespace());
    let program = build_dir()?.join("cofferdam");
    let done = engine
        .enclave()
        .cmd(program)
        .args(["--root", &root])
        .args(args)
        .ok()?;
    Ok(done.stdout)
}
