//! The loaded filter against what it is there for. Each probe runs in a process of its own, once
//! without the filter, to show that the call would do something, and once with it. No root needed.

use std::env;
use std::process::{Command, exit};

use cofferdam_profiles::seccomp::{Arch, Filter, FilterCache, compile, default_profile};

use crate::profiles::{docker_capabilities, engine_profiles};

const PROBE: &str = "COFFERDAM_TEST_PROBE";
const FILTER: &str = "COFFERDAM_TEST_FILTER";

/// One call and the errno it gives with the filter on.
struct Probe {
    name: &'static str,
    /// 0: it works.
    filtered: i32,
    call: fn() -> i64,
}

const fn probe(name: &'static str, filtered: i32, call: fn() -> i64) -> Probe {
    Probe {
        name,
        filtered,
        call,
    }
}

const HIGH: i64 = 1 << 32;

const DENIED: &[Probe] = &[
    probe("clone3", libc::ENOSYS, || raw(libc::SYS_clone3, [0; 6])),
    probe("clone newuser", libc::EPERM, || {
        raw(
            libc::SYS_clone,
            [
                i64::from(libc::CLONE_NEWUSER | libc::CLONE_THREAD),
                0,
                0,
                0,
                0,
                0,
            ],
        )
    }),
    probe("unshare fs", libc::EPERM, || {
        raw(
            libc::SYS_unshare,
            [i64::from(libc::CLONE_FS), 0, 0, 0, 0, 0],
        )
    }),
    probe("AF_ALG", libc::EPERM, || socket(38)),
    probe("AF_VSOCK", libc::EPERM, || socket(40)),
    probe("AF_VSOCK behind garbage", libc::EPERM, || socket(HIGH | 40)),
    probe("AF_TIPC", libc::EPERM, || socket(30)),
    probe("io_uring_setup", libc::ENOSYS, || {
        raw(libc::SYS_io_uring_setup, [0; 6])
    }),
    probe("userfaultfd", libc::EPERM, || {
        raw(libc::SYS_userfaultfd, [-1, 0, 0, 0, 0, 0])
    }),
    probe("bpf", libc::EPERM, || {
        raw(libc::SYS_bpf, [9999, 0, 0, 0, 0, 0])
    }),
    probe("perf_event_open", libc::EPERM, || {
        raw(libc::SYS_perf_event_open, [0; 6])
    }),
    probe("keyctl", libc::EPERM, || {
        raw(libc::SYS_keyctl, [0, -3, 0, 0, 0, 0])
    }),
    probe("open_by_handle_at", libc::EPERM, || {
        raw(libc::SYS_open_by_handle_at, [-1, 0, 0, 0, 0, 0])
    }),
    probe("setns", libc::EPERM, || {
        raw(libc::SYS_setns, [-1, 0, 0, 0, 0, 0])
    }),
    probe("TIOCSTI", libc::EPERM, || {
        raw(libc::SYS_ioctl, [-1, 0x5412, 0, 0, 0, 0])
    }),
    probe("TIOCSTI behind garbage", libc::EPERM, || {
        raw(libc::SYS_ioctl, [-1, HIGH | 0x5412, 0, 0, 0, 0])
    }),
    probe("personality", libc::EPERM, || {
        raw(libc::SYS_personality, [0x40000, 0, 0, 0, 0, 0])
    }),
];

/// What a container may do, and must be able to.
const ALLOWED: &[Probe] = &[
    probe("AF_UNIX", 0, || socket(1)),
    probe("AF_NETLINK", 0, || socket(16)),
    probe("fchmodat2", libc::EBADF, || {
        raw(452, [-1, c"x".as_ptr() as i64, 0, 0, 0, 0])
    }),
    probe("faccessat2", libc::EBADF, || {
        raw(439, [-1, c"x".as_ptr() as i64, 0, 0, 0, 0])
    }),
    probe("close_range", 0, || {
        raw(436, [1 << 20, 1 << 20, 0, 0, 0, 0])
    }),
    probe("terminal ioctl", libc::EBADF, || {
        raw(libc::SYS_ioctl, [-1, 0x5413, 0, 0, 0, 0])
    }),
    probe("a newer call", libc::ENOSYS, || raw(1000, [0; 6])),
    probe("program", 0, || run("true")),
    probe("pipeline", 0, || {
        run("ls / | sort | head -3 >/dev/null; echo $(id -u) >/dev/null")
    }),
];

#[cfg(target_arch = "x86_64")]
const X86: &[Probe] = &[
    probe("int80 getpid", 0, || int80(20, 0, 0)),
    probe("int80 socketcall socket", libc::EPERM, || socketcall(1, 1)),
    probe("int80 socketcall AF_VSOCK", libc::EPERM, || {
        socketcall(1, 40)
    }),
    probe("int80 socketcall socketpair", libc::EPERM, || {
        socketcall(8, 1)
    }),
    probe("int80 socket AF_VSOCK", libc::EPERM, || int80(359, 40, 1)),
    probe("int80 clone3", libc::ENOSYS, || int80(435, 0, 0)),
    probe("int80 io_uring_setup", libc::ENOSYS, || int80(425, 0, 0)),
    probe("x32 getpid", libc::ENOSYS, || raw(0x4000_0000 | 39, [0; 6])),
    probe("x32 socket", libc::ENOSYS, || {
        raw(0x4000_0000 | 41, [38, 1, 0, 0, 0, 0])
    }),
];
#[cfg(not(target_arch = "x86_64"))]
const X86: &[Probe] = &[];

#[test]
fn denied_calls() {
    for probe in DENIED {
        let (bare, filtered) = (outcome(probe, false), outcome(probe, true));
        assert_eq!(filtered, probe.filtered, "{} with the filter", probe.name);
        assert_ne!(
            bare, filtered,
            "{}: the same without the filter",
            probe.name
        );
    }
}

#[test]
fn allowed_calls() {
    for probe in ALLOWED {
        assert_eq!(outcome(probe, true), probe.filtered, "{}", probe.name);
        assert_eq!(
            outcome(probe, false),
            probe.filtered,
            "{} without the filter",
            probe.name
        );
    }
}

#[test]
fn other_ways_into_the_kernel() {
    for probe in X86 {
        let (bare, filtered) = (outcome(probe, false), outcome(probe, true));
        println!("{}: {bare} without, {filtered} with the filter", probe.name);
        // Without ia32 emulation the control has nothing to show: the process dies of SIGSEGV.
        if bare == SIGNALLED {
            println!("skipped: {} (this kernel runs no such calls)", probe.name);
            continue;
        }
        assert_eq!(filtered, probe.filtered, "{}", probe.name);
    }
}

/// The kernel takes every filter we make of the engines' profiles, and programs run under them.
#[test]
fn the_kernel_loads_every_filter() {
    for (name, profile) in engine_profiles(&docker_capabilities()) {
        let filter = compile(&profile).unwrap();
        let child = std::thread::spawn(move || {
            attach(&filter);
            run("ls / >/dev/null")
        });
        assert_eq!(child.join().unwrap(), 0, "{name}");
    }
}

const SIGNALLED: i32 = -1;

/// The errno of a probe in a process of its own; 0 if it worked.
fn outcome(probe: &Probe, filtered: bool) -> i32 {
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "attack::child", "--nocapture"])
        .env(PROBE, probe.name)
        .env(FILTER, if filtered { "1" } else { "0" })
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    status.code().unwrap_or(SIGNALLED)
}

/// Not a test by itself: the process in which a probe runs.
#[test]
fn child() {
    let Ok(name) = env::var(PROBE) else { return };
    let every = DENIED.iter().chain(ALLOWED).chain(X86);
    let probe = every.into_iter().find(|probe| probe.name == name).unwrap();
    if env::var(FILTER).as_deref() == Ok("1") {
        let directory = tempfile::tempdir().unwrap();
        let cache = FilterCache::at(directory.path());
        let profile = default_profile(&docker_capabilities(), Arch::NATIVE);
        cache.get_or_compile(&profile).unwrap();
        // The second time it comes from the file.
        let filter = cache.get_or_compile(&profile).unwrap();
        drop(directory);
        attach(&filter);
    }
    let result = (probe.call)();
    exit(if result < 0 {
        i32::try_from(-result).unwrap()
    } else {
        0
    });
}

fn run(script: &str) -> i64 {
    match Command::new("sh").args(["-c", script]).status() {
        Ok(status) if status.success() => 0,
        Ok(_) => -255,
        Err(error) => -i64::from(error.raw_os_error().unwrap_or(254)),
    }
}

fn socket(family: i64) -> i64 {
    raw(
        libc::SYS_socket,
        [family, i64::from(libc::SOCK_DGRAM), 0, 0, 0, 0],
    )
}

/// Puts the filter on this thread.
pub(crate) fn attach(filter: &Filter) {
    let length = u16::try_from(filter.program.len() / 8).unwrap();
    let program = libc::sock_fprog {
        len: length,
        filter: filter.program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: prctl with PR_SET_NO_NEW_PRIVS takes plain numbers only.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(result, 0);
    // SAFETY: `program` points to `len` records of 8 bytes that live until the call returns; the
    // kernel copies them and needs no alignment of the records.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            filter.flags,
            &raw const program,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// The call's result, or the errno negated.
fn raw(number: i64, [a, b, c, d, e, f]: [i64; 6]) -> i64 {
    // SAFETY: every probe's call fails on its arguments, or makes a descriptor, or asks; none
    // reads or writes memory of this process but the strings handed to it.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    match result {
        -1 => -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap()),
        result => result,
    }
}

#[cfg(target_arch = "x86_64")]
fn int80(number: u32, first: u32, second: u32) -> i64 {
    let result: i32;
    // SAFETY: the 32-bit entry takes its number in eax and arguments in ebx to edi, keeps all
    // registers but eax and clobbers r8 to r11. rbx is the compiler's, hence the exchange.
    unsafe {
        core::arch::asm!(
            "xchg rbx, {first:r}",
            "int 0x80",
            "xchg rbx, {first:r}",
            first = inout(reg) u64::from(first) => _,
            inlateout("eax") number.cast_signed() => result,
            in("ecx") second,
            in("edx") 0, in("esi") 0, in("edi") 0,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    i64::from(result)
}

/// `socketcall` for a socket or a pair, its arguments in memory a 32-bit pointer reaches.
#[cfg(target_arch = "x86_64")]
fn socketcall(subcall: u32, family: u32) -> i64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new anonymous mapping of one page touches no other memory.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    let address = u32::try_from(page.addr()).unwrap();
    // Family, type, protocol, and for a pair where to put its two descriptors.
    let words = [family, libc::SOCK_STREAM.cast_unsigned(), 0, address + 64];
    // SAFETY: the page is ours, aligned, and large enough for four words.
    unsafe { page.cast::<[u32; 4]>().write(words) };
    int80(102, subcall, address)
}
