//! Where another way to run a hardened spec (the microVM) plugs in.

use std::path::Path;

use cofferdam_profiles::policy::Hardened;
use nix::unistd::Pid;
use oci_spec::runtime::{Process, Spec};

use crate::error::{CreateError, DeleteError, ExecError, KillError, StartError};
use crate::{ContainerId, CreateOptions, ExecOptions, Signal, State, lifecycle};

/// The life cycle of a container, wherever it runs. Only hardened specs and processes get in.
pub trait Backend {
    /// Makes the container; its init waits for [`Backend::start`].
    fn create(&self, spec: &Hardened<Spec>, options: CreateOptions) -> Result<State, CreateError>;
    /// Lets init execute the container's program.
    fn start(&self, root: &Path, id: &ContainerId) -> Result<(), StartError>;
    /// Runs one more process in the container.
    fn exec(
        &self,
        root: &Path,
        id: &ContainerId,
        process: &Hardened<Process>,
        options: ExecOptions,
    ) -> Result<Pid, ExecError>;
    /// Signals init, or with `all` every process of the container.
    fn kill(
        &self,
        root: &Path,
        id: &ContainerId,
        signal: Signal,
        all: bool,
    ) -> Result<(), KillError>;
    /// Removes what is left of the container; with `force` also a running one.
    fn delete(&self, root: &Path, id: &ContainerId, force: bool) -> Result<(), DeleteError>;
}

/// Containers on the host's own kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostKernel;

impl Backend for HostKernel {
    fn create(&self, spec: &Hardened<Spec>, options: CreateOptions) -> Result<State, CreateError> {
        lifecycle::create(spec, options)
    }

    fn start(&self, root: &Path, id: &ContainerId) -> Result<(), StartError> {
        lifecycle::start(root, id)
    }

    fn exec(
        &self,
        root: &Path,
        id: &ContainerId,
        process: &Hardened<Process>,
        options: ExecOptions,
    ) -> Result<Pid, ExecError> {
        lifecycle::exec(root, id, process, options)
    }

    fn kill(
        &self,
        root: &Path,
        id: &ContainerId,
        signal: Signal,
        all: bool,
    ) -> Result<(), KillError> {
        lifecycle::kill(root, id, signal, all)
    }

    fn delete(&self, root: &Path, id: &ContainerId, force: bool) -> Result<(), DeleteError> {
        lifecycle::delete(root, id, force)
    }
}
