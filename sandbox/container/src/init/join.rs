//! A process that joins a running container: the same confinement as init, without the mounts.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use cofferdam_profiles::landlock::Ruleset;

use super::confine::{self, Confinement};
use super::container::enter_cgroup;
use super::label::Label;
use super::sync::InitSide;
use super::{At as _, Step};
use crate::cgroup::Cgroup;
use crate::error::Stage;
use crate::namespaces;
use crate::process::ProcessPlan;
use crate::seccomp::Program;
use crate::sys::{confine as credentials, namespace};
use crate::tty::Console;

/// All that the process needs, prepared by the parent, which has also joined the pid namespace for
/// its children: this process is in it from its first instruction.
#[derive(Debug)]
pub(crate) struct JoinInit<'a> {
    pub(crate) process: &'a ProcessPlan,
    /// The container's init.
    pub(crate) init: BorrowedFd<'a>,
    /// `CLONE_NEW*` bits of the namespaces that it does not share with the host.
    pub(crate) kinds: u64,
    pub(crate) cgroup: Option<&'a Cgroup>,
    pub(crate) filters: &'a [Program],
    pub(crate) landlock: Option<&'a Ruleset>,
    pub(crate) handover: Option<OwnedFd>,
    pub(crate) console_socket: Option<OwnedFd>,
    pub(crate) preserve_fds: u32,
    pub(crate) new_keyring: bool,
}

impl JoinInit<'_> {
    /// The whole of it.
    pub(crate) fn run(self, channel: &mut InitSide) -> Step<Infallible> {
        if let Some(cgroup) = self.cgroup {
            enter_cgroup(cgroup)?;
        }
        nix::unistd::setsid().at(Stage::Session, "start a session")?;
        // Through the host's procfs, before the container's can be what `/proc` means.
        let label = Label::open(self.process)?;
        let kinds = self.kinds & !namespaces::PID;
        if kinds != 0 {
            // All at once: a part of them would be a process half outside of the container. The root
            // and the working directory are the container's afterwards.
            namespace::join(self.init, kinds)
                .at(Stage::Namespace, "join the container's namespaces")?;
        }
        if kinds & namespaces::USER != 0 {
            credentials::set_ids(0, 0, Some(&[]))
                .at(Stage::UserNamespace, "become root of the user namespace")?;
        }
        confine::keyring(self.new_keyring)?;
        if self.process.terminal
            && let Some(socket) = &self.console_socket
        {
            let console = Console::open(None).at(Stage::Console, "make a terminal")?;
            if let Some(size) = self.process.console_size {
                console
                    .set_size(size)
                    .at(Stage::Console, "set the terminal's size")?;
            }
            console
                .attach(socket.as_fd())
                .at(Stage::Console, "attach the terminal")?;
        }
        let confined = Confinement {
            process: self.process,
            filters: self.filters,
            landlock: self.landlock,
            handover: self.handover.as_ref(),
            preserve_fds: self.preserve_fds,
            own_limits: self.kinds & namespaces::USER == 0,
        }
        .apply(label)?;
        channel
            .ready()
            .at(Stage::Sync, "tell the runtime that the process is ready")?;
        confined.execute()
    }
}
