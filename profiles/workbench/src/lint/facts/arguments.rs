//! Which arguments of a call are addresses, and which the kernel cuts to 32 bits.
//!
//! Source: the `SYSCALL_DEFINE` of each call in Linux 6.18 and its manual page, section 2. A call that is
//! missing here is not judged.

/// Whether an argument is the address of something in the caller's memory.
pub(in crate::lint) fn is_pointer(name: &str, index: u8) -> bool {
    let found = POINTERS.iter().find(|(_, names)| names.contains(&name));
    found.is_some_and(|(indexes, _)| indexes.contains(&index))
        || SECOND.contains(&name) && index == 1
        || FIRST.contains(&name) && index == 0
}

/// Of which kind an argument of 32 bits is; `None` if it is wider or not in the tables.
pub(in crate::lint) fn width(name: &str, index: u8) -> Option<Narrow> {
    let is = |table: &[(&str, &[u8])]| {
        let found = table.iter().find(|(own, _)| *own == name);
        found.is_some_and(|(_, indexes)| indexes.contains(&index))
    };
    if is(INT) {
        Some(Narrow::Signed)
    } else if is(UNSIGNED) {
        Some(Narrow::Unsigned)
    } else {
        None
    }
}

/// An argument of which the kernel looks at the lower 32 bits only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lint) enum Narrow {
    /// `int`: C extends the sign of a negative one into the upper half, or leaves zeros there.
    Signed,
    /// `unsigned int`.
    Unsigned,
}

/// The first argument is an address: a path, mostly.
#[rustfmt::skip]
const FIRST: &[&str] = &[
    "access", "acct", "add_key", "brk", "chdir", "chmod", "chown", "chroot", "creat",
    "delete_module", "execve", "getcwd", "getrandom", "getxattr", "init_module",
    "lchown", "lgetxattr", "link", "listxattr", "llistxattr", "lremovexattr", "lsetxattr",
    "lstat", "memfd_create", "mkdir", "mknod", "mount", "mq_open", "mq_unlink", "nanosleep",
    "open", "pipe", "pipe2", "pivot_root", "poll", "ppoll", "readlink", "removexattr", "rename",
    "request_key", "rmdir", "rt_sigpending", "rt_sigsuspend", "rt_sigtimedwait", "set_tid_address",
    "setdomainname", "sethostname", "setxattr", "sigaltstack", "stat", "statfs", "swapoff",
    "swapon", "symlink", "sysinfo", "time", "times", "truncate", "umount2", "uname", "unlink",
    "uselib", "utime", "utimes",
];

/// The second argument is an address.
#[rustfmt::skip]
const SECOND: &[&str] = &[
    "bpf", "execveat", "faccessat", "faccessat2", "fchmodat", "fchmodat2", "fchownat", "fstat",
    "fstatfs", "futimesat", "getdents", "getdents64", "inotify_add_watch", "lstat", "mkdirat",
    "mknodat", "name_to_handle_at", "newfstatat", "openat", "openat2", "open_by_handle_at",
    "pread64", "preadv", "pwrite64", "pwritev", "read", "readlinkat", "readv", "rename", "link",
    "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "statx", "symlink",
    "unlinkat", "utimensat", "vmsplice", "write", "writev", "connect", "bind", "accept", "accept4",
    "getpeername", "getsockname", "epoll_wait", "epoll_pwait", "execve", "finit_module", "mount",
    "pivot_root", "setxattr", "getxattr", "stat", "readlink", "quotactl",
];

/// Calls with addresses elsewhere, or at several places.
const POINTERS: &[(&[u8], &[&str])] = &[
    (
        &[0],
        &[
            "clone3",
            "futex",
            "futex_time64",
            "futex_waitv",
            "rseq",
            "landlock_create_ruleset",
        ],
    ),
    (
        &[1, 2],
        &[
            "execve",
            "rt_sigaction",
            "rt_sigprocmask",
            "process_vm_readv",
            "process_vm_writev",
        ],
    ),
    (&[1, 2, 3], &["execveat", "select"]),
    (&[1, 2, 3, 4], &["pselect6"]),
    (&[0, 1, 2], &["mount"]),
    (&[1, 3], &["renameat", "renameat2", "linkat", "move_mount"]),
    (
        &[3],
        &["epoll_ctl", "socketpair", "setsockopt", "getsockopt"],
    ),
    (&[0, 2], &["symlinkat"]),
];

/// Arguments that are an `int`.
const INT: &[(&str, &[u8])] = &[
    ("socket", &[0, 1, 2]),
    ("socketpair", &[0, 1, 2]),
    ("setsockopt", &[0, 1, 2, 4]),
    ("getsockopt", &[0, 1, 2]),
    ("prctl", &[0]),
    ("setns", &[0, 1]),
    ("keyctl", &[0]),
    ("bpf", &[0]),
    ("kill", &[0, 1]),
    ("tgkill", &[0, 1, 2]),
    ("tkill", &[0, 1]),
    ("openat", &[0, 2]),
    ("open", &[1]),
    ("openat2", &[0]),
    ("mkdirat", &[0]),
    ("unlinkat", &[0, 2]),
    ("fchmodat", &[0]),
    ("fchownat", &[0, 4]),
    ("faccessat", &[0, 2]),
    ("newfstatat", &[0, 3]),
    ("statx", &[0]),
    ("execveat", &[0, 4]),
    ("listen", &[0, 1]),
    ("connect", &[0]),
    ("bind", &[0]),
    ("accept4", &[0, 3]),
    ("sched_setscheduler", &[0, 1]),
    ("setpriority", &[0, 1, 2]),
    ("arch_prctl", &[0]),
    ("ipc", &[1]),
    ("socketcall", &[0]),
];

/// Arguments that are an `unsigned int`.
const UNSIGNED: &[(&str, &[u8])] = &[
    ("ioctl", &[0, 1]),
    ("fcntl", &[0, 1]),
    ("personality", &[0]),
    ("close_range", &[0, 1, 2]),
    ("memfd_create", &[1]),
    ("getrandom", &[2]),
    ("seccomp", &[0, 1]),
    ("io_uring_setup", &[0]),
    ("ipc", &[0]),
];
