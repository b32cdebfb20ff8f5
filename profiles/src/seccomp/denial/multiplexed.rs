//! `socketcall` and `ipc` of 32-bit x86: one number for many calls, which the first argument tells apart
//! (linux/net.h, linux/ipc.h). The arguments of `socketcall` are words of 32 bits in memory.

use super::describe::{self, Memory};
use super::names::Table;
use crate::seccomp::bpf::Call;

/// `SYS_*` of linux/net.h, by the names of the calls.
pub(super) const SOCKETCALL: Table = &[
    (1, "socket"),
    (2, "bind"),
    (3, "connect"),
    (4, "listen"),
    (5, "accept"),
    (6, "getsockname"),
    (7, "getpeername"),
    (8, "socketpair"),
    (9, "send"),
    (10, "recv"),
    (11, "sendto"),
    (12, "recvfrom"),
    (13, "shutdown"),
    (14, "setsockopt"),
    (15, "getsockopt"),
    (16, "sendmsg"),
    (17, "recvmsg"),
    (18, "accept4"),
    (19, "recvmmsg"),
    (20, "sendmmsg"),
];

/// linux/ipc.h, by the names of the calls; the upper half is a version of the interface.
pub(super) const IPC: Table = &[
    (1, "semop"),
    (2, "semget"),
    (3, "semctl"),
    (4, "semtimedop"),
    (11, "msgsnd"),
    (12, "msgrcv"),
    (13, "msgget"),
    (14, "msgctl"),
    (21, "shmat"),
    (22, "shmdt"),
    (23, "shmget"),
    (24, "shmctl"),
];

/// How many words each call of `socketcall` has (net/socket.c, `nargs`), by number.
const WORDS: [usize; 21] = [
    0, 3, 3, 3, 2, 3, 3, 3, 4, 4, 4, 6, 6, 2, 5, 5, 3, 3, 4, 5, 4,
];

/// The arguments behind a `socketcall`, as those of the call it makes.
pub(super) fn behind(call: &Call, memory: &dyn Memory) -> Option<String> {
    let [number, address, ..] = call.args;
    let number = u32::try_from(number).ok()?;
    let (_, name) = SOCKETCALL.iter().find(|(own, _)| *own == number)?;
    let count = *WORDS.get(usize::try_from(number).ok()?)?;
    let mut bytes = [0; 4 * 6];
    let wanted = bytes.get_mut(..4 * count)?;
    if memory.read(address, wanted) < wanted.len() {
        return Some("(unreadable)".to_owned());
    }
    let mut args = [0; 6];
    for (arg, word) in args.iter_mut().zip(wanted.as_chunks::<4>().0) {
        *arg = u64::from(u32::from_ne_bytes(*word));
    }
    let inner = Call { args, ..*call };
    let shown = describe::arguments(name, &inner, memory)
        .into_iter()
        .take(count);
    let parts: Vec<String> = shown
        .map(|arg| format!("{}={}", arg.name, arg.meaning.unwrap_or(arg.value)))
        .collect();
    Some(format!("{{{}}}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp::Arch;
    use crate::seccomp::denial::{Unreadable, name};

    /// Words at address 4096, nothing elsewhere.
    struct Page(Vec<u32>);

    impl Memory for Page {
        fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
            let bytes: Vec<u8> = self.0.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let Some(from) = address
                .checked_sub(4096)
                .and_then(|at| bytes.get(usize::try_from(at).ok()?..))
            else {
                return 0;
            };
            let n = from.len().min(buffer.len());
            buffer[..n].copy_from_slice(&from[..n]);
            n
        }
    }

    fn socketcall(number: u64) -> Call {
        Call {
            audit: Arch::X86.audit(),
            number: 102,
            args: [number, 4096, 0, 0, 0, 0],
        }
    }

    #[test]
    fn what_a_socketcall_is_about_is_told() {
        // The words of connect point at the address that follows them.
        let connect = Page(vec![3, 4096 + 12, 16, 0x5000_0002, 0x0100_000a, 0, 0]);
        let table: [(u64, &dyn Memory, &str); 7] = [
            (
                1,
                &Page(vec![40, 1, 0]),
                "{family=AF_VSOCK, type=SOCK_STREAM, protocol=0x0}",
            ),
            (
                3,
                &connect,
                "{fd=3, address=AF_INET 10.0.0.1:80, length=0x10}",
            ),
            (4, &Page(vec![3, 128]), "{fd=3, backlog=128}"),
            (1, &Page(vec![40, 1]), "(unreadable)"),
            (11, &Unreadable, "(unreadable)"),
            (0, &connect, "none"),
            (u64::MAX, &connect, "none"),
        ];
        for (number, memory, expected) in table {
            let shown = behind(&socketcall(number), memory);
            assert_eq!(shown.as_deref().unwrap_or("none"), expected, "{number}");
        }
        let named = name(&socketcall(1));
        assert_eq!(
            (named.architecture.as_str(), named.syscall.as_str()),
            ("x86", "socketcall")
        );
    }
}
