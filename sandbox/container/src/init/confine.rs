//! The stages that confine a process, the same for init and for one that joins.
//!
//! Their order matters: each takes away what an earlier one still needed.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cofferdam_profiles::landlock::Ruleset;
use cofferdam_profiles::seccomp::FLAG_NEW_LISTENER;
use nix::sys::stat::{Mode, SFlag, fstat, umask};
use nix::unistd::{Gid, Uid};

use super::label::Label;
use super::{At as _, Step, executable, failure, handover, landlock};
use crate::error::{Cause, InitFailure, Stage};
use crate::process::{CapabilitySets, ProcessPlan};
use crate::seccomp::Program;
use crate::sys::{confine, inherit, sched};

/// What the stages need besides the process itself.
#[derive(Debug)]
pub(crate) struct Confinement<'a> {
    pub(crate) process: &'a ProcessPlan,
    /// Attached in this order.
    pub(crate) filters: &'a [Program],
    /// What Landlock is told, if anything.
    pub(crate) landlock: Option<&'a Ruleset>,
    /// Where the listener of a filter that has one goes.
    pub(crate) handover: Option<&'a OwnedFd>,
    pub(crate) preserve_fds: u32,
    /// In a user namespace it may not raise limits: the parent sets them.
    pub(crate) own_limits: bool,
}

/// A process that is confined but for what must come last.
#[derive(Debug)]
pub(crate) struct Confined<'a> {
    confinement: Confinement<'a>,
    program: CString,
    environment: Vec<CString>,
    /// What is left to do before the filters.
    landlock: Option<landlock::Prepared>,
}

/// A session keyring that holds nothing of the caller's.
pub(crate) fn keyring(wanted: bool) -> Step {
    if !wanted {
        return Ok(());
    }
    match confine::new_session_keyring() {
        // A kernel without keyrings has none to share.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.at(
            Stage::Keyring,
            "make a session keyring (--no-new-keyring goes without)",
        ),
    }
}

impl<'a> Confinement<'a> {
    /// From the label to the descriptors; needs the container's file system, and all privileges.
    pub(crate) fn apply(self, label: Option<Label>) -> Step<Confined<'a>> {
        let process = self.process;
        set_self(process)?;
        own_stdio(process)?;
        if let Some(label) = label {
            label.apply()?;
        }
        // Opened while we may still see every path.
        let mut landlock = self.landlock.map(landlock::Prepared::new).transpose()?;
        if process.no_new_privileges {
            nix::sys::prctl::set_no_new_privs().at(Stage::NoNewPrivileges, "set no_new_privs")?;
        } else {
            // Without no_new_privs Landlock and a filter take CAP_SYS_ADMIN, which is about to go. With
            // it, they come last and need not allow what is done from here on. Landlock is first: a
            // filter may forbid it.
            if let Some(landlock) = landlock.take() {
                landlock.restrict()?;
            }
            self.attach_filters()?;
        }
        let environment = environment(process);
        if self.own_limits {
            process
                .limits
                .apply_resources(nix::unistd::Pid::from_raw(0))
                .map_err(|error| failure(Stage::Rlimit, error.what, &error.source))?;
        }
        // The directory may be open to root only: try while we still are, as runc does.
        let entered = nix::unistd::chdir(process.cwd.as_c_str());
        privileges(process)?;
        if entered.is_err() {
            nix::unistd::chdir(process.cwd.as_c_str())
                .at(Stage::WorkingDirectory, process.cwd.to_string_lossy())?;
        }
        verify_cwd(process)?;
        umask(Mode::from_bits_truncate(process.umask));
        let program = executable::find(process)?;
        inherit::close_from_on_exec(self.preserve_fds.saturating_add(3))
            .at(Stage::Descriptors, "close inherited descriptors on exec")?;
        Ok(Confined {
            confinement: self,
            program,
            environment,
            landlock,
        })
    }

    fn attach_filters(&self) -> Step {
        for filter in self.filters {
            match self.handover {
                Some(socket) if filter.flags & FLAG_NEW_LISTENER != 0 => {
                    handover::attach(filter, socket)?;
                }
                // A listener that nobody takes is closed, and the calls get ENOSYS.
                _ => confine::attach_seccomp(&filter.program, filter.flags)
                    .map(drop)
                    .at(Stage::Seccomp, "attach the seccomp filter")?,
            }
        }
        Ok(())
    }
}

impl Confined<'_> {
    /// The last steps: the filter, where it can wait until now, and the program.
    pub(crate) fn execute(self) -> Step<Infallible> {
        inherit::reset_signals().at(Stage::Execve, "reset the signals")?;
        // Before a filter that may forbid it.
        if let Some(landlock) = self.landlock {
            landlock.restrict()?;
        }
        if self.confinement.process.no_new_privileges {
            self.confinement.attach_filters()?;
        }
        nix::unistd::execve(
            &self.program,
            &self.confinement.process.args,
            &self.environment,
        )
        .at(Stage::Execve, self.program.to_string_lossy())
    }
}

/// The spec's environment, with a `HOME` if it has none.
fn environment(process: &ProcessPlan) -> Vec<CString> {
    let mut environment = process.env.clone();
    if process.variable("HOME").is_none_or(<[u8]>::is_empty) {
        environment.retain(|entry| !entry.to_bytes().starts_with(b"HOME="));
        environment.push(executable::home(process.uid));
    }
    environment
}

/// What only the process itself can set on itself.
fn set_self(process: &ProcessPlan) -> Step {
    if let Some(persona) = process.personality {
        sched::set_personality(persona).at(Stage::Scheduling, "set linux.personality")?;
    }
    if let Some(policy) = &process.memory_policy {
        sched::set_memory_policy(policy.mode, &policy.nodes)
            .at(Stage::Scheduling, "set linux.memoryPolicy")?;
    }
    Ok(())
}

/// Gives the user its own standard streams, so that it may open `/dev/stdout` again. Only pipes,
/// sockets and the container's terminal: anything else (`/dev/null`, a log file) is not ours to give.
fn own_stdio(process: &ProcessPlan) -> Step {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let streams: [BorrowedFd<'_>; 3] = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    for stream in streams {
        let status = match fstat(stream) {
            Ok(status) => status,
            // The caller may have closed it.
            Err(nix::errno::Errno::EBADF) => continue,
            Err(errno) => return Err(errno).at(Stage::Console, "look at a standard stream"),
        };
        let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
        let terminal = process.terminal && kind == SFlag::S_IFCHR;
        let ours = terminal || kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK;
        if !ours || status.st_uid == process.uid {
            continue;
        }
        // A terminal keeps the group `tty` of its mount.
        let group = (!terminal).then(|| Gid::from_raw(process.gid));
        match nix::unistd::fchown(stream, Some(Uid::from_raw(process.uid)), group) {
            // The owner has no id in this user namespace, or the file system keeps no owners.
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::EPERM) => {}
            Err(nix::errno::Errno::EROFS) => {}
            Err(errno) => return Err(errno).at(Stage::Console, "own a standard stream"),
        }
    }
    Ok(())
}

/// Bounding set, ids, capability sets, ambient set: in this order, since each step takes the
/// capabilities that the next ones leave.
fn privileges(process: &ProcessPlan) -> Step {
    let sets = process.capabilities;
    drop_bounding(sets.bounding)?;
    nix::sys::prctl::set_keepcaps(true).at(Stage::Capabilities, "keep capabilities")?;
    confine::set_ids(process.uid, process.gid, Some(&process.groups)).at(
        Stage::User,
        format!("become user {}:{}", process.uid, process.gid),
    )?;
    nix::sys::prctl::set_keepcaps(false).at(Stage::Capabilities, "stop keeping capabilities")?;
    set_thread(sets)
}

fn drop_bounding(keep: u64) -> Step {
    for capability in 0..64u8 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        let known = confine::drop_bounding(capability).at(
            Stage::Capabilities,
            format!("drop capability {capability} from the bounding set"),
        )?;
        if !known {
            break;
        }
    }
    Ok(())
}

fn set_thread(sets: CapabilitySets) -> Step {
    confine::set_capabilities(confine::ThreadCapabilities {
        effective: sets.effective,
        permitted: sets.permitted,
        inheritable: sets.inheritable,
    })
    .at(Stage::Capabilities, "set the capabilities")?;
    confine::clear_ambient().at(Stage::Capabilities, "clear the ambient capabilities")?;
    for capability in (0..64u8).filter(|c| sets.ambient & (1 << c) != 0) {
        confine::raise_ambient(capability).at(
            Stage::Capabilities,
            format!("raise ambient capability {capability}"),
        )?;
    }
    Ok(())
}

/// The working directory must be inside the container's root: a descriptor of a host directory that
/// leaked in could have been entered by `/proc/self/fd/N` (CVE-2024-21626). The kernel's getcwd then
/// gives a path that does not begin at the root.
fn verify_cwd(process: &ProcessPlan) -> Step {
    let outside = || {
        InitFailure::new(
            Stage::WorkingDirectory,
            process.cwd.to_string_lossy(),
            Cause::Text("it is outside of the container's root".to_owned()),
        )
    };
    match confine::working_directory() {
        Ok(path) if path.starts_with(b"/") => Ok(()),
        Ok(_) => Err(outside()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Err(outside()),
        Err(error) => Err(error).at(Stage::WorkingDirectory, process.cwd.to_string_lossy()),
    }
}
