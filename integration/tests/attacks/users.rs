//! Root of a container that got hold of something of the host's, or of another container's: with user
//! ids of its own it is nobody there. The control is the same container with the host's ids.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cofferdam_integration::{
    binaries::Runtime,
    bundle::Bundle,
    command::Done,
    error::{At, Result},
};
use serde_json::json;

use crate::arena::{Arena, Outcome, outcome};

const POLICIES: &str = r#"
[policy.own]
host_namespaces.pid = "allow"

[policy.engine]
user_namespace = "engine"
host_namespaces.pid = "allow"

[policy.unmapped.mounts]
unmapped = "allow"
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

/// Runs a command line of the runtime under one of [`POLICIES`].
pub(crate) fn oci(
    arena: &Arena,
    policy: &str,
    verb: &str,
    bundle: &Bundle,
    id: &str,
) -> Result<Done> {
    let policies = arena.enclave.dir().join("policy.toml");
    fs::write(&policies, POLICIES).at("write", &policies)?;
    bundle.save()?;
    let command = arena.oci(Runtime::Cofferdam)?.arg("--policy-file");
    let command = command.arg(policies).args(["--policy", policy, verb]);
    command.arg("--bundle").arg(bundle.dir()).arg(id).run()
}

/// A volume with `/file` (root's, mode 0600) on a file system of this kind, which cannot be id-mapped.
pub(crate) fn refused_or_nobodys(arena: &Arena, kind: &str, volume: &Path) -> Result<()> {
    let of = volume.file_name().unwrap_or_default().to_string_lossy();
    let name = |what: &str| format!("{what}-{of}");
    let look = "stat -c %u /vol/file; cat /vol/file; touch /vol/new && echo made";
    let mut bundle = arena.ordinary(&name("volume"), &["sh", "-c", look])?;
    let bind = json!({"destination": "/vol", "type": "bind", "source": volume,
                      "options": ["rbind", "rw"]});
    if let Some(mounts) = bundle.spec["mounts"].as_array_mut() {
        mounts.push(bind);
    }
    let id = |what: &str| format!("{}-{}", arena.enclave.tag(), name(what));
    // The control: with the host's ids it is root's.
    let free = oci(arena, "engine", "run", &bundle, &id("free"))?;
    assert_eq!(free.stdout, "0\nx\nmade\n", "{free:?}");
    let refused = oci(arena, "own", "run", &bundle, &id("refused"))?;
    assert!(!refused.status.success(), "{refused:?}");
    let named = format!("the file system {kind} ");
    assert!(refused.stderr.contains(&named), "{refused:?}");
    assert!(refused.stderr.contains("/vol"), "{refused:?}");
    let nobodys = oci(arena, "unmapped", "run", &bundle, &id("nobodys"))?;
    assert_eq!(nobodys.stdout, "65534\n", "{nobodys:?}");
    let id = id("reported");
    let script = format!(
        "exec {} --root /run/state-reported --policy-file {} --policy unmapped create --bundle {} {id} \
         </dev/null >/run/{id}.log 2>&1",
        Runtime::Cofferdam.oci()?.display(),
        arena.enclave.dir().join("policy.toml").display(),
        bundle.dir().display(),
    );
    arena.enclave.cmd("bash").args(["-c", &script]).ok()?;
    let record = arena
        .enclave
        .path(&format!("/run/state-reported/{id}/record.json"));
    let record = fs::read_to_string(&record).at("read", record)?;
    assert!(
        record.contains(&format!("the file system {kind} cannot be id-mapped")),
        "{record}"
    );
    let delete = arena.enclave.cmd(Runtime::Cofferdam.oci()?);
    let delete = delete.args(["--root", "/run/state-reported", "delete", "--force", &id]);
    delete.ok()?;
    Ok(())
}

/// A file system that the kernel cannot id-map (ramfs here) is refused with
/// its name, and mounted with owners that are nobody's only where the policy says so.
#[test]
fn what_cannot_be_mapped_is_refused_by_name_or_nobodys() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let volume = arena.enclave.dir().join("ram");
    fs::create_dir(&volume).at("make", &volume)?;
    let mount = |at: &Path| {
        let mount = arena.enclave.cmd("mount");
        mount.args(["-t", "ramfs", "ramfs"]).arg(at).ok().map(drop)
    };
    mount(&volume)?;
    let script = format!("echo x >{0}/file; chmod 600 {0}/file", volume.display());
    arena.enclave.cmd("sh").args(["-c", &script]).ok()?;
    refused_or_nobodys(&arena, "ramfs", &volume)?;
    // The root itself: no policy lets that be nobody's.
    let rooted = Bundle::without_rootfs(&arena.enclave.dir().join("root-on-ramfs"), &["true"])?;
    fs::create_dir(rooted.rootfs()).at("make", rooted.rootfs())?;
    mount(&rooted.rootfs())?;
    let copy = arena
        .enclave
        .cmd("cp")
        .arg("-a")
        .arg(arena.image.rootfs.join("."));
    copy.arg(rooted.rootfs()).ok()?;
    let tag = arena.enclave.tag();
    for policy in ["own", "unmapped"] {
        let id = format!("{tag}-root-{policy}");
        let refused = oci(&arena, policy, "run", &rooted, &id)?;
        assert!(!refused.status.success(), "{refused:?}");
        assert!(refused.stderr.contains("ramfs"), "{refused:?}");
    }
    let control = oci(
        &arena,
        "engine",
        "run",
        &rooted,
        &format!("{tag}-root-free"),
    )?;
    assert!(control.status.success(), "{control:?}");
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
