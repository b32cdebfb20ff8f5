//! From a hardened spec to an init that waits.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use cofferdam_profiles::policy::Hardened;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use super::making::Making;
use super::own_ids;
use super::recipe::{Recipe, start_time};
use super::write_pid_file;
use crate::apparmor;
use crate::cgroup::Cgroup;
use crate::denials::{self, ListenerCommand};
use crate::error::{CreateError, StateError};
use crate::hooks::{self, HookError, Point};
use crate::init;
use crate::init::container::{ContainerInit, first_clone};
use crate::init::sync::{self, ParentSide, Report};
use crate::namespaces::{self, ForChildren};
use crate::options::CreateOptions;
use crate::process::Unacceptable;
use crate::rootfs::{CgroupDir, RootfsOptions};
use crate::seccomp;
use crate::state::{self, FIFO, Prepared, RECORD, State, Status};
use crate::sys::clone::{self, Side};
use crate::sys::pidfd;

/// Makes the container: its init is confined and waits for [`super::start`]. Descriptors 0, 1 and 2
/// of the caller become the container's. On an error nothing is left, but for
/// what [`CreateError`] says.
///
/// The caller must be single-threaded.
pub fn create(spec: &Hardened<Spec>, mut options: CreateOptions) -> Result<State, CreateError> {
    let mut recipe = Recipe::new(spec, &options)?;
    let mut making = Making::begin(&options.root, &options.id, recipe.state.clone())?;
    if let Some(profile) = spec.apparmor() {
        // The state directory is there: a `delete` finds it, whatever becomes of this process.
        let cache = options.filter_cache.as_deref();
        apparmor::hold(profile, &making.state.directory, cache)?;
    }
    if let Some(location) = recipe.state.cgroup.take() {
        making.cgroup = match Cgroup::create(location, spec.get()) {
            Ok(cgroup) => Some(cgroup),
            Err(error) if options.ignore_cgroup_errors => {
                tracing::warn!(container = %options.id, %error, "going on without a cgroup");
                making.state.cgroup = None;
                None
            }
            Err(error) => return Err(error.into()),
        };
    }
    let mut rootfs = rootfs_options(&recipe, &making, &options);
    let findings = own_ids::set_up(
        spec,
        &mut recipe,
        &mut making,
        &mut rootfs,
        options.map_layers,
    )?;
    let handover = start_listener(spec, &mut recipe, &mut making, options.listener.take())?;
    let fifo = make_fifo(&making.state.directory)?;
    let channel = spawn(
        &recipe,
        &mut making,
        rootfs,
        fifo,
        options.console_socket,
        Choices {
            handover,
            preserve_fds: options.preserve_fds,
            new_keyring: !options.no_new_keyring,
        },
    )?;
    if let (Some(cgroup), Some((child, _))) = (&making.cgroup, making.children.last())
        && cgroup.must_add()
    {
        cgroup.add(*child)?;
        channel.go().map_err(system("let init go on"))?;
    }
    // Written while init works.
    let record = own_ids::record(spec, findings, making.state.ids.as_ref())?;
    state::write_new(&making.state.directory.join(RECORD), &record)?;
    seccomp::store(&making.state.directory, &recipe.filters)?;
    let (init, state) = await_ready(&channel, &recipe, &mut making)?;
    if recipe.namespaces.has_user() {
        recipe.process.limits.apply_resources(init)?;
    }
    recipe.process.limits.apply(init)?;
    state.publish()?;
    if let Some(path) = &options.pid_file {
        write_pid_file(path, init).map_err(|source| StateError::Io {
            action: "write",
            path: path.clone(),
            source,
        })?;
    }
    // Only now may init outlive us: everything that a later process needs to find it is written.
    channel.go().map_err(system("let init wait for start"))?;
    Ok(making.done())
}

#[derive(Debug)]
struct Choices {
    handover: Option<OwnedFd>,
    preserve_fds: u32,
    new_keyring: bool,
}

pub(super) fn system(action: &'static str) -> impl Fn(io::Error) -> CreateError {
    move |source| CreateError::System { action, source }
}

impl From<Unacceptable> for CreateError {
    fn from(bad: Unacceptable) -> Self {
        Self::Spec {
            field: bad.field,
            problem: bad.problem,
        }
    }
}

impl From<HookError> for CreateError {
    fn from(error: HookError) -> Self {
        Self::Hook {
            kind: error.point.name(),
            index: error.index,
            path: error.path,
            source: error.source,
        }
    }
}

fn rootfs_options(recipe: &Recipe<'_>, making: &Making, options: &CreateOptions) -> RootfsOptions {
    let location = making.cgroup.as_ref().map(Cgroup::location);
    RootfsOptions {
        no_pivot: options.no_pivot,
        has_userns: recipe.namespaces.has_user(),
        has_cgroupns: recipe.namespaces.has(namespaces::CGROUP),
        bundle: recipe.state.bundle.clone(),
        rootfs: recipe.state.rootfs.clone(),
        cgroups: location
            .into_iter()
            .flat_map(|location| &location.dirs)
            .map(|dir| CgroupDir {
                controllers: dir.controllers.join(","),
                path: dir.path.clone(),
            })
            .collect(),
        ..RootfsOptions::default()
    }
}

/// Starts what explains denied calls, if the policy wants it; gives the channel over which init hands
/// its seccomp listener over.
fn start_listener(
    spec: &Hardened<Spec>,
    recipe: &mut Recipe<'_>,
    making: &mut Making,
    command: Option<ListenerCommand>,
) -> Result<Option<OwnedFd>, CreateError> {
    let (id, directory) = (&making.state.id, &making.state.directory);
    let started = denials::start(spec, id, directory, &mut recipe.filters, command)?;
    let Some((started, log)) = started else {
        return Ok(None);
    };
    let pid = started.pid;
    making.listener = Some((pid, started.file));
    making.state.denials = Some(state::Listener {
        pid: pid.as_raw(),
        start_time: start_time(pid)?,
        log,
    });
    // Other programs than were compiled: they ask.
    making.state.seccomp = recipe.filters.iter().map(|p| p.id.clone()).collect();
    Ok(Some(started.handover))
}

/// The FIFO that init waits on. Open for reading *and* writing: opening does not wait, and a read
/// waits until another process writes, however often others open and close it.
fn make_fifo(directory: &Path) -> Result<OwnedFd, CreateError> {
    let path = directory.join(FIFO);
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)
        .and_then(|()| nix::fcntl::open(&path, flags, Mode::empty()))
        .map_err(|errno| system("make the start FIFO")(errno.into()))
}

/// Clones the first process of the container.
fn spawn(
    recipe: &Recipe<'_>,
    making: &mut Making,
    rootfs: RootfsOptions,
    fifo: OwnedFd,
    console_socket: Option<OwnedFd>,
    choices: Choices,
) -> Result<ParentSide, CreateError> {
    let (parent, channel) = sync::pair().map_err(system("make a socket pair"))?;
    // A container that shares a pid namespace has neighbours: they must not trace or read a process
    // that still has our privileges and descriptors. `execve` lifts it.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| system("become undumpable")(errno.into()))?;
    let for_children =
        ForChildren::enter(&recipe.namespaces).map_err(system("enter the namespaces"))?;
    let into = making.cgroup.as_ref().and_then(Cgroup::clone_into);
    let side = clone::clone(first_clone(&recipe.namespaces), false, into)
        .map_err(system("clone the container's init"))?;
    match side {
        Side::Child => {
            drop(parent);
            let container = ContainerInit {
                spec: recipe.spec,
                process: &recipe.process,
                namespaces: &recipe.namespaces,
                cgroup: making.cgroup.as_ref(),
                rootfs,
                filters: &recipe.filters,
                landlock: recipe.landlock,
                handover: choices.handover.as_ref(),
                fifo,
                console_socket,
                state: &making.state,
                preserve_fds: choices.preserve_fds,
                new_keyring: choices.new_keyring,
            };
            init::run(channel, |channel| container.run(channel))
        }
        Side::Parent(pid, pidfd) => {
            drop(for_children);
            making.children.push((pid, pidfd));
            Ok(parent)
        }
    }
}

/// Serves the new process until it is ready; gives init's pid and the state to publish.
fn await_ready(
    channel: &ParentSide,
    recipe: &Recipe<'_>,
    making: &mut Making,
) -> Result<(Pid, Prepared), CreateError> {
    let mut prepared = None;
    // Init can be faster than the process in between, which tells its number.
    let mut early = None;
    loop {
        // With a process in between the first child is not init.
        if prepared.is_none()
            && making.children.len() == recipe.generations()
            && let Some((pid, _)) = making.children.last()
        {
            prepared = Some((*pid, making.prepare_state(*pid)?));
        }
        let complete = making.children.len() == recipe.generations();
        let report = match early.take_if(|_| complete) {
            Some(report) => report,
            None => channel.next().map_err(system("hear from init"))?,
        };
        match report {
            Report::Hooks | Report::Ready if !complete => early = Some(report),
            Report::Init(pid) => {
                // It is our child, so its number is not reused before we reap it.
                let file = pidfd::open(pid).map_err(system("open init"))?;
                making.children.push((pid, file));
            }
            Report::Hooks => {
                let hooks = recipe.spec.hooks().as_ref();
                let init = making.children.last().map(|(pid, _)| *pid);
                for point in [Point::Prestart, Point::CreateRuntime] {
                    hooks::run(point, hooks, &making.state, Status::Creating, init)?;
                }
                channel.go().map_err(system("let init go on"))?;
            }
            Report::Ready => {
                if recipe.generations() == 2 {
                    let (between, _) = making.children.remove(0);
                    pidfd::reap(between);
                }
                return prepared.ok_or(CreateError::InitGone);
            }
            Report::Failed(failure) => return Err(CreateError::Init(failure)),
            Report::End => return Err(CreateError::InitGone),
        }
    }
}
