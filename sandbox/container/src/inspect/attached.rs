//! The seccomp programs attached to a process, asked of the kernel.
//!
//! `PTRACE_SECCOMP_GET_FILTER` answers only about a stopped tracee: the process is seized and
//! interrupted, asked, and let go. That takes milliseconds, but a system call under way may return
//! EINTR for it, so it happens only on request.
#![expect(
    unsafe_code,
    reason = "ptrace(2) and its waitpid(2) on a process that is no child"
)]

use std::io;
use std::ptr;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the process may take to stop.
const LIMIT: Duration = Duration::from_secs(2);

/// More programs than this cannot be attached usefully; it bounds the loop.
const MAX_PROGRAMS: usize = 64;

/// linux/ptrace.h; the libc crate does not have it.
const PTRACE_SECCOMP_GET_FILTER: libc::c_uint = 0x420c;

/// `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

/// The programs, oldest first, as `struct sock_filter` records.
pub(super) fn programs(pid: i32) -> io::Result<Vec<Vec<u8>>> {
    let tracee = Tracee::seize(pid)?;
    let mut found = Vec::new();
    // The kernel counts from the program attached first (`get_nth_filter`), whatever ptrace(2) says.
    while found.len() < MAX_PROGRAMS {
        match tracee.program(found.len()) {
            Ok(program) => found.push(program),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::FileTooLarge.into())
}

/// A process stopped by us; it goes on when this is dropped.
struct Tracee {
    pid: i32,
    /// A signal that it was about to get when it stopped, to be delivered when it goes on.
    signal: libc::c_int,
}

impl Tracee {
    fn seize(pid: i32) -> io::Result<Self> {
        request(libc::PTRACE_SEIZE, pid, 0)?;
        // From here on it is let go whatever happens.
        let mut tracee = Self { pid, signal: 0 };
        request(libc::PTRACE_INTERRUPT, pid, 0)?;
        tracee.wait()?;
        Ok(tracee)
    }

    /// Waits for the stop. A paused container never stops: hence the limit.
    fn wait(&mut self) -> io::Result<()> {
        let start = Instant::now();
        loop {
            let mut status = 0;
            // SAFETY: `status` is a valid place for the result and outlives the call.
            let waited =
                unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG | libc::__WALL) };
            if waited < 0 {
                return Err(io::Error::last_os_error());
            }
            if waited == self.pid {
                if !libc::WIFSTOPPED(status) {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                // Without a ptrace event it is a stop on the way to a signal's delivery.
                if status >> 16 == 0 {
                    self.signal = libc::WSTOPSIG(status);
                }
                return Ok(());
            }
            if start.elapsed() >= LIMIT {
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep(Duration::from_micros(200));
        }
    }

    /// The program number `index`, counted from the one attached first.
    fn program(&self, index: usize) -> io::Result<Vec<u8>> {
        let length = self.get_filter(index, ptr::null_mut())?;
        if length == 0 || length > MAX_INSTRUCTIONS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0u8; length * size_of::<libc::sock_filter>()];
        // The filters of a stopped process do not change, so the length still fits.
        self.get_filter(index, bytes.as_mut_ptr())?;
        Ok(bytes)
    }

    /// With a null `to` only the length in instructions is returned. Otherwise `to` must have
    /// room for that many.
    fn get_filter(&self, index: usize, to: *mut u8) -> io::Result<usize> {
        // SAFETY: the kernel writes as many instructions as it says for a null address; both
        // callers pass null or a buffer of exactly that size.
        let result = unsafe {
            libc::ptrace(
                PTRACE_SECCOMP_GET_FILTER,
                self.pid,
                ptr::without_provenance_mut::<libc::c_void>(index),
                to.cast::<libc::c_void>(),
            )
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        // A process that did not stop cannot be detached; it is let go when we exit.
        let signal = usize::try_from(self.signal).unwrap_or(0);
        let _ = request(libc::PTRACE_DETACH, self.pid, signal);
    }
}

/// A request without addresses in it.
fn request(request: libc::c_uint, pid: i32, data: usize) -> io::Result<()> {
    // SAFETY: SEIZE, INTERRUPT and DETACH take numbers only: the kernel dereferences nothing.
    let result = unsafe {
        libc::ptrace(
            request,
            pid,
            ptr::null_mut::<libc::c_void>(),
            ptr::without_provenance_mut::<libc::c_void>(data),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::sys::confine::attach_seccomp;

    /// `struct sock_filter`: an instruction and its number.
    fn instruction(code: u16, k: u32) -> Vec<u8> {
        let [code, k] = [code.to_ne_bytes().to_vec(), k.to_ne_bytes().to_vec()];
        [code, vec![0, 0], k].concat()
    }

    /// A process under the programs, attached in their order.
    fn filtered(programs: Vec<Vec<u8>>) -> Child {
        // A filter is a thread's, and that of what it starts.
        let start = move || {
            for program in &programs {
                attach_seccomp(program, 0).unwrap();
            }
            Command::new("sleep").arg("0.4").spawn().unwrap()
        };
        std::thread::spawn(start).join().unwrap()
    }

    #[test]
    fn a_process_goes_on_after_being_asked() {
        let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let may = nix::unistd::geteuid().is_root() && own.lines().any(|l| l == "Seccomp:\t0");
        if !may {
            assert!(
                std::env::var_os("COFFERDAM_REQUIRE_ROOT").is_none_or(|v| v != "1"),
                "COFFERDAM_REQUIRE_ROOT is set, but this test needs root without a filter"
            );
            println!("SKIPPED: needs root without a filter");
            return;
        }
        let allow = instruction(0x06, libc::SECCOMP_RET_ALLOW); // BPF_RET | BPF_K
        let look = instruction(0x20, 0); // BPF_LD | BPF_W | BPF_ABS
        let attached = vec![allow.clone(), [look, allow].concat()];
        let mut child = filtered(attached.clone());
        let found = programs(child.id().cast_signed());
        assert!(child.wait().unwrap().success());
        assert_eq!(found.unwrap(), attached);

        let mut child = filtered(Vec::new());
        let none = programs(child.id().cast_signed());
        assert!(child.wait().unwrap().success());
        // It is asked about processes under filters only.
        assert_eq!(none.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
