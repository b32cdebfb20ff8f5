//! CVE-2025-52565: what is put at /dev/console, and where, is chosen by who can write to /dev.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use cofferdam_integration::{
    binaries::Runtime,
    bundle::Bundle,
    command::{Cmd, Done},
    error::{At, Result},
};
use serde_json::json;

use crate::arena::Arena;

/// Containers started while names are exchanged.
const ROUNDS: u32 = 30;

/// A bundle with a terminal and a /dev that the attacker writes to.
fn with_forged_dev(arena: &Arena, name: &str, script: &str) -> Result<(Bundle, PathBuf)> {
    let mut bundle = arena.ordinary(name, &["sh", "-c", script])?;
    let dev = bundle.dir().join("forged-dev");
    for dir in ["pts", "shm", "mqueue"] {
        fs::create_dir_all(dev.join(dir)).at("make", dev.join(dir))?;
    }
    Cmd::new("cp").args(["-a", "/dev/null"]).arg(&dev).ok()?;
    bundle.spec["mounts"][1] =
        json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind", "rw"]});
    bundle.spec["process"]["terminal"] = json!(true);
    bundle.spec["linux"]["readonlyPaths"] = json!([]);
    Ok((bundle, dev))
}

fn on_terminal(arena: &Arena, runtime: Runtime, bundle: &Bundle, id: &str) -> Result<Done> {
    bundle.save()?;
    let id = format!("{}-{id}", arena.enclave.tag());
    let run = arena.oci(runtime)?.args(["run", "--bundle"]);
    let done = run.arg(bundle.dir()).arg(&id).on_terminal().run()?;
    // The container ran, or was refused with a word why: a silent nothing proves nothing.
    assert!(
        done.stdout.contains("shown") || (!done.status.success() && !done.stdout.is_empty()),
        "{done:?}"
    );
    Ok(done)
}

fn link(target: impl AsRef<Path>, at: PathBuf) -> Result<()> {
    symlink(target, &at).at("link", at)
}

/// The destination: /dev/console is, or becomes, a link to a file of the container. A terminal
/// mounted there would hide a file that the runtime trusts.
#[test]
fn the_console_is_not_put_where_a_link_leads() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let script = "test -c /etc/target && echo redirected; echo shown";
    let prepare = |name: &str, race: bool| -> Result<(Bundle, PathBuf)> {
        let (bundle, dev) = with_forged_dev(&arena, name, script)?;
        bundle.put("/etc/target", b"untouched", 0o644)?;
        link("pts/ptmx", dev.join("ptmx"))?;
        let at = if race { "other" } else { "console" };
        link("/etc/target", dev.join(at))?;
        if race {
            fs::write(dev.join("console"), "").at("write", dev.join("console"))?;
        }
        Ok((bundle, dev))
    };
    let untouched = |bundle: &Bundle| -> Result<()> {
        let target = bundle.rootfs().join("etc/target");
        let text = fs::read_to_string(&target).at("read", target)?;
        assert_eq!(text, "untouched");
        Ok(())
    };
    let (control, _) = prepare("console-control", false)?;
    let free = on_terminal(&arena, Runtime::Runc, &control, "console-control")?;
    assert!(free.stdout.contains("redirected"), "control: {free:?}");
    let (bundle, _) = prepare("console", false)?;
    let done = on_terminal(&arena, Runtime::Cofferdam, &bundle, "console")?;
    assert!(!done.stdout.contains("redirected"), "{done:?}");
    untouched(&bundle)?;

    let (bundle, dev) = prepare("console-race", true)?;
    let swapper = arena.swapper(&dev.join("console"), &dev.join("other"))?;
    for round in 0..ROUNDS {
        let id = format!("console-{round}");
        let done = on_terminal(&arena, Runtime::Cofferdam, &bundle, &id)?;
        assert!(!done.stdout.contains("redirected"), "{done:?}");
        untouched(&bundle)?;
    }
    drop(swapper);
    Ok(())
}

/// The source: the name of the terminal below /dev/pts is a link to a masked device. Mounted at
/// /dev/console it would be in reach again. The masked device is a pty master, so that the runtime
/// that falls for it finds a terminal there and goes on.
#[test]
fn a_masked_device_does_not_become_the_console() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    // The output of the control goes to the wrong terminal: the answer is a file of the image.
    let script = "stat -c %t:%T /dev/console /guarded/ptmx >/answer; echo shown";
    let prepare = |name: &str| -> Result<(Bundle, PathBuf)> {
        let (mut bundle, dev) = with_forged_dev(&arena, name, script)?;
        bundle.put("/answer", b"", 0o644)?;
        bundle.spec["linux"]["maskedPaths"] = json!(["/guarded/ptmx"]);
        let mut guarded = bundle.spec["mounts"][2].clone();
        guarded["destination"] = json!("/guarded");
        let mounts = bundle.spec["mounts"].as_array_mut().expect("an array");
        mounts.push(guarded);
        Ok((bundle, dev))
    };
    let answer = |bundle: &Bundle| -> Result<String> {
        let path = bundle.rootfs().join("answer");
        fs::read_to_string(&path).at("read", path)
    };
    // The attacker's own /dev/pts, as it stands or exchanged at the right moment.
    let forge = |bundle: &mut Bundle, dev: &Path| -> Result<()> {
        bundle.spec["mounts"]
            .as_array_mut()
            .expect("an array")
            .remove(2);
        link("/guarded/ptmx", dev.join("ptmx"))?;
        link("/guarded/ptmx", dev.join("pts/0"))
    };
    let (mut control, dev) = prepare("pts-control")?;
    forge(&mut control, &dev)?;
    // Its end is not looked at: nothing reads what it says.
    control.save()?;
    let id = format!("{}-pts-control", arena.enclave.tag());
    let run = arena.oci(Runtime::Runc)?.args(["run", "--bundle"]);
    run.arg(control.dir()).arg(id).on_terminal().run()?;
    // Devices 5:2, the master, and 1:3, the mask.
    assert_eq!(answer(&control)?, "5:2\n1:3\n", "control");

    let (mut bundle, dev) = prepare("pts")?;
    forge(&mut bundle, &dev)?;
    on_terminal(&arena, Runtime::Cofferdam, &bundle, "pts")?;
    assert!(!answer(&bundle)?.starts_with("5:2"), "{}", answer(&bundle)?);

    // The real devpts at /dev/pts, and a link to the guarded one that takes its place.
    let (bundle, dev) = prepare("pts-race")?;
    link("pts/ptmx", dev.join("ptmx"))?;
    link("/guarded", dev.join("other"))?;
    let _swapper = arena.swapper(&dev.join("pts"), &dev.join("other"))?;
    let mut ran = 0;
    for round in 0..ROUNDS {
        bundle.put("/answer", b"", 0o644)?;
        on_terminal(&arena, Runtime::Cofferdam, &bundle, &format!("pts-{round}"))?;
        match &*answer(&bundle)? {
            "" => {}
            // A Unix98 terminal (major 136), and the mask.
            "88:0\n1:3\n" => ran += 1,
            other => panic!("round {round}: {other}"),
        }
    }
    assert!(ran > 0, "no container ran");
    Ok(())
}
