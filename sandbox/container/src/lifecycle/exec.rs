//! One more process.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use cofferdam_profiles::policy::Hardened;
use nix::unistd::Pid;
use oci_spec::runtime::Process;

use super::kill::open_init;
use super::own_ids;
use super::write_pid_file;
use crate::cgroup::Cgroup;
use crate::denials;
use crate::error::{ExecError, StateError};
use crate::id::ContainerId;
use crate::init;
use crate::init::join::JoinInit;
use crate::init::sync::{self, ParentSide, Report};
use crate::namespaces::{self, ForChildren};
use crate::options::ExecOptions;
use crate::process::{CapabilitySets, ProcessPlan, Unacceptable};
use crate::seccomp;
use crate::state::{self, State, Status};
use crate::sys::clone::{self, Side};
use crate::sys::pidfd;

/// Runs one more process in the container, confined as init is. It runs at once, with the caller's
/// descriptors 0, 1 and 2, and becomes the child of the caller's subreaper when the caller exits.
///
/// The caller must be single-threaded.
pub fn exec(
    root: &Path,
    id: &ContainerId,
    process: &Hardened<Process>,
    options: ExecOptions,
) -> Result<Pid, ExecError> {
    let state = state::load(root, id)?;
    let init = running_init(&state, options.ignore_paused)?;
    let record = state::load_record(root, id)?;
    let linux = record
        .spec
        .linux()
        .as_ref()
        .ok_or_else(|| Unacceptable::new("linux", "is missing from the container's record"))?;
    let mut plan = ProcessPlan::new(process.get())?
        .with_container(linux.personality().as_ref(), linux.memory_policy().as_ref())?;
    plan.limits = plan.limits.or_inits(record.spec.process().as_ref())?;
    if plan.terminal != options.console_socket.is_some() {
        return Err(Unacceptable::new(
            "terminal",
            "a terminal needs a console socket, and a console socket a terminal",
        )
        .into());
    }
    own_ids::own_stdio(&plan, state.ids.as_ref())
        .map_err(system("give the process's user its standard streams"))?;
    stay_within(&mut plan, &Bounds::of(&state)?)?;
    let filters = seccomp::load(&state.directory, &state.seccomp)?;
    let handover = match &state.denials {
        Some(_) => {
            let action = "reach the process that explains the container's denied calls";
            Some(denials::connect(&state.directory).map_err(system(action))?)
        }
        None => None,
    };
    let cgroup = match (&state.cgroup, state.pid) {
        (Some(location), Some(pid)) => Some(Cgroup::open_to_join(
            location,
            Pid::from_raw(pid),
            options.cgroup.as_deref(),
        )?),
        _ => None,
    };
    let joining = JoinInit {
        process: &plan,
        init: init.as_fd(),
        kinds: namespaces::of_container(linux),
        cgroup: cgroup.as_ref(),
        filters: &filters,
        // Not what the caller's process says: the very rules that init got.
        landlock: record.landlock.as_ref(),
        handover,
        console_socket: options.console_socket,
        preserve_fds: options.preserve_fds,
        new_keyring: !options.no_new_keyring,
    };
    let (child, channel) = spawn(joining)?;
    let result = see_through(&child, &channel, &plan, options.pid_file.as_deref());
    if result.is_err() {
        let _ = pidfd::signal(&child.file, libc::SIGKILL);
        pidfd::reap(child.pid);
    }
    result.map(|()| child.pid)
}

fn system(action: &'static str) -> impl Fn(io::Error) -> ExecError {
    move |source| ExecError::System { action, source }
}

impl From<Unacceptable> for ExecError {
    fn from(bad: Unacceptable) -> Self {
        Self::Process {
            field: bad.field,
            problem: bad.problem,
        }
    }
}

/// Init of a container that a process can join.
fn running_init(state: &State, ignore_paused: bool) -> Result<OwnedFd, ExecError> {
    let status = state.status();
    match status {
        Status::Created | Status::Running => {}
        Status::Paused if ignore_paused => {}
        _ => return Err(ExecError::NotRunning { status }),
    }
    if let Some(pid) = state.live_pid()
        && state::process_stat(pid.as_raw()).is_ok_and(state::ProcessStat::lacks_main_thread)
    {
        return Err(ExecError::MainThreadEnded);
    }
    open_init(state)
        .map_err(system("open the container's init"))?
        .ok_or(ExecError::NotRunning {
            status: Status::Stopped,
        })
}

/// What the kernel says that init may at most do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    capabilities: u64,
    no_new_privileges: bool,
}

impl Bounds {
    /// Reads init's `/proc/PID/status`.
    fn of(state: &State) -> Result<Self, ExecError> {
        let pid = state.pid.unwrap_or(0);
        let text = fs::read_to_string(format!("/proc/{pid}/status"))
            .map_err(system("read init's bounds"))?;
        Self::parse(&text)
            .ok_or_else(|| system("read init's bounds")(io::ErrorKind::InvalidData.into()))
    }

    fn parse(status: &str) -> Option<Self> {
        let value = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        Some(Self {
            capabilities: u64::from_str_radix(value("CapBnd")?, 16).ok()?,
            no_new_privileges: value("NoNewPrivs")? == "1",
        })
    }
}

/// The policy has seen to it already; this is the second lock on the door.
fn stay_within(plan: &mut ProcessPlan, bounds: &Bounds) -> Result<(), ExecError> {
    let CapabilitySets {
        bounding,
        effective,
        permitted,
        inheritable,
        ambient,
    } = plan.capabilities;
    let asked = bounding | effective | permitted | inheritable | ambient;
    let above = asked & !bounds.capabilities;
    if above != 0 {
        return Err(Unacceptable::new(
            "capabilities",
            format!("{above:#x} is above the container's bounding set"),
        )
        .into());
    }
    plan.no_new_privileges |= bounds.no_new_privileges;
    Ok(())
}

/// The new process.
#[derive(Debug)]
struct Child {
    pid: Pid,
    file: OwnedFd,
    in_user_namespace: bool,
}

fn spawn(joining: JoinInit<'_>) -> Result<(Child, ParentSide), ExecError> {
    let (parent, channel) = sync::pair().map_err(system("make a socket pair"))?;
    // The child is visible in the container from its first instruction on. Undumpable, it cannot be
    // traced from there, and its descriptors and its root cannot be reached (CVE-2024-21626).
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| system("become undumpable")(errno.into()))?;
    if let Some(cpus) = &joining.process.limits.initial_cpus {
        nix::sched::sched_setaffinity(Pid::from_raw(0), cpus)
            .map_err(|errno| system("set execCPUAffinity.initial")(errno.into()))?;
    }
    // The pid namespace holds for children only: set here, one clone is enough.
    let for_children = if joining.kinds & namespaces::PID != 0 {
        let guard = ForChildren::enter_pid(joining.init);
        Some(guard.map_err(system("enter the container's pid namespace"))?)
    } else {
        None
    };
    let into = joining.cgroup.and_then(Cgroup::clone_into);
    let in_user_namespace = joining.kinds & namespaces::USER != 0;
    match clone::clone(0, false, into).map_err(system("clone a process"))? {
        Side::Child => {
            drop(parent);
            init::run(channel, |channel| joining.run(channel))
        }
        Side::Parent(pid, file) => {
            drop(for_children);
            let child = Child {
                pid,
                file,
                in_user_namespace,
            };
            Ok((child, parent))
        }
    }
}

/// From the clone to the program: it is running when the channel closes.
fn see_through(
    child: &Child,
    channel: &ParentSide,
    plan: &ProcessPlan,
    pid_file: Option<&Path>,
) -> Result<(), ExecError> {
    match channel.next().map_err(system("hear from the process"))? {
        Report::Ready => {}
        Report::Failed(failure) => return Err(ExecError::Init(failure)),
        Report::Init(_) | Report::Hooks | Report::End => return Err(ExecError::InitGone),
    }
    if child.in_user_namespace {
        plan.limits.apply_resources(child.pid)?;
    }
    plan.limits.apply(child.pid)?;
    if let Some(path) = pid_file {
        write_pid_file(path, child.pid).map_err(|source| StateError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })?;
    }
    channel.go().map_err(system("let the process go on"))?;
    match channel.next().map_err(system("hear from the process"))? {
        Report::End => Ok(()),
        Report::Failed(failure) => Err(ExecError::Init(failure)),
        Report::Init(_) | Report::Hooks | Report::Ready => Err(ExecError::InitGone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(capabilities: &[&str]) -> ProcessPlan {
        ProcessPlan::new(
            &serde_json::from_value(serde_json::json!({
                "user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/",
                "capabilities": {"bounding": capabilities},
            }))
            .expect("a process"),
        )
        .expect("a plan")
    }

    #[test]
    fn bounds_are_read_and_garbage_is_refused() {
        let text = "Name:\tsh\nCapBnd:\t00000000000005fb\nNoNewPrivs:\t1\nSeccomp:\t2\n";
        let bounds = Bounds {
            capabilities: 0x5fb,
            no_new_privileges: true,
        };
        assert_eq!(Bounds::parse(text), Some(bounds));
        for bad in [
            "",
            "CapBnd:\tzz\nNoNewPrivs:\t1",
            "CapBnd:\t0\n",
            "NoNewPrivs:\t1\n",
        ] {
            assert_eq!(Bounds::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn more_than_the_bounding_set_is_refused_and_no_new_privileges_is_inherited() {
        let bounds = Bounds {
            capabilities: 1 << 5,
            no_new_privileges: true,
        };
        let mut kept = plan(&["CAP_KILL"]);
        assert!(stay_within(&mut kept, &bounds).is_ok());
        assert!(kept.no_new_privileges);
        assert!(stay_within(&mut plan(&["CAP_SYS_ADMIN"]), &bounds).is_err());
    }
}
