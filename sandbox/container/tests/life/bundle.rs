//! A bundle, and the commands on it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Whether the tests can run here; without root they say so, or fail where that is forbidden.
pub(crate) fn needs_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let required = std::env::var_os("COFFERDAM_REQUIRE_ROOT").is_some_and(|v| v == "1");
    assert!(!required, "this test needs root");
    eprintln!("SKIPPED: this test needs root");
    false
}

/// The example, beside the test program.
pub(crate) fn life() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let life = test.ancestors().nth(2).unwrap().join("examples/life");
    assert!(life.exists(), "build it: cargo build --example life");
    life
}

/// A bundle with a busybox, its own state root, and a container id.
pub(crate) struct Bundle {
    directory: tempfile::TempDir,
    pub(crate) id: String,
    pub(crate) config: Value,
}

/// What stays after a command: its status and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let status = output.status;
        Self {
            status: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap()),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Bundle {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir().unwrap();
        let rootfs = directory.path().join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).expect("busybox-static");
        for name in [
            "sh", "cat", "ls", "sleep", "id", "grep", "readlink", "stat", "tty", "stty", "true",
            "wc", "hostname", "date", "touch", "dd", "ps", "chmod", "kill", "head", "echo",
        ] {
            std::os::unix::fs::symlink("busybox", rootfs.join("bin").join(name)).unwrap();
        }
        fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/srv/web:/bin/sh\n",
        )
        .unwrap();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            directory,
            id: format!("life-{}-{number}", std::process::id()),
            config: config(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn state_root(&self) -> PathBuf {
        self.path().join("state")
    }

    /// The container's program is this shell script.
    pub(crate) fn script(mut self, script: &str) -> Self {
        self.config["process"]["args"] = json!(["sh", "-c", script]);
        self
    }

    /// Sets a field, by JSON pointer.
    pub(crate) fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = self.config.pointer_mut(parent).unwrap();
        match key.parse::<usize>() {
            Ok(index) => parent[index] = value,
            Err(_) => parent[key] = value,
        }
        self
    }

    /// A command of the example on this container, not yet run.
    pub(crate) fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        self.command_of(&life(), verb, arguments)
    }

    pub(crate) fn command_of(&self, program: &Path, verb: &str, arguments: &[&str]) -> Command {
        fs::write(self.path().join("config.json"), self.config.to_string()).unwrap();
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .arg("--root")
            .arg(self.state_root())
            .args([verb, &self.id])
            .args(arguments)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn life(&self, verb: &str, arguments: &[&str]) -> Said {
        self.command(verb, arguments).output().unwrap().into()
    }

    /// Runs the container's program to its end.
    pub(crate) fn run(&self) -> Said {
        self.life("run", &[])
    }

    /// Creates the container; its output goes to a file, since it outlives the command.
    pub(crate) fn create(&self) -> Said {
        let output = self.path().join("output");
        let file = File::create(&output).unwrap();
        let status = self
            .command("create", &[])
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .status()
            .unwrap();
        Said {
            status: status.code().unwrap_or(-1),
            out: String::new(),
            err: fs::read_to_string(output).unwrap(),
        }
    }

    /// What the container itself has written since `create`.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.path().join("output")).unwrap()
    }

    /// Creates and starts it; it must work.
    pub(crate) fn up(self) -> Self {
        let created = self.create();
        assert_eq!(created.status, 0, "{}", created.err);
        let started = self.life("start", &[]);
        assert_eq!(started.status, 0, "{}", started.err);
        self
    }

    pub(crate) fn exec(&self, script: &str) -> Said {
        self.life("exec", &["sh", "-c", script])
    }

    pub(crate) fn status(&self) -> String {
        let said = self.life("state", &[]);
        said.out.split(' ').next().unwrap().to_owned()
    }

    pub(crate) fn pid(&self) -> i32 {
        let said = self.life("state", &[]);
        said.out.trim().split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The cgroup directories with this container's name.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap();
        hierarchies
            .map(|entry| entry.unwrap().path().join(&self.id))
            .chain([Path::new("/sys/fs/cgroup").join(&self.id)])
            .filter(|path| path.exists())
            .collect()
    }

    /// The ranges of user ids that this container holds.
    pub(crate) fn ranges(&self) -> Vec<PathBuf> {
        let state = self.state_root().join(&self.id);
        let ranges = fs::read_dir("/run/cofferdam/.ids").into_iter().flatten();
        let ranges = ranges.map(|range| range.unwrap().path());
        ranges
            .filter(|range| {
                let holders = fs::read_dir(range).into_iter().flatten().flatten();
                let mut containers = holders.filter_map(|holder| fs::read_link(holder.path()).ok());
                containers.any(|container| container == state)
            })
            .collect()
    }

    /// Nothing is left of it: no state, no cgroup, no mount, no user ids.
    pub(crate) fn assert_gone(&self) {
        assert!(!self.state_root().join(&self.id).exists(), "state is left");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "cgroups are left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = self.path().to_str().unwrap();
        assert!(!mounts.contains(here), "a mount is left");
        assert_eq!(self.ranges(), Vec::<PathBuf>::new(), "user ids are left");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let said = self.life("delete", &["force"]);
        if !std::thread::panicking() {
            assert_eq!(said.status, 0, "delete --force: {}", said.err);
            self.assert_gone();
        }
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What an engine writes for a plain container.
fn config() -> Value {
    let capabilities = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "cwd": "/",
            "args": ["sh", "-c", "while :; do sleep 1; done"],
            "env": ["PATH=/bin", "TERM=xterm"],
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "life",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}, {"type": "cgroup"},
            ],
        },
    })
}
