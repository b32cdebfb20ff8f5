//! Names of the values that filters look at: flags of `clone`, socket families and the like.

/// Calls by name.
type Calls = &'static [&'static str];
/// Values by name.
type Names = &'static [(&'static str, u64)];

/// Values by name, with the calls they are arguments of.
#[rustfmt::skip]
const VALUES: &[(Calls, Names)] = &[
    // linux/sched.h
    (&["clone", "unshare", "setns"], &[
        ("CLONE_NEWTIME", 0x80), ("CLONE_VM", 0x100), ("CLONE_FS", 0x200), ("CLONE_FILES", 0x400), ("CLONE_SIGHAND", 0x800),
        ("CLONE_PIDFD", 0x1000), ("CLONE_PTRACE", 0x2000), ("CLONE_VFORK", 0x4000), ("CLONE_PARENT", 0x8000),
        ("CLONE_THREAD", 0x1_0000), ("CLONE_NEWNS", 0x2_0000), ("CLONE_SYSVSEM", 0x4_0000), ("CLONE_SETTLS", 0x8_0000),
        ("CLONE_PARENT_SETTID", 0x10_0000), ("CLONE_CHILD_CLEARTID", 0x20_0000), ("CLONE_UNTRACED", 0x80_0000),
        ("CLONE_CHILD_SETTID", 0x100_0000), ("CLONE_NEWCGROUP", 0x200_0000), ("CLONE_NEWUTS", 0x400_0000),
        ("CLONE_NEWIPC", 0x800_0000), ("CLONE_NEWUSER", 0x1000_0000), ("CLONE_NEWPID", 0x2000_0000),
        ("CLONE_NEWNET", 0x4000_0000), ("CLONE_IO", 0x8000_0000),
    ]),
    // linux/socket.h
    (&["socket", "socketpair"], &[
        ("AF_UNIX", 1), ("AF_LOCAL", 1), ("AF_INET", 2), ("AF_AX25", 3), ("AF_IPX", 4), ("AF_APPLETALK", 5), ("AF_X25", 9),
        ("AF_INET6", 10), ("AF_KEY", 15), ("AF_NETLINK", 16), ("AF_PACKET", 17), ("AF_RDS", 21), ("AF_CAN", 29),
        ("AF_TIPC", 30), ("AF_BLUETOOTH", 31), ("AF_ALG", 38), ("AF_NFC", 39), ("AF_VSOCK", 40), ("AF_KCM", 41),
        ("AF_QIPCRTR", 42), ("AF_SMC", 43), ("AF_XDP", 44), ("AF_MCTP", 45),
        ("SOCK_STREAM", 1), ("SOCK_DGRAM", 2), ("SOCK_RAW", 3), ("SOCK_SEQPACKET", 5),
        ("NETLINK_ROUTE", 0), ("NETLINK_AUDIT", 9), ("NETLINK_NETFILTER", 12), ("NETLINK_KOBJECT_UEVENT", 15),
    ]),
    // asm-generic/ioctls.h
    (&["ioctl"], &[
        ("TCGETS", 0x5401), ("TCSETS", 0x5402), ("TIOCSCTTY", 0x540e), ("TIOCGPGRP", 0x540f), ("TIOCSPGRP", 0x5410),
        ("TIOCSTI", 0x5412), ("TIOCGWINSZ", 0x5413), ("TIOCSWINSZ", 0x5414), ("FIONREAD", 0x541b), ("TIOCLINUX", 0x541c),
        ("FIONBIO", 0x5421), ("FIOCLEX", 0x5451), ("SIOCGIFCONF", 0x8912),
    ]),
    // linux/personality.h
    (&["personality"], &[
        ("PER_LINUX", 0), ("PER_LINUX32", 8), ("UNAME26", 0x2_0000), ("ADDR_NO_RANDOMIZE", 0x4_0000), ("MMAP_PAGE_ZERO", 0x10_0000),
        ("READ_IMPLIES_EXEC", 0x40_0000),
    ]),
    // linux/prctl.h
    (&["prctl"], &[
        ("PR_SET_PDEATHSIG", 1), ("PR_SET_DUMPABLE", 4), ("PR_SET_KEEPCAPS", 8), ("PR_SET_NAME", 15), ("PR_SET_SECCOMP", 22),
        ("PR_CAPBSET_DROP", 24), ("PR_SET_MM", 35), ("PR_SET_CHILD_SUBREAPER", 36), ("PR_SET_NO_NEW_PRIVS", 38),
        ("PR_CAP_AMBIENT", 47), ("PR_SET_VMA", 0x5356_4d41),
    ]),
    // sys/mman.h
    (&["mmap", "mmap2", "mprotect", "pkey_mprotect"], &[
        ("PROT_NONE", 0), ("PROT_READ", 1), ("PROT_WRITE", 2), ("PROT_EXEC", 4),
        ("MAP_SHARED", 1), ("MAP_PRIVATE", 2), ("MAP_FIXED", 0x10), ("MAP_ANONYMOUS", 0x20),
    ]),
    // asm/ptrace.h
    (&["ptrace"], &[("PTRACE_TRACEME", 0), ("PTRACE_ATTACH", 16), ("PTRACE_SEIZE", 0x4206)]),
    // linux/bpf.h
    (&["bpf"], &[("BPF_MAP_CREATE", 0), ("BPF_PROG_LOAD", 5)]),
];

/// The value of an argument as a user writes it: a number, a name, or several joined with `|`.
pub fn value(call: &str, text: &str) -> Option<u64> {
    text.split('|')
        .try_fold(0, |all, part| Some(all | one(call, part.trim())?))
}

fn one(call: &str, text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(rest) => (rest, 16),
        None => (text, 10),
    };
    if digits.starts_with(['+', '-']) {
        // As C passes it: -1 is all ones.
        return digits.parse::<i64>().ok().map(i64::cast_unsigned);
    }
    if let Ok(number) = u64::from_str_radix(digits, radix) {
        return Some(number);
    }
    let names = |own: bool| {
        let tables = VALUES
            .iter()
            .filter(move |(calls, _)| calls.contains(&call) == own);
        tables.flat_map(|(_, names)| names.iter())
    };
    let upper = text.to_ascii_uppercase();
    let found = names(true)
        .chain(names(false))
        .find(|(name, _)| *name == upper);
    found.map(|(_, value)| *value)
}

/// The flags of `clone` and `unshare` in a value, by name.
pub fn flag_names(call: &str, value: u64) -> Vec<&'static str> {
    let flags = ["clone", "unshare", "setns"];
    if !flags.contains(&call) {
        return Vec::new();
    }
    let tables = VALUES.iter().filter(|(calls, _)| calls.contains(&call));
    let names = tables.flat_map(|(_, names)| names.iter());
    // Of the lowest byte, `clone` keeps the signal its child sends when it ends.
    let low = if call == "clone" { 0xff } else { 0 };
    names
        .filter(|(_, flag)| value & flag == *flag && flag & low == 0)
        .map(|(name, _)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_by_name_and_number() {
        let table = [
            ("clone", "0x10000000", Some(0x1000_0000)),
            ("clone", "CLONE_NEWUSER|CLONE_NEWNS", Some(0x1002_0000)),
            ("clone", "clone_newuser | 17", Some(0x1000_0011)),
            ("socket", "AF_ALG", Some(38)),
            ("ioctl", "TIOCSTI", Some(0x5412)),
            ("ioctl", "-1", Some(u64::MAX)),
            ("read", "AF_ALG", Some(38)),
            ("socket", "AF_NOTHING", None),
            ("socket", "", None),
            ("socket", "0x", None),
            ("socket", "18446744073709551616", None),
        ];
        for (call, text, expected) in table {
            assert_eq!(value(call, text), expected, "{call} {text}");
        }
        assert_eq!(
            flag_names("clone", 0x1002_0011),
            ["CLONE_NEWNS", "CLONE_NEWUSER"]
        );
        assert_eq!(flag_names("unshare", 0x80), ["CLONE_NEWTIME"]);
        assert_eq!(flag_names("read", 0x80), [""; 0]);
    }
}
