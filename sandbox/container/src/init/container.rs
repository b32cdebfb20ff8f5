//! The init of a new container, from the clone to its program.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, OwnedFd};

use cofferdam_profiles::landlock::Ruleset;
use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use super::confine::{self, Confinement};
use super::label::Label;
use super::sync::InitSide;
use super::{At as _, Step, chain};
use crate::cgroup::Cgroup;
use crate::error::{Cause, InitFailure, Stage};
use crate::hooks::{self, Point};
use crate::namespaces::{self, Namespaces};
use crate::process::ProcessPlan;
use crate::rootfs::{Rootfs, RootfsOptions};
use crate::seccomp::Program;
use crate::state::{State, Status};
use crate::sys::clone::{self, Side};
use crate::sys::{confine as credentials, namespace, network};
use crate::tty::Console;

/// All that init needs, prepared by the parent.
#[derive(Debug)]
pub(crate) struct ContainerInit<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) process: &'a ProcessPlan,
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) cgroup: Option<&'a Cgroup>,
    pub(crate) rootfs: RootfsOptions,
    pub(crate) filters: &'a [Program],
    pub(crate) landlock: Option<&'a Ruleset>,
    pub(crate) handover: Option<&'a OwnedFd>,
    /// Open for reading and writing, so that a read waits until somebody else writes.
    pub(crate) fifo: OwnedFd,
    pub(crate) console_socket: Option<OwnedFd>,
    pub(crate) state: &'a State,
    pub(crate) preserve_fds: u32,
    pub(crate) new_keyring: bool,
}

/// `CLONE_NEW*` bits that the first clone takes; the rest needs the cgroup joined first, or was done
/// by the parent for its children.
pub(crate) fn first_clone(namespaces: &Namespaces) -> u64 {
    if namespaces.need_intermediate() {
        0
    } else {
        namespaces.new & !(namespaces::CGROUP | namespaces::TIME)
    }
}

impl ContainerInit<'_> {
    /// The whole of init.
    pub(crate) fn run(mut self, channel: &mut InitSide) -> Step<Infallible> {
        // The cgroup before anything else: nothing may run, fork or allocate outside of its limits.
        if let Some(cgroup) = self.cgroup {
            if cgroup.must_add() {
                channel.wait().at(Stage::Sync, "wait for the cgroup")?;
            } else {
                enter_cgroup(cgroup)?;
            }
        }
        self.enter_namespaces(channel)?;
        nix::unistd::setsid().at(Stage::Session, "start a session")?;
        if self.namespaces.new & namespaces::NETWORK != 0 {
            network::loopback_up().at(Stage::Namespace, "bring the loopback interface up")?;
        }
        confine::keyring(self.new_keyring)?;
        let label = Label::open(self.process)?;
        self.set_up_files(channel)?;
        let confined = Confinement {
            process: self.process,
            filters: self.filters,
            landlock: self.landlock,
            handover: self.handover,
            preserve_fds: self.preserve_fds,
            own_limits: !self.namespaces.has_user(),
        }
        .apply(label)?;
        channel
            .ready()
            .at(Stage::Sync, "tell the runtime that the container is ready")?;
        channel.close();
        self.wait_for_start()?;
        self.hooks_here(Point::StartContainer, Status::Created)?;
        confined.execute()
    }

    fn enter_namespaces(&self, channel: &InitSide) -> Step {
        let elsewhere = self.namespaces.joined_by_parent() | namespaces::USER;
        let joins = self.namespaces.joins.iter();
        for join in joins.filter(|join| join.kind & elsewhere == 0) {
            let name = namespaces::name(join.kind);
            namespace::join(&join.file, join.kind)
                .at(Stage::Namespace, format!("join the {name} namespace"))?;
        }
        let Some(user) = self.namespaces.user() else {
            // Made last, for its root is the cgroup that the process is in at that moment.
            if self.namespaces.new & namespaces::CGROUP != 0 {
                namespace::unshare(namespaces::CGROUP)
                    .at(Stage::Namespace, "make a cgroup namespace")?;
            }
            return Ok(());
        };
        namespace::join(user, namespaces::USER).at(Stage::Namespace, "join the user namespace")?;
        // Before the clone: what the kernel makes for a namespace (the directory of message queues)
        // belongs to who makes it.
        credentials::set_ids(0, 0, Some(&[]))
            .at(Stage::UserNamespace, "become root of the user namespace")?;
        // This process is the one in between: it could join, but it cannot change its own pid
        // namespace, and what init makes must belong to the user namespace.
        let new = self.namespaces.new & !namespaces::TIME;
        match clone::clone(new, true, None).at(Stage::Namespace, "make namespaces")? {
            Side::Parent(init, _) => {
                channel
                    .send_init(init)
                    .at(Stage::Sync, "tell the runtime init's pid")?;
                clone::exit(0);
            }
            Side::Child => Ok(()),
        }
    }

    /// Mounts, hooks, pivot, terminal, names, kernel parameters; then the file system is final.
    fn set_up_files(&mut self, channel: &InitSide) -> Step {
        let failed = |error: crate::rootfs::RootfsError| {
            InitFailure::new(
                Stage::Rootfs,
                "set up the root file system",
                Cause::Text(chain(&error)),
            )
        };
        let mut rootfs = Rootfs::prepare(self.spec, &self.rootfs).map_err(failed)?;
        let hooks = self.spec.hooks().as_ref();
        let outside = [Point::Prestart, Point::CreateRuntime];
        if outside.iter().any(|point| !point.of(hooks).is_empty()) {
            channel
                .hooks()
                .at(Stage::Sync, "wait for the runtime's hooks")?;
        }
        self.hooks_here(Point::CreateContainer, Status::Creating)?;
        rootfs.pivot().map_err(failed)?;
        if self.process.terminal {
            self.attach_terminal(&rootfs).map_err(|error| match error {
                TerminalError::Pty(failure) => failure,
                TerminalError::Mount(error) => failed(error),
            })?;
        }
        self.set_names()?;
        rootfs.sysctl().map_err(failed)?;
        rootfs.finish().map_err(failed)
    }

    fn attach_terminal(&mut self, rootfs: &Rootfs<'_>) -> Result<(), TerminalError> {
        let Some(socket) = self.console_socket.take() else {
            return Ok(());
        };
        let console = Console::open(rootfs.devpts()).at(Stage::Console, "make a terminal")?;
        if let Some(size) = self.process.console_size {
            console
                .set_size(size)
                .at(Stage::Console, "set the terminal's size")?;
        }
        rootfs
            .console(console.terminal())
            .map_err(TerminalError::Mount)?;
        console
            .attach(socket.as_fd())
            .at(Stage::Console, "attach the terminal")?;
        Ok(())
    }

    fn set_names(&self) -> Step {
        if let Some(name) = self.spec.hostname() {
            nix::unistd::sethostname(name)
                .at(Stage::Hostname, format!("set the host name {name:?}"))?;
        }
        if let Some(name) = self.spec.domainname() {
            namespace::set_domain_name(name.as_bytes())
                .at(Stage::Hostname, format!("set the domain name {name:?}"))?;
        }
        Ok(())
    }

    /// Runs hooks from inside the container's namespaces.
    fn hooks_here(&self, point: Point, status: Status) -> Step {
        let hooks = self.spec.hooks().as_ref();
        hooks::run(point, hooks, self.state, status, Some(Pid::this())).map_err(|error| {
            InitFailure::new(
                Stage::Hook,
                format!(
                    "error running {} hook #{} ({})",
                    error.point.name(),
                    error.index,
                    error.path.display()
                ),
                Cause::Text(error.source.to_string()),
            )
        })
    }

    /// Waits for `start`, which writes a byte. This process has the FIFO open for writing too, so
    /// the read never sees an end.
    fn wait_for_start(&self) -> Step {
        let mut byte = [0];
        loop {
            match nix::unistd::read(&self.fifo, &mut byte) {
                Err(nix::errno::Errno::EINTR) => {}
                other => return other.map(|_| ()).at(Stage::Start, "wait for start"),
            }
        }
    }
}

enum TerminalError {
    Pty(InitFailure),
    Mount(crate::rootfs::RootfsError),
}

impl From<InitFailure> for TerminalError {
    fn from(failure: InitFailure) -> Self {
        Self::Pty(failure)
    }
}

/// Moves this process into the container's cgroups.
pub(crate) fn enter_cgroup(cgroup: &Cgroup) -> Step {
    cgroup.join_self().map_err(|error| {
        InitFailure::new(
            Stage::Cgroup,
            "enter the cgroup",
            Cause::Text(chain(&error)),
        )
    })
}
