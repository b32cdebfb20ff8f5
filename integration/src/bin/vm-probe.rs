//! The first process of the guests in `tests/microvm`: does what the host asks for over vsock. A connection is for
//! one request, a line.

#![expect(clippy::print_stdout, reason = "the console is what is tested")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, accept, bind, connect, listen, socket,
};

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
