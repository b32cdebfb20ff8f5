//! The stdio of a process: FIFOs handed straight to it, loggers, files, terminals.
//!
//! Without a terminal or a log file nothing is copied: the process gets the very FIFOs that containerd
//! reads and writes. What we hold beside it keeps their meaning the same as with a copying shim:
//! - a writing end of stdin, so that the process sees no end of file before containerd said CloseIO;
//! - a reading end of stdout and stderr, so that the process is not killed by SIGPIPE while
//!   containerd restarts, and what it wrote waits there. A reading end delays nobody's end of file.

/// FIFOs, files and `/dev/null`.
mod fifo;
/// Copies from pipes to log files.
mod log;
/// Programs that take a container's output (`binary://`).
mod logger;
/// Copies between a terminal's master and containerd's FIFOs.
mod terminal;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

pub use terminal::Terminal;

use crate::reactor::Reactor;
use crate::sys;

/// The stdio of a process as containerd names it: paths, URIs, or empty for none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StdioPaths {
    /// Where stdin comes from.
    pub stdin: String,
    /// Where stdout goes; with a terminal, all output.
    pub stdout: String,
    /// Where stderr goes; unused with a terminal.
    pub stderr: String,
    /// The process gets a terminal.
    pub terminal: bool,
}

/// What the new process inherits as 0, 1 and 2.
#[derive(Debug)]
pub struct ChildStdio {
    /// Its stdin.
    pub stdin: OwnedFd,
    /// Its stdout.
    pub stdout: OwnedFd,
    /// Its stderr.
    pub stderr: OwnedFd,
    /// It gets a terminal instead; the three are `/dev/null`.
    pub terminal: bool,
}

/// What we hold of a process's stdio while it is in the task table.
#[derive(Debug, Default)]
pub struct HeldStdio {
    stdin_writer: Option<OwnedFd>,
    readers: Vec<OwnedFd>,
    ends: Option<terminal::Ends>,
    terminal: Option<Arc<Terminal>>,
    log_ends: Vec<log::Ends>,
    logs: Vec<Arc<log::Log>>,
}

/// Logs of a process, for who does not keep its stdio.
#[derive(Debug, Default)]
pub struct Logs {
    terminal: Option<Arc<Terminal>>,
    logs: Vec<Arc<log::Log>>,
}

/// How often a terminal's output is taken on when its log's pipe was full; a process that goes on writing
/// does not keep us.
const FILLINGS: usize = 16;

impl Logs {
    /// Waits until what was written so far is in the logs, so that it is there before an end is told. Waits
    /// for the disk.
    pub fn flush(&self) {
        for _ in 0..FILLINGS {
            let full = self.terminal.as_ref().is_some_and(|t| t.push_output());
            for log in &self.logs {
                log.flush();
            }
            if !full {
                break;
            }
        }
    }
}

/// Who the stdio belongs to; loggers are told.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The container's id.
    pub id: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
}

/// Why the stdio could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// A FIFO or file could not be opened.
    #[error("cannot open {} for the container's stdio", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A log that is no regular file.
    #[error("{} is no regular file and cannot be a log; give the path of a FIFO without file://", path.display())]
    NoFile {
        /// Which.
        path: PathBuf,
    },
    /// A URI that names nothing we know.
    #[error("{uri:?} is no stdio we support; use a FIFO's path, file:///PATH or binary:///PATH")]
    Scheme {
        /// The URI.
        uri: String,
    },
    /// A URI with a broken escape or a relative path.
    #[error("{uri:?} is not a well-formed URI with an absolute path")]
    Uri {
        /// The URI.
        uri: String,
    },
    /// A logger could not be executed.
    #[error("cannot execute the logger {}", path.display())]
    Logger {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A logger did not say that it is ready.
    #[error("the logger {} is not ready after {seconds} s", path.display())]
    LoggerSilent {
        /// Its path.
        path: PathBuf,
        /// How long we waited.
        seconds: u16,
    },
    /// Pipes or the event loop failed.
    #[error("cannot set up the container's stdio")]
    System(#[from] io::Error),
    /// A new process came without the terminal that was asked for.
    #[error("the new process has no terminal although one was asked for")]
    NoTerminal,
}

/// Opens the stdio of a new process.
pub fn open(paths: &StdioPaths, owner: Owner<'_>) -> Result<(ChildStdio, HeldStdio), IoError> {
    let mut held = HeldStdio::default();
    let stdin = match paths.stdin.as_str() {
        "" => None,
        path => {
            let (reader, writer) = fifo::open_stdin(path, paths.terminal)?;
            held.stdin_writer = Some(writer);
            Some(reader)
        }
    };
    let outputs = open_outputs(paths, owner, &mut held)?;
    if paths.terminal {
        held.ends = Some(terminal::Ends {
            stdin,
            stdout: outputs.0,
        });
        let (stdin, stdout, stderr) = (fifo::null()?, fifo::null()?, fifo::null()?);
        return Ok((
            ChildStdio {
                stdin,
                stdout,
                stderr,
                terminal: true,
            },
            held,
        ));
    }
    let or_null = |fd: Option<OwnedFd>| fd.map_or_else(fifo::null, Ok);
    let child = ChildStdio {
        stdin: or_null(stdin)?,
        stdout: or_null(outputs.0)?,
        stderr: or_null(outputs.1)?,
        terminal: false,
    };
    Ok((child, held))
}

/// The writing ends of stdout and stderr.
type Outputs = (Option<OwnedFd>, Option<OwnedFd>);

fn open_outputs(
    paths: &StdioPaths,
    owner: Owner<'_>,
    held: &mut HeldStdio,
) -> Result<Outputs, IoError> {
    let stderr = if paths.terminal {
        ""
    } else {
        paths.stderr.as_str()
    };
    if let Some(program) = logger::Program::parse(&paths.stdout)? {
        // One logger takes both streams; containerd then names it for both.
        let (stdout, stderr) = program.run(owner)?;
        return Ok((Some(stdout), Some(stderr)));
    }
    let mut open = |path: &str| -> Result<Option<OwnedFd>, IoError> {
        if path.is_empty() {
            return Ok(None);
        }
        let writer = match fifo::open_output(path, paths.terminal)? {
            fifo::Output::Fifo(writer, reader) => {
                held.readers.push(reader);
                writer
            }
            fifo::Output::Log(file) => {
                let (writer, ends) = log::Ends::to(file)?;
                held.log_ends.push(ends);
                writer
            }
            fifo::Output::Other(file) => file,
        };
        Ok(Some(writer))
    };
    let stdout = open(&paths.stdout)?;
    // One pipe for both keeps the order in which they were written.
    let stderr = match &stdout {
        Some(both) if stderr.starts_with("file:") && stderr == paths.stdout => {
            Some(both.try_clone()?)
        }
        _ => open(stderr)?,
    };
    Ok((stdout, stderr))
}

impl HeldStdio {
    /// Of a process whose output is copied to `file`; with it the process's end.
    #[cfg(test)]
    pub(crate) fn of_log(file: OwnedFd) -> (OwnedFd, Self) {
        let (writer, ends) = log::Ends::to(file).unwrap();
        let mut held = Self::default();
        held.logs.push(Arc::new(log::Log::attach(ends).unwrap()));
        (writer, held)
    }

    /// Starts copying to a new process's logs, or between its terminal and its FIFOs.
    pub fn attach(
        &mut self,
        reactor: &Arc<Reactor>,
        master: Option<OwnedFd>,
    ) -> Result<(), IoError> {
        for ends in self.log_ends.drain(..) {
            self.logs.push(Arc::new(log::Log::attach(ends)?));
        }
        let Some(ends) = self.ends.take() else {
            return Ok(());
        };
        let master = master.ok_or(IoError::NoTerminal)?;
        self.terminal = Some(Terminal::attach(reactor, master, ends)?);
        Ok(())
    }

    /// Lets the process see the end of its stdin once containerd's side is closed too.
    pub fn close_stdin(&mut self) {
        self.stdin_writer = None;
    }

    /// The logs that are being written, if any.
    pub fn logs(&self) -> Option<Logs> {
        (!self.logs.is_empty()).then(|| Logs {
            terminal: self.terminal.clone(),
            logs: self.logs.clone(),
        })
    }

    /// Sets the terminal's size; without a terminal it does nothing.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        match &self.terminal {
            Some(terminal) => sys::set_window_size(terminal.master(), columns, rows),
            None => Ok(()),
        }
    }
}

impl Drop for HeldStdio {
    fn drop(&mut self) {
        if let Some(logs) = self.logs() {
            logs.flush();
        }
        if let Some(terminal) = &self.terminal {
            terminal.close();
        }
        for log in &self.logs {
            log.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write as _;

    use nix::pty::openpty;

    use super::*;
    use crate::reactor::Idle;

    /// The event loop wrote the file itself. More than the pipe to it and the terminal hold.
    #[test]
    fn all_of_a_terminals_output_is_in_its_log_after_a_flush() {
        const LINES: usize = 50_000;
        let dir = tempfile::tempdir().unwrap();
        for scheme in ["file://", ""] {
            let path = dir.path().join(format!("log{}", scheme.len()));
            File::create(&path).unwrap();
            let paths = StdioPaths {
                stdout: format!("{scheme}{}", path.display()),
                terminal: true,
                ..StdioPaths::default()
            };
            let (id, namespace) = ("c", "ns");
            let (_, mut held) = open(&paths, Owner { id, namespace }).unwrap();
            let reactor = Arc::new(Reactor::new().unwrap());
            let pty = openpty(None, None).unwrap();
            held.attach(&reactor, Some(pty.master)).unwrap();
            let running = Arc::clone(&reactor);
            let looping = std::thread::spawn(move || running.run(|_| Idle::Sleep));
            let mut writer = io::BufWriter::new(File::from(pty.slave));
            for number in 0..LINES {
                writeln!(writer, "{number}").unwrap();
            }
            writer.flush().unwrap();
            held.logs().unwrap().flush();
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.lines().eq((0..LINES).map(|n| n.to_string())));
            reactor.stop();
            looping.join().unwrap().unwrap();
        }
    }
}
