//! What is known of libraries that code alone does not show: edges and calls that only happen once
//! a program has used certain functions of theirs. Each fact names its source; each is about the
//! shared library by that name only, so a static program does not profit from them.

use super::loader::Loaded;

/// The GNU C library's `DT_SONAME`.
const GLIBC: &str = "libc.so.6";

pub(crate) fn is_glibc(object: &Loaded) -> bool {
    object.summary.soname.as_deref() == Some(GLIBC)
}

/// Functions that give a thread or a mutex a scheduling policy of its own. Without one,
/// `pthread_create` inherits (`nptl/pthread_create.c`, ATTR_FLAG_NOTINHERITSCHED) and no mutex has
/// a priority ceiling (`nptl/tpp.c`).
const SCHEDULING: &[&str] = &[
    "aio_init",
    "aio_read",
    "aio_read64",
    "aio_write",
    "aio_write64",
    "aio_fsync",
    "aio_fsync64",
    "lio_listio",
    "lio_listio64",
    "posix_spawnattr_setschedparam",
    "posix_spawnattr_setschedpolicy",
    "posix_spawnattr_setflags",
    "pthread_attr_setinheritsched",
    "pthread_attr_setschedparam",
    "pthread_attr_setschedpolicy",
    "pthread_getschedparam",
    "pthread_setattr_default_np",
    "pthread_setschedparam",
    "pthread_setschedprio",
    "pthread_mutex_setprioceiling",
    "pthread_mutexattr_setprioceiling",
    "pthread_mutexattr_setprotocol",
];

/// Functions that choose the processors of a thread, or give a copy of a thread's attributes, whose
/// processors `pthread_create` then sets (`nptl/pthread_getattr_np.c`).
const AFFINITY: &[&str] = &[
    "pthread_attr_setaffinity_np",
    "pthread_getattr_np",
    "pthread_setaffinity_np",
    "pthread_setattr_default_np",
];

/// The functions of the C library without which it does not make a system call by itself, beside
/// the function of the call's own name; `None` if there is no such condition.
pub(crate) fn condition(call: &str) -> Option<&'static [&'static str]> {
    match call {
        "sched_get_priority_max"
        | "sched_get_priority_min"
        | "sched_getparam"
        | "sched_getscheduler"
        | "sched_setscheduler" => Some(SCHEDULING),
        "sched_setaffinity" => Some(AFFINITY),
        _ => None,
    }
}

/// Whether an object never gets to call an import of its own.
///
/// OpenSSL's `wait_random_seeded` (`rand_unix.c`) keeps a shared memory segment as a mark that
/// `/dev/random` was seen seeded, and waits for it by `select`; it is only called where `getrandom`
/// failed, which came with Linux 3.17, and gives up at once on Linux 4.8 and later.
pub(crate) fn is_idle(importer: &Loaded, import: &str) -> bool {
    let soname = importer.summary.soname.as_deref().unwrap_or("");
    soname.starts_with("libcrypto.so.") && matches!(import, "shmget" | "shmat" | "shmdt" | "select")
}

/// Calls that an object makes by way of pointers to functions that take the number, each with the
/// exported functions that lead to it; `None` for an object nothing is known of.
///
/// libcap has a table of such functions for `libpsx` to replace (`libcap/cap_proc.c`).
pub(crate) fn by_pointer(
    object: &Loaded,
) -> Option<&'static [(&'static str, &'static [&'static str])]> {
    const ANY: &[&str] = &[
        "cap_drop_bound",
        "cap_iab_set_proc",
        "cap_launch",
        "cap_reset_ambient",
        "cap_set_ambient",
        "cap_set_mode",
        "cap_set_proc",
        "cap_set_secbits",
        "cap_setgroups",
        "cap_setuid",
        "cap_prctl",
        "cap_prctlw",
        "capsetp",
    ];
    const LIBCAP: &[(&str, &[&str])] = &[
        ("capset", ANY),
        ("prctl", ANY),
        ("setuid", &["cap_setuid", "cap_launch"]),
        ("setgid", &["cap_setgroups", "cap_launch"]),
        ("setgroups", &["cap_setgroups", "cap_launch"]),
        ("chroot", &["cap_launch"]),
    ];
    let soname = object.summary.soname.as_deref().unwrap_or("");
    (soname == "libcap.so.2").then_some(LIBCAP)
}
