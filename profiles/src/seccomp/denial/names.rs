//! The names of flags and constants, from the kernel's headers (`include/uapi`, Linux 6.18).

/// Values and their names.
pub(super) type Table = &'static [(u32, &'static str)];

/// Bits by name; what has none is hexadecimal. A table whose first entry is 0 has an access mode in
/// its two lowest bits.
pub(super) fn flags(table: Table, value: u64) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut rest = value;
    if table.first().is_some_and(|(first, _)| *first == 0) {
        let mode = u32::try_from(value & 3).unwrap_or(0);
        if let Some(name) = table.iter().find(|(own, _)| *own == mode) {
            parts.push(name.1.to_owned());
            rest &= !3;
        }
    }
    for (bits, name) in table
        .iter()
        .filter(|(bits, _)| *bits > 3 || !is_mode(table))
    {
        let bits = u64::from(*bits);
        if bits != 0 && rest & bits == bits {
            parts.push((*name).to_owned());
            rest &= !bits;
        }
    }
    if rest != 0 || parts.is_empty() {
        parts.push(format!("{rest:#x}"));
    }
    parts.join("|")
}

fn is_mode(table: Table) -> bool {
    table.first().is_some_and(|(first, _)| *first == 0)
}

/// A value by name.
pub(super) fn choice(table: Table, value: u32) -> Option<String> {
    let found = table.iter().find(|(own, _)| *own == value);
    found.map(|(_, name)| (*name).to_owned())
}

/// An errno by name, as `errno(1)` has it.
pub(super) fn errno(errno: u16) -> String {
    let named = nix::errno::Errno::from_raw(i32::from(errno));
    if named == nix::errno::Errno::UnknownErrno {
        return errno.to_string();
    }
    format!("{named:?}")
}

/// asm-generic/fcntl.h; those that contain others come first.
#[cfg(any(target_arch = "x86_64", target_arch = "riscv64"))]
pub(super) const OPEN: Table = &[
    (0, "O_RDONLY"),
    (1, "O_WRONLY"),
    (2, "O_RDWR"),
    (0o20_200_000, "O_TMPFILE"),
    (0o4_010_000, "O_SYNC"),
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o10_000, "O_DSYNC"),
    (0o40_000, "O_DIRECT"),
    (0o100_000, "O_LARGEFILE"),
    (0o200_000, "O_DIRECTORY"),
    (0o400_000, "O_NOFOLLOW"),
    (0o1_000_000, "O_NOATIME"),
    (0o2_000_000, "O_CLOEXEC"),
    (0o10_000_000, "O_PATH"),
];

/// asm/fcntl.h of ARM numbers four of them differently.
#[cfg(not(any(target_arch = "x86_64", target_arch = "riscv64")))]
pub(super) const OPEN: Table = &[
    (0, "O_RDONLY"),
    (1, "O_WRONLY"),
    (2, "O_RDWR"),
    (0o4_010_000, "O_SYNC"),
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o10_000, "O_DSYNC"),
    (0o40_000, "O_DIRECTORY"),
    (0o100_000, "O_NOFOLLOW"),
    (0o200_000, "O_DIRECT"),
    (0o400_000, "O_LARGEFILE"),
    (0o1_000_000, "O_NOATIME"),
    (0o2_000_000, "O_CLOEXEC"),
    (0o10_000_000, "O_PATH"),
];

/// linux/sched.h.
pub(super) const CLONE: Table = &[
    (0x80, "CLONE_NEWTIME"),
    (0x100, "CLONE_VM"),
    (0x200, "CLONE_FS"),
    (0x400, "CLONE_FILES"),
    (0x800, "CLONE_SIGHAND"),
    (0x1000, "CLONE_PIDFD"),
    (0x2000, "CLONE_PTRACE"),
    (0x4000, "CLONE_VFORK"),
    (0x8000, "CLONE_PARENT"),
    (0x1_0000, "CLONE_THREAD"),
    (0x2_0000, "CLONE_NEWNS"),
    (0x4_0000, "CLONE_SYSVSEM"),
    (0x8_0000, "CLONE_SETTLS"),
    (0x10_0000, "CLONE_PARENT_SETTID"),
    (0x20_0000, "CLONE_CHILD_CLEARTID"),
    (0x80_0000, "CLONE_UNTRACED"),
    (0x100_0000, "CLONE_CHILD_SETTID"),
    (0x200_0000, "CLONE_NEWCGROUP"),
    (0x400_0000, "CLONE_NEWUTS"),
    (0x800_0000, "CLONE_NEWIPC"),
    (0x1000_0000, "CLONE_NEWUSER"),
    (0x2000_0000, "CLONE_NEWPID"),
    (0x4000_0000, "CLONE_NEWNET"),
    (0x8000_0000, "CLONE_IO"),
];

/// linux/mount.h.
pub(super) const MOUNT: Table = &[
    (1, "MS_RDONLY"),
    (2, "MS_NOSUID"),
    (4, "MS_NODEV"),
    (8, "MS_NOEXEC"),
    (0x10, "MS_SYNCHRONOUS"),
    (0x20, "MS_REMOUNT"),
    (0x40, "MS_MANDLOCK"),
    (0x80, "MS_DIRSYNC"),
    (0x100, "MS_NOSYMFOLLOW"),
    (0x400, "MS_NOATIME"),
    (0x800, "MS_NODIRATIME"),
    (0x1000, "MS_BIND"),
    (0x2000, "MS_MOVE"),
    (0x4000, "MS_REC"),
    (0x8000, "MS_SILENT"),
    (0x2_0000, "MS_UNBINDABLE"),
    (0x4_0000, "MS_PRIVATE"),
    (0x8_0000, "MS_SLAVE"),
    (0x10_0000, "MS_SHARED"),
    (0x20_0000, "MS_RELATIME"),
    (0x100_0000, "MS_STRICTATIME"),
    (0x200_0000, "MS_LAZYTIME"),
];

/// linux/fs.h.
pub(super) const UMOUNT: Table = &[
    (1, "MNT_FORCE"),
    (2, "MNT_DETACH"),
    (4, "MNT_EXPIRE"),
    (8, "UMOUNT_NOFOLLOW"),
];

/// linux/socket.h.
pub(super) const FAMILY: Table = &[
    (0, "AF_UNSPEC"),
    (1, "AF_UNIX"),
    (2, "AF_INET"),
    (3, "AF_AX25"),
    (4, "AF_IPX"),
    (5, "AF_APPLETALK"),
    (9, "AF_X25"),
    (10, "AF_INET6"),
    (15, "AF_KEY"),
    (16, "AF_NETLINK"),
    (17, "AF_PACKET"),
    (21, "AF_RDS"),
    (24, "AF_PPPOX"),
    (26, "AF_LLC"),
    (29, "AF_CAN"),
    (30, "AF_TIPC"),
    (31, "AF_BLUETOOTH"),
    (33, "AF_RXRPC"),
    (38, "AF_ALG"),
    (39, "AF_NFC"),
    (40, "AF_VSOCK"),
    (41, "AF_KCM"),
    (42, "AF_QIPCRTR"),
    (43, "AF_SMC"),
    (44, "AF_XDP"),
];

/// linux/net.h.
pub(super) const SOCKET_TYPE: Table = &[
    (1, "SOCK_STREAM"),
    (2, "SOCK_DGRAM"),
    (3, "SOCK_RAW"),
    (4, "SOCK_RDM"),
    (5, "SOCK_SEQPACKET"),
    (6, "SOCK_DCCP"),
    (10, "SOCK_PACKET"),
];

/// linux/net.h.
pub(super) const SOCKET_FLAGS: Table = &[(0o4000, "SOCK_NONBLOCK"), (0o2_000_000, "SOCK_CLOEXEC")];

/// asm-generic/ioctls.h and the others that profiles speak of.
pub(super) const IOCTL: Table = &[
    (0x5401, "TCGETS"),
    (0x5402, "TCSETS"),
    (0x540e, "TIOCSCTTY"),
    (0x5410, "TIOCSPGRP"),
    (0x5412, "TIOCSTI"),
    (0x5413, "TIOCGWINSZ"),
    (0x5414, "TIOCSWINSZ"),
    (0x541c, "TIOCLINUX"),
    (0x541d, "TIOCCONS"),
    (0x541b, "FIONREAD"),
    (0x5421, "FIONBIO"),
    (0x5423, "TIOCSETD"),
    (0x8912, "SIOCGIFCONF"),
    (0x8914, "SIOCSIFFLAGS"),
    (0x8916, "SIOCSIFADDR"),
];

/// linux/keyctl.h.
pub(super) const KEYCTL: Table = &[
    (0, "KEYCTL_GET_KEYRING_ID"),
    (1, "KEYCTL_JOIN_SESSION_KEYRING"),
    (2, "KEYCTL_UPDATE"),
    (3, "KEYCTL_REVOKE"),
    (5, "KEYCTL_SETPERM"),
    (6, "KEYCTL_DESCRIBE"),
    (8, "KEYCTL_LINK"),
    (10, "KEYCTL_SEARCH"),
    (11, "KEYCTL_READ"),
];

/// linux/bpf.h.
pub(super) const BPF: Table = &[
    (0, "BPF_MAP_CREATE"),
    (1, "BPF_MAP_LOOKUP_ELEM"),
    (2, "BPF_MAP_UPDATE_ELEM"),
    (5, "BPF_PROG_LOAD"),
    (6, "BPF_OBJ_PIN"),
    (7, "BPF_OBJ_GET"),
    (8, "BPF_PROG_ATTACH"),
    (15, "BPF_OBJ_GET_INFO_BY_FD"),
    (18, "BPF_BTF_LOAD"),
    (28, "BPF_LINK_CREATE"),
];

/// linux/personality.h.
pub(super) const PERSONALITY: Table = &[
    (0, "PER_LINUX"),
    (8, "PER_LINUX32"),
    (0x2_0000, "UNAME26"),
    (0x4_0000, "ADDR_NO_RANDOMIZE"),
    (0x40_0000, "READ_IMPLIES_EXEC"),
    (0xffff_ffff, "query"),
];

/// linux/prctl.h.
pub(super) const PRCTL: Table = &[
    (1, "PR_SET_PDEATHSIG"),
    (4, "PR_SET_DUMPABLE"),
    (8, "PR_SET_KEEPCAPS"),
    (15, "PR_SET_NAME"),
    (22, "PR_SET_SECCOMP"),
    (24, "PR_CAPBSET_DROP"),
    (28, "PR_SET_SECUREBITS"),
    (35, "PR_SET_MM"),
    (36, "PR_SET_CHILD_SUBREAPER"),
    (38, "PR_SET_NO_NEW_PRIVS"),
    (47, "PR_CAP_AMBIENT"),
    (0x5961_6d61, "PR_SET_PTRACER"),
];

/// linux/ptrace.h.
pub(super) const PTRACE: Table = &[
    (0, "PTRACE_TRACEME"),
    (1, "PTRACE_PEEKTEXT"),
    (3, "PTRACE_PEEKUSER"),
    (4, "PTRACE_POKETEXT"),
    (12, "PTRACE_GETREGS"),
    (16, "PTRACE_ATTACH"),
    (0x4206, "PTRACE_SEIZE"),
];
