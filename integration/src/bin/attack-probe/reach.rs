//! Reaches for files, ports, devices and neighbours.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{Outcome, raw, stopped, worked};

/// The first byte; an empty file is read, too.
pub(super) fn read(path: &str) -> Outcome {
    let read = fs::File::open(path).and_then(|mut file| file.read(&mut [0; 1]));
    read.map_or_else(stopped, worked)
}

pub(super) fn list(path: &str) -> Outcome {
    fs::read_dir(path).map_or_else(stopped, worked)
}

/// Makes a file, and removes it.
pub(super) fn create(path: &str) -> Outcome {
    fs::File::create_new(path)
        .and_then(|_| fs::remove_file(path))
        .map_or_else(stopped, worked)
}

/// Truncates a file by its path, to the length that it has.
pub(super) fn truncate(path: &str) -> Outcome {
    let length = fs::metadata(path).map_or(0, |found| found.len());
    let length = i64::try_from(length).unwrap_or(0);
    nix::unistd::truncate(path, length).map_or_else(stopped, worked)
}

/// Opens a device and asks for the attributes of a terminal: "not a terminal" is an answer.
pub(super) fn command(path: &str) -> Outcome {
    let file = fs::File::open(path).map_err(|e| e.to_string())?;
    match raw::terminal_attributes(file.as_raw_fd()) {
        Ok(()) => worked(()),
        Err(nix::errno::Errno::ENOTTY) => worked(()),
        Err(errno) => stopped(errno),
    }
}

fn local(port: &str) -> Result<SocketAddr, String> {
    let port = port.parse().map_err(|_| "no port".to_owned())?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

pub(super) fn bind(port: &str) -> Outcome {
    TcpListener::bind(local(port)?).map_or_else(stopped, worked)
}

/// A refusal comes from the other end: the attempt was let through.
pub(super) fn connect(port: &str) -> Outcome {
    match TcpStream::connect_timeout(&local(port)?, Duration::from_secs(5)) {
        Ok(_) => worked(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => worked(()),
        Err(error) => stopped(error),
    }
}

/// Whether a signal would reach a process.
pub(super) fn signal(pid: &str) -> Outcome {
    let pid = pid.parse().map_err(|_| "no pid".to_owned())?;
    kill(Pid::from_raw(pid), None).map_or_else(stopped, worked)
}

/// Listens on an abstract socket for good.
pub(super) fn listen_abstract(name: &str) -> Outcome {
    let address = UnixAddr::from_abstract_name(name).map_err(|e| e.to_string())?;
    let listener = UnixListener::bind_addr(&address).map_err(|e| e.to_string())?;
    loop {
        let _ = listener.accept();
    }
}

pub(super) fn connect_abstract(name: &str) -> Outcome {
    let address = UnixAddr::from_abstract_name(name).map_err(|e| e.to_string())?;
    UnixStream::connect_addr(&address).map_or_else(stopped, worked)
}
