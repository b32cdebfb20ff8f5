use super::*;

fn names(log: &str) -> Vec<(String, u64)> {
    let trace = read(log.as_bytes()).unwrap();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (call, seen) in &trace.calls {
        *counts.entry(call.name.clone()).or_default() += seen.count;
    }
    counts.into_iter().collect()
}

#[test]
fn every_form_of_a_line_is_read() {
    for line in [
        "getpid() = 7",
        "1234  getpid()                          = 7",
        "1234 14:05:01 getpid() = 7",
        "1234 14:05:01.123456 getpid() = 7 <0.000010>",
        "1234 1732283101.123456 getpid() = 7",
        "[pid  1234] getpid() = 7",
        "[pid 1234]      0.000123 getpid() = 7",
        "1234 [00007f12ab] getpid() = 7",
        "1234 [  39] [00007f12ab] getpid() = 7",
        "1234 getpid( <unfinished ...>\n1234 <... getpid resumed>) = 7",
        "1234 <... getpid resumed>) = 7",
        "1234 getpid( <unfinished ...>\n1235 getpid() = 8\n1234 +++ killed by SIGKILL +++\n1234 getpid( <unfinished ...>",
    ] {
        let got = names(line);
        assert_eq!(got[0].0, "getpid", "{line}");
        assert_eq!(got.len(), 1, "{line}");
    }
}

#[test]
fn halves_of_calls_are_joined_by_process() {
    let log = "1 clone(child_stack=NULL, flags=CLONE_VM <unfinished ...>\n\
               2 socket(AF_INET, SOCK_STREAM <unfinished ...>\n\
               1 <... clone resumed>) = 3\n\
               2 <... socket resumed>, IPPROTO_TCP) = 4\n";
    let trace = read(log.as_bytes()).unwrap();
    let socket = trace
        .calls
        .keys()
        .find(|call| call.name == "socket")
        .unwrap();
    assert_eq!(socket.args[..3], [Some(2), Some(1), Some(6)]);
    assert_eq!((trace.unfinished, trace.unreadable), (0, 0));
}

#[test]
fn modes_tell_the_architecture() {
    let log = "7 getpid() = 7\n[ Process PID=7 runs in 32 bit mode. ]\n7 getpid() = 7\n\
               [ Process PID=7 runs in 64 bit mode. ]\n7 getpid() = 7\n";
    let trace = read(log.as_bytes()).unwrap();
    let counts: Vec<_> = trace
        .calls
        .iter()
        .map(|(call, seen)| (call.arch, seen.count))
        .collect();
    assert_eq!(counts.len(), 2);
    assert!(counts.contains(&(Arch::X86, 1)) && counts.contains(&(Arch::NATIVE, 2)));
}

/// A real log's forms together: `strace -f -y -T -tt` of a program that a filter ends.
#[test]
fn a_log_with_descriptors_times_signals_and_a_kill_is_read() {
    let log = "\
        7 14:05:01.000001 execve(\"/bin/a\", [\"a\"], 0x7ffc /* 3 vars */) = 0 <0.000400>\n\
        7 14:05:01.000501 openat(AT_FDCWD</srv/x, y (z)>, \"/etc/p\", O_RDONLY|O_CLOEXEC) = 3</etc/p> <0.000010>\n\
        7 14:05:01.000511 ioctl(1</dev/pts/0<char 136:0>>, TCGETS, 0x7ffc) = -1 ENOTTY (Inappropriate ioctl) <0.1>\n\
        7 14:05:01.000521 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID <unfinished ...>\n\
        8 14:05:01.000531 futex(0x7f00, FUTEX_WAIT_PRIVATE, 2, NULL <unfinished ...>\n\
        7 14:05:01.000541 <... clone resumed>, child_tidptr=0x7f01) = 8 <0.000100>\n\
        7 14:05:01.000551 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=8} ---\n\
        7 14:05:01.000561 write(2<pipe:[1]>, \"[ Process PID=7 runs in 32 bit mode. ]\", 40) = 40 <0.1>\n\
        7 14:05:01.000571 nanosleep({tv_sec=1, tv_nsec=0}, 0x7ffc) = ? ERESTART_RESTARTBLOCK (To be restarted) <0.1>\n\
        7 14:05:01.000581 restart_syscall(<... resuming interrupted nanosleep ...>) = 0 <0.1>\n\
        7 14:05:01.000591 swapoff(\"/x\") = 168\n\
        7 14:05:01.000601 --- SIGSYS {si_signo=SIGSYS, si_code=SYS_SECCOMP, si_call_addr=0x7f, \
        si_syscall=__NR_swapoff, si_arch=AUDIT_ARCH_X86_64} ---\n\
        8 14:05:01.000611 +++ killed by SIGSYS +++\n\
        7 14:05:01.000621 +++ killed by SIGSYS (core dumped) +++\n";
    let trace = read(log.as_bytes()).unwrap();
    assert_eq!((trace.unreadable, trace.unfinished), (0, 1), "{trace:?}");
    assert!(trace.calls.keys().all(|call| call.arch == Arch::NATIVE));
    let args = |name: &str| {
        let call = trace.calls.keys().find(|call| call.name == name);
        call.unwrap_or_else(|| panic!("{name}")).args
    };
    assert_eq!(args("openat")[2], Some(0o2_000_000));
    assert_eq!(args("ioctl")[..2], [Some(1), Some(0x5401)]);
    assert_eq!(args("write")[2], Some(40));
    // What never ended was called all the same, and so was what ended the program.
    assert_eq!(args("futex"), [None; 6]);
    for name in ["execve", "clone", "nanosleep", "restart_syscall", "swapoff"] {
        args(name);
    }
}

#[test]
fn an_end_that_fits_no_beginning_loses_neither() {
    let log = "1 socket(AF_INET, SOCK_STREAM <unfinished ...>\n1 <... mount resumed>, 0) = 0\n";
    let trace = read(log.as_bytes()).unwrap();
    assert_eq!(names(log).len(), 2);
    assert_eq!(trace.unfinished, 1);
    assert!(trace.calls.keys().all(|call| call.args == [None; 6]));
}

/// Halves of calls, each of another process, would add up to gigabytes.
#[test]
fn unfinished_calls_are_kept_in_bounded_memory() {
    let long = "x".repeat(60 << 10);
    let one = |pid: usize| format!("{pid} ioctl(3, \"{long}\" <unfinished ...>\n");
    let mut log: String = (1..=400).map(one).collect();
    log.push_str("1 <... ioctl resumed>, 7) = 0\n400 <... ioctl resumed>, 7) = 0\n");
    let trace = read(log.as_bytes()).unwrap();
    assert_eq!(trace.unfinished, 398);
    // The first was kept; of the last the end alone would be taken for its beginning.
    let known = trace.calls.keys().filter(|call| call.args != [None; 6]);
    assert_eq!(
        known
            .map(|call| call.args[..3].to_vec())
            .collect::<Vec<_>>(),
        [[Some(3), None, Some(7)]]
    );
}

#[test]
fn remarks_are_passed_over_and_other_lines_counted() {
    let log = "1 getpid() = 1\n1 --- SIGCHLD {si_signo=SIGCHLD} ---\n1 +++ exited with 0 +++\n\
               strace: Process 9 attached\n > /lib/libc.so.6(read+0xd) [0x1]\n\nhello\n1 (x) = 1\n\
               1 no-name(1) = 2\n";
    let trace = read(log.as_bytes()).unwrap();
    assert_eq!((trace.unreadable, trace.first_unreadable), (3, Some(7)));
    assert_eq!(trace.calls.len(), 1);
}

#[test]
fn what_is_no_log_is_an_error() {
    for log in [&b""[..], b"{\"a\": 1}\n", &[0xff; 300], b"\n\n\n"] {
        assert!(matches!(read(log), Err(TraceError::Empty { .. })));
    }
}

#[test]
fn hostile_logs_are_bounded() {
    // A line without end, a string never closed, and more variants than are kept.
    let mut log = format!("1 write(1, \"{}", "x".repeat(1 << 20));
    log.push('\n');
    for value in 0..(super::super::MAX_VARIANTS + 500) {
        log.push_str(&format!("1 ioctl(1, {value:#x}) = 0\n"));
    }
    let trace = read(log.as_bytes()).unwrap();
    assert!(
        trace.calls.len() <= super::super::MAX_VARIANTS + 2,
        "{}",
        trace.calls.len()
    );
    let rest = trace
        .calls
        .keys()
        .filter(|call| call.name == "ioctl" && call.args == [None; 6]);
    assert_eq!(
        rest.count(),
        1,
        "what goes beyond is one call of unknown arguments"
    );
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        let _ = read(&bytes[..]);
    }

    #[test]
    fn no_line_panics(line in "[0-9]{0,3} ?(<\\.\\.\\. )?[a-z_]{0,6}[(\\[{]?[\"a-zA-Z0-9|,<>éß(){}\\\\ ]{0,40}") {
        let _ = read(line.as_bytes());
    }
}
