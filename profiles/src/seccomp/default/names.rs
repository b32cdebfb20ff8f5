//! The calls of the built-in default, by what they are for.

use oci_spec::runtime::Capability;

/// Calls every container may make, whatever their arguments.
pub(super) const ALLOWED: &[&[&str]] = &[
    PROCESSES, SIGNALS, IDENTITY, SCHEDULING, MEMORY, FILES, METADATA, PATHS, POLLING, TIME, SOCKETS, IPC,
    SELF_CONFINEMENT, MISCELLANEOUS,
];

const PROCESSES: &[&str] = &[
    "arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork",
    "get_robust_list", "get_thread_area", "getpgid", "getpgrp", "getpid", "getppid", "getsid",
    "gettid", "modify_ldt", "pidfd_open", "prctl", "prlimit64", "process_mrelease",
    "process_vm_readv", "process_vm_writev", "ptrace", "getrlimit", "getrusage", "setrlimit",
    "rseq", "set_robust_list", "set_thread_area", "set_tid_address", "setpgid", "setsid", "times",
    "ugetrlimit", "vfork", "wait4", "waitid", "waitpid", "cacheflush", "set_tls", "breakpoint",
    "riscv_flush_icache", "riscv_hwprobe", "uretprobe",
];

const SIGNALS: &[&str] = &[
    "alarm", "kill", "pause", "pidfd_send_signal", "restart_syscall", "rt_sigaction",
    "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaltstack", "signalfd",
    "signalfd4", "sigprocmask", "sigreturn", "tgkill", "tkill",
];

const IDENTITY: &[&str] = &[
    "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups",
    "getgroups32", "getresgid", "getresgid32", "getresuid", "getresuid32", "getuid", "getuid32",
    "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups",
    "setgroups32", "setregid", "setregid32", "setresgid", "setresgid32", "setresuid",
    "setresuid32", "setreuid", "setreuid32", "setuid", "setuid32",
];

const SCHEDULING: &[&str] = &[
    "getcpu", "getpriority", "ioprio_get", "ioprio_set", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
    "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield",
    "setpriority",
];

const MEMORY: &[&str] = &[
    "brk", "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv", "futex_wake",
    "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore",
    "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync",
    "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect",
    "remap_file_pages",
];

const FILES: &[&str] = &[
    "_llseek", "arm_fadvise64_64", "arm_sync_file_range", "cachestat", "close", "close_range",
    "copy_file_range", "creat", "dup", "dup2", "dup3", "fadvise64", "fadvise64_64", "fallocate",
    "fcntl", "fcntl64", "fdatasync", "flock", "fsync", "ftruncate", "ftruncate64", "io_cancel",
    "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit",
    "lseek", "open", "openat", "openat2", "pipe", "pipe2", "pread64", "preadv", "preadv2",
    "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readv", "sendfile", "sendfile64",
    "splice", "sync", "sync_file_range", "sync_file_range2", "syncfs", "tee", "truncate",
    "truncate64", "vmsplice", "write", "writev",
];

const METADATA: &[&str] = &[
    "access", "chmod", "chown", "chown32", "faccessat", "faccessat2", "fchmod", "fchmodat",
    "fchmodat2", "fchown", "fchown32", "fchownat", "fgetxattr", "flistxattr", "fremovexattr",
    "fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "futimesat", "getxattr",
    "getxattrat", "lchown", "lchown32", "lgetxattr", "listmount", "listxattr", "listxattrat",
    "llistxattr", "lremovexattr", "lsetxattr", "lstat", "lstat64", "newfstatat", "removexattr",
    "removexattrat", "setxattr", "setxattrat", "stat", "stat64", "statfs", "statfs64", "statmount",
    "statx", "umask", "utime", "utimensat", "utimensat_time64", "utimes",
];

const PATHS: &[&str] = &[
    "chdir", "fchdir", "getcwd", "getdents", "getdents64", "inotify_add_watch", "inotify_init",
    "inotify_init1", "inotify_rm_watch", "fanotify_mark", "link", "linkat", "mkdir", "mkdirat",
    "mknod", "mknodat", "name_to_handle_at", "readlink", "readlinkat", "rename", "renameat",
    "renameat2", "rmdir", "symlink", "symlinkat", "unlink", "unlinkat",
];

const POLLING: &[&str] = &[
    "_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "poll", "ppoll",
    "ppoll_time64", "pselect6", "pselect6_time64", "select",
];

const TIME: &[&str] = &[
    "adjtimex", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
    "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "getitimer",
    "gettimeofday", "nanosleep", "setitimer", "time", "timer_create", "timer_delete",
    "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64",
    "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64",
];

/// On sockets there are already; making one is conditional.
const SOCKETS: &[&str] = &[
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
    "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendmmsg", "sendmsg",
    "sendto", "setsockopt", "shutdown",
];

const IPC: &[&str] = &[
    "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
    "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd",
    "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt",
    "shmget",
];

/// A workload may confine itself further.
const SELF_CONFINEMENT: &[&str] = &[
    "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp",
];

const MISCELLANEOUS: &[&str] = &["getrandom", "sysinfo", "uname"];

/// Calls that a capability of the container makes allowed. Without it the kernel refuses most of
/// them anyway; the filter keeps the code behind them out of reach.
pub(super) const BY_CAPABILITY: &[(&[Capability], &[&str])] = &[
    (
        &[Capability::SysAdmin],
        &[
            "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
            "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr",
            "mount", "mount_setattr", "move_mount", "open_tree", "quotactl", "quotactl_fd",
            "setdomainname", "sethostname", "setns", "umount", "umount2", "unshare",
        ],
    ),
    (&[Capability::Bpf, Capability::SysAdmin], &["bpf"]),
    (&[Capability::Perfmon, Capability::SysAdmin], &["perf_event_open"]),
    (&[Capability::Syslog, Capability::SysAdmin], &["syslog"]),
    (&[Capability::DacReadSearch], &["open_by_handle_at"]),
    (&[Capability::SysBoot], &["reboot"]),
    (&[Capability::SysChroot], &["chroot"]),
    (&[Capability::SysModule], &["delete_module", "finit_module", "init_module"]),
    (&[Capability::SysPacct], &["acct"]),
    (&[Capability::SysPtrace], &["kcmp", "pidfd_getfd", "process_madvise"]),
    (&[Capability::SysRawio], &["ioperm", "iopl"]),
    (&[Capability::SysTime], &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    (&[Capability::SysTtyConfig], &["vhangup"]),
    (
        &[Capability::SysNice],
        &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"],
    ),
];

/// Denied calls that answer ENOSYS, as a kernel without them would: programs try them first and
/// have an older call to fall back to, which they only use on ENOSYS. Whatever else is denied
/// answers EPERM. The newest numbers stand here or above, so that what is newer still gets ENOSYS.
pub(super) const ABSENT: &[&str] = &[
    "clone3", "file_getattr", "file_setattr", "io_uring_enter", "io_uring_register",
    "io_uring_setup", "lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr",
    "open_tree_attr", "uprobe",
];
