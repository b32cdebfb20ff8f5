//! Names that are not calls, and calls that come in several forms.

/// The call behind a function of the C library that is no call itself, or none on 64-bit machines.
pub(in crate::lint) fn behind(name: &str) -> Option<&'static str> {
    let found = WRAPPERS.iter().find(|(own, _)| *own == name);
    found.map(|(_, call)| *call)
}

/// Source: glibc 2.36, `sysdeps/unix/sysv/linux`, and the "C library/kernel differences" of the manual
/// pages in section 2.
#[rustfmt::skip]
const WRAPPERS: &[(&str, &str)] = &[
    ("_Exit", "exit_group"), ("_exit", "exit_group"), ("abort", "tgkill"), ("adjtime", "adjtimex"),
    ("clock", "clock_gettime"), ("creat64", "creat"), ("execl", "execve"), ("execle", "execve"),
    ("execlp", "execve"), ("execv", "execve"), ("execvp", "execve"), ("execvpe", "execve"),
    ("fexecve", "execveat"), ("fopen", "openat"), ("fstatat", "newfstatat"),
    ("fstatat64", "newfstatat"), ("ftime", "clock_gettime"), ("gethostname", "uname"),
    ("isatty", "ioctl"), ("lseek64", "lseek"), ("malloc", "brk"), ("mkfifo", "mknodat"),
    ("mmap64", "mmap"), ("ntp_adjtime", "adjtimex"), ("open64", "open"), ("openat64", "openat"),
    ("opendir", "openat"), ("posix_fadvise", "fadvise64"), ("posix_fallocate", "fallocate"),
    ("posix_spawn", "clone3"), ("pread", "pread64"), ("pthread_create", "clone3"),
    ("pwrite", "pwrite64"), ("raise", "tgkill"), ("recv", "recvfrom"), ("sbrk", "brk"),
    ("send", "sendto"), ("setegid", "setresgid"), ("seteuid", "setresuid"), ("shm_open", "openat"),
    ("sigaction", "rt_sigaction"), ("signal", "rt_sigaction"), ("sigpending", "rt_sigpending"),
    ("sigprocmask", "rt_sigprocmask"), ("sigreturn", "rt_sigreturn"),
    ("sigsuspend", "rt_sigsuspend"), ("sigtimedwait", "rt_sigtimedwait"), ("sleep", "clock_nanosleep"),
    ("system", "execve"), ("tcgetattr", "ioctl"), ("tcsetattr", "ioctl"),
    ("umount", "umount2"), ("usleep", "clock_nanosleep"), ("wait", "wait4"), ("wait3", "wait4"),
    ("waitpid", "wait4"),
];

/// Calls of which libraries use the second where programs name the first: glibc 2.26 made `open` an
/// `openat`. A program that was seen to use one is served the other by the next release.
pub(in crate::lint) const NEXT_FORM: &[(&str, &str)] = &[
    ("open", "openat"),
    ("stat", "newfstatat"),
    ("lstat", "newfstatat"),
];

/// Forms for 32-bit programs with times of 64 bits (Linux 5.1, y2038): musl 1.2 and glibc 2.34 use the
/// second of each pair there.
#[rustfmt::skip]
pub(in crate::lint) const TIME64: &[(&str, &str)] = &[
    ("clock_adjtime", "clock_adjtime64"), ("clock_getres", "clock_getres_time64"),
    ("clock_gettime", "clock_gettime64"), ("clock_nanosleep", "clock_nanosleep_time64"),
    ("clock_settime", "clock_settime64"), ("futex", "futex_time64"),
    ("mq_timedreceive", "mq_timedreceive_time64"), ("mq_timedsend", "mq_timedsend_time64"),
    ("ppoll", "ppoll_time64"), ("pselect6", "pselect6_time64"),
    ("recvmmsg", "recvmmsg_time64"), ("rt_sigtimedwait", "rt_sigtimedwait_time64"),
    ("sched_rr_get_interval", "sched_rr_get_interval_time64"),
    ("timer_gettime", "timer_gettime64"), ("timer_settime", "timer_settime64"),
    ("timerfd_gettime", "timerfd_gettime64"), ("timerfd_settime", "timerfd_settime64"),
    ("utimensat", "utimensat_time64"),
];

/// Calls that do the same: where one is refused by name and another is not, nothing is refused.
pub(in crate::lint) const FAMILIES: &[&[&str]] = &[
    &["open", "openat", "openat2"],
    &["chmod", "fchmodat", "fchmodat2"],
    &["chown", "fchownat"],
    &["link", "linkat"],
    &["symlink", "symlinkat"],
    &["mkdir", "mkdirat"],
    &["mknod", "mknodat"],
    &["rename", "renameat", "renameat2"],
    &["unlink", "unlinkat"],
    &["execve", "execveat"],
    &["fork", "vfork", "clone", "clone3"],
    &["init_module", "finit_module"],
    &["kexec_load", "kexec_file_load"],
    &["umount", "umount2"],
    &["process_vm_readv", "ptrace"],
];

/// Names for 32-bit programs of what the first of each pair does in 64-bit ones
/// (`arch/x86/entry/syscalls/syscall_32.tbl`, Linux 6.18).
#[rustfmt::skip]
pub(in crate::lint) const FOR_32_BITS: &[(&str, &str)] = &[
    ("chown", "chown32"), ("clock_settime", "clock_settime64"), ("fchown", "fchown32"),
    ("fcntl", "fcntl64"), ("fstat", "fstat64"), ("lchown", "lchown32"), ("lstat", "lstat64"),
    ("mmap", "mmap2"), ("newfstatat", "fstatat64"), ("sendfile", "sendfile64"),
    ("setgid", "setgid32"), ("setgroups", "setgroups32"), ("setregid", "setregid32"),
    ("setresgid", "setresgid32"), ("setresuid", "setresuid32"), ("setreuid", "setreuid32"),
    ("settimeofday", "stime"), ("setuid", "setuid32"), ("stat", "stat64"),
    ("truncate", "truncate64"), ("umount2", "umount"),
];

/// What `socketcall` and `ipc` of 32-bit x86 do by number (linux/net.h, linux/ipc.h).
#[rustfmt::skip]
pub(in crate::lint) const MULTIPLEXED: &[(&str, &[(u64, &str)])] = &[
    ("socketcall", &[
        (1, "socket"), (2, "bind"), (3, "connect"), (4, "listen"), (6, "getsockname"),
        (7, "getpeername"), (8, "socketpair"), (11, "sendto"), (12, "recvfrom"), (13, "shutdown"),
        (14, "setsockopt"), (15, "getsockopt"), (16, "sendmsg"), (17, "recvmsg"), (18, "accept4"),
        (19, "recvmmsg"), (20, "sendmmsg"),
    ]),
    ("ipc", &[
        (2, "semget"), (3, "semctl"), (4, "semtimedop"), (11, "msgsnd"), (12, "msgrcv"),
        (13, "msgget"), (14, "msgctl"), (21, "shmat"), (22, "shmdt"), (23, "shmget"),
        (24, "shmctl"),
    ]),
];
