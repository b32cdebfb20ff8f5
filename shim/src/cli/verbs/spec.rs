//! `spec`: writes a config.json to start from.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use nix::unistd::{getegid, geteuid};
use serde::Serialize as _;
use serde_json::{Value, json};

use super::{Flag, PLAIN, Verb, unprintable};
use crate::cli::flags::Words;
use crate::cli::{CliError, Context, OCI_VERSION};

pub(super) const VERB: Verb = Verb {
    name: "spec",
    arguments: "",
    count: (0, 0),
    summary: "write a new specification file",
    description: "Writes config.json for a bundle whose root file system is in ./rootfs and whose\n\
                  program is sh on a terminal. With --rootless it maps root to the caller.",
    example: "cofferdam spec --bundle /containers/web",
    flags: &[
        Flag::value(
            "bundle",
            'b',
            "DIR",
            "the bundle (default: the working directory)",
        ),
        Flag::switch("rootless", '\0', "for a caller who is not root"),
    ],
    run,
    ..PLAIN
};

fn run(_: &Context, words: &Words) -> Result<u8, CliError> {
    let path = words.path("bundle").unwrap_or(Path::new("."));
    let path = path.join("config.json");
    let mut spec = base();
    if words.on("rootless") {
        make_rootless(&mut spec, geteuid().as_raw(), getegid().as_raw());
    }
    let mut text = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, indent);
    spec.serialize(&mut serializer).map_err(unprintable)?;
    text.push(b'\n');
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    file.and_then(|mut file| file.write_all(&text))
        .map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => {
                CliError::Usage("file config.json exists. Remove it first")
            }
            _ => CliError::File {
                action: "write",
                path,
                source,
            },
        })?;
    Ok(0)
}

/// A shell in new namespaces with a read-only root.
fn base() -> Value {
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "cofferdam",
        "mounts": mounts(),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" },
                { "type": "network" },
                { "type": "ipc" },
                { "type": "uts" },
                { "type": "mount" },
                { "type": "cgroup" },
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
                "/sys/firmware", "/sys/devices/virtual/powercap",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}

fn mounts() -> Value {
    let quiet = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&quiet[..], more].concat();
    json!([
        { "destination": "/proc", "type": "proc", "source": "proc", "options": quiet },
        {
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": with(&["mode=1777", "size=65536k"]),
        },
        { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": quiet },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": with(&["ro"]) },
        {
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": with(&["relatime", "ro"]),
        },
    ])
}

/// Root in the container is the caller outside; what a caller without privileges cannot have is gone.
fn make_rootless(spec: &mut Value, uid: u32, gid: u32) {
    let mapping = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 1 }]);
    if let Some(linux) = spec.get_mut("linux").and_then(Value::as_object_mut) {
        linux.insert("uidMappings".to_owned(), mapping(uid));
        linux.insert("gidMappings".to_owned(), mapping(gid));
        linux.remove("resources");
        if let Some(Value::Array(namespaces)) = linux.get_mut("namespaces") {
            // The host's network: without privileges a new one has no way out.
            namespaces.retain(|ns| ns.get("type") != Some(&json!("network")));
            namespaces.push(json!({ "type": "user" }));
        }
    }
    if let Some(Value::Array(mounts)) = spec.get_mut("mounts") {
        for mount in mounts.iter_mut() {
            if let Some(Value::Array(options)) = mount.get_mut("options") {
                // Ids that the one-entry mapping does not have.
                options.retain(|o| !o.as_str().is_some_and(|o| o.starts_with("gid=")));
            }
            // sysfs belongs to the network namespace, which is the host's: bind it instead.
            if mount.get("destination") == Some(&json!("/sys")) {
                *mount = json!({
                    "destination": "/sys", "type": "none", "source": "/sys",
                    "options": ["rbind", "nosuid", "noexec", "nodev", "ro"],
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cofferdam_profiles::policy::parse_spec;

    #[test]
    fn what_is_written_can_be_read() {
        let mut spec = base();
        parse_spec(spec.to_string().as_bytes()).unwrap();
        make_rootless(&mut spec, 1000, 1000);
        let parsed = parse_spec(spec.to_string().as_bytes()).unwrap();
        let linux = parsed.linux().as_ref().unwrap();
        assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 1000);
        assert!(linux.resources().is_none());
    }
}
