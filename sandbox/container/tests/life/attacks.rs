//! What one container process could try on us or on its neighbours. Where that is safe, a control
//! shows that the attack works when the protection is off.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::json;

use crate::bundle::{Bundle, life, needs_root};

fn field(status: &str, name: &str) -> String {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name} in {status}"))
        .trim()
        .to_owned()
}

/// Some runtimes lose the filter on exec: their init shows `Seccomp: 2`, their exec 0.
#[test]
fn an_execed_process_is_confined_like_init() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new().up();
    let init = fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap();
    let exec = bundle.exec("cat /proc/self/status").out;
    for name in [
        "Seccomp",
        "Seccomp_filters",
        "NoNewPrivs",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
    ] {
        assert_eq!(field(&init, name), field(&exec, name), "{name}");
    }
    assert_eq!(field(&exec, "Seccomp"), "2");
    assert_eq!(field(&exec, "NoNewPrivs"), "1");
    // CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID and nothing else.
    assert_eq!(field(&exec, "CapBnd"), "00000000000000e1");
    let unshared = bundle.exec("busybox unshare -m true");
    assert_ne!(unshared.status, 0);
    let ours = bundle
        .exec("for k in cgroup ipc mnt net pid uts user; do readlink /proc/self/ns/$k; done")
        .out;
    let theirs: String = ["cgroup", "ipc", "mnt", "net", "pid", "uts", "user"]
        .iter()
        .map(|kind| {
            let link = fs::read_link(format!("/proc/{}/ns/{kind}", bundle.pid())).unwrap();
            format!("{}\n", link.display())
        })
        .collect();
    assert_eq!(ours, theirs);
}

#[test]
fn an_execed_process_cannot_ask_for_more_capabilities() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new().up();
    let sets = json!(["CAP_SYS_ADMIN", "CAP_KILL"]);
    let process = json!({
        "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
        "args": ["cat", "/proc/self/status"], "noNewPrivileges": false,
        "capabilities": {"bounding": sets, "effective": sets, "permitted": sets},
    });
    let said = bundle
        .command("exec", &[])
        .env("LIFE_PROCESS", process.to_string())
        .output()
        .unwrap();
    // The policy may refuse or take away: never grant.
    if said.status.success() {
        let status = String::from_utf8(said.stdout).unwrap();
        let bounding = u64::from_str_radix(&field(&status, "CapBnd"), 16).unwrap();
        assert_eq!(bounding & !0xe1, 0, "{status}");
        assert_eq!(field(&status, "NoNewPrivs"), "1");
    }
}

/// CVE-2024-21626: a descriptor of a host directory that leaks in is a way out, by itself or as the
/// working directory.
#[test]
fn descriptors_of_the_caller_do_not_leak_and_are_no_working_directory() {
    if !needs_root() {
        return;
    }
    let host = fs::File::open("/").unwrap();
    fcntl(&host, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let number = host.as_raw_fd();
    let list = "ls -l /proc/self/fd";
    // The control: the descriptor does reach a program that nobody protects.
    let control = std::process::Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .output()
        .unwrap();
    let control = String::from_utf8(control.stdout).unwrap();
    assert!(
        control
            .lines()
            .any(|l| l.contains(&format!(" {number} -> /"))),
        "{control}"
    );

    let bundle = Bundle::new().script(list);
    let said = bundle.run();
    // 0, 1, 2 and the directory that ls itself reads.
    let beyond = |out: &str| out.lines().filter(|l| l.contains(" -> ")).count() > 4;
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(!beyond(&said.out), "{}", said.out);
    for cwd in [
        format!("/proc/self/fd/{number}"),
        format!("/proc/1/fd/{number}"),
    ] {
        let bundle = Bundle::new().with("/process/cwd", json!(cwd));
        let created = bundle.create();
        assert!(created.err.contains("chdir to cwd"), "{}", created.err);
        bundle.assert_gone();
    }
    let bundle = Bundle::new().up();
    assert!(!beyond(&bundle.exec(list).out));
    for number in 3..20 {
        let process = json!({
            "user": {"uid": 0, "gid": 0}, "cwd": format!("/proc/self/fd/{number}"),
            "env": ["PATH=/bin"], "args": ["ls", "-a", "../../../etc/shadow", "home"],
            "noNewPrivileges": true,
        });
        let said = bundle
            .command("exec", &[])
            .env("LIFE_PROCESS", process.to_string())
            .output()
            .unwrap();
        assert!(
            !said.status.success(),
            "cwd by descriptor {number} was taken"
        );
    }
}

/// A neighbour in a shared pid namespace sees our process before it has executed the container's
/// program; it must not look into it. After that it is an ordinary process.
#[test]
fn a_neighbour_cannot_look_into_init_before_its_program() {
    if !needs_root() {
        return;
    }
    let pod = Bundle::new().up();
    let path = format!("/proc/{}/ns/pid", pod.pid());
    let bundle = Bundle::new().with("/linux/namespaces/0", json!({"type": "pid", "path": path}));
    assert_eq!(bundle.create().status, 0, "{}", bundle.output());
    let inner = fs::read_to_string(format!("/proc/{}/status", bundle.pid())).unwrap();
    let inner = field(&inner, "NSpid")
        .rsplit('\t')
        .next()
        .unwrap()
        .to_owned();
    let look = format!(
        "cat /proc/{inner}/environ >/dev/null && ls /proc/{inner}/fd/ && readlink /proc/{inner}/exe"
    );
    let before = pod.exec(&look);
    assert_ne!(before.status, 0, "{}", before.out);
    assert!(
        before.err.to_lowercase().contains("permission denied"),
        "{}",
        before.err
    );
    assert_eq!(bundle.life("start", &[]).status, 0);
    let after = pod.exec(&look);
    assert_eq!(after.status, 0, "the control: {}", after.err);
}

/// CVE-2019-5736: the container opens our executable through `/proc/PID/exe` while we are about to
/// execute its program, waits until that is done, and writes to the file.
#[test]
fn our_executable_cannot_be_overwritten() {
    if !needs_root() {
        return;
    }
    // A scratch copy is the victim, in both cases.
    let attack = |protected: bool| {
        let bundle = Bundle::new();
        let victim = bundle.path().join("victim");
        fs::copy(life(), &victim).unwrap();
        let mut create = bundle.command_of(&victim, "create", &[]);
        if !protected {
            create.env("LIFE_UNPROTECTED", "1");
        }
        let out = fs::File::create(bundle.path().join("output")).unwrap();
        assert!(create.stdout(out).status().unwrap().success());
        let exe = fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(format!("/proc/{}/exe", bundle.pid()))
            .unwrap();
        assert_eq!(bundle.life("start", &[]).status, 0);
        let write = || {
            fs::OpenOptions::new()
                .write(true)
                .open(format!("/proc/self/fd/{}", exe.as_raw_fd()))
                .and_then(|mut file| file.write_all(b"#!/evil"))
        };
        // Busy as long as init has not executed its program.
        let busy = |done: &std::io::Result<()>| {
            let errno = done.as_ref().err().and_then(std::io::Error::raw_os_error);
            errno == Some(libc::ETXTBSY)
        };
        let mut written = write();
        for _ in 0..200 {
            if busy(&written) {
                std::thread::sleep(std::time::Duration::from_millis(10));
                written = write();
            }
        }
        let changed = fs::read(&victim).unwrap().starts_with(b"#!/evil");
        (written, changed)
    };
    let (written, changed) = attack(false);
    assert!(written.is_ok() && changed, "the control: {written:?}");
    let (written, changed) = attack(true);
    let errno = written.expect_err("must fail").raw_os_error();
    assert!(!changed);
    assert!(
        matches!(errno, Some(libc::EROFS | libc::EPERM)),
        "{errno:?}"
    );
}

/// The caller's session keyring, umask, ignored signals and process group are the caller's.
#[test]
fn nothing_of_the_callers_is_inherited() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new().script("grep -E '^Sig(Ign|Blk)' /proc/self/status; cat /proc/keys");
    let mut run = bundle.command("run", &[]);
    run.process_group(0);
    let said = run.output().unwrap();
    let out = String::from_utf8(said.stdout).unwrap();
    // Rust's own run time ignores SIGPIPE.
    assert!(out.contains("SigIgn:\t0000000000000000"), "{out}");
    assert!(out.contains("SigBlk:\t0000000000000000"), "{out}");
}

/// A path that names no namespace, or the wrong one, or waits for ever, is not opened blindly.
#[test]
fn namespace_paths_are_checked() {
    if !needs_root() {
        return;
    }
    let bundle = Bundle::new();
    let fifo = bundle.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [
        fifo.as_path(),
        Path::new("/dev/null"),
        Path::new("/proc/self/ns/mnt"),
        Path::new("/nope"),
    ] {
        let bundle =
            Bundle::new().with("/linux/namespaces/2", json!({"type": "ipc", "path": path}));
        let created = bundle.create();
        assert!(created.err.contains("ipc"), "{}", created.err);
        bundle.assert_gone();
    }
}
