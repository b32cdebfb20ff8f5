//! Pseudo-terminals.

use std::io::{IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::json;

use crate::bundle::{Bundle, needs_root};

/// Hands one end of a socket pair to the command and gives the other.
fn with_console(command: &mut Command) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = theirs.into_raw_fd();
    // SAFETY: the descriptor was just released by its owner.
    #[expect(unsafe_code, reason = "a descriptor that the command inherits")]
    let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    command.env("LIFE_CONSOLE", theirs.as_raw_fd().to_string());
    // It must stay open until the command has started.
    std::mem::forget(theirs);
    ours
}

/// What arrives on the console socket.
fn receive(socket: &UnixStream) -> (Vec<u8>, std::fs::File) {
    let mut name = [0; 64];
    let mut space = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(&mut name)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::empty(),
    )
    .unwrap();
    let master = message.cmsgs().unwrap().find_map(|part| match part {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let length = message.bytes;
    // SAFETY: the kernel has just made this descriptor for us.
    #[expect(unsafe_code, reason = "a received descriptor has no other owner")]
    let master = unsafe { std::fs::File::from_raw_fd(master.expect("a master")) };
    (name[..length].to_vec(), master)
}

/// Reads the terminal until it has said `end`, or until all of its users are gone.
fn read_until(master: &mut std::fs::File, end: &str) -> String {
    let mut said = String::new();
    let mut buffer = [0; 1024];
    while !said.contains(end) {
        match master.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => said.push_str(&String::from_utf8_lossy(&buffer[..length])),
        }
    }
    said
}

#[test]
fn init_has_a_terminal_of_the_containers_own_devpts() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new()
        .script("tty; stty size; stat -c '%u %g %a' /dev/pts/0; id > /dev/console; read x; echo got $x; sleep 100")
        .with("/process/terminal", json!(true))
        .with("/process/consoleSize", json!({"height": 40, "width": 100}))
        .with("/process/user", json!({"uid": 1000, "gid": 1000}));
    let mut create = bundle.command("create", &[]);
    let socket = with_console(&mut create);
    let said = create.output().unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let (name, mut master) = receive(&socket);
    assert_eq!(name, b"/dev/ptmx");
    assert_eq!(bundle.life("start", &[]).status, 0);
    master.write_all(b"hello\n").unwrap();
    let said = read_until(&mut master, "got hello\r\n");
    assert!(said.contains("/dev/pts/0\r\n"), "{said}");
    assert!(said.contains("40 100\r\n"), "{said}");
    assert!(said.contains("1000 5 620\r\n"), "{said}");
    assert!(said.contains("uid=1000"), "{said}");
    assert!(said.contains("got hello\r\n"), "{said}");
}

#[test]
fn an_execed_process_has_one_too() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new().up();
    let process = json!({
        "terminal": true, "consoleSize": {"height": 11, "width": 22},
        "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"], "noNewPrivileges": true,
        "args": ["sh", "-c", "tty; stty size; echo done"],
    });
    let mut exec = bundle.command("exec", &[]);
    exec.env("LIFE_PROCESS", process.to_string());
    let socket = with_console(&mut exec);
    let mut running = exec.spawn().unwrap();
    let (_, mut master) = receive(&socket);
    let said = read_until(&mut master, "done");
    assert!(running.wait().unwrap().success());
    assert!(said.contains("/dev/pts/0\r\n11 22\r\ndone"), "{said}");
}

/// CVE-2025-52565, CVE-2025-52881: what is at `/dev/pts` decides nothing unless it is a devpts.
#[test]
fn a_fake_devpts_gets_no_terminal() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new().with("/process/terminal", json!(true)).with(
        "/mounts/2",
        json!({"destination": "/dev/pts", "type": "tmpfs", "source": "tmpfs",
                                  "options": ["nosuid", "noexec"]}),
    );
    let mut create = bundle.command("create", &[]);
    let _socket = with_console(&mut create);
    let said = create.output().unwrap();
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(error.contains("not a devpts"), "{error}");
    bundle.assert_gone();
}
