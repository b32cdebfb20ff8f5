//! Who has ended. nix knows no real-time signals, which can end a process too.
#![expect(unsafe_code, reason = "waitid writes a siginfo_t")]

use std::io;
use std::mem::MaybeUninit;

/// The next child that has ended, which stays a zombie; waits for one.
pub(super) fn next() -> io::Result<i32> {
    let info = wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOWAIT)?;
    // SAFETY: waitid has filled in the fields of a child.
    Ok(unsafe { info.si_pid() })
}

/// Reaps a child that has ended: its exit status, or 128 and the number of the signal that ended it.
pub(super) fn take(pid: i32) -> io::Result<u8> {
    let info = wait(
        libc::P_PID,
        pid.cast_unsigned(),
        libc::WEXITED | libc::WNOHANG,
    )?;
    // SAFETY: as above; where no child was reaped the fields are zero.
    let (reaped, status) = unsafe { (info.si_pid(), info.si_status()) };
    if reaped != pid {
        return Err(io::ErrorKind::NotFound.into());
    }
    let status = if info.si_code == libc::CLD_EXITED {
        status & 0xff
    } else {
        128 + (status & 0x7f)
    };
    Ok(u8::try_from(status).unwrap_or(u8::MAX))
}

fn wait(kind: libc::idtype_t, id: u32, options: i32) -> io::Result<libc::siginfo_t> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: it writes one siginfo_t, which outlives the call.
    let result = unsafe { libc::waitid(kind, id, info.as_mut_ptr(), options) };
    if result == 0 {
        // SAFETY: all zero is a siginfo_t, and the kernel has written over it.
        Ok(unsafe { info.assume_init() })
    } else {
        Err(io::Error::last_os_error())
    }
}
