//! A compiled filter in the kernel against the evaluator.
//!
//! A child process puts the filter on and makes calls with random arguments, so nothing of them may
//! ever run: each value that the filter returns is replaced by an errno of its own, one for one. The
//! jumps and comparisons that lead to it are those of the real filter.

use cofferdam_profiles::seccomp::{Action, Arch, Call, Evaluator, compile};
use oci_spec::runtime::LinuxSeccomp;

use crate::calls::Calls;
use crate::corpus;

/// Calls per profile and entry.
const CALLS: usize = 20_000;

/// A way into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// The machine's own; on x86-64 the calls of x32 come this way too.
    Native,
    /// `int 0x80`: a call of 32-bit x86, which a 64-bit program can make as well.
    Compat,
}

impl Entry {
    /// The call as it arrives if it comes this way; `None` if it cannot.
    fn takes(self, call: Call) -> Option<Call> {
        match self {
            Self::Native => (call.audit == Arch::NATIVE.audit() && !UNASKED.contains(&call.number))
                .then_some(call),
            // Registers are cut to 32 bits.
            Self::Compat => (call.audit == Arch::X86.audit()).then_some(Call {
                args: call.args.map(|value| value & 0xffff_ffff),
                ..call
            }),
        }
    }
}

/// `uretprobe` and `uprobe` of 64-bit x86. Newer kernels let them pass without asking any filter
/// (`kernel/seccomp.c`): they are made by the kernel's own trampolines, and harm who makes them else.
const UNASKED: &[u32] = &[335, 336];

/// `BPF_RET | BPF_K` (linux/bpf_common.h).
const RETURN: u16 = 0x06;

/// The errno that stands for an answer; below `MAX_ERRNO` (4095), and unlike any real one.
fn sign(action: Action) -> u16 {
    match action {
        Action::Errno(errno) => 1000 + errno,
        Action::Trace(message) => 2000 + message,
        Action::Allow => 3001,
        Action::Log => 3002,
        Action::Notify => 3003,
        Action::Trap => 3004,
        Action::KillThread => 3005,
        Action::KillProcess => 3006,
    }
}

/// The answer of a value that filters return (`SECCOMP_RET_*`, linux/seccomp.h).
fn action(value: u32) -> Action {
    let data = u16::try_from(value & 0xffff).unwrap();
    match value & 0xffff_0000 {
        0x8000_0000 => Action::KillProcess,
        0 => Action::KillThread,
        0x0003_0000 => Action::Trap,
        0x0005_0000 => Action::Errno(data),
        0x7fc0_0000 => Action::Notify,
        0x7ff0_0000 => Action::Trace(data),
        0x7ffc_0000 => Action::Log,
        0x7fff_0000 => Action::Allow,
        _ => panic!("no filter returns {value:#x}"),
    }
}

/// The program with every answer replaced by its sign.
fn harmless(program: &[u8]) -> Vec<u8> {
    let mut out = program.to_vec();
    for instruction in out.chunks_exact_mut(8) {
        let (code, value) = instruction.split_at_mut(4);
        if u16::from_ne_bytes([code[0], code[1]]) == RETURN {
            let returned = u32::from_ne_bytes(value.try_into().unwrap());
            let errno = 0x0005_0000 | u32::from(sign(action(returned)));
            value.copy_from_slice(&errno.to_ne_bytes());
        }
    }
    out
}

#[test]
fn the_kernel_agrees_on_a_sample() {
    agree_by(Entry::Native);
}

#[test]
fn the_kernel_agrees_on_a_sample_of_32_bit_calls() {
    if !has_compat() {
        println!("SKIPPED: this kernel has no 32-bit entry");
        return;
    }
    agree_by(Entry::Compat);
}

fn agree_by(entry: Entry) {
    let corpus = corpus::corpus();
    let mut x32 = 0;
    for (at, (name, profile)) in corpus.iter().enumerate() {
        x32 += agree(u64::try_from(at).unwrap(), name, profile, entry);
    }
    println!(
        "{} profiles, {CALLS} calls each, {x32} of x32",
        corpus.len()
    );
    if cfg!(target_arch = "x86_64") && entry == Entry::Native {
        assert!(x32 > CALLS);
    }
}

/// How many of the calls were of x32.
fn agree(seed: u64, name: &str, profile: &LinuxSeccomp, entry: Entry) -> usize {
    const X32_BIT: u32 = 0x4000_0000;
    let evaluator = Evaluator::new(profile).unwrap();
    let program = harmless(&compile(profile).unwrap().program);
    let mut random = Calls::new(seed ^ 0xc0ff_ee00, &evaluator);
    let calls = std::iter::repeat_with(|| random.next()).filter_map(|call| entry.takes(call));
    let calls: Vec<Call> = calls.take(CALLS).collect();
    let got = in_a_child(&program, &calls, entry);
    for (call, got) in calls.iter().zip(got) {
        let expected = evaluator.answer(call);
        assert_eq!(
            got,
            -i64::from(sign(expected)),
            "{name}, seed {seed}: {call:x?} {expected:?}"
        );
    }
    let x32 = calls.iter().filter(|call| call.number & X32_BIT != 0);
    if entry == Entry::Native {
        x32.count()
    } else {
        0
    }
}

/// Whether the kernel takes calls by `int 0x80`; one that does not kills who tries.
fn has_compat() -> bool {
    /// `getpid` of 32-bit x86.
    const GETPID: u32 = 20;
    let call = Call {
        audit: Arch::X86.audit(),
        number: GETPID,
        args: [0; 6],
    };
    // SAFETY: the child makes raw system calls only, takes no lock and allocates nothing.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        let works = compat(&call) > 0;
        // SAFETY: ends this process, the child, at once.
        unsafe { libc::_exit(i32::from(!works)) };
    }
    let mut status = 0;
    // SAFETY: `child` is our own child and `status` a place for an int.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

/// What the calls return in a process with the filter on, errnos negated as the kernel does.
fn in_a_child(program: &[u8], calls: &[Call], entry: Entry) -> Vec<i64> {
    let size = size_of_val(calls);
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping touches no other memory.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), size, access, shared, -1, 0) };
    assert_ne!(memory, libc::MAP_FAILED);
    let results = memory.cast::<i64>();
    // SAFETY: the child uses nothing but the memory it has and raw system calls, takes no lock and
    // allocates nothing, so it does not matter which threads there were.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        let length = u16::try_from(program.len() / 8).unwrap_or(0);
        let filter = libc::sock_fprog {
            len: length,
            filter: program.as_ptr().cast_mut().cast(),
        };
        // SAFETY: `filter` points to `len` records of 8 bytes; the kernel copies them. The other
        // arguments are numbers.
        let attached = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(
                    libc::SYS_seccomp,
                    libc::SECCOMP_SET_MODE_FILTER,
                    0,
                    &raw const filter,
                ) == 0
        };
        for (at, call) in calls.iter().enumerate() {
            let result = match entry {
                _ if !attached => i64::MAX,
                Entry::Native => raw(call),
                Entry::Compat => compat(call),
            };
            // SAFETY: the mapping has room for a result of each call, an i64 being smaller than it.
            unsafe { results.add(at).write(result) };
        }
        // Every call is refused now, exit included; an undefined instruction still ends it.
        end();
    }
    let mut status = 0;
    // SAFETY: `child` is our own child and `status` a place for an int.
    let ended = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(ended, child);
    assert!(
        libc::WIFSIGNALED(status),
        "the child ended with status {status:#x}"
    );
    // SAFETY: the child, which wrote here, is gone; each place was written or is zero.
    let out = (0..calls.len())
        .map(|at| unsafe { results.add(at).read() })
        .collect();
    // SAFETY: the mapping is ours, and nothing points into it any more.
    unsafe { libc::munmap(memory, size) };
    out
}

#[cfg(target_arch = "x86_64")]
fn raw(call: &Call) -> i64 {
    let [a, b, c, d, e, f] = call.args;
    let result: i64;
    // SAFETY: the filter refuses every call before it runs, so its arguments are never used. The
    // entry takes its number in rax, keeps all registers but rax and clobbers rcx and r11.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") u64::from(call.number) => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// The call by `int 0x80`.
#[cfg(target_arch = "x86_64")]
fn compat(call: &Call) -> i64 {
    // Cut already, see `Entry::takes`.
    let args = call.args.map(|value| u32::try_from(value).unwrap_or(0));
    let result: u64;
    // SAFETY: the filter refuses every call before it runs (or it is `getpid`), so its arguments are never used.
    // Six of them are read from `args`. rbx and rbp, which the compiler keeps for itself, are put back; old
    // kernels clear r8 to r11 on this way.
    unsafe {
        core::arch::asm!(
            "push rbx",
            "push rbp",
            "mov ebx, [r8]",
            "mov ecx, [r8 + 4]",
            "mov edx, [r8 + 8]",
            "mov esi, [r8 + 12]",
            "mov edi, [r8 + 16]",
            "mov ebp, [r8 + 20]",
            "int 0x80",
            "pop rbp",
            "pop rbx",
            inlateout("rax") u64::from(call.number) => result,
            inlateout("r8") args.as_ptr() => _,
            lateout("rcx") _, lateout("rdx") _, lateout("rsi") _, lateout("rdi") _,
            lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    // The caller's register is 32 bits wide.
    let low = u32::try_from(result & 0xffff_ffff).unwrap_or(0);
    i64::from(low.cast_signed())
}

#[cfg(not(target_arch = "x86_64"))]
fn compat(_call: &Call) -> i64 {
    0
}

#[cfg(target_arch = "x86_64")]
fn end() -> ! {
    // SAFETY: it never goes on.
    unsafe { core::arch::asm!("ud2", options(noreturn)) }
}

#[cfg(not(target_arch = "x86_64"))]
fn raw(call: &Call) -> i64 {
    let [a, b, c, d, e, f] = call.args;
    let number = libc::c_long::from(call.number);
    // SAFETY: the filter refuses every call before it runs, so its arguments are never used.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        // SAFETY: errno is this thread's own.
        -1 => -i64::from(unsafe { *libc::__errno_location() }),
        result => result,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn end() -> ! {
    loop {
        // SAFETY: a null pointer is never mapped: reading it ends the process.
        unsafe { std::ptr::null::<u8>().read_volatile() };
    }
}
