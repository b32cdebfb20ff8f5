//! Which arguments a call has, and what they mean: the calls that profiles deny, and those whose
//! arguments profiles look at. The others are shown as registers.

use super::multiplexed;
use super::names::{self, Table};

/// What an argument is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A register.
    Plain,
    /// A signed 32-bit integer: a descriptor, a pid, a size.
    Int,
    /// A mode.
    Octal,
    /// A directory's descriptor, or `AT_FDCWD`.
    Directory,
    /// The address of a string.
    Text,
    /// Bits.
    Flags(Table),
    /// One of some values.
    Choice(Table),
    /// The type of a socket.
    Type,
    /// The address of a socket address; the argument `length` has its length.
    Address {
        /// Which argument.
        length: u8,
    },
    /// The address of a `struct open_how`.
    OpenHow,
    /// The address of a `struct clone_args`.
    CloneArgs,
    /// The address of the words that a `socketcall` is about.
    Words,
}

type Signature = &'static [(&'static str, Kind)];

use Kind::{Choice, Directory, Flags, Int, Octal, Plain, Text};

const FD: (&str, Kind) = ("fd", Int);
const PATH: (&str, Kind) = ("path", Text);
const DIRECTORY: (&str, Kind) = ("dirfd", Directory);
const MODE: (&str, Kind) = ("mode", Octal);
const PID: (&str, Kind) = ("pid", Int);
const OPEN: (&str, Kind) = ("flags", Flags(names::OPEN));
const ADDRESS: (&str, Kind) = ("address", Plain);
const SIZE: (&str, Kind) = ("size", Plain);
const FLAGS: (&str, Kind) = ("flags", Plain);
const SOCKET: Signature = &[
    ("family", Choice(names::FAMILY)),
    ("type", Kind::Type),
    ("protocol", Plain),
];
const PEER: Signature = &[
    FD,
    ("address", Kind::Address { length: 2 }),
    ("length", Plain),
];
const OWNER: [(&str, Kind); 2] = [("user", Int), ("group", Int)];

/// Sorted by name.
static SIGNATURES: &[(&str, Signature)] = &[
    (
        "accept4",
        &[
            FD,
            ADDRESS,
            ("length", Plain),
            ("flags", Flags(names::SOCKET_FLAGS)),
        ],
    ),
    ("acct", &[PATH]),
    (
        "add_key",
        &[
            ("type", Text),
            ("description", Text),
            ADDRESS,
            SIZE,
            ("keyring", Int),
        ],
    ),
    ("adjtimex", &[ADDRESS]),
    ("bind", PEER),
    ("bpf", &[("command", Choice(names::BPF)), ADDRESS, SIZE]),
    ("chdir", &[PATH]),
    ("chmod", &[PATH, MODE]),
    ("chown", &[PATH, OWNER[0], OWNER[1]]),
    ("chroot", &[PATH]),
    ("clock_settime", &[("clock", Int), ADDRESS]),
    (
        "clone",
        &[
            ("flags", Flags(names::CLONE)),
            ("stack", Plain),
            ("parent_tid", Plain),
            ("child_tid", Plain),
            ("tls", Plain),
        ],
    ),
    ("clone3", &[("args", Kind::CloneArgs), SIZE]),
    ("connect", PEER),
    ("creat", &[PATH, MODE]),
    ("delete_module", &[("name", Text), FLAGS]),
    ("execve", &[PATH, ("argv", Plain), ("envp", Plain)]),
    (
        "execveat",
        &[DIRECTORY, PATH, ("argv", Plain), ("envp", Plain), FLAGS],
    ),
    ("faccessat", &[DIRECTORY, PATH, MODE]),
    ("faccessat2", &[DIRECTORY, PATH, MODE, FLAGS]),
    (
        "fanotify_init",
        &[FLAGS, ("event_flags", Flags(names::OPEN))],
    ),
    ("fchmod", &[FD, MODE]),
    ("fchmodat", &[DIRECTORY, PATH, MODE]),
    ("fchmodat2", &[DIRECTORY, PATH, MODE, FLAGS]),
    ("fchownat", &[DIRECTORY, PATH, OWNER[0], OWNER[1], FLAGS]),
    ("fcntl", &[FD, ("command", Int), ("argument", Plain)]),
    ("finit_module", &[FD, ("parameters", Text), FLAGS]),
    (
        "fsconfig",
        &[
            FD,
            ("command", Int),
            ("key", Text),
            ("value", Plain),
            ("aux", Int),
        ],
    ),
    ("fsmount", &[FD, FLAGS, ("attributes", Plain)]),
    ("fsopen", &[("type", Text), FLAGS]),
    ("fspick", &[DIRECTORY, PATH, FLAGS]),
    ("init_module", &[ADDRESS, SIZE, ("parameters", Text)]),
    ("io_uring_setup", &[("entries", Int), ADDRESS]),
    (
        "ioctl",
        &[FD, ("command", Choice(names::IOCTL)), ("argument", Plain)],
    ),
    (
        "ipc",
        &[
            ("call", Choice(multiplexed::IPC)),
            ("first", Int),
            ("second", Plain),
            ("third", Plain),
            ("pointer", Plain),
            ("fifth", Plain),
        ],
    ),
    (
        "keyctl",
        &[
            ("operation", Choice(names::KEYCTL)),
            ("arg2", Plain),
            ("arg3", Plain),
            ("arg4", Plain),
            ("arg5", Plain),
        ],
    ),
    ("kill", &[PID, ("signal", Int)]),
    ("lchown", &[PATH, OWNER[0], OWNER[1]]),
    ("link", &[("old", Text), ("new", Text)]),
    (
        "linkat",
        &[
            DIRECTORY,
            ("old", Text),
            ("newdirfd", Directory),
            ("new", Text),
            FLAGS,
        ],
    ),
    ("listen", &[FD, ("backlog", Int)]),
    ("mkdir", &[PATH, MODE]),
    ("mkdirat", &[DIRECTORY, PATH, MODE]),
    ("mknod", &[PATH, MODE, ("device", Plain)]),
    ("mknodat", &[DIRECTORY, PATH, MODE, ("device", Plain)]),
    (
        "mount",
        &[
            ("source", Text),
            ("target", Text),
            ("type", Text),
            ("flags", Flags(names::MOUNT)),
            ("data", Plain),
        ],
    ),
    ("mount_setattr", &[DIRECTORY, PATH, FLAGS, ADDRESS, SIZE]),
    (
        "move_mount",
        &[
            DIRECTORY,
            ("from", Text),
            ("to_dirfd", Directory),
            ("to", Text),
            FLAGS,
        ],
    ),
    (
        "name_to_handle_at",
        &[
            DIRECTORY,
            PATH,
            ("handle", Plain),
            ("mount_id", Plain),
            FLAGS,
        ],
    ),
    ("open", &[PATH, OPEN, MODE]),
    (
        "open_by_handle_at",
        &[("mount_fd", Directory), ("handle", Plain), OPEN],
    ),
    ("open_tree", &[DIRECTORY, PATH, FLAGS]),
    ("openat", &[DIRECTORY, PATH, OPEN, MODE]),
    ("openat2", &[DIRECTORY, PATH, ("how", Kind::OpenHow), SIZE]),
    (
        "perf_event_open",
        &[ADDRESS, PID, ("cpu", Int), ("group_fd", Int), FLAGS],
    ),
    ("personality", &[("persona", Choice(names::PERSONALITY))]),
    ("pidfd_getfd", &[("pidfd", Int), ("targetfd", Int), FLAGS]),
    ("pidfd_open", &[PID, FLAGS]),
    ("pivot_root", &[("new", Text), ("old", Text)]),
    (
        "prctl",
        &[
            ("option", Choice(names::PRCTL)),
            ("arg2", Plain),
            ("arg3", Plain),
            ("arg4", Plain),
            ("arg5", Plain),
        ],
    ),
    (
        "process_vm_readv",
        &[
            PID,
            ADDRESS,
            SIZE,
            ("remote", Plain),
            ("remote_size", Plain),
            FLAGS,
        ],
    ),
    (
        "process_vm_writev",
        &[
            PID,
            ADDRESS,
            SIZE,
            ("remote", Plain),
            ("remote_size", Plain),
            FLAGS,
        ],
    ),
    (
        "ptrace",
        &[
            ("request", Choice(names::PTRACE)),
            PID,
            ADDRESS,
            ("data", Plain),
        ],
    ),
    (
        "quotactl",
        &[("command", Plain), ("special", Text), ("id", Int), ADDRESS],
    ),
    (
        "reboot",
        &[
            ("magic", Plain),
            ("magic2", Plain),
            ("command", Plain),
            ADDRESS,
        ],
    ),
    ("removexattr", &[PATH, ("name", Text)]),
    ("rename", &[("old", Text), ("new", Text)]),
    (
        "renameat",
        &[
            DIRECTORY,
            ("old", Text),
            ("newdirfd", Directory),
            ("new", Text),
        ],
    ),
    (
        "renameat2",
        &[
            DIRECTORY,
            ("old", Text),
            ("newdirfd", Directory),
            ("new", Text),
            FLAGS,
        ],
    ),
    (
        "request_key",
        &[
            ("type", Text),
            ("description", Text),
            ("callout", Text),
            ("keyring", Int),
        ],
    ),
    ("rmdir", &[PATH]),
    ("seccomp", &[("operation", Int), FLAGS, ADDRESS]),
    (
        "sendto",
        &[
            FD,
            ("buffer", Plain),
            SIZE,
            FLAGS,
            ("address", Kind::Address { length: 5 }),
            ("length", Plain),
        ],
    ),
    ("setdomainname", &[("name", Text), SIZE]),
    ("sethostname", &[("name", Text), SIZE]),
    ("setns", &[FD, ("type", Flags(names::CLONE))]),
    (
        "setxattr",
        &[PATH, ("name", Text), ("value", Plain), SIZE, FLAGS],
    ),
    ("socket", SOCKET),
    (
        "socketcall",
        &[
            ("call", Choice(multiplexed::SOCKETCALL)),
            ("args", Kind::Words),
        ],
    ),
    (
        "socketpair",
        &[SOCKET[0], SOCKET[1], SOCKET[2], ("result", Plain)],
    ),
    ("statx", &[DIRECTORY, PATH, FLAGS, ("mask", Plain), ADDRESS]),
    ("swapoff", &[PATH]),
    ("swapon", &[PATH, FLAGS]),
    ("symlink", &[("target", Text), PATH]),
    ("symlinkat", &[("target", Text), DIRECTORY, PATH]),
    ("syslog", &[("type", Int), ADDRESS, SIZE]),
    ("truncate", &[PATH, SIZE]),
    ("umount", &[("target", Text)]),
    (
        "umount2",
        &[("target", Text), ("flags", Flags(names::UMOUNT))],
    ),
    ("unlink", &[PATH]),
    ("unlinkat", &[DIRECTORY, PATH, FLAGS]),
    ("unshare", &[("flags", Flags(names::CLONE))]),
    ("uselib", &[PATH]),
    ("userfaultfd", &[FLAGS]),
];

/// The arguments of the call `name`. The wider forms that 32-bit programs have (`chown32`, `fcntl64`) have those of
/// the call they widen.
pub(super) fn of(name: &str) -> Option<Signature> {
    let exact = |name: &str| {
        let at = SIGNATURES.binary_search_by(|(own, _)| (*own).cmp(name));
        SIGNATURES.get(at.ok()?).map(|(_, signature)| *signature)
    };
    let narrow = ["32", "64"].iter().find_map(|end| name.strip_suffix(end));
    exact(name).or_else(|| exact(narrow?))
}

/// The argument, an int, that says what the call does, so that allowing one value is narrower than
/// allowing the call.
pub(super) fn selector(name: &str) -> Option<u8> {
    match name {
        "socket" | "socketpair" | "prctl" | "personality" | "keyctl" | "bpf" | "ptrace"
        | "unshare" | "clock_settime" | "socketcall" | "ipc" => Some(0),
        "ioctl" | "fcntl" | "setns" => Some(1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::numbers;

    #[test]
    fn the_table_is_sorted_and_names_calls() {
        assert!(SIGNATURES.is_sorted_by(|(a, _), (b, _)| a < b));
        for (name, signature) in SIGNATURES {
            assert!(numbers::known(name), "{name}");
            assert!(signature.len() <= 6, "{name}");
            let selected = selector(name).map_or(0, usize::from);
            assert!(selected < signature.len(), "{name}");
        }
    }
}
