use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::{
    command::{Cmd, Done},
    error::{At, Result},
};

/// A network namespace of a test's own. It goes with the last of its descriptors, sockets and processes.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// A new one, with the loopback up.
    ///
    /// # Errors
    /// If the caller may not make one.
    pub fn new() -> Result<Self> {
        let path = "/proc/thread-self/ns/net";
        let made = apart(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .at("unshare", path)?;
            File::open(path).at("open", path)
        })?;
        let namespace = Self(made);
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Does something on a thread that is in it. What that opens stays in it.
    ///
    /// # Errors
    /// If it cannot be entered, else as the work says.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let fd = self.0.as_fd();
        apart(move || {
            setns(fd, CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .at("enter", "a network namespace")?;
            work()
        })
    }

    /// Runs `ip` with the words of the line.
    ///
    /// # Errors
    /// If it fails.
    pub fn ip(&self, line: &str) -> Result<Done> {
        self.run(&format!("ip {line}"))
    }

    /// Runs a command, its words in a line.
    ///
    /// # Errors
    /// If it fails.
    pub fn run(&self, line: &str) -> Result<Done> {
        let mut words = line.split_whitespace();
        let command = Cmd::new(words.next().unwrap_or_default()).args(words);
        self.within(move || command.ok())
    }

    /// What makes other processes enter it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// A path by which other processes of root's find it for as long as this one lives.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
