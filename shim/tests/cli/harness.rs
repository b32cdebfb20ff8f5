//! A state root, a bundle and the binary under test, all in one temporary directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this test may go on. Without root it may not, which is an error where
/// `COFFERDAM_REQUIRE_ROOT=1`.
pub(crate) fn needs_root() -> bool {
    let able = nix::unistd::geteuid().is_root() && Path::new("/bin/busybox").exists();
    let required = std::env::var_os("COFFERDAM_REQUIRE_ROOT").is_some_and(|value| value == "1");
    assert!(
        able || !required,
        "this test needs root and a static /bin/busybox"
    );
    if !able {
        eprintln!("SKIPPED: needs root and a static /bin/busybox");
    }
    able
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn code(&self) -> i32 {
        self.status.code().expect("killed by a signal")
    }

    /// The standard output of a command that must succeed.
    pub(crate) fn ok(self) -> String {
        assert!(self.status.success(), "{self:?}");
        self.stdout
    }

    pub(crate) fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

/// The test's own state root and bundle. Containers that are left are killed at the end.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) program: PathBuf,
    marker: String,
    runs: AtomicU32,
}

impl Bench {
    /// With a bundle whose program is `args`.
    pub(crate) fn new(args: &[&str]) -> Self {
        Self::with_program(env!("CARGO_BIN_EXE_cofferdam").into(), args)
    }

    pub(crate) fn with_program(program: PathBuf, args: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let bench = Self {
            dir: tempfile::Builder::new()
                .prefix("cofferdam-cli")
                .tempdir()
                .unwrap(),
            program,
            marker: format!("cofferdam-cli-test-{}-{number}", std::process::id()),
            runs: AtomicU32::new(0),
        };
        // Empty, so that what this machine has in /etc does not decide.
        fs::write(bench.path("policy.toml"), "").unwrap();
        let rootfs = bench.bundle().join("rootfs");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        if Path::new("/bin/busybox").exists() {
            fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
            for name in [
                "sh", "cat", "true", "sleep", "id", "ls", "kill", "stty", "env", "grep",
            ] {
                symlink("busybox", rootfs.join("bin").join(name)).unwrap();
            }
        }
        fs::write(rootfs.join("etc/not-executable"), "x").unwrap();
        bench.configure(|spec| {
            spec["process"]["args"] = json!(args);
            spec["process"]["terminal"] = json!(false);
            spec["linux"]["cgroupsPath"] = json!(format!("/{}", bench.marker));
        });
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// Changes the bundle's config.json, which is the output of `spec` at first.
    pub(crate) fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.bundle().join("config.json");
        if !path.exists() {
            let bundle = self.bundle();
            self.run(&["spec", "--bundle", bundle.to_str().unwrap()])
                .ok();
        }
        let mut spec = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut spec);
        fs::write(path, spec.to_string()).unwrap();
    }

    /// The program with our own root, cache and policies.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(self.root())
            .args(args)
            .current_dir(self.bundle())
            .env("COFFERDAM_CACHE", self.path("cache"))
            .env_remove("COFFERDAM_POLICY_FILE")
            .env("COFFERDAM_TEST_MARKER", &self.marker)
            .env_remove("COFFERDAM_POLICY")
            .stdin(Stdio::null());
        // Only root's can be trusted; without root no container starts anyway.
        if nix::unistd::geteuid().is_root() {
            command.env("COFFERDAM_POLICY_FILE", self.path("policy.toml"));
        }
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        self.finish(self.command(args))
    }

    /// Runs to the end. Output goes to files: a container that outlives the command would keep a
    /// pipe open.
    pub(crate) fn finish(&self, mut command: Command) -> Outcome {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (
            self.path(&format!("out{number}")),
            self.path(&format!("err{number}")),
        );
        let child = command
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(&err).unwrap())
            .spawn()
            .unwrap();
        let status = wait(child);
        let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        Outcome {
            status,
            stdout: text(out),
            stderr: text(err),
        }
    }

    pub(crate) fn state(&self, id: &str) -> Value {
        self.run(&["state", id]).json()
    }

    /// Waits until `state` says so.
    pub(crate) fn wait_for_status(&self, id: &str, status: &str) {
        let start = Instant::now();
        while self.state(id)["status"] != status {
            assert!(start.elapsed() < PATIENCE, "{id} never became {status}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What a failed command must not leave behind.
    pub(crate) fn assert_nothing_left(&self, what: &str) {
        let kept: Vec<_> = fs::read_dir(self.root())
            .map(|entries| entries.flatten().map(|e| e.file_name()).collect())
            .unwrap_or_default();
        assert!(kept.is_empty(), "{what}: left in the state root: {kept:?}");
        assert_eq!(
            self.cgroups(),
            Vec::<PathBuf>::new(),
            "{what}: left a cgroup"
        );
        assert_eq!(self.processes(), BTreeSet::new(), "{what}: left a process");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let ours = self.dir.path().to_str().unwrap();
        assert!(!mounts.contains(ours), "{what}: left a mount");
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        let mut places: Vec<_> = hierarchies
            .map(|entry| entry.path().join(&self.marker))
            .collect();
        places.push(Path::new("/sys/fs/cgroup").join(&self.marker));
        places.retain(|place| place.is_dir());
        places
    }

    /// Processes that were started with our environment, this one's children included.
    fn processes(&self) -> BTreeSet<String> {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let ours = entries.filter(|entry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let marker = self.marker.as_bytes();
            environment
                .split(|&b| b == 0)
                .any(|variable| variable.ends_with(marker))
        });
        ours.map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let ids = fs::read_dir(self.root()).into_iter().flatten().flatten();
        for id in ids {
            let _ = self.run(&["delete", "--force", &id.file_name().to_string_lossy()]);
        }
    }
}

/// Waits for a child with a limit.
pub(crate) fn wait(mut child: Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the command took more than {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
