//! Programs whose every call is known: an ELF header and the machine code behind it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const BASE: u64 = 0x40_0000;
const HEADERS: usize = 64 + 56;
/// Room behind the code, for stacks.
const MEMORY: u64 = 0x2_0000;

/// Writes an executable of x86-64 `code`.
pub(crate) fn write(path: &Path, code: &[u8]) {
    let size = (HEADERS + code.len()) as u64;
    let entry = BASE + HEADERS as u64;
    let mut file = Vec::new();
    // Identification: 64 bits, little endian, version 1.
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    // Executable, x86-64, version 1.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for word in [entry, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    // Flags; sizes: header, program header and how many, section headers: none.
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // PT_LOAD; read, write, execute.
    file.extend([1, 0, 0, 0, 7, 0, 0, 0]);
    for word in [0, BASE, BASE, size, size + MEMORY, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    fs::write(path, file).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// `mov eax, number; syscall`
fn syscall(number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_le_bytes();
    vec![0xb8, a, b, c, d, 0x0f, 0x05]
}

/// `mov edi, value` and so on for esi, edx.
fn argument(index: usize, value: u32) -> Vec<u8> {
    let [a, b, c, d] = value.to_le_bytes();
    vec![[0xbf, 0xbe, 0xba][index], a, b, c, d]
}

/// exit_group(0)
fn exit() -> Vec<u8> {
    [argument(0, 0), syscall(231)].concat()
}

/// getppid `times` times: mov ebx, times; again: getppid; dec ebx; jnz again
fn repeat(times: u32) -> Vec<u8> {
    let [a, b, c, d] = times.to_le_bytes();
    let mut code = vec![0xbb, a, b, c, d];
    code.extend(syscall(110));
    code.extend([0xff, 0xcb, 0x75, 0xf5]);
    code
}

/// getppid `native` times, getpid by `int 0x80` `compat` times, exit_group(0).
pub(crate) fn calls(native: u32, compat: usize) -> Vec<u8> {
    let mut code = repeat(native);
    for _ in 0..compat {
        code.extend([0xb8, 20, 0, 0, 0, 0xcd, 0x80]);
    }
    code.extend(exit());
    code
}

/// A socket of each family, of type 0, which no family has; exit_group(0).
pub(crate) fn sockets(families: &[u32]) -> Vec<u8> {
    let mut code = Vec::new();
    for family in families {
        code.extend(argument(0, *family));
        code.extend(argument(1, 0));
        code.extend(argument(2, 0));
        code.extend(syscall(41));
    }
    code.extend(exit());
    code
}

/// poll of nothing, getppid, listen on no socket, poll, getpid, exit_group(0).
pub(crate) fn server() -> Vec<u8> {
    let poll = [argument(0, 0), argument(1, 0), argument(2, 0), syscall(7)].concat();
    [
        poll.clone(),
        syscall(110),
        argument(0, u32::MAX),
        syscall(50),
        poll,
        syscall(39),
        exit(),
    ]
    .concat()
}

/// Threads that call getppid `times` times each and end; then the process ends.
///
/// A thread is waited for by its `CLONE_CHILD_CLEARTID` word, which the parent reads until it is 0.
pub(crate) fn threads(threads: usize, times: u32) -> Vec<u8> {
    // CLONE_VM | FS | FILES | SIGHAND | THREAD | CHILD_SETTID | CHILD_CLEARTID
    const FLAGS: u32 = 0x0121_0f00;
    let mut code = Vec::new();
    for number in 0..threads {
        let stack = u32::try_from(BASE + 0x2000 + (number as u64 + 1) * 0x1000).expect("32 bits");
        let word = stack + 0x100;
        // r10 = word: mov r10d, word; and the word is 1 before: mov dword [r10], 1
        let [a, b, c, d] = word.to_le_bytes();
        code.extend([0x41, 0xba, a, b, c, d]);
        code.extend([0x41, 0xc7, 0x02, 1, 0, 0, 0]);
        code.extend(argument(0, FLAGS));
        code.extend(argument(1, stack));
        code.extend(argument(2, 0));
        code.extend(syscall(56));
        // test eax, eax; jnz over the thread's own code
        let thread = [repeat(times), argument(0, 0), syscall(60)].concat();
        let length = u8::try_from(thread.len()).expect("a short jump");
        code.extend([0x85, 0xc0, 0x75, length]);
        code.extend(thread);
        // r10 survives a system call; wait: cmp dword [r10], 0; jne wait
        code.extend([0x41, 0x83, 0x3a, 0, 0x75, 0xfa]);
    }
    code.extend(exit());
    code
}

/// accept on no socket, without any listen, as a service whose socket was made by another; getpid, exit_group(0).
pub(crate) fn activated() -> Vec<u8> {
    [
        syscall(110),
        argument(0, u32::MAX),
        argument(1, 0),
        argument(2, 0),
        syscall(43),
        syscall(39),
        exit(),
    ]
    .concat()
}
