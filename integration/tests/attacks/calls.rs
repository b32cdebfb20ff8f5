//! System calls and what they lead to: each works with every privilege, and fails in `run` and in
//! `exec`.

use std::fs;

use cofferdam_integration::{
    binaries::Runtime,
    bundle::Bundle,
    error::{At, Result},
};
use serde_json::json;

use crate::arena::{Arena, outcome};

/// One system call each: works with every privilege, fails in a container that an engine would make.
const CALLS: &[&str] = &[
    "unshare-user",
    "unshare-mount",
    "clone-user",
    "clone3-user",
    "unshare-network",
    "unshare-pid",
    "add-key",
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

/// No filter can see which socket `socketcall` makes: it makes none, unless the policy says so.
#[cfg(target_arch = "x86_64")]
#[test]
fn socketcall_makes_a_socket_only_where_the_policy_says_so() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let attack = ["attack-probe", "socketcall"];
    let control = arena.permissive("socketcall-control", &attack)?;
    let free = arena.attempt(Runtime::Runc, &control, "socketcall-control")?;
    assert!(free.worked, "control: {}", free.how);
    let policies = arena.enclave.dir().join("policy.toml");
    let text = ["refused", "filtered", "socketcall"]
        .map(|word| format!("[policy.{word}]\nseccomp_compat32 = \"{word}\"\n"))
        .concat();
    fs::write(&policies, text).at("write", &policies)?;
    let bundle = arena.ordinary("socketcall", &attack)?;
    bundle.save()?;
    for (policy, works, how) in [
        ("baseline", false, "EPERM"),
        ("filtered", false, "EPERM"),
        ("refused", false, "ENOSYS"),
        ("socketcall", true, ""),
    ] {
        let id = format!("{}-socketcall-{policy}", arena.enclave.tag());
        let runtime = arena.oci(Runtime::Cofferdam)?.arg("--policy-file");
        let runtime = runtime.arg(&policies).args(["--policy", policy]);
        let run = runtime.args(["run", "--bundle"]).arg(bundle.dir()).arg(id);
        let run = outcome(&run.ok()?.stdout).expect("the probe answers");
        assert_eq!(run.worked, works, "{policy}: {}", run.how);
        assert!(run.how.contains(how), "{policy}: {}", run.how);
    }
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
    arena.refused(&bundle, "host-pid", "host-namespaces")?;
    arena.delete(Runtime::Cofferdam, &victim)
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
