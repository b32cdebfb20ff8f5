use std::{
    fmt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use super::{Subject, scripts_dir};
use crate::{
    binaries::Runtime,
    cases::{Engine as _, tail},
    command::{Cmd, eventually},
    containerd::Containerd,
    error::{At, Error, Result},
};

/// How long a load may take.
const LOAD_LIMIT: Duration = Duration::from_secs(120);
/// How long a server may take to end once it is told to.
const END_LIMIT: Duration = Duration::from_secs(20);

/// What confines a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confinement {
    /// runc, as Docker has it run containers: the control.
    Runc,
    /// The built-in policy that holds when nobody chose one.
    Baseline,
    /// A looser one, by name.
    Policy(&'static str),
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runc => f.write_str("runc"),
            Self::Baseline => f.write_str("baseline"),
            Self::Policy(name) => write!(f, "policy {name}"),
        }
    }
}

/// A container of one subject, removed on drop.
struct Run<'a> {
    engine: &'a Containerd,
    subject: &'static Subject,
    step: &'static str,
    script: String,
    under: Confinement,
    id: String,
}

/// Runs a subject to its end; the exit status of a server that was stopped.
pub(super) fn run(
    engine: &Containerd,
    subject: &'static Subject,
    under: Confinement,
) -> Result<Option<i32>> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let run = Run {
        engine,
        subject,
        step: subject.step_under(under),
        script: subject.script()?,
        under,
        id: format!("{}-{number}", subject.image),
    };
    let volume = run.volume();
    std::fs::create_dir(&volume).at("make", &volume)?;
    run.on_host("before", &volume)?;
    let status = if run.script.contains("\ncommand=") {
        run.serve()?
    } else {
        run.batch()?;
        None
    };
    run.on_host("after", &volume)?;
    Ok(status)
}

impl Run<'_> {
    /// A server: it is started as its image says, put under load by `exec`, and stopped.
    fn serve(&self) -> Result<Option<i32>> {
        let log = self.engine.scratch(&format!("{}.log", self.id));
        let uri = format!("file://{}", log.display());
        self.create(&["--detach", "--log-uri", &uri], &[]).ok()?;
        let explained = |error: Error| {
            let said = std::fs::read(&log).unwrap_or_default();
            let said = tail(&String::from_utf8_lossy(&said), 15);
            let why = format!("{}\n--- its output\n{said}", error.chain());
            self.failed(why)
        };
        if self.has("ready") {
            self.exec("ready").ok().map_err(explained)?;
        }
        let done = self.exec(self.step).run()?;
        self.must_be_done(done).map_err(explained)?;
        if self.script.contains("\nkills=yes") {
            return Ok(None);
        }
        self.stop().map_err(explained).map(Some)
    }

    /// What ends by itself.
    fn batch(&self) -> Result<()> {
        let argv = self.argv(self.step);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let done = self.create(&["--rm"], &argv).run()?;
        self.must_be_done(done)
    }

    /// The last line is asked for too: a status alone could be that of something else.
    fn must_be_done(&self, done: crate::command::Done) -> Result<()> {
        let done = done.ok()?;
        let last = format!("DONE {} {}", self.subject.image, self.step);
        if done.stdout.lines().last() == Some(last.as_str()) {
            return Ok(());
        }
        Err(self.failed(format!("ended before its load did: {done:?}")))
    }

    fn stop(&self) -> Result<i32> {
        if self.has("stop") {
            // The server may take the command with it.
            let _ = self.exec("stop").run()?;
        } else {
            let kill = ["tasks", "kill", "--signal", "SIGTERM", &self.id];
            self.engine.ctr(kill).ok()?;
        }
        eventually("the server ends", END_LIMIT, || {
            match self.engine.task(&self.id) {
                Ok(Some(task)) if task.status == "STOPPED" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        // Its exit status becomes that of the command.
        let done = self.engine.ctr(["tasks", "delete", &self.id]).run()?;
        Ok(done.code())
    }

    /// `ctr run`, with what Docker asks of every container and `ctr` does not: its seccomp profile, and
    /// that programs may gain privileges, which is for the policy to forbid.
    fn create(&self, flags: &[&str], argv: &[&str]) -> Cmd {
        let load = self.engine.scratch("load");
        let load = format!(
            "type=bind,src={},dst=/load,options=rbind:ro",
            load.display()
        );
        // As Docker does.
        let hosts = self.engine.scratch("hosts");
        let hosts = format!(
            "type=bind,src={},dst=/etc/hosts,options=rbind:ro",
            hosts.display()
        );
        let runtime = match self.under {
            Confinement::Runc => Runtime::Runc,
            _ => Runtime::Cofferdam,
        };
        let volume = self.volume().display().to_string();
        let mut cmd = self
            .engine
            .ctr(["run", "--runtime", runtime.containerd_name()])
            .args(["--seccomp", "--allow-new-privs"])
            .args(["--mount", &load, "--mount", &hosts]);
        if let Confinement::Policy(name) = self.under {
            cmd = cmd.args(["--annotation", &format!("cofferdam.dev/policy={name}")]);
        }
        let own = self.subject.flags.iter();
        cmd.args(own.map(|flag| flag.replace("{volume}", &volume)))
            .args(flags)
            .arg(format!("localhost/compat-{}:latest", self.subject.image))
            .arg(&self.id)
            .args(argv)
            .limit(LOAD_LIMIT)
    }

    fn exec(&self, step: &str) -> Cmd {
        let argv = self.argv(step);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let exec = self.engine.exec_with(self.subject.exec, &self.id, &argv);
        exec.limit(LOAD_LIMIT)
    }

    fn argv(&self, step: &str) -> Vec<String> {
        let shell = self.subject.shell.iter().copied();
        let words = shell.chain(["/load/run.sh", self.subject.image, step]);
        words.map(str::to_owned).collect()
    }

    /// What is done in the volume on the host before or after the container.
    fn on_host(&self, when: &str, volume: &Path) -> Result<()> {
        let function = format!("{}_{when}", self.step);
        if !self.has(&function) {
            return Ok(());
        }
        let script = "cd \"$0\" && . \"$1/lib.sh\" && . \"$1/$2.sh\" && \"$3\"";
        let cmd = self.engine.enclave().cmd("bash").args(["-euc", script]);
        let cmd = cmd.arg(volume).arg(scripts_dir());
        cmd.args([self.subject.image, &function]).ok().map(drop)
    }

    /// Whether the script has a function.
    fn has(&self, function: &str) -> bool {
        self.script.contains(&format!("\n{function}() "))
    }

    fn volume(&self) -> PathBuf {
        self.engine.scratch(&format!("{}.volume", self.id))
    }

    fn failed(&self, why: String) -> Error {
        Error::Load {
            program: self.subject.name,
            load: self.step,
            why,
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let _ = self.engine.remove(&self.id);
        let _ = std::fs::remove_dir_all(self.volume());
    }
}
