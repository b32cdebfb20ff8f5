//! A spec, checked before anything is made, and what follows from it.

use std::fs;
use std::path::{Path, PathBuf};

use cofferdam_profiles::landlock::Ruleset;
use cofferdam_profiles::policy::Hardened;
use nix::unistd::Pid;
use oci_spec::runtime::{Linux, Spec};

use super::create::system;
use crate::cgroup::Cgroup;
use crate::clock;
use crate::error::CreateError;
use crate::hooks::Point;
use crate::namespaces::{self, Namespaces};
use crate::options::CreateOptions;
use crate::process::{ProcessPlan, Unacceptable};
use crate::seccomp::{self, Program};
use crate::state::{self, State};

/// A spec, checked, and what follows from it.
#[derive(Debug)]
pub(super) struct Recipe<'a> {
    pub(super) spec: &'a Spec,
    pub(super) process: ProcessPlan,
    pub(super) namespaces: Namespaces,
    pub(super) filters: Vec<Program>,
    pub(super) landlock: Option<&'a Ruleset>,
    pub(super) state: State,
}

impl<'a> Recipe<'a> {
    pub(super) fn new(
        hardened: &'a Hardened<Spec>,
        options: &CreateOptions,
    ) -> Result<Self, CreateError> {
        let spec = hardened.get();
        let linux = spec
            .linux()
            .as_ref()
            .ok_or_else(|| Unacceptable::new("linux", "is missing"))?;
        let process = spec
            .process()
            .as_ref()
            .ok_or_else(|| Unacceptable::new("process", "is missing"))?;
        let mut process = ProcessPlan::new(process)?
            .with_container(linux.personality().as_ref(), linux.memory_policy().as_ref())?;
        process.limits.without_affinity();
        refuse_unsupported(linux)?;
        refuse_sharing(spec, linux)?;
        check_terminal(process.terminal, options.console_socket.is_some())?;
        let bundle = canonical(&options.bundle, "bundle")?;
        let root = spec
            .root()
            .as_ref()
            .ok_or_else(|| Unacceptable::new("root", "is missing"))?;
        let rootfs = approved_root(bundle.join(root.path()))?;
        if !rootfs.is_dir() || rootfs == Path::new("/") {
            return Err(Unacceptable::new(
                "root.path",
                format!("{} is not a directory below /", rootfs.display()),
            )
            .into());
        }
        let namespaces = Namespaces::open(linux, hardened.own_ids(), |typ| {
            hardened.policy().may_share_hosts(typ)
        })?;
        let location = match Cgroup::plan(options.cgroup_driver, spec, options.id.as_str()) {
            Ok(location) => Some(location),
            Err(error) if options.ignore_cgroup_errors => {
                tracing::warn!(container = %options.id, %error, "going on without a cgroup");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let filters = seccomp::programs(hardened, options.filter_cache.as_deref())?;
        let hooks = spec.hooks().as_ref();
        let late_hooks = [Point::Poststart, Point::Poststop]
            .iter()
            .any(|point| !point.of(hooks).is_empty());
        let state = State {
            oci_version: spec.version().clone(),
            id: options.id.to_string(),
            pid: None,
            pid_start_time: 0,
            creator: Some((Pid::this().as_raw(), start_time(Pid::this())?)),
            bundle,
            rootfs,
            created: clock::now(),
            owner: match nix::unistd::geteuid() {
                user if user.is_root() => "root".to_owned(),
                user => user.to_string(),
            },
            cgroup: location,
            seccomp: filters.iter().map(|filter| filter.id.clone()).collect(),
            annotations: spec
                .annotations()
                .iter()
                .flatten()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            late_hooks,
            denials: None,
            ids: None,
            directory: options.id.directory(&options.root),
        };
        Ok(Self {
            spec,
            process,
            namespaces,
            filters,
            landlock: hardened.landlock(),
            state,
        })
    }
}

impl Recipe<'_> {
    /// How many processes are cloned to get to init.
    pub(super) fn generations(&self) -> usize {
        if self.namespaces.need_intermediate() {
            2
        } else {
            1
        }
    }
}

fn canonical(path: &Path, field: &'static str) -> Result<PathBuf, CreateError> {
    fs::canonicalize(path)
        .map_err(|error| Unacceptable::new(field, format!("{}: {error}", path.display())).into())
}

/// The path that the policy judged, if it still is what it was: a link on the way means that somebody
/// put it there since. Init opens it once more without following links.
fn approved_root(path: PathBuf) -> Result<PathBuf, CreateError> {
    let found = canonical(&path, "root.path")?;
    // Components forgive `rootfs/` and `./rootfs`.
    if found.components().eq(path.components()) {
        return Ok(found);
    }
    let now = format!(
        "{} is or has become a link, it leads to {}; name the directory itself",
        path.display(),
        found.display()
    );
    Err(Unacceptable::new("root.path", now).into())
}

/// When a process started; see [`State::pid_start_time`].
pub(super) fn start_time(pid: Pid) -> Result<u64, CreateError> {
    let stat = state::process_stat(pid.as_raw()).map_err(system("read a process's state"))?;
    Ok(stat.start)
}

/// What the spec can ask for and we do not give. Silence would be a container that is less than it
/// was asked to be.
fn refuse_unsupported(linux: &Linux) -> Result<(), Unacceptable> {
    if linux.net_devices().as_ref().is_some_and(|d| !d.is_empty()) {
        return Err(Unacceptable::new("linux.netDevices", "is not supported"));
    }
    if linux.intel_rdt().is_some() {
        return Err(Unacceptable::new("linux.intelRdt", "is not supported"));
    }
    let listener = linux
        .seccomp()
        .as_ref()
        .and_then(|s| s.listener_path().as_ref());
    if listener.is_some_and(|path| !path.as_os_str().is_empty()) {
        return Err(Unacceptable::new(
            "linux.seccomp.listenerPath",
            "seccomp agents are not supported",
        ));
    }
    Ok(())
}

/// What would change the host's own namespaces.
fn refuse_sharing(spec: &Spec, linux: &Linux) -> Result<(), Unacceptable> {
    let own = namespaces::of_container(linux);
    if own & namespaces::MOUNT == 0 {
        return Err(Unacceptable::new(
            "linux.namespaces",
            "a container needs a mount namespace of its own",
        ));
    }
    if own & namespaces::UTS == 0 {
        for (field, value) in [
            ("hostname", spec.hostname()),
            ("domainname", spec.domainname()),
        ] {
            if value.is_some() {
                return Err(Unacceptable::new(
                    field,
                    "cannot be set without a uts namespace: it would change the host's",
                ));
            }
        }
    }
    Ok(())
}

fn check_terminal(terminal: bool, socket: bool) -> Result<(), Unacceptable> {
    match (terminal, socket) {
        (true, false) => Err(Unacceptable::new(
            "process.terminal",
            "needs a console socket to send the terminal's master to",
        )),
        (false, true) => Err(Unacceptable::new(
            "process.terminal",
            "a console socket was given, but the process has no terminal",
        )),
        _ => Ok(()),
    }
}
