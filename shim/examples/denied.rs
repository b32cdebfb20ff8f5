//! Runs inside a container and makes calls that its filter denies: what the tests of `denials` use.
//!
//! `denied VERB [ARGUMENT]`; each verb prints one line for each thing it tried.
#![expect(unsafe_code, reason = "raw system calls are what is tried")]
#![expect(clippy::print_stdout, reason = "a command line program")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A call by number, whatever it does: only calls that the filter denies, and reads, are made.
fn call(number: i64, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the addresses that are passed are of live buffers, or meant to be invalid; no call
    // that is made here writes to memory.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result < 0 {
        i64::from(-Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        result
    }
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr().expose_provenance() as u64
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let verb = args.get(1).map_or("", String::as_str);
    let number = args.get(2).and_then(|text| text.parse().ok()).unwrap_or(0);
    match verb {
        "table" => table(),
        "flood" => flood(number),
        "storm" => storm(number, args.get(3).map_or("", String::as_str)),
        "loop" => allowed(number),
        "race" => race(number),
        "hostile" => hostile(),
        "listener" => listener(),
        "later" => later(number),
        "compat" => compat(),
        _ => std::process::exit(2),
    }
}

/// Many numbers, known and not, with arguments that are nothing.
fn table() {
    // Calls that would run, wait, or end this process are left out by asking for no effect: a bad
    // descriptor or a null pointer.
    let none = u64::MAX;
    let skipped: BTreeSet<i64> = [
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_rt_sigreturn,
        libc::SYS_pause,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_clone,
        libc::SYS_rt_sigsuspend,
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_close_range,
        libc::SYS_shutdown,
        libc::SYS_alarm,
        libc::SYS_kill,
        libc::SYS_tkill,
        libc::SYS_tgkill,
        libc::SYS_vhangup,
        libc::SYS_setsid,
        libc::SYS_umask,
        libc::SYS_sync,
        libc::SYS_select,
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_pselect6,
        libc::SYS_wait4,
        libc::SYS_waitid,
        libc::SYS_epoll_wait,
        libc::SYS_epoll_pwait,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_set_robust_list,
        libc::SYS_set_tid_address,
        libc::SYS_mlockall,
        libc::SYS_munlockall,
        libc::SYS_restart_syscall,
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setreuid,
        libc::SYS_setregid,
        libc::SYS_setfsuid,
        libc::SYS_setfsgid,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getppid,
        libc::SYS_getsid,
        libc::SYS_getpgrp,
        libc::SYS_getpgid,
        libc::SYS_mmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_pkey_mprotect,
        libc::SYS_madvise,
        libc::SYS_time,
        libc::SYS_timerfd_create,
        libc::SYS_rseq,
        // uretprobe and uprobe: they end a process that has none.
        335,
        336,
    ]
    .into();
    for number in (0..480).chain([0x4000_0000, 0x4000_0001, 0x3fff_ffff]) {
        if !skipped.contains(&number) {
            let result = call(number, [none, none, none, none, none, none]);
            println!("{number} {}", result.min(0));
        }
    }
    for family in [16, 17, 38, 40, 99] {
        println!(
            "socket {family} {}",
            call(libc::SYS_socket, [family, 3, 0, 0, 0, 0]).min(0)
        );
    }
    for flags in [0x1000_0000, 0x2_0000] {
        println!(
            "unshare {flags:#x} {}",
            call(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0])
        );
    }
}

/// The same denied call again and again.
fn flood(count: u64) {
    let begin = Instant::now();
    let mut answers = BTreeSet::new();
    for n in 0..count {
        answers.insert(call(libc::SYS_swapoff, [n, 0, 0, 0, 0, 0]));
    }
    println!("{answers:?} {}", begin.elapsed().as_micros());
}

/// The same denied call from many threads at once, half of them in a second process, each so many times. One
/// line for each process: the answers, how many calls, and microseconds.
fn storm(threads: u64, each: &str) {
    let each: u64 = each.parse().unwrap_or(0);
    // SAFETY: there is one thread so far, and the child goes on like a process that has just begun.
    let child = unsafe { libc::fork() };
    let begin = Instant::now();
    let run = || {
        let mut answers = BTreeMap::new();
        for n in 0..each {
            *answers
                .entry(call(libc::SYS_swapoff, [n, 0, 0, 0, 0, 0]))
                .or_insert(0u64) += 1;
        }
        answers
    };
    let mut answers: BTreeMap<i64, u64> = BTreeMap::new();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads.div_ceil(2)).map(|_| scope.spawn(run)).collect();
        for thread in all {
            // A thread that panicked made no calls that count.
            for (answer, count) in thread.join().unwrap_or_default() {
                *answers.entry(answer).or_default() += count;
            }
        }
    });
    println!("{answers:?} {}", begin.elapsed().as_micros());
    if child > 0 {
        let mut status = 0;
        // SAFETY: our own child, and a place for an int.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
    }
}

/// The same allowed call again and again.
fn allowed(count: u64) {
    let begin = Instant::now();
    for _ in 0..count {
        call(libc::SYS_getppid, [0; 6]);
    }
    println!("{}", begin.elapsed().as_micros());
}

/// Changes a path while a call that names it is being denied.
fn race(count: u64) {
    static DONE: AtomicBool = AtomicBool::new(false);
    let paths: [&[u8; 8]; 2] = [b"/first\0\0", b"/second\0"];
    let place: &'static std::sync::atomic::AtomicU64 =
        Box::leak(Box::new(std::sync::atomic::AtomicU64::new(0)));
    let flipper = std::thread::spawn(move || {
        let mut n = 0usize;
        while !DONE.load(Ordering::Relaxed) {
            place.store(u64::from_ne_bytes(*paths[n % 2]), Ordering::Relaxed);
            n += 1;
        }
    });
    let path = std::ptr::from_ref(place).expose_provenance() as u64;
    let mut answers = BTreeSet::new();
    for _ in 0..count {
        answers.insert(call(libc::SYS_mount, [path, path, path, 0, 0, 0]));
    }
    DONE.store(true, Ordering::Relaxed);
    let joined = flipper.join().is_ok();
    println!("{answers:?} {joined}");
}

/// Pointers and strings that nobody should trust.
fn hostile() {
    let endless = vec![b'a'; 8 << 20];
    let bytes = b"/\xff\xfe\n\"\\\x1b[2J\xe2\x80\xae\0";
    let short = [1u8, 0];
    for (name, pointer) in [
        ("null", 0),
        ("one", 1),
        ("kernel", 0xffff_ffff_8100_0000),
        ("hole", 0x0000_7fff_ffff_f000),
        ("beyond", 0x8000_0000_0000_0000),
        ("last", u64::MAX),
        ("endless", address(&endless)),
        ("end", address(&endless) + (8 << 20) - 1),
        ("bytes", address(bytes)),
        ("short", address(&short)),
    ] {
        let answers = [
            call(
                libc::SYS_mount,
                [pointer, pointer, pointer, u64::MAX, pointer, 0],
            ),
            call(libc::SYS_umount2, [pointer, u64::MAX, 0, 0, 0, 0]),
            call(libc::SYS_swapon, [pointer, 0, 0, 0, 0, 0]),
            call(
                libc::SYS_add_key,
                [pointer, pointer, pointer, u64::MAX, 0, 0],
            ),
        ];
        println!("{name} {answers:?}");
    }
}

/// Asks for a listener of its own, in every way there is.
fn listener() {
    let filter = [libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0x7fc0_0000,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: filter.as_ptr().cast_mut(),
    };
    let program = std::ptr::from_ref(&program).expose_provenance() as u64;
    for flags in [8u64, 9, 0x28, 0x38] {
        println!(
            "{flags:#x} {}",
            call(libc::SYS_seccomp, [1, flags, program, 0, 0, 0])
        );
    }
}

/// A call of 32-bit x86, by the number and the conventions of that.
#[cfg(target_arch = "x86_64")]
fn compat_call(number: u32, args: [u32; 3]) -> i32 {
    let [_, second, third] = args;
    let result: u64;
    // SAFETY: only calls that the filter denies are made, and the addresses are of live memory or null. rbx is
    // put back; old kernels clear r8 to r11 on this way.
    unsafe {
        core::arch::asm!(
            "push rbx",
            "mov ebx, [r8]",
            "int 0x80",
            "pop rbx",
            inlateout("rax") u64::from(number) => result,
            inlateout("r8") args.as_ptr() => _,
            inlateout("rcx") u64::from(second) => _,
            inlateout("rdx") u64::from(third) => _,
            lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    u32::try_from(result & 0xffff_ffff)
        .unwrap_or(0)
        .cast_signed()
}

/// Calls that a 64-bit program makes by the 32-bit way: their numbers mean others there.
#[cfg(target_arch = "x86_64")]
fn compat() {
    // Within reach of 32 bits.
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    // SAFETY: a new anonymous mapping touches no other memory.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0) };
    let words = page.cast::<[u32; 4]>();
    // AF_VSOCK, SOCK_STREAM, 0; then "/x".
    // SAFETY: the page is ours, and large enough.
    unsafe { words.write([40, 1, 0, u32::from_le_bytes(*b"/x\0\0")]) };
    let at = u32::try_from(page.expose_provenance()).unwrap_or(0);
    println!("swapon {}", compat_call(87, [at + 12, 0, 0]));
    println!("socketcall {}", compat_call(102, [1, at, 0]));
}

#[cfg(not(target_arch = "x86_64"))]
fn compat() {}

/// Denied calls until something else than before comes back, or for so many milliseconds; then asks
/// for a listener of its own.
fn later(milliseconds: u64) {
    println!("{}", call(libc::SYS_swapoff, [0; 6]));
    let begin = Instant::now();
    let mut answers = BTreeSet::new();
    let mut slowest = 0;
    while begin.elapsed().as_millis() < u128::from(milliseconds) {
        let one = Instant::now();
        answers.insert(call(libc::SYS_swapoff, [0; 6]));
        slowest = slowest.max(one.elapsed().as_millis());
    }
    println!("{answers:?} {slowest}");
    listener();
}
