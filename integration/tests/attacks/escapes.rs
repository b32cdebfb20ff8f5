//! Ways out through the runtime itself: its executable, its descriptors.

use std::{fs, thread, time::Duration};

use cofferdam_integration::{
    binaries::{Runtime, on_path},
    bundle::Bundle,
    command::eventually,
    error::{At, Result},
};
use serde_json::{Value, json};

use crate::arena::{Arena, Outcome, outcome};

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
