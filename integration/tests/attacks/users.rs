//! Root of a container that got hold of something of the host's, or of another container's: with user
//! ids of its own it is nobody there. The control is the same container with the host's ids.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use cofferdam_integration::{
    binaries::Runtime,
    bundle::Bundle,
    error::{At, Result},
};

use crate::arena::{Arena, Outcome, outcome};

const POLICIES: &str = r#"
[policy.own]
host_namespaces.pid = "allow"

[policy.engine]
user_namespace = "engine"
host_namespaces.pid = "allow"
"#;

/// Runs a bundle under one of [`POLICIES`], with descriptor 3 on a directory of the host's.
fn attempt(arena: &Arena, bundle: &Bundle, policy: &str, directory: &str) -> Result<Outcome> {
    let policies = arena.enclave.dir().join("policy.toml");
    fs::write(&policies, POLICIES).at("write", &policies)?;
    bundle.save()?;
    let name = bundle
        .dir()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let script = format!(
        "exec 3<{directory} && exec {} --root /run/state-users --policy-file {} --policy {policy} \
         run --preserve-fds 1 --bundle {} {}-{name}-{policy}",
        Runtime::Cofferdam.oci()?.display(),
        policies.display(),
        bundle.dir().display(),
        arena.enclave.tag(),
    );
    let done = arena.enclave.cmd("bash").args(["-c", &script]).run()?;
    Ok(outcome(&done.stdout).unwrap_or_else(|| panic!("{policy}: {done:?}")))
}

/// A volume of another container, or any other directory of the host's, by a descriptor that leaked.
#[test]
fn roots_files_on_the_host_are_not_the_containers() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let secrets = arena.enclave.dir().join("volume");
    fs::create_dir(&secrets).at("make", &secrets)?;
    let secret = secrets.join("secret");
    fs::write(&secret, "another container's").at("write", &secret)?;
    for (path, mode) in [(&secret, 0o600), (&secrets, 0o755)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).at("open", path)?;
    }
    let directory = secrets.display().to_string();
    for (name, attack) in [
        ("reads", ["attack-probe", "read", "/proc/self/fd/3/secret"]),
        (
            "writes",
            ["attack-probe", "open-for-writing", "/proc/self/fd/3/secret"],
        ),
        ("makes", ["attack-probe", "create", "/proc/self/fd/3/new"]),
    ] {
        let bundle = arena.ordinary(name, &attack)?;
        let free = attempt(&arena, &bundle, "engine", &directory)?;
        assert!(free.worked, "control: {name}: {}", free.how);
        let run = attempt(&arena, &bundle, "own", &directory)?;
        assert!(!run.worked, "{name}: {}", run.how);
        assert!(
            run.how.contains("denied") || run.how.contains("EACCES"),
            "{name}: {}",
            run.how
        );
    }
    Ok(())
}

/// Both see the host's processes, which a policy can allow: what protects one from the other is that
/// they are different users.
#[test]
fn processes_of_other_containers_are_out_of_reach() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let victim = arena.ordinary("victim", &["attack-probe", "sleep", "the-victim"])?;
    let mut ids = Vec::new();
    for policy in ["own", "engine"] {
        let id = format!("{}-victim-{policy}", arena.enclave.tag());
        let policies = arena.enclave.dir().join("policy.toml");
        fs::write(&policies, POLICIES).at("write", &policies)?;
        victim.save()?;
        let script = format!(
            "exec {} --root /run/state-victims --policy-file {} --policy {policy} run --detach \
             --bundle {} {id} </dev/null >/run/{id}.log 2>&1",
            Runtime::Cofferdam.oci()?.display(),
            policies.display(),
            victim.dir().display(),
        );
        arena.enclave.cmd("bash").args(["-c", &script]).ok()?;
        ids.push((policy, id));
    }
    for (policy, id) in &ids {
        let state = arena.enclave.cmd(Runtime::Cofferdam.oci()?);
        let state = state
            .args(["--root", "/run/state-victims", "state", id])
            .ok()?;
        let state: serde_json::Value = serde_json::from_str(&state.stdout).expect("JSON");
        let pid = state["pid"].to_string();
        for attack in ["signal", "ptrace"] {
            let name = format!("{attack}-{policy}");
            let mut bundle = arena.ordinary(&name, &["attack-probe", attack, &pid])?;
            let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut();
            namespaces
                .expect("an array")
                .retain(|namespace| namespace["type"] != "pid");
            let run = attempt(&arena, &bundle, policy, "/")?;
            let expected = *policy == "engine";
            assert_eq!(run.worked, expected, "{attack} {policy}: {}", run.how);
        }
    }
    for (_, id) in &ids {
        let delete = arena.enclave.cmd(Runtime::Cofferdam.oci()?);
        let delete = delete.args(["--root", "/run/state-victims", "delete", "--force", id]);
        delete.ok()?;
    }
    Ok(())
}

/// Every container has ids of its own, whatever engine or state root it is of.
#[test]
fn no_two_containers_have_an_id_in_common() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let mut firsts = Vec::new();
    for number in 0..6 {
        let bundle = arena.ordinary(&format!("ids{number}"), &["cat", "/proc/self/uid_map"])?;
        bundle.save()?;
        let root = format!("/run/state-{number}");
        let id = format!("{}-ids-{number}", arena.enclave.tag());
        // Created and not deleted: it keeps its range.
        let log = format!("/run/{id}.log");
        let script = format!(
            "exec {} --root {root} create --bundle {} {id} </dev/null >{log} 2>&1",
            Runtime::Cofferdam.oci()?.display(),
            bundle.dir().display(),
        );
        arena.enclave.cmd("bash").args(["-c", &script]).ok()?;
        let oci = |args: &[&str]| -> Result<String> {
            let cmd = arena.enclave.cmd(Runtime::Cofferdam.oci()?);
            Ok(cmd.args(["--root", &root]).args(args).ok()?.stdout)
        };
        let found: serde_json::Value =
            serde_json::from_str(&oci(&["inspect", "--format", "json", &id])?).expect("JSON");
        let map = &found["uid_map"][0];
        assert_eq!(map["container"], 0, "{found}");
        assert_eq!(map["size"], 65_536, "{found}");
        assert_eq!(found["gid_map"], found["uid_map"], "{found}");
        firsts.push((map["host"].as_u64().expect("a number"), root, id));
    }
    firsts.sort();
    assert!(firsts[0].0 >= 65_536, "{firsts:?}");
    for pair in firsts.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 65_536, "{firsts:?}");
    }
    for (_, root, id) in &firsts {
        let delete = arena.enclave.cmd(Runtime::Cofferdam.oci()?);
        delete
            .args(["--root", root, "delete", "--force", id])
            .ok()?;
    }
    Ok(())
}
