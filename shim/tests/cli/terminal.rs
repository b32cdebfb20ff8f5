//! Terminals: over a console socket, and relayed in the foreground.
#![expect(
    unsafe_code,
    reason = "pre_exec, and a descriptor out of a control message"
)]

use std::fs::File;
use std::io::{IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::json;

use super::harness::{Bench, needs_root, wait};

fn with_terminal(args: &[&str]) -> Bench {
    let bench = Bench::new(args);
    bench.configure(|spec| spec["process"]["terminal"] = json!(true));
    bench
}

fn read_until(terminal: &mut File, what: &str) -> String {
    let mut text = String::new();
    let mut chunk = [0; 512];
    while !text.contains(what) {
        match terminal.read(&mut chunk) {
            Ok(n) if n > 0 => text.push_str(&String::from_utf8_lossy(&chunk[..n])),
            // EIO: the other side has closed it.
            _ => panic!("{what:?} never came: {text:?}"),
        }
    }
    text
}

#[test]
fn the_terminal_comes_over_the_console_socket() {
    if !needs_root() {
        return;
    }
    let bench = with_terminal(&["/bin/sh", "-c", "read line; echo \"<$line>\"; sleep 1000"]);
    let path = bench.path("console");
    let listener = UnixListener::bind(&path).unwrap();
    bench
        .run(&["create", "--console-socket", path.to_str().unwrap(), "t1"])
        .ok();
    let (socket, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let mut data = [IoSliceMut::new(&mut name)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut data,
        Some(&mut space),
        MsgFlags::empty(),
    );
    let message = message.unwrap();
    let Some(ControlMessageOwned::ScmRights(fds)) = message.cmsgs().unwrap().next() else {
        panic!("no descriptor came");
    };
    // SAFETY: the kernel has just made this descriptor for this process.
    let mut master = unsafe { File::from_raw_fd(fds[0]) };
    bench.run(&["start", "t1"]).ok();
    master.write_all(b"over here\n").unwrap();
    read_until(&mut master, "<over here>");
}

#[test]
fn a_terminal_without_a_socket_needs_the_foreground() {
    if !needs_root() {
        return;
    }
    let bench = with_terminal(&["/bin/true"]);
    for words in [&["create", "t"][..], &["run", "-d", "t"]] {
        let got = bench.run(words);
        assert_eq!(got.code(), 1, "{words:?}");
        assert!(got.stderr.contains("cannot allocate tty"), "{}", got.stderr);
        bench.assert_nothing_left("no terminal");
    }
    let got = bench.run(&["run", "--console-socket", "/no/socket", "t"]);
    assert!(
        got.stderr.contains("cannot use console socket"),
        "{}",
        got.stderr
    );
}

/// Starts the program on a terminal of its own and returns the other end.
fn on_terminal(bench: &Bench, words: &[&str]) -> (File, std::process::Child) {
    let size = Winsize {
        ws_row: 33,
        ws_col: 77,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
    let mut command = bench.command(words);
    let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
    command
        .stdin(copy(&slave))
        .stdout(copy(&slave))
        .stderr(slave);
    // SAFETY: setsid is async-signal-safe and has no preconditions.
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into));
    }
    let child = command.spawn().unwrap();
    (File::from(master), child)
}

#[test]
fn run_relays_its_own_terminal() {
    if !needs_root() {
        return;
    }
    let script = "stty size; read line; echo \"<$line>\"; exit 6";
    let bench = with_terminal(&["/bin/sh", "-c", script]);
    let (mut master, child) = on_terminal(&bench, &["run", "t"]);
    read_until(&mut master, "33 77");
    master.write_all(b"typed\n").unwrap();
    read_until(&mut master, "<typed>");
    assert_eq!(wait(child).code(), Some(6));
    bench.assert_nothing_left("run");
}

#[test]
fn exec_relays_its_own_terminal() {
    if !needs_root() {
        return;
    }
    let bench = Bench::new(&["/bin/sleep", "1000"]);
    bench.run(&["run", "-d", "c1"]).ok();
    let script = "read line; stty size; echo \"<$line>\"; exit 4";
    let (mut master, child) = on_terminal(&bench, &["exec", "-t", "c1", "sh", "-c", script]);
    master.write_all(b"typed\n").unwrap();
    let text = read_until(&mut master, "<typed>");
    assert!(text.contains("33 77"), "{text}");
    assert_eq!(wait(child).code(), Some(4));
}
