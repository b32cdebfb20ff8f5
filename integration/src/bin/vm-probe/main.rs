//! The first process of the guests in `tests/microvm`: does what the host asks for over vsock. A connection is for
//! one request, a line.

#![expect(clippy::print_stdout, reason = "the console is what is tested")]

/// Mappings, locks and mounts of shared files.
mod files;
/// The guest's network.
mod network;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, accept, bind, connect, listen, socket,
};
use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};

/// Where the host finds it.
const PORT: u32 = 1024;

/// Where the tests put it, with the first share mounted at `/share`.
const SHELL: &str = "/share/busybox";

fn main() {
    println!("{}", cofferdam_vmm::console::BOOTED);
    if let Err(error) = serve() {
        println!("vm-probe: {error}");
    }
    // The end of the first process is the kernel's panic.
}

fn serve() -> io::Result<()> {
    for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(place)?;
        mount(
            Some(kind),
            place,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )?;
    }
    if fs::read_to_string("/proc/cmdline")?.contains("probe.script") {
        return run_script();
    }
    let listener = stream_socket()?;
    bind(
        listener.as_raw_fd(),
        &VsockAddr::new(libc::VMADDR_CID_ANY, PORT),
    )?;
    listen(&listener, Backlog::new(64)?)?;
    loop {
        let accepted = accept(listener.as_raw_fd())?;
        // SAFETY: the call gave a new descriptor, which nothing else owns.
        #[expect(unsafe_code, reason = "a descriptor from accept")]
        let stream = unsafe { File::from_raw_fd(accepted) };
        thread::spawn(move || {
            let mut writer = match stream.try_clone() {
                Ok(writer) => writer,
                Err(error) => return println!("vm-probe: {error}"),
            };
            if let Err(error) = answer(stream, &mut writer) {
                // The host may have gone.
                drop(writeln!(writer, "error: {error}"));
            }
        });
    }
}

/// Runs `/script` of the share `files`, as the root file system, and ends the machine.
fn run_script() -> io::Result<()> {
    let place = "/files";
    fs::create_dir_all(place)?;
    let kind = Some("virtiofs");
    mount(Some("files"), place, kind, MsFlags::empty(), None::<&str>)?;
    let (proc, dev) = (format!("{place}/proc"), format!("{place}/dev"));
    mount(
        Some("/proc"),
        &*proc,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    mount(
        Some("/dev"),
        &*dev,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    std::os::unix::fs::chroot(place)?;
    std::env::set_current_dir("/")?;
    let status = Command::new("/bin/sh").arg("/script").status()?;
    println!("vm-probe: the script ended: {status}");
    reboot(RebootMode::RB_AUTOBOOT)?;
    Ok(())
}

fn stream_socket() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Vsock,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

fn answer(stream: File, to: &mut File) -> io::Result<()> {
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    from.read_line(&mut line)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["echo"] => io::copy(&mut from, to).map(drop),
        // Takes nothing in: what the host sends piles up as far as it may.
        ["deaf"] => loop {
            thread::park();
        },
        ["file", path] => io::copy(&mut File::open(path)?, to).map(drop),
        // All at once: the kernel spreads such a piece over pages.
        ["burst", count] => {
            let count = count.parse().map_err(io::Error::other)?;
            to.write_all(&vec![b'x'; count])
        }
        ["random", count] => {
            let count = count.parse().map_err(io::Error::other)?;
            io::copy(&mut File::open("/dev/hwrng")?.take(count), to).map(drop)
        }
        ["put", path, at, text] => {
            let mut file = OpenOptions::new().write(true).open(path)?;
            file.seek(io::SeekFrom::Start(at.parse().map_err(io::Error::other)?))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            writeln!(to, "done")
        }
        ["mount", tag, place] => {
            fs::create_dir_all(place)?;
            let kind = Some("virtiofs");
            mount(Some(*tag), *place, kind, MsFlags::empty(), None::<&str>)?;
            writeln!(to, "done")
        }
        // The rest of the line, for the shell in a share.
        ["sh", user, ..] => {
            let script = line.split_once(user).unwrap_or_default().1;
            let user = user.parse().map_err(io::Error::other)?;
            let mut shell = Command::new(SHELL);
            shell.args(["sh", "-c", script]).uid(user).gid(user);
            let done = shell.output()?;
            to.write_all(&done.stdout)?;
            to.write_all(&done.stderr)?;
            match done.status.code() {
                Some(0) => Ok(()),
                status => writeln!(to, "exit {status:?}"),
            }
        }
        ["set-attribute", path, name, value] => {
            setxattr(*path, *name, value.as_bytes(), XattrFlags::empty())?;
            writeln!(to, "done")
        }
        ["attribute", path, name] => {
            let mut value = vec![0; 1 << 16];
            let size = getxattr(*path, *name, &mut value[..])?;
            to.write_all(value.get(..size).unwrap_or_default())
        }
        ["attributes", path] => {
            let mut names = vec![0; 1 << 16];
            let size = listxattr(*path, &mut names[..])?;
            to.write_all(names.get(..size).unwrap_or_default())
        }
        ["map", path, text] => {
            files::map(path, text.as_bytes())?;
            writeln!(to, "done")
        }
        ["lock", path] => writeln!(to, "{}", files::lock(path)?),
        ["mount-mapped", source, place, process] => {
            files::mount_mapped(source, place, process)?;
            writeln!(to, "done")
        }
        ["call-socket", path] => {
            let listener = UnixListener::bind(path)?;
            let mut client = UnixStream::connect(path)?;
            client.write_all(b"through\n")?;
            drop(client);
            io::copy(&mut listener.accept()?.0, to).map(drop)
        }
        ["call-host", port] => {
            let port = port.parse().map_err(io::Error::other)?;
            let socket = stream_socket()?;
            connect(
                socket.as_raw_fd(),
                &VsockAddr::new(libc::VMADDR_CID_HOST, port),
            )?;
            // Kept open for as long as the guest runs.
            let _ = socket.into_raw_fd();
            writeln!(to, "done")
        }
        // The rest of the line, as the host read it.
        ["network", ..] => {
            network::set(line.trim_start_matches("network"))?;
            writeln!(to, "done")
        }
        ["network-read"] => network::read(to),
        ["ping", address, size] => network::ping(address, size, to),
        // What comes is sent back until the other end is at its end.
        ["listen", port] => network::listen(port, to),
        ["dial", place] => network::dial(place, from, to),
        ["send", place, size] => network::send(place, size, to),
        // Takes so many MiB, and leaves them again.
        ["touch", size] => {
            let size: usize = size.parse().map_err(io::Error::other)?;
            let bytes = vec![0x5a_u8; size << 20];
            let sum = std::hint::black_box(&bytes).iter().step_by(4096).count();
            drop(bytes);
            writeln!(to, "{sum}")
        }
        ["flood", count] => {
            let count = count.parse().map_err(io::Error::other)?;
            let mut console = OpenOptions::new().write(true).open("/dev/console")?;
            for _ in 0..count {
                console.write_all(&[b'x'; 63])?;
                console.write_all(b"\n")?;
            }
            writeln!(to, "done")
        }
        ["reset"] => {
            reboot(RebootMode::RB_AUTOBOOT)?;
            Ok(())
        }
        ["panic"] => std::process::exit(1),
        _ => Err(io::Error::other(format!("no such request: {line:?}"))),
    }
}
