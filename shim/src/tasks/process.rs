//! One process of a container: its phase, its stdio, who waits for it.

use crate::events::Exit;
use crate::io::{HeldStdio, StdioPaths};

/// Called once when the process has ended.
pub type Waiter = Box<dyn FnOnce(Exit) + Send>;

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The backend is making it.
    Creating,
    /// It was announced, or made and waits for start.
    Created,
    /// The backend is starting it.
    Starting,
    /// It runs.
    Running,
    /// It has ended.
    Stopped,
    /// The backend is removing it.
    Deleting,
}

impl Phase {
    /// The phase in plain words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "being created",
            Self::Created => "not started",
            Self::Starting => "being started",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Deleting => "being deleted",
        }
    }
}

/// One process of a container.
pub struct Process {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its pid; 0 until it is known.
    pub pid: i32,
    /// Its stdio as containerd named it.
    pub paths: StdioPaths,
    /// What we hold of its stdio.
    pub stdio: Option<HeldStdio>,
    /// CloseIO has come. It may come before there is a stdin to close: a client that reads what an
    /// exec prints can be faster than the answer of the helper that started it.
    pub stdin_closed: bool,
    /// How it ended, also while an exit event has to wait for the start event.
    pub exit: Option<Exit>,
    /// Who waits.
    pub waiters: Vec<Waiter>,
    /// The OCI `Process` of a further process until it is started.
    pub spec: Option<serde_json::Value>,
    /// A window size that came before there was a terminal.
    pub window: Option<(u16, u16)>,
}

impl Process {
    /// A process that does not run yet.
    pub fn new(phase: Phase, paths: StdioPaths) -> Self {
        Self {
            phase,
            pid: 0,
            paths,
            stdio: None,
            stdin_closed: false,
            exit: None,
            waiters: Vec::new(),
            spec: None,
            window: None,
        }
    }

    /// Takes what is held of its stdio, less a stdin that was closed meanwhile.
    pub fn hold(&mut self, mut stdio: HeldStdio) {
        if self.stdin_closed {
            stdio.close_stdin();
        }
        self.stdio = Some(stdio);
    }

    /// Lets it see the end of its stdin.
    pub fn close_stdin(&mut self) {
        self.stdin_closed = true;
        if let Some(stdio) = &mut self.stdio {
            stdio.close_stdin();
        }
    }

    /// Marks it as ended: stdin is closed, what the terminal still holds flows on, waiters learn.
    pub fn finish(&mut self, exit: Exit) {
        self.phase = Phase::Stopped;
        self.exit = Some(exit);
        self.close_stdin();
        for waiter in self.waiters.drain(..) {
            waiter(exit);
        }
    }
}
