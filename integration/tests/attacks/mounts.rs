//! Images, volumes and specs that would have the runtime mount, mask or write somewhere else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cofferdam_integration::{
    binaries::Runtime,
    bundle::Bundle,
    error::{At, Result},
};
use serde_json::json;

use crate::arena::Arena;

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
    let seen = arena.show(Runtime::Runc, &control, "null-control")?;
    let expected = format!("{pattern}shown\n");
    assert_eq!(seen, expected, "control: runc's mask shows the setting");
    let mut bundle = arena.ordinary("null", &show)?;
    forge(&mut bundle)?;
    let seen = arena.show(Runtime::Cofferdam, &bundle, "null")?;
    assert!(!seen.contains(pattern.trim()), "{seen}");
    Ok(())
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
    arena.show(Runtime::Runc, &control, "proc-control")?;
    let text = fs::read_to_string(&file).at("read", &file)?;
    assert!(
        text.starts_with("0 100"),
        "control: runc writes into the forged file: {text}"
    );
    let mut bundle = arena.ordinary("proc", &["echo", "shown"])?;
    let file = forge(&mut bundle)?;
    arena.show(Runtime::Cofferdam, &bundle, "proc")?;
    assert_eq!(
        fs::read_to_string(&file).at("read", &file)?,
        "untouched",
        "the forged file"
    );
    Ok(())
}

/// A device node asked for in a volume would stay in the host's directory, where everybody who has the
/// volume finds it.
#[test]
fn a_node_is_not_made_in_a_volume() -> Result<()> {
    let Some(arena) = Arena::new()? else {
        return Ok(());
    };
    let ask = |name: &str, node: &str| -> Result<(Bundle, PathBuf)> {
        let mut bundle = arena.ordinary(name, &["true"])?;
        let volume = bundle.dir().join("volume");
        fs::create_dir(&volume).at("make", &volume)?;
        let alias = bundle.rootfs().join("alias");
        std::os::unix::fs::symlink("/data", &alias).at("link", alias)?;
        let mounts = bundle.spec["mounts"].as_array_mut().expect("an array");
        mounts.push(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rw"]}));
        bundle.spec["linux"]["devices"] =
            json!([{"path": node, "type": "c", "major": 1, "minor": 3}]);
        Ok((bundle, volume))
    };
    let made = |volume: &Path| fs::read_dir(volume).map(Iterator::count).at("list", volume);
    for (name, node, word) in [
        ("node", "/data/null", "devices"),
        // The policy cannot see links of the image; the runtime can. Where it can but bind the host's node (before
        // Linux 6.3), there is none by that name.
        ("alias", "/alias/null", "/alias/null"),
    ] {
        let (control, volume) = ask(&format!("{name}-control"), node)?;
        control.save()?;
        let id = format!("{}-{name}-control", arena.enclave.tag());
        let run = arena.oci(Runtime::Runc)?.args(["run", "--bundle"]);
        run.arg(control.dir()).arg(id).ok()?;
        assert_eq!(made(&volume)?, 1, "control: runc makes the node");
        let (bundle, volume) = ask(name, node)?;
        arena.refused(&bundle, name, word)?;
        assert_eq!(made(&volume)?, 0, "{name}");
    }
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
        arena.refused(&bundle, &name, "sensitive-mounts")?;
    }
    let privileged = arena.permissive("privileged", &["true"])?;
    arena.refused(&privileged, "privileged", "privileged")
}
