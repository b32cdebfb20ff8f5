//! A command in a container under a profile, and what the profile denied it.
//!
//! The container is made of directories: a root file system, or this machine's own directories mounted
//! read-only. Its policy takes the profile as it is (nothing is intersected with it) and has every denial
//! explained; all the rest is hardened as usual.

/// The directories that the container is made from.
mod bundle;

use std::env;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use serde_json::Value;
use tempfile::TempDir;

pub use bundle::{BundleError, Place};

/// The policy that takes the profile as it is.
const POLICY: &str =
    "default = \"trial\"\n[policy.trial]\nseccomp = \"engine\"\ndenials = \"explain\"\n";

/// Why a command could not be tried.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// No place for the container's files.
    #[error("cannot make a directory for the container")]
    Directory(#[source] io::Error),
    /// The bundle cannot be made.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The runtime cannot be executed.
    #[error("cannot execute {}, which runs the container; `make install` puts it there", path.display())]
    Runtime {
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The runtime said no; its words are on the standard error.
    #[error("the container was not started; the lines above say why")]
    NotStarted,
    /// The denials cannot be read.
    #[error("cannot read what was denied: {0}")]
    Denials(String),
}

/// How a trial ended.
#[derive(Debug)]
pub struct Outcome {
    /// Of the command.
    pub status: ExitStatus,
    /// What was denied, a line of the container's log each (`cofferdam denials --format json`).
    pub denied: Vec<Value>,
    /// The command was killed by SIGSYS: by the profile, unless it does that to itself.
    pub killed: bool,
}

/// What is tried.
#[derive(Debug)]
pub struct Trial<'a> {
    /// The profile, as it is.
    pub profile: &'a LinuxSeccomp,
    /// Where the command's files are.
    pub place: Place<'a>,
    /// Directories of this machine that the command may write to.
    pub writable: &'a [PathBuf],
    /// The command.
    pub command: &'a [String],
}

impl Trial<'_> {
    /// Runs it. The command's output goes to the standard error.
    pub fn run(&self) -> Result<Outcome, TrialError> {
        let work = TempDir::with_prefix("cofferdam-trial-").map_err(TrialError::Directory)?;
        let path = |name: &str| work.path().join(name);
        std::fs::create_dir(path("bundle")).map_err(TrialError::Directory)?;
        let allowed = bundle::make(&path("bundle"), self)?;
        let policy = format!("{POLICY}[policy.trial.mounts]\nallow = {allowed}\n");
        std::fs::write(path("policy.toml"), policy).map_err(TrialError::Directory)?;
        let runtime = Runtime {
            program: beside()?,
            work: work.path(),
            id: id(work.path()),
        };
        let failed = |source| TrialError::Runtime {
            path: runtime.program.clone(),
            source,
        };
        let pid_file = path("pid");
        let status = runtime
            .command()
            .args(["run", "--bundle"])
            .arg(path("bundle"))
            .arg("--pid-file")
            .arg(&pid_file)
            .arg(&runtime.id)
            .stdout(io::stderr())
            .status()
            .map_err(failed)?;
        // The file is written once init exists; what fails before that is no result of the profile.
        if !pid_file.exists() {
            return Err(TrialError::NotStarted);
        }
        let denied = runtime.denials()?;
        // A shell's convention, which the runtime follows: 128 and the signal's number.
        let sigsys = nix::sys::signal::Signal::SIGSYS as i32;
        let killed = status.code() == Some(128 + sigsys) || status.signal() == Some(sigsys);
        Ok(Outcome {
            status,
            denied,
            killed,
        })
    }
}

/// `cofferdam` with a state root, policies and logs of its own.
struct Runtime<'a> {
    program: PathBuf,
    work: &'a Path,
    id: String,
}

/// The id of a trial's container. The state root is the trial's own, but the cgroup, which is named after
/// the id, is not: two trials at a time would meet in it.
fn id(work: &Path) -> String {
    let name = work.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

impl Runtime<'_> {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(self.work.join("state"))
            .arg("--policy-file")
            .arg(self.work.join("policy.toml"))
            .env("COFFERDAM_LOGS", self.work.join("logs"))
            .env_remove("COFFERDAM_POLICY");
        command
    }

    fn denials(&self) -> Result<Vec<Value>, TrialError> {
        let output = self
            .command()
            .args(["denials", "--format", "json", &self.id])
            .stdin(Stdio::null())
            .output()
            .map_err(|source| TrialError::Runtime {
                path: self.program.clone(),
                source,
            })?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(TrialError::Denials(words));
        }
        let lines = output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| {
                serde_json::from_slice(line).map_err(|error| TrialError::Denials(error.to_string()))
            })
            .collect()
    }
}

impl Drop for Runtime<'_> {
    fn drop(&mut self) {
        // Normally gone already; if it fails there is nobody to tell.
        let _ = self
            .command()
            .args(["delete", "--force", &self.id])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// `cofferdam`, which stands beside this executable.
fn beside() -> Result<PathBuf, TrialError> {
    let own = env::current_exe().map_err(TrialError::Directory)?;
    let path = own.with_file_name("cofferdam");
    match File::open(&path) {
        Ok(_) => Ok(path),
        Err(source) => Err(TrialError::Runtime { path, source }),
    }
}

/// The profile with every kill and trap as the errno EPERM, so that the command goes on and each denial
/// is seen.
pub fn without_kills(profile: &LinuxSeccomp) -> LinuxSeccomp {
    let softer = |action| match action {
        LinuxSeccompAction::ScmpActKill
        | LinuxSeccompAction::ScmpActKillProcess
        | LinuxSeccompAction::ScmpActKillThread
        | LinuxSeccompAction::ScmpActTrap => LinuxSeccompAction::ScmpActErrno,
        action => action,
    };
    let mut soft = profile.clone();
    soft.set_default_action(softer(profile.default_action()));
    let rules = profile.syscalls().clone().map(|mut rules| {
        for rule in &mut rules {
            rule.set_action(softer(rule.action()));
        }
        rules
    });
    soft.set_syscalls(rules);
    soft
}
