//! An engine with a command line like Docker's, and what people do with every one of them.

/// Limits and permissions: users, capabilities, seccomp, memory, what is read-only.
mod confinement;
/// A container's life: run, exec, logs, copies, stop, pause.
mod life;
/// Who owns what a container makes.
mod owners;

use std::ffi::OsStr;

pub use confinement::bounding;

use crate::{
    binaries::Runtime,
    cases::{Case, Engine},
    command::{Cmd, Done},
    error::Result,
};

/// An engine that is used by `docker`'s words: `run`, `exec`, `logs`, `inspect`.
pub trait Client: Engine {
    /// A command of the engine's.
    fn cli<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Cmd;

    /// `run` of an image; neither `--rm` nor `--detach` is implied.
    fn run_of(&self, image: &str, flags: &[&str], argv: &[&str]) -> Cmd;

    /// The image that was loaded.
    fn image(&self) -> &str;

    /// `run` with flags before the image that was loaded.
    fn run_with(&self, flags: &[&str], argv: &[&str]) -> Cmd {
        self.run_of(self.image(), flags, argv)
    }

    /// `run` of an image with runc as the runtime: the control.
    ///
    /// # Errors
    /// If runc is not installed.
    fn run_by_runc(&self, image: &str, flags: &[&str], argv: &[&str]) -> Result<Cmd>;

    /// Removes a container, running or not.
    ///
    /// # Errors
    /// If the engine does not.
    fn remove(&self, name: &str) -> Result<()>;

    /// The runtime that containers run with.
    fn runtime(&self) -> Runtime;

    /// Whether `run` with a terminal may lose what a container says that ends at once.
    fn may_lose_output(&self) -> bool {
        false
    }

    /// Whether `cp` into a running container writes as the host's root in the container's mount namespace,
    /// who has no id there where the container has a user namespace that the engine does not know of.
    fn copies_as_nobody(&self) -> bool {
        false
    }

    /// Whether `exec` exits with 126 whatever kept the program from being executed.
    fn blurs_exec_status(&self) -> bool {
        false
    }

    /// Runs a container to its end and removes it; it must succeed.
    ///
    /// # Errors
    /// With everything it printed if it exits with another status than 0.
    fn run(&self, flags: &[&str], argv: &[&str]) -> Result<Done> {
        self.run_with(&[&["--rm"], flags].concat(), argv).ok()
    }

    /// Starts a container in the background.
    ///
    /// # Errors
    /// If it does not start.
    fn detached(&self, name: &str, flags: &[&str], argv: &[&str]) -> Result<Done> {
        let flags = [&["--detach", "--name", name], flags].concat();
        self.run_with(&flags, argv).ok()
    }

    /// A field of what `inspect` says, such as `.State.ExitCode`.
    ///
    /// # Errors
    /// If there is no such container or field.
    fn inspect(&self, name: &str, field: &str) -> Result<String> {
        let done = self
            .cli(["inspect", "--format", &format!("{{{{{field}}}}}"), name])
            .ok()?;
        Ok(done.stdout.trim().to_owned())
    }
}

/// The cases that hold for every such engine.
#[must_use]
pub fn cases<E: Client>() -> Vec<Case<E>> {
    vec![
        ("runs", life::runs),
        ("has_a_terminal", life::has_a_terminal),
        ("execs", life::execs),
        ("keeps_logs", life::keeps_logs),
        ("copies_files", life::copies_files),
        ("stops_kills_restarts", life::stops_kills_restarts),
        ("pauses", life::pauses),
        ("mounts_volumes", life::mounts_volumes),
        ("says_why_a_start_fails", life::says_why_a_start_fails),
        (
            "is_read_only_when_asked",
            confinement::is_read_only_when_asked,
        ),
        ("takes_a_user", confinement::takes_a_user),
        (
            "gives_files_in_volumes_the_owners_of_runc",
            owners::gives_files_in_volumes_the_owners_of_runc,
        ),
        ("commits_what_root_made", owners::commits_what_root_made),
        (
            "gives_capabilities_by_policy_only",
            confinement::gives_capabilities_by_policy_only,
        ),
        (
            "takes_a_seccomp_profile",
            confinement::takes_a_seccomp_profile,
        ),
        (
            "limits_memory_and_processes",
            confinement::limits_memory_and_processes,
        ),
    ]
}
