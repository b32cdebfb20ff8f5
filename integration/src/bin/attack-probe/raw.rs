//! System calls that no safe wrapper offers, made as an attacker would make them.
#![expect(unsafe_code, reason = "raw system calls are what the probe is for")]

use nix::{
    errno::Errno,
    sys::ptrace,
    unistd::{self, ForkResult, Pid},
};

fn checked(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(result)
    }
}

/// fork(2); the probe has one thread.
pub(crate) fn fork() -> Result<ForkResult, Errno> {
    // SAFETY: the process has one thread, so the child may call anything.
    unsafe { unistd::fork() }
}

/// Ends the main thread; another one goes on and waits for nothing.
pub(crate) fn without_main_thread() -> ! {
    std::thread::spawn(|| {
        loop {
            unistd::pause();
        }
    });
    // SAFETY: exit(2) ends this thread alone; the other one uses nothing of its stack.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("the thread has ended")
}

/// A child in a user namespace of its own by the old clone(2); it exits at once.
pub(crate) fn clone_user() -> Result<(), Errno> {
    let flags = libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack this is fork(2) with flags; the child only exits.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    reap(pid)
}

/// The same by clone3(2).
pub(crate) fn clone3_user() -> Result<(), Errno> {
    // struct clone_args of linux/sched.h, version 0: eight 64-bit fields.
    let mut args = [0u64; 8];
    args[0] = 0x1000_0000; // flags: CLONE_NEWUSER
    args[4] = 17; // exit_signal: SIGCHLD
    let size = std::mem::size_of_val(&args);
    // SAFETY: args is a valid clone_args of `size` bytes; no CLONE_VM, so this is a fork.
    let pid = checked(unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size) })?;
    reap(pid)
}

fn reap(pid: libc::c_long) -> Result<(), Errno> {
    if pid == 0 {
        std::process::exit(0);
    }
    let pid = i32::try_from(pid).map_err(|_| Errno::ERANGE)?;
    nix::sys::wait::waitpid(Pid::from_raw(pid), None).map(drop)
}

/// add_key(2) into the session keyring.
pub(crate) fn add_key() -> Result<(), Errno> {
    const KEY_SPEC_SESSION_KEYRING: libc::c_long = -3;
    // SAFETY: all pointers are to static NUL-terminated strings; the payload is 4 bytes long.
    checked(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            c"cofferdam-probe".as_ptr(),
            c"data".as_ptr(),
            4usize,
            KEY_SPEC_SESSION_KEYRING,
        )
    })
    .map(drop)
}

/// keyctl(2): joins a new anonymous session keyring.
pub(crate) fn join_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    checked(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0) }).map(drop)
}

/// socket(2); closed again at once.
pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> Result<(), Errno> {
    // SAFETY: socket(2) takes three integers; the descriptor is ours to close.
    let fd = checked(unsafe { libc::socket(family, kind, protocol) }.into())?;
    let fd = i32::try_from(fd).map_err(|_| Errno::ERANGE)?;
    // SAFETY: fd was just made and is used nowhere else.
    unsafe { libc::close(fd) };
    Ok(())
}

/// A Unix socket by `socketcall`, the 32-bit call that takes its arguments from memory.
#[cfg(target_arch = "x86_64")]
pub(crate) fn socketcall_unix() -> Result<(), Errno> {
    const SOCKETCALL: i32 = 102;
    const SYS_SOCKET: u32 = 1;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    // SAFETY: a new anonymous mapping of one page touches no other memory.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0) };
    let address = u32::try_from(page.addr()).map_err(|_| Errno::ENOMEM)?;
    let family = [libc::AF_UNIX, libc::SOCK_STREAM, 0];
    // SAFETY: the page is ours (MAP_FAILED does not fit a u32), aligned, and holds three words.
    unsafe { page.cast::<[i32; 3]>().write(family) };
    let result: i32;
    // SAFETY: the 32-bit entry takes its number in eax and arguments in ebx and ecx, keeps all
    // registers but eax and clobbers r8 to r11. rbx is the compiler's, hence the exchange.
    unsafe {
        core::arch::asm!(
            "xchg rbx, {first:r}",
            "int 0x80",
            "xchg rbx, {first:r}",
            first = inout(reg) u64::from(SYS_SOCKET) => _,
            inlateout("eax") SOCKETCALL => result,
            in("ecx") address,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if result < 0 {
        Err(Errno::from_raw(-result))
    } else {
        Ok(())
    }
}

/// Other machines have no such call.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn socketcall_unix() -> Result<(), Errno> {
    Err(Errno::ENOSYS)
}

/// Attaches to a process without stopping it, and lets go.
pub(crate) fn seize(pid: i32) -> Result<(), Errno> {
    ptrace::seize(Pid::from_raw(pid), ptrace::Options::empty())
}

/// fchdir(2) to a descriptor that may not exist.
pub(crate) fn change_directory(fd: i32) -> Result<(), Errno> {
    // SAFETY: fchdir(2) takes an integer and checks it.
    checked(unsafe { libc::fchdir(fd) }.into()).map(drop)
}

/// TCGETS: what isatty(3) asks.
pub(crate) fn terminal_attributes(fd: i32) -> Result<(), Errno> {
    // SAFETY: termios is plain integers, for which zero is a value.
    let mut attributes: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live termios, which the kernel fills.
    checked(unsafe { libc::tcgetattr(fd, &raw mut attributes) }.into()).map(drop)
}
