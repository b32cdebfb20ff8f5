//! A private containerd in an [`Enclave`], and its `ctr`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    binaries::{Runtime, build_dir, on_path, unpacked},
    cases::{Engine, tail},
    command::{Cmd, Done, Job, eventually},
    enclave::{Enclave, Process},
    error::{At, Result},
    guest,
    image::Image,
};

/// The configuration file.
mod config;
/// What containerd says about a task.
mod task;

pub use config::{Options, PAUSE};
pub use task::Status;

/// A release line of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian 12's: task protocol v2 only, shims print a bare address.
    V1_6,
    /// Debian 13's: task protocol v2 and v3.
    V1_7,
    /// A later suite's: configuration version 3, plug-ins renamed.
    V2_1,
}

impl Version {
    fn program(self, name: &str) -> Result<PathBuf> {
        match self {
            Self::V1_6 => on_path(name),
            Self::V1_7 => unpacked("containerd-1.7", name),
            Self::V2_1 => unpacked("containerd-2.1", name),
        }
    }
}

/// A running containerd with busybox imported.
#[derive(Debug)]
pub struct Containerd {
    daemon: Mutex<Option<Job>>,
    enclave: Enclave,
    version: Version,
    runtime: Runtime,
    namespace: String,
    image: Image,
}

impl Containerd {
    /// Starts containerd with [`Runtime::under_test`] and waits until it answers.
    ///
    /// # Errors
    /// If it is not installed or does not come up.
    pub fn start(version: Version) -> Result<Self> {
        Self::start_with(version, Runtime::under_test(), &Options::default())
    }

    /// Starts containerd with a runtime and options of the caller's choice.
    ///
    /// # Errors
    /// As [`Containerd::start`].
    pub fn start_with(version: Version, runtime: Runtime, options: &Options) -> Result<Self> {
        version.program("containerd")?;
        let shims = shim_path(runtime, version)?;
        let image = Image::busybox()?;
        let enclave = Enclave::new()?;
        let dir = enclave.dir();
        let file = dir.join("config.toml");
        fs::write(&file, config::render(dir, version, options)).at("write", file)?;
        // The built-in policies, whatever this machine has in /etc.
        let policies = dir.join("policy.toml");
        fs::write(&policies, "").at("write", policies)?;
        for (name, text) in &options.files {
            let path = dir.join(name);
            fs::write(&path, text).at("write", path)?;
        }
        let namespace = enclave.tag().to_owned();
        let engine = Self {
            daemon: Mutex::new(None),
            enclave,
            version,
            runtime,
            namespace,
            image,
        };
        fs::write(engine.enclave.dir().join("path"), shims).at("write", "path")?;
        for (key, value) in &options.envs {
            let line = format!("{key}={value}\n");
            let path = engine.enclave.dir().join("envs");
            let text = fs::read_to_string(&path).unwrap_or_default() + &line;
            fs::write(&path, text).at("write", path)?;
        }
        engine.launch()?;
        let oci = engine.image.oci.clone();
        engine
            .ctr(["images", "import"])
            .arg(oci)
            .limit(Duration::from_secs(60))
            .ok()?;
        // The first container makes directories and a parent cgroup that stay.
        engine.run("warm-up", &["true"])?;
        Ok(engine)
    }

    /// Starts the daemon, again after [`Containerd::kill`], and waits until it answers.
    ///
    /// # Errors
    /// If it does not come up within 30 seconds.
    pub fn launch(&self) -> Result<()> {
        let dir = self.enclave.dir();
        let path = fs::read_to_string(dir.join("path")).at("read", "path")?;
        let mut cmd = self
            .enclave
            .cmd(self.version.program("containerd")?)
            .arg("--config")
            .arg(dir.join("config.toml"))
            .env("PATH", path)
            .env("COFFERDAM_CACHE", dir.join("cache"))
            .env("COFFERDAM_LOGS", dir.join("logs"))
            .env("COFFERDAM_POLICY_FILE", dir.join("policy.toml"));
        if self.runtime == Runtime::Machine {
            cmd = cmd.env(guest::VARIABLE, guest::installed()?);
        }
        for line in fs::read_to_string(dir.join("envs"))
            .unwrap_or_default()
            .lines()
        {
            if let Some((key, value)) = line.split_once('=') {
                cmd = cmd.env(key, value);
            }
        }
        let job = cmd.background(&dir.join("containerd.log"))?;
        if let Ok(mut daemon) = self.daemon.lock() {
            *daemon = Some(job);
        }
        eventually("containerd answers", Duration::from_secs(30), || match self
            .ctr(["version"])
            .run()
        {
            Ok(done) if done.status.success() => Ok(()),
            Ok(done) => Err(format!("{}\n{}", done.stderr, tail(&self.log(), 5))),
            Err(error) => Err(error.chain()),
        })
    }

    /// Ends the daemon with a signal; shims and containers stay.
    ///
    /// # Errors
    /// If it is not running.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        let daemon = self.daemon()?;
        self.enclave.signal(daemon.pid, signal)?;
        if let Ok(mut slot) = self.daemon.lock()
            && let Some(mut job) = slot.take()
        {
            job.wait(Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// The daemon's process.
    ///
    /// # Errors
    /// If it is not running.
    pub fn daemon(&self) -> Result<Process> {
        let config = self.enclave.dir().join("config.toml");
        let mut found = self
            .enclave
            .find(&format!("--config {}", config.display()))?;
        found.retain(|process| process.name == "containerd");
        found.pop().ok_or_else(|| crate::error::Error::Missing {
            what: "the containerd daemon".to_owned(),
            remedy: "look at its log",
        })
    }

    /// The shims that are running as daemons.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn shims(&self) -> Result<Vec<Process>> {
        let mut found = self.enclave.find(self.runtime.shim_name())?;
        found.retain(|process| process.name.starts_with("containerd-shim"));
        Ok(found)
    }

    /// The runtime that containers run with.
    #[must_use]
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// The release line.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The image that was imported.
    #[must_use]
    pub fn image(&self) -> &str {
        &self.image.name
    }

    /// The containerd namespace in use; its name is a part of the cgroups' paths.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The gRPC socket, as a process outside the enclave can reach it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.enclave.dir().join("containerd.sock")
    }

    /// The directory of a task's bundle.
    #[must_use]
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.enclave
            .dir()
            .join("state/io.containerd.runtime.v2.task")
            .join(&self.namespace)
            .join(id)
    }

    /// A `ctr` command.
    #[must_use]
    pub fn ctr<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, args: I) -> Cmd {
        let program = self
            .version
            .program("ctr")
            .unwrap_or_else(|_| PathBuf::from("ctr"));
        self.enclave
            .cmd(program)
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", &self.namespace])
            .args(args)
    }

    /// `ctr run` with flags before the image; neither `--rm` nor `--detach` is implied.
    #[must_use]
    pub fn ctr_run(&self, flags: &[&str], id: &str, argv: &[&str]) -> Cmd {
        self.ctr(["run", "--runtime", self.runtime.containerd_name()])
            .args(flags)
            .args([self.image(), id])
            .args(argv)
    }

    /// Runs a container to its end and removes it; it must succeed.
    ///
    /// # Errors
    /// With everything it printed if it exits with another status than 0.
    pub fn run(&self, id: &str, argv: &[&str]) -> Result<Done> {
        self.ctr_run(&["--rm"], id, argv).ok()
    }

    /// Starts a container in the background with flags; it is removed when the guard is dropped.
    ///
    /// # Errors
    /// If it does not start.
    pub fn detached<'a>(&'a self, flags: &[&str], id: &str, argv: &[&str]) -> Result<Running<'a>> {
        // A detached container would inherit the pipes of `ctr`, which would then not end.
        self.detached_with_io(&[&["--null-io"], flags].concat(), id, argv)
    }

    /// As [`Containerd::detached`], for flags that say where the output goes.
    ///
    /// # Errors
    /// If it does not start.
    pub fn detached_with_io<'a>(
        &'a self,
        flags: &[&str],
        id: &str,
        argv: &[&str],
    ) -> Result<Running<'a>> {
        // Made before the start, so that a failed start is cleared away too.
        let running = Running {
            engine: self,
            id: id.to_owned(),
        };
        let flags = [&["--detach"], flags].concat();
        self.ctr_run(&flags, id, argv).ok()?;
        Ok(running)
    }

    /// A container that sleeps until it is removed.
    ///
    /// # Errors
    /// If it does not start.
    pub fn sleeper(&self, id: &str) -> Result<Running<'_>> {
        self.detached(&[], id, &["sleep", "1000"])
    }

    /// Runs a command in a running container.
    ///
    /// # Errors
    /// If it exits with another status than 0.
    pub fn exec(&self, id: &str, argv: &[&str]) -> Result<Done> {
        self.exec_with(&[], id, argv).ok()
    }

    /// `ctr tasks exec` with flags.
    #[must_use]
    pub fn exec_with(&self, flags: &[&str], id: &str, argv: &[&str]) -> Cmd {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let exec = format!("exec-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.ctr(["tasks", "exec", "--exec-id", &exec])
            .args(flags)
            .arg(id)
            .args(argv)
    }

    /// Follows the events into a file; see [`Job::output`].
    ///
    /// # Errors
    /// If `ctr` cannot be started.
    pub fn events(&self) -> Result<Job> {
        let job = self
            .ctr(["events"])
            .background(&self.enclave.dir().join("events.log"))?;
        // The subscription has no acknowledgement: make an event until it shows.
        eventually("events arrive", Duration::from_secs(10), || {
            let name = format!("{}-probe", self.namespace);
            let _ = self.ctr(["namespaces", "create", &name]).run();
            let _ = self.ctr(["namespaces", "remove", &name]).run();
            if job.output().contains("/namespaces/") {
                Ok(())
            } else {
                Err(job.output())
            }
        })?;
        Ok(job)
    }

    /// Kills and removes a container, whatever its state; containerd must agree.
    ///
    /// # Errors
    /// If containerd cannot remove it.
    pub fn remove(&self, id: &str) -> Result<()> {
        let _ = self
            .ctr(["tasks", "kill", "--all", "--signal", "SIGKILL", id])
            .run()?;
        eventually("the task can be removed", Duration::from_secs(10), || {
            let done = self.ctr(["tasks", "rm", "--force", id]).run();
            match done {
                Ok(done) if done.status.success() => Ok(()),
                Ok(done) if done.stderr.contains("not found") => Ok(()),
                Ok(done) => Err(done.stderr),
                Err(error) => Err(error.chain()),
            }
        })?;
        let done = self.ctr(["containers", "rm", id]).run()?;
        if done.stderr.contains("not found") {
            return Ok(());
        }
        done.ok().map(drop)
    }

    /// A file of the enclave's directory for a test's own use.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.enclave.dir().join(name)
    }
}

/// A container in the background, removed on drop.
#[derive(Debug)]
pub struct Running<'a> {
    engine: &'a Containerd,
    id: String,
}

impl Running<'_> {
    /// The container's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Removes it now, and says whether that worked.
    ///
    /// # Errors
    /// If containerd cannot remove it.
    pub fn remove(self) -> Result<()> {
        self.engine.remove(&self.id)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.engine.remove(&self.id);
    }
}

impl Engine for Containerd {
    fn enclave(&self) -> &Enclave {
        &self.enclave
    }

    fn name(&self) -> String {
        format!("containerd {:?} {:?}", self.version, self.runtime)
    }

    fn clear(&self) -> Result<()> {
        let list = self.ctr(["containers", "ls", "--quiet"]).ok()?;
        for id in list.stdout.lines() {
            let _ = self.remove(id);
        }
        Ok(())
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.enclave.dir().join("containerd.log"));
        let text = text.unwrap_or_default();
        let lines = text.lines().filter(|line| !line.contains("loading plugin"));
        tail(&lines.collect::<Vec<_>>().join("\n"), 15)
    }
}

/// The search path for the daemon: the runtime's shim first, then the shim that belongs to this
/// containerd, then the machine's.
fn shim_path(runtime: Runtime, version: Version) -> Result<String> {
    let mut dirs: Vec<PathBuf> = Vec::new();
    match runtime {
        Runtime::Cofferdam => dirs.push(build_dir()?),
        Runtime::Machine => dirs.push(guest::installed()?),
        Runtime::Runc => {}
    }
    let own = version.program("containerd")?;
    dirs.extend(own.parent().map(Path::to_owned));
    dirs.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    Ok(dirs.join(":"))
}
