use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Load, Program, accounting::Accounting, strace::Trace};
use crate::{
    binaries::{Runtime, cache_dir, on_path},
    bundle::Bundle,
    command::{Cmd, Job, eventually},
    enclave::Enclave,
    error::{At, Error, Result},
};

/// How long a load may take; under strace everything is some tens of times slower.
const LOAD_LIMIT: Duration = Duration::from_secs(120);
/// How long a server may take to end after SIGTERM.
const END_LIMIT: Duration = Duration::from_secs(15);
/// The last thing a process hears that a seccomp filter kills.
const SIGSYS: u8 = 31;

/// An enclave for one run of one program.
#[derive(Debug)]
pub struct Stage<'a> {
    program: &'a Program,
    load: Load,
    enclave: Enclave,
    accounting: Accounting,
    bundle: Bundle,
    clients: PathBuf,
}

/// How a run went.
#[derive(Debug)]
pub struct Outcome {
    /// What strace saw, if it was asked to look.
    pub observed: Trace,
    /// Names of processes that died of SIGSYS.
    pub killed: Vec<String>,
    /// What made the load fail, or went wrong otherwise.
    pub failed: Option<String>,
    /// From the container's creation to its end.
    pub took: Duration,
}

impl<'a> Stage<'a> {
    /// Prepares a container that runs the program with the engines' default capabilities, hardened by
    /// the built-in policy.
    ///
    /// # Errors
    /// If the root file systems are missing or the enclave cannot be made.
    pub fn new(program: &'a Program, load: Load) -> Result<Self> {
        let enclave = Enclave::new()?;
        let accounting = Accounting::start(&enclave)?;
        let dir = enclave.dir().join("stage");
        let mut bundle = Bundle::without_rootfs(&dir, program.argv(load))?;
        bundle.spec["process"]["user"] =
            serde_json::json!({"uid": program.user, "gid": program.user});
        bundle.save()?;
        let stage = Self {
            program,
            load,
            clients: enclave.dir().join("clients"),
            enclave,
            accounting,
            bundle,
        };
        stage.mount(&rootfs(program.name)?, &stage.bundle.rootfs())?;
        stage.mount(&rootfs("clients")?, &stage.clients)?;
        let devices = "mount --rbind /dev \"$0/dev\" && mount -t proc proc \"$0/proc\"";
        let mut furnish = stage.enclave.cmd("bash").args(["-ec", devices]);
        furnish = furnish.arg(&stage.clients);
        furnish.ok()?;
        stage.step("prepare", 0)?.ok()?;
        Ok(stage)
    }

    /// The container's root file system with the program's configuration in it, as an image of it
    /// would be; there as long as the stage is.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        let inside = self.bundle.rootfs().display().to_string();
        self.enclave.path(&inside)
    }

    /// Puts a profile into the container's spec.
    ///
    /// # Errors
    /// If the spec cannot be written.
    pub fn confine(&mut self, seccomp: &Value) -> Result<()> {
        self.bundle.spec["linux"]["seccomp"] = seccomp.clone();
        self.bundle.save()
    }

    /// A layer in the enclave's memory over a root file system of the cache, which stays as it is.
    fn mount(&self, lower: &Path, target: &Path) -> Result<()> {
        let layer = self
            .enclave
            .dir()
            .join("layers")
            .join(target.file_name().unwrap_or_default());
        let script = "mkdir -p \"$2\" \"$1/upper\" \"$1/work\" && mount -t overlay \
            -o \"lowerdir=$0,upperdir=$1/upper,workdir=$1/work\" overlay \"$2\"";
        let command = self.enclave.cmd("bash").args(["-ec", script]);
        command.arg(lower).arg(layer).arg(target).ok().map(drop)
    }

    /// Runs the load to its end.
    ///
    /// # Errors
    /// If the harness itself fails; what the program or the filter does is part of the outcome.
    pub fn run(self, observe: bool) -> Result<Outcome> {
        let started = Instant::now();
        let id = self.enclave.tag();
        self.runtime(&format!(
            "create --bundle {} {id} >{} 2>&1",
            self.bundle.dir().display(),
            self.log().display()
        ))?;
        let pid = self.pid()?;
        let log = self.enclave.dir().join("strace.log");
        let tracer = observe.then(|| self.attach(pid, &log)).transpose()?;
        let _beside = self
            .driver("beside", pid)
            .background(&self.enclave.dir().join("beside.log"))?;
        self.runtime(&format!("start {id}"))?;
        let mut failed = self.put_under_load(pid)?;
        if failed.is_none() && !self.ends(END_LIMIT) {
            failed = Some("does not end after SIGTERM".to_owned());
        }
        self.runtime(&format!("delete --force {id}"))?;
        if let Some(mut tracer) = tracer {
            tracer.wait(END_LIMIT)?;
        }
        let observed = if observe {
            let bytes = std::fs::read(&log).at("read", &log)?;
            Trace::read(&String::from_utf8_lossy(&bytes))
        } else {
            Trace::default()
        };
        let ended = self.accounting.ended()?;
        let killed = ended
            .into_iter()
            .filter(|process| process.signal == SIGSYS)
            .map(|process| process.command)
            .collect();
        let failed = failed.map(|why| format!("{why}\n--- its output\n{}", self.output()));
        Ok(Outcome {
            observed,
            killed,
            failed,
            took: started.elapsed(),
        })
    }

    /// `None` if the load did what it should.
    fn put_under_load(&self, pid: i32) -> Result<Option<String>> {
        if !self.program.is_server() {
            if !self.ends(LOAD_LIMIT) {
                return Ok(Some("did not end".to_owned()));
            }
            let done = self.output().contains(Program::DONE);
            return Ok((!done).then(|| "ended before its load did".to_owned()));
        }
        for step in ["ready", self.load.step()] {
            let done = self.step(step, pid)?;
            if !done.status.success() {
                let why = format!("{step} failed: {}{}", done.stdout, done.stderr);
                return Ok(Some(why));
            }
        }
        // It may have been the load's last act to stop the server.
        let _ = self.runtime(&format!("kill {} {}", self.enclave.tag(), Signal::SIGTERM));
        Ok(None)
    }

    fn ends(&self, within: Duration) -> bool {
        let stopped = || match self.state() {
            Ok(state) if state["status"] == "stopped" => Ok(()),
            Ok(state) => Err(state.to_string()),
            Err(error) => Err(error.to_string()),
        };
        eventually("the container ends", within, stopped).is_ok()
    }

    /// strace from outside, from before the program is executed.
    fn attach(&self, pid: i32, log: &Path) -> Result<Job> {
        let job = self
            .enclave
            .cmd(on_path("strace")?)
            .args(["-f", "-qq", "-s", "0", "-e", "verbose=none"])
            .args(["--pidns-translation", "-p", &pid.to_string(), "-o"])
            .arg(log)
            .background(&self.enclave.dir().join("strace.out"))?;
        let status = self.enclave.path(&format!("/proc/{pid}/status"));
        eventually("strace is attached", Duration::from_secs(10), || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let tracer = text
                .lines()
                .find_map(|line| line.strip_prefix("TracerPid:"));
            match tracer {
                Some(tracer) if tracer.trim() != "0" => Ok(()),
                _ => Err(job.output()),
            }
        })?;
        Ok(job)
    }

    fn state(&self) -> Result<Value> {
        self.runtime(&format!("state {}", self.enclave.tag()))?
            .json()
    }

    fn pid(&self) -> Result<i32> {
        let state = self.state()?;
        let pid = state["pid"]
            .as_i64()
            .and_then(|pid| i32::try_from(pid).ok());
        pid.ok_or_else(|| Error::Missing {
            what: format!("the container's process in {state}"),
            remedy: "see the runtime's log",
        })
    }

    /// The runtime's command line. The container keeps the descriptors that `create` is given, so
    /// those must not be pipes which somebody reads to their end.
    fn runtime(&self, words: &str) -> Result<crate::command::Done> {
        let runtime = Runtime::Cofferdam.oci()?;
        // Clients run on the host and reach the servers' Unix sockets through the engine's mount, which
        // is another file system than the container's where that has user ids of its own.
        let policies = self.enclave.dir().join("policy.toml");
        std::fs::write(&policies, "[policy.loads]\nuser_namespace = \"engine\"\n")
            .at("write", &policies)?;
        let script = format!(
            "exec {} --root /run/state --policy-file {} --policy loads {words} </dev/null",
            runtime.display(),
            policies.display(),
        );
        self.enclave.cmd("bash").args(["-c", &script]).ok()
    }

    fn driver(&self, step: &str, pid: i32) -> Cmd {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("loads");
        self.enclave
            .cmd("bash")
            .arg(scripts.join("driver.sh"))
            .args([self.program.name, step])
            .env("ROOT", self.bundle.rootfs())
            .env("CLIENTS", &self.clients)
            .env("PID", pid.to_string())
            .limit(LOAD_LIMIT)
    }

    fn step(&self, step: &str, pid: i32) -> Result<crate::command::Done> {
        self.driver(step, pid).run()
    }

    fn log(&self) -> PathBuf {
        self.enclave.dir().join("output.log")
    }

    fn output(&self) -> String {
        let bytes = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// A root file system that `scripts/fetch-programs` has unpacked.
///
/// # Errors
/// If it has not.
pub fn rootfs(name: &str) -> Result<PathBuf> {
    let path = cache_dir().join("roots").join(name);
    if path.join(".complete").exists() {
        return Ok(path);
    }
    Err(Error::Missing {
        what: format!("the root file system of {name}"),
        remedy: "run scripts/fetch-programs",
    })
}
