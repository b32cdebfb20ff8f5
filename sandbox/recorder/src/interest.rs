//! Which arguments are kept, and which calls end a phase.
//!
//! Numbers are those of the kernel's arch/x86/entry/syscalls/syscall_64.tbl and syscall_32.tbl.

// Bits 0 to 5 stand for arguments 0 to 5.
/// `listen(2)`: what waits for input after it is serving.
pub(crate) const LISTEN: u32 = 1 << 8;
/// Waits for a connection or a request.
pub(crate) const SERVE: u32 = 1 << 9;
/// Waits for a connection on a socket that listens, whoever made it listen: is serving.
pub(crate) const ACCEPT: u32 = 1 << 11;
/// May put a seccomp filter on.
pub(crate) const FILTER: u32 = 1 << 10;
/// Numbers that the table covers, of each ABI.
pub(crate) const NUMBERS: u32 = 1024;

const A0: u32 = 1;
const A1: u32 = 1 << 1;
const A2: u32 = 1 << 2;
const A3: u32 = 1 << 3;
const A4: u32 = 1 << 4;

/// Number on x86-64 and on 32-bit x86 (where the call exists), and what of it is of interest. All
/// arguments here are small sets in practice: commands, families, flags.
const TABLE: &[(Option<u32>, Option<u32>, u32)] = &[
    // mmap (mmap2): protection and flags; mprotect: protection
    (Some(9), Some(192), A2 | A3),
    (Some(10), Some(125), A2),
    // ioctl, fcntl (fcntl64), prctl, arch_prctl, personality, bpf, ptrace, keyctl: the command
    (Some(16), Some(54), A1),
    (Some(72), Some(221), A1),
    (None, Some(55), A1),
    (Some(157), Some(172), A0),
    (Some(158), Some(384), A0),
    (Some(135), Some(136), A0),
    (Some(321), Some(357), A0),
    (Some(101), Some(26), A0),
    (Some(250), Some(288), A0),
    // seccomp: the operation
    (Some(317), Some(354), A0 | FILTER),
    // madvise: the advice; futex, epoll_ctl, io_uring_register: the operation; kcmp: the kind
    (Some(28), Some(219), A2),
    (Some(202), Some(240), A1),
    (None, Some(422), A1),
    (Some(233), Some(255), A1),
    (Some(427), Some(427), A1),
    (Some(312), Some(349), A2),
    // socket, socketpair: family, type, protocol; socketcall, ipc: the operation
    (Some(41), Some(359), A0 | A1 | A2),
    (Some(53), Some(360), A0 | A1 | A2),
    (None, Some(102), A0),
    (None, Some(117), A0),
    // setsockopt, getsockopt: level and name
    (Some(54), Some(366), A1 | A2),
    (Some(55), Some(365), A1 | A2),
    // clone, unshare: flags; setns: the kind
    (Some(56), Some(120), A0),
    (Some(272), Some(310), A0),
    (Some(308), Some(346), A1),
    // mount, umount2, memfd_create, execveat: flags; prlimit64: the resource
    (Some(165), Some(21), A3),
    (Some(166), Some(52), A1),
    (Some(319), Some(356), A1),
    (Some(322), Some(358), A4),
    (Some(302), Some(340), A1),
    (Some(50), Some(363), LISTEN),
    // accept, accept4, epoll_wait, epoll_pwait, epoll_pwait2
    (Some(43), None, ACCEPT),
    (Some(288), Some(364), ACCEPT),
    (Some(232), Some(256), SERVE),
    (Some(281), Some(319), SERVE),
    (Some(441), Some(441), SERVE),
    // poll, ppoll, select, pselect6 (32-bit: also the old and the 64-bit time forms), io_uring_enter
    (Some(7), Some(168), SERVE),
    (Some(271), Some(309), SERVE),
    (None, Some(414), SERVE),
    (Some(23), Some(142), SERVE),
    (None, Some(82), SERVE),
    (Some(270), Some(308), SERVE),
    (None, Some(413), SERVE),
    (Some(426), Some(426), SERVE),
];

/// What is of interest, by index: the number, plus [`NUMBERS`] for the 32-bit ABI.
pub(crate) fn table() -> impl Iterator<Item = (u32, u32)> {
    TABLE.iter().flat_map(|(native, compat, what)| {
        let compat = compat.map(|number| number + NUMBERS);
        [*native, compat]
            .into_iter()
            .flatten()
            .map(|index| (index, *what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_listed_once_and_covered() {
        let mut seen = std::collections::BTreeSet::new();
        for (index, what) in table() {
            assert!(index < 2 * NUMBERS);
            assert!(seen.insert(index), "{index} twice");
            assert_ne!(what, 0);
        }
        for number in [libc::SYS_socket, libc::SYS_ioctl, libc::SYS_seccomp] {
            assert!(seen.contains(&u32::try_from(number).unwrap()));
        }
    }
}
