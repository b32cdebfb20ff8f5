use std::{fs, time::Duration};

use cofferdam_integration::{
    binaries::{Runtime, build_dir},
    command::{Cmd, Job, eventually},
    error::{At as _, Result},
    gate::Guest,
};

use super::{property, reload};
use crate::yard::Yard;

/// The scope that an engine had made for a container with these limits: 64 MiB and 50 tasks.
fn is_limited(unit: &str) -> Result<()> {
    for (name, value) in [
        ("ActiveState", "active"),
        ("MemoryMax", "67108864"),
        ("TasksMax", "50"),
    ] {
        assert_eq!(property(unit, name)?, value, "{name} of {unit}");
    }
    Ok(())
}

fn is_gone(unit: &str) -> Result<()> {
    eventually(
        "the scope goes",
        Duration::from_secs(10),
        || match property(unit, "LoadState") {
            Ok(state) if state == "not-found" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
}

/// With its storage and its files for each container where Debian has them: on disk, and below `/run`,
/// which is tmpfs.
#[test]
fn podman_runs_containers_in_scopes() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Systemd)? else {
        return Ok(());
    };
    let podman = |words: &[&str]| -> Result<Cmd> {
        Ok(Cmd::new("podman")
            .args(["--cgroup-manager", "systemd", "--events-backend", "file"])
            .arg("--runtime")
            .arg(Runtime::under_test().oci()?)
            .args(words))
    };
    let archive = yard.image().oci.display().to_string();
    podman(&["load", "--quiet", "--input", &archive])?.ok()?;
    let flags = "run --detach --network none --name scoped --memory 64m --pids-limit 50";
    let mut words: Vec<_> = flags.split(' ').collect();
    words.extend([yard.image().name.as_str(), "sleep", "1000"]);
    let id = podman(&words)?.ok()?.stdout.trim().to_owned();
    let unit = format!("libpod-{id}.scope");
    is_limited(&unit)?;
    let inside = |script: &str| -> Result<String> {
        let done = podman(&["exec", "scoped", "sh", "-c", script])?.ok()?;
        Ok(done.stdout)
    };
    assert_eq!(inside("cat /sys/fs/cgroup/memory.max")?, "67108864\n");
    assert!(inside("cat /etc/hosts")?.contains("scoped"));
    let script =
        "echo x >/dev/shm/file && echo y >/root/file && stat -c %u /dev/shm/file /root/file";
    assert_eq!(inside(script)?, "0\n0\n");
    podman(&["rm", "--force", "--time", "0", "scoped"])?.ok()?;
    is_gone(&unit)
}

/// A dockerd that nobody told which driver to take.
fn dockerd(yard: &Yard) -> Result<Job> {
    let dir = yard.dir();
    let oci = Runtime::under_test().oci()?;
    let daemon = Cmd::new("dockerd")
        .arg(format!("--data-root={}/data", dir.display()))
        .arg(format!("--exec-root={}/exec", dir.display()))
        .arg(format!("--pidfile={}/docker.pid", dir.display()))
        .arg(format!("--host=unix://{}/docker.sock", dir.display()))
        .arg(format!("--add-runtime=cofferdam={}", oci.display()))
        .args(["--bridge=none", "--iptables=false", "--ip-masq=false"]);
    daemon.background(&dir.join("dockerd.log"))
}

#[test]
fn docker_runs_containers_in_scopes() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Systemd)? else {
        return Ok(());
    };
    let daemon = dockerd(&yard)?;
    let docker = |words: &[&str]| {
        let socket = yard.dir().join("docker.sock");
        Cmd::new("docker")
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .args(words)
    };
    eventually(
        "dockerd answers",
        Duration::from_secs(60),
        || match docker(&["info", "--format", "{{.CgroupDriver}}"]).run() {
            Ok(done) if done.stdout == "systemd\n" => Ok(()),
            other => Err(format!("{other:?}\n{}", daemon.output())),
        },
    )?;
    let archive = yard.image().docker.display().to_string();
    docker(&["load", "--quiet", "--input", &archive]).ok()?;
    let flags = "run --detach --runtime cofferdam --network none --name scoped --memory 64m --pids-limit 50";
    let mut words: Vec<_> = flags.split(' ').collect();
    words.extend([yard.image().name.as_str(), "sleep", "1000"]);
    let id = docker(&words).ok()?.stdout.trim().to_owned();
    let unit = format!("docker-{id}.scope");
    is_limited(&unit)?;
    docker(&[
        "update",
        "--memory",
        "32m",
        "--memory-swap",
        "32m",
        "scoped",
    ])
    .ok()?;
    assert_eq!(property(&unit, "MemoryMax")?, "33554432");
    reload()?;
    let done = docker(&["exec", "scoped", "cat", "/sys/fs/cgroup/memory.max"]).ok()?;
    assert_eq!(done.stdout, "33554432\n");
    docker(&["rm", "--force", "scoped"]).ok()?;
    is_gone(&unit)
}

/// The shim, told by its handler's options as Kubernetes tells it.
#[test]
fn containerd_runs_containers_in_scopes() -> Result<()> {
    let Some(yard) = Yard::new(Guest::Systemd)? else {
        return Ok(());
    };
    let dir = yard.dir();
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).at("write", path)
    };
    write("handler.toml", "SystemdCgroup = true\n".to_owned())?;
    write(
        "containerd.toml",
        format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state-of-containerd\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{0}/containerd.sock\"\n",
            dir.display()
        ),
    )?;
    let path = std::env::var("PATH").unwrap_or_default();
    let daemon = Cmd::new("containerd")
        .env("PATH", format!("{}:{path}", build_dir()?.display()))
        .arg("--config")
        .arg(dir.join("containerd.toml"))
        .background(&dir.join("containerd.log"))?;
    let ctr = |words: &[&str]| {
        Cmd::new("ctr")
            .arg("--address")
            .arg(dir.join("containerd.sock"))
            .args(words)
    };
    eventually(
        "containerd answers",
        Duration::from_secs(30),
        || match ctr(&["version"]).run() {
            Ok(done) if done.status.success() => Ok(()),
            other => Err(format!("{other:?}\n{}", daemon.output())),
        },
    )?;
    let archive = yard.image().oci.display().to_string();
    ctr(&["images", "import", &archive]).ok()?;
    let handler = dir.join("handler.toml").display().to_string();
    let flags = "run --detach --null-io --runtime io.containerd.cofferdam.v2 --memory-limit 67108864 \
                 --cgroup lab-pod1.slice:cri-containerd:scoped --runtime-config-path";
    let mut words: Vec<_> = flags.split(' ').collect();
    words.extend([
        &handler,
        yard.image().name.as_str(),
        "scoped",
        "sleep",
        "1000",
    ]);
    ctr(&words).ok()?;
    let unit = "cri-containerd-scoped.scope";
    assert_eq!(property(unit, "ActiveState")?, "active");
    assert_eq!(property(unit, "Slice")?, "lab-pod1.slice");
    assert_eq!(property(unit, "MemoryMax")?, "67108864");
    let exec = ["tasks", "exec", "--exec-id", "look", "scoped"];
    let done = ctr(&exec).args(["cat", "/proc/self/cgroup"]).ok()?;
    assert_eq!(done.stdout, "0::/\n", "exec is in the same cgroup");
    ctr(&["tasks", "rm", "--force", "scoped"]).ok()?;
    ctr(&["containers", "rm", "scoped"]).ok()?;
    is_gone(unit)
}
