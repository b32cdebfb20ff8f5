//! Tries to get out of a machine's jail: `jail-probe PLACE ROOT ID ATTACK [ARG]...`.
//!
//! PLACE is `free`, `jailed`, or the name of a thread whose filter confines it in the jail besides. Prints `done`, or
//! `refused: ` and why.

#![expect(unsafe_code, reason = "it makes calls that nobody else should")]

use std::fs::{self, File};
use std::io::{self, BufRead as _, Error, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use cofferdam_vmm::config::JailConfig;
use cofferdam_vmm::error::chain;
use cofferdam_vmm::filter::{self, Thread};
use cofferdam_vmm::jail::{self, Needs};
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Pid, Uid, setuid};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [place, root, id, attack, rest @ ..] = arguments.as_slice() else {
        return ExitCode::from(2);
    };
    let descriptors = match go(place, Path::new(root), id.parse().unwrap_or(0)) {
        Ok(descriptors) => descriptors,
        Err(error) => {
            answer(&format!("no jail: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match try_out(attack, rest, &descriptors) {
        Ok(()) => answer("done"),
        Err(error) => answer(&format!("refused: {error}")),
    }
    ExitCode::SUCCESS
}

/// Plain calls, which every filter lets through.
fn answer(text: &str) {
    let line = format!("{text}\n");
    // Nobody else hears of it.
    drop(io::stdout().write_all(line.as_bytes()));
}

/// Into the jail, or not.
fn go(place: &str, root: &Path, id: u32) -> io::Result<OwnedFd> {
    let fail = |error| Error::other(chain(&error));
    if place == "free" {
        // Nothing that it mounts is to be seen elsewhere.
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
        std::env::set_current_dir(root)?;
        return Ok(File::open("/proc/self/fd")?.into());
    }
    let config = JailConfig {
        uid: id,
        gid: id,
        count: 1 << 16,
        root: root.to_owned(),
    };
    let needs = Needs {
        memory: 32,
        vcpus: 1,
        files: true,
    };
    let inside = jail::enter(&config, needs, &[]).map_err(fail)?;
    if let Some(thread) = Thread::ALL
        .into_iter()
        .find(|thread| thread.name() == place)
    {
        filter::confine(thread).map_err(fail)?;
    }
    Ok(inside.descriptors)
}

fn try_out(attack: &str, rest: &[&str], descriptors: &OwnedFd) -> io::Result<()> {
    let first = rest.first().copied().unwrap_or_default();
    let number = first.parse().unwrap_or(0);
    match attack {
        "read" => File::open(first)
            .and_then(|mut file| io::Read::read(&mut file, &mut [0]))
            .map(drop),
        "write" => fs::write(first, "written"),
        "kill" => Ok(kill(Pid::from_raw(number), Signal::SIGKILL)?),
        "trace" => Ok(ptrace::attach(Pid::from_raw(number))?),
        "abstract" => UnixStream::connect_addr(&SocketAddr::from_abstract_name(first)?).map(drop),
        "tcp" => TcpStream::connect(first).map(drop),
        "mount" => {
            let none = None::<&str>;
            Ok(mount(
                Some("none"),
                first,
                Some("tmpfs"),
                MsFlags::empty(),
                none,
            )?)
        }
        "unmount" => Ok(nix::mount::umount2(
            first,
            nix::mount::MntFlags::MNT_DETACH,
        )?),
        "user-namespace" => Ok(unshare(CloneFlags::CLONE_NEWUSER)?),
        "mount-namespace" => Ok(unshare(CloneFlags::CLONE_NEWNS)?),
        "become" => Ok(setuid(Uid::from_raw(first.parse().unwrap_or(0)))?),
        "execute" => Err(Command::new(first).exec()),
        "zeros" => {
            let mode = Mode::from_bits_truncate(0o666);
            mknod(first, SFlag::S_IFCHR, mode, makedev(1, 5))?;
            File::open(first).map(drop)
        }
        "allocate" => {
            let mut bytes: Vec<u8> = Vec::new();
            let reserved = bytes.try_reserve_exact(usize::try_from(number).unwrap_or(0) << 20);
            reserved.map_err(|_| Error::from_raw_os_error(libc::ENOMEM))
        }
        "fork" => fork_often(number),
        "up" => openat(descriptors, first, OFlag::O_RDONLY, Mode::empty())
            .map(drop)
            .map_err(Error::from),
        "reopen" => {
            let file = File::open(first)?;
            let name = file.as_raw_fd().to_string();
            openat(descriptors, name.as_str(), OFlag::O_RDONLY, Mode::empty())?;
            Ok(())
        }
        "call" => call(rest),
        "hold" => {
            answer("ready");
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line)?;
            match line.trim() {
                "" => Ok(()),
                path => File::open(path).map(drop),
            }
        }
        "end" => std::process::exit(number),
        _ => Err(Error::other("no such attack")),
    }
}

/// So many children at once, all gone afterwards.
fn fork_often(count: i32) -> io::Result<()> {
    let mut outcome = Ok(());
    let mut children = Vec::new();
    for _ in 0..count {
        // SAFETY: there is one thread; the child waits for its end and does nothing else.
        match unsafe { libc::fork() } {
            -1 => {
                outcome = Err(Error::last_os_error());
                break;
            }
            0 => loop {
                // SAFETY: no conditions.
                unsafe { libc::pause() };
            },
            child => children.push(Pid::from_raw(child)),
        }
    }
    for child in children {
        kill(child, Signal::SIGKILL)?;
        nix::sys::wait::waitpid(child, None)?;
    }
    outcome
}

/// A system call with these numbers for arguments.
fn call(rest: &[&str]) -> io::Result<()> {
    let mut words = rest.iter().map(|word| word.parse().unwrap_or(-1));
    let mut next = || words.next().unwrap_or(-1);
    let all: [libc::c_long; 6] = std::array::from_fn(|_| next());
    let [number, a, b, c, d, e] = all;
    // SAFETY: the tests give numbers that are no addresses of anything.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result == -1 {
        return Err(Error::last_os_error());
    }
    Ok(())
}
