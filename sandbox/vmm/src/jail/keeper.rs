//! The process that waits outside.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::failed;
use crate::config::JailConfig;
use crate::error::VmError;
use crate::filter::{self, Thread};

/// What a shell makes of a signal's number.
const BY_SIGNAL: i32 = 128;

/// Gives the inner process its ids, waits for its end and ends as it did. Returns only what went wrong before that.
pub(super) fn keep(
    child: Pid,
    config: &JailConfig,
    mut inner: UnixStream,
    leave: &[PathBuf],
) -> VmError {
    if let Err(refusal) = let_in(child, config, &mut inner) {
        if let Refusal::Own(error) = refusal {
            // It has nothing to say of its own.
            let _ = kill(child, Signal::SIGKILL);
            return error;
        }
        return match wait(child) {
            Ok(status) => exit(status),
            Err(source) => failed("wait for the process inside")(source),
        };
    }
    // The other's: the socket that hosts connect to must not outlive it, for one.
    super::close_above(libc::STDERR_FILENO, &[]);
    std::mem::forget(inner);
    let status = filter::confine(Thread::Keeper).and_then(|()| {
        let status = wait(child);
        for path in leave {
            // Somebody may have removed it.
            drop(fs::remove_file(path));
        }
        status.map_err(failed("wait for the process inside"))
    });
    match status {
        Ok(status) => exit(status),
        Err(error) => {
            crate::vm::say(format_args!("{}", crate::error::chain(&error)));
            // The kernel ends the inner one.
            exit(1)
        }
    }
}

/// Why the inner process does not go on.
enum Refusal {
    /// It has ended, and said why.
    Its,
    /// It gets no ids.
    Own(VmError),
}

fn let_in(child: Pid, config: &JailConfig, inner: &mut UnixStream) -> Result<(), Refusal> {
    let its = |_| Refusal::Its;
    let mut byte = [0];
    inner.read_exact(&mut byte).map_err(its)?;
    let map = |file: &str, first: u32, action| {
        // One write, as the kernel wants it.
        let line = format!("0 {first} {}\n", config.count);
        fs::write(format!("/proc/{child}/{file}"), line)
            .map_err(|source| Refusal::Own(failed(action)(source)))
    };
    map("uid_map", config.uid, "map user ids")?;
    map("gid_map", config.gid, "map group ids")?;
    inner
        .write_all(&byte)
        // From here on the kernel kills it if this process ends.
        .and_then(|()| inner.read_exact(&mut byte))
        .and_then(|()| inner.write_all(&byte))
        .map_err(its)
}

/// The status that the inner process's end is told by.
fn wait(child: Pid) -> io::Result<i32> {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(status),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                crate::vm::say(format_args!("the process inside was killed by {signal}"));
                return Ok(BY_SIGNAL + signal as i32);
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Without destructors: what they would end is the other's.
fn exit(status: i32) -> ! {
    // SAFETY: it has no preconditions and does not return.
    unsafe { libc::_exit(status) }
}
