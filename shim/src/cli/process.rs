//! Descriptors, console sockets and ids: what create, run and exec have in common.

use std::env;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use cofferdam_container::ContainerId;
use oci_spec::runtime::Process;

use super::flags::Words;
use super::{CliError, log};

/// The container id that is the first plain word, named in the log from here on.
pub(super) fn container_id(words: &Words) -> Result<ContainerId, CliError> {
    let word = words
        .plain
        .first()
        .map_or(OsStr::new(""), |word| word.as_os_str());
    let text = word
        .to_str()
        .ok_or_else(|| CliError::NotText(word.to_string_lossy().into_owned()))?;
    let id = ContainerId::parse(text)?;
    log::name_container(id.as_str());
    Ok(id)
}

/// Connects to the socket that gets the terminal's master.
pub(super) fn connect_console(path: &Path) -> Result<OwnedFd, CliError> {
    let stream = UnixStream::connect(path).map_err(|source| CliError::File {
        action: "connect to the console socket",
        path: path.to_owned(),
        source,
    })?;
    Ok(stream.into())
}

/// Whether the terminal that the process wants fits what the caller does with it.
pub(super) fn check_terminal(
    terminal: bool,
    detach: bool,
    console_socket: bool,
) -> Result<(), CliError> {
    match (terminal, detach, console_socket) {
        (true, true, false) => Err(CliError::Usage(
            "cannot allocate tty if cofferdam will detach without setting console socket",
        )),
        (false, _, true) | (_, false, true) => Err(CliError::Usage(
            "cannot use console socket if cofferdam will not detach or allocate tty",
        )),
        _ => Ok(()),
    }
}

/// How many sockets a service manager hands to this process from descriptor 3 on (sd_listen_fds(3)).
pub(super) fn listen_fds() -> u32 {
    let number = |name| {
        env::var(name)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
    };
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    }
}

/// Tells the process about the sockets it inherits; it is pid 1 of its own namespace.
pub(super) fn announce_listen_fds(process: &mut Process, count: u32) {
    if count > 0 {
        let mut env = process.env().clone().unwrap_or_default();
        env.push(format!("LISTEN_FDS={count}"));
        env.push("LISTEN_PID=1".to_owned());
        process.set_env(Some(env));
    }
}

/// The number of descriptors from 3 on that the process inherits; all that were promised by
/// `--preserve-fds` must be there.
pub(super) fn inherited_descriptors(words: &Words, listen: u32) -> Result<u32, CliError> {
    let count: u32 = words
        .parsed("preserve-fds", "a number")
        .map_err(|flag| CliError::Flag { verb: "", flag })?
        .unwrap_or(0);
    let total = listen.saturating_add(count);
    let missing = (3 + listen..)
        .take(count as usize)
        .find(|fd| !Path::new("/proc/self/fd").join(fd.to_string()).exists());
    match missing {
        Some(fd) => Err(CliError::MissingDescriptor { count, fd }),
        None => Ok(total),
    }
}
