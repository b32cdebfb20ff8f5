//! What is known of libraries that code alone does not show: edges and calls that only happen once
//! a program has used certain functions of theirs. Each fact names its source; each is about the
//! shared library by that name only, so a static program does not profit from them.

use super::loader::Loaded;

/// The GNU C library's `DT_SONAME`.
const GLIBC: &str = "libc.so.6";

pub(crate) fn is_glibc(object: &Loaded) -> bool {
    object.summary.soname.as_deref() == Some(GLIBC)
}

/// A part of the C library that only runs for programs that use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Sun RPC: a thread's end and others clean up what only its functions can have made
    /// (`sunrpc/rpc_thread.c`).
    Rpc,
    /// The `dns` service of the name service switch, which answers for hosts and networks only
    /// (`nss/nss_module.c` has its functions in one table with every service's).
    Dns,
}

/// The part a function of the C library belongs to.
pub(crate) fn part(function: &str) -> Option<Part> {
    if function.starts_with("_nss_dns_") {
        Some(Part::Dns)
    } else if is_rpc(function) {
        Some(Part::Rpc)
    } else {
        None
    }
}

const RPC: &[&str] = &[
    "authdes_",
    "authnone_",
    "authunix_",
    "callrpc",
    "clnt",
    "get_myaddress",
    "getrpcport",
    "key_",
    "pmap_",
    "registerrpc",
    "rtime",
    "svc",
    "xdr",
];

fn is_rpc(function: &str) -> bool {
    RPC.iter().any(|prefix| function.starts_with(prefix))
}

/// Functions that look for hosts or networks by name or address.
const HOSTS: &[&str] = &[
    "__res",
    "gai_",
    "getaddrinfo",
    "gethostby",
    "gethostent",
    "gethostid",
    "getnameinfo",
    "getnetby",
    "getnetent",
    "iruserok",
    "ns_",
    "rcmd",
    "res_",
    "rexec",
    "ruserok",
    "sethostent",
    "setnetent",
];

/// The part that a program uses by calling a function of the C library.
pub(crate) fn opens(function: &str) -> Option<Part> {
    if HOSTS.iter().any(|prefix| function.starts_with(prefix)) {
        Some(Part::Dns)
    } else if is_rpc(function) {
        Some(Part::Rpc)
    } else {
        None
    }
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
    "getaddrinfo_a",
    "mq_notify",
    "timer_create",
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

/// Functions that choose the processors of a thread.
const AFFINITY: &[&str] = &[
    "pthread_attr_setaffinity_np",
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
/// `/dev/random` was seen seeded; it is only called where `getrandom` failed, which came with
/// Linux 3.17.
pub(crate) fn is_idle(importer: &Loaded, import: &str) -> bool {
    let soname = importer.summary.soname.as_deref().unwrap_or("");
    soname.starts_with("libcrypto.so.") && matches!(import, "shmget" | "shmat" | "shmdt")
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
    ];
    let soname = object.summary.soname.as_deref().unwrap_or("");
    (soname == "libcap.so.2").then_some(LIBCAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_what_opens_them() {
        let table = [
            ("svc_unregister", Some(Part::Rpc), Some(Part::Rpc)),
            ("_nss_dns_gethostbyname_r", Some(Part::Dns), None),
            ("getaddrinfo", None, Some(Part::Dns)),
            ("getpwnam", None, None),
            ("read", None, None),
        ];
        for (function, own, opened) in table {
            assert_eq!(
                (part(function), opens(function)),
                (own, opened),
                "{function}"
            );
        }
    }
}
