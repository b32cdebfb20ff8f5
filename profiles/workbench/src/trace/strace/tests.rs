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
