//! FIFOs, files and `/dev/null`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::IoError;

/// `/dev/null` for reading and writing.
pub(super) fn null() -> Result<OwnedFd, IoError> {
    let path = Path::new("/dev/null");
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map(Into::into)
        .map_err(open_error(path))
}

fn open_error(path: &Path) -> impl FnOnce(io::Error) -> IoError {
    let path = path.to_owned();
    move |source| IoError::Open { path, source }
}

/// Opens one end of a FIFO without waiting for the other.
fn end(path: &Path, write: bool) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    options
        .read(!write)
        .write(write)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options.open(path).map(Into::into)
}

/// Makes reads and writes return at once.
pub(super) fn make_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Makes reads and writes wait, as a program that inherits the descriptor expects.
fn make_blocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags.difference(OFlag::O_NONBLOCK)))?;
    Ok(())
}

/// Opens stdin: the reading end, and a writing end that holds off the end of file.
pub(super) fn open_stdin(path: &str, nonblocking: bool) -> Result<(OwnedFd, OwnedFd), IoError> {
    let path = Path::new(path);
    let open = || {
        // The reading end first: without a reader, a writing end cannot be opened at once.
        let reader = end(path, false)?;
        let writer = end(path, true)?;
        if !nonblocking {
            make_blocking(&reader)?;
        }
        Ok((reader, writer))
    };
    open().map_err(open_error(path))
}

/// Where stdout or stderr goes.
#[derive(Debug)]
pub(super) enum Output {
    /// The writing end of a FIFO, and a reading end that holds off SIGPIPE.
    Fifo(OwnedFd, OwnedFd),
    /// A log file.
    Log(OwnedFd),
    /// What containerd named and is no FIFO.
    Other(OwnedFd),
}

/// Opens stdout or stderr. With a terminal its output is copied by the event loop, which a plain file would
/// stop: that is a log then.
pub(super) fn open_output(target: &str, nonblocking: bool) -> Result<Output, IoError> {
    let path = match target.split_once("://") {
        None => PathBuf::from(target),
        Some(("fifo", path)) => PathBuf::from(path),
        Some(("file", path)) => return log_file(target, path),
        Some(_) => {
            return Err(IoError::Scheme {
                uri: target.to_owned(),
            });
        }
    };
    let open = || {
        if !fs::metadata(&path)?.file_type().is_fifo() {
            let file = OpenOptions::new()
                .append(true)
                .custom_flags(libc::O_NOCTTY)
                .open(&path)?;
            let is_log = nonblocking && file.metadata()?.is_file();
            return Ok(match is_log {
                true => Output::Log(file.into()),
                false => Output::Other(file.into()),
            });
        }
        let reader = end(&path, false)?;
        let writer = end(&path, true)?;
        if !nonblocking {
            make_blocking(&writer)?;
        }
        Ok(Output::Fifo(writer, reader))
    };
    open().map_err(open_error(&path))
}

/// The null device's number, whatever its name.
const NULL: libc::dev_t = libc::makedev(1, 3);

/// Opens a log file for appending, making the directories above it. Never waits, whatever is there. The null
/// device takes what nobody wants; anything else that is no regular file is refused.
fn log_file(uri: &str, path: &str) -> Result<Output, IoError> {
    let path = PathBuf::from(super::logger::unescape(uri, path)?);
    if !path.is_absolute() {
        return Err(IoError::Uri {
            uri: uri.to_owned(),
        });
    }
    let open = || -> io::Result<File> {
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)?;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o644)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(&path)
    };
    match open().and_then(|file| Ok((file.metadata()?, file))) {
        Ok((found, file)) if found.is_file() => Ok(Output::Log(file.into())),
        Ok((found, _)) if found.file_type().is_char_device() && found.rdev() == NULL => {
            null().map(Output::Other)
        }
        Ok(_) => Err(IoError::NoFile { path }),
        // A FIFO that nobody reads, or a socket.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Err(IoError::NoFile { path }),
        Err(error) => Err(open_error(&path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use nix::sys::stat::Mode;

    use super::*;

    fn fifo() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path)
    }

    #[test]
    fn stdin_ends_only_after_both_writers_are_gone() {
        let (_dir, path) = fifo();
        let (reader, held) = open_stdin(&path, true).unwrap();
        let mut client = File::from(end(Path::new(&path), true).unwrap());
        client.write_all(b"x").unwrap();
        drop(client);
        let mut reader = File::from(reader);
        let mut byte = [0; 1];
        assert_eq!(reader.read(&mut byte).unwrap(), 1);
        let waiting = reader.read(&mut byte).unwrap_err();
        assert_eq!(waiting.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        assert_eq!(reader.read(&mut byte).unwrap(), 0);
    }

    #[test]
    fn output_waits_for_a_reader_that_comes_later() {
        let (_dir, path) = fifo();
        let Output::Fifo(writer, _reader) = open_output(&path, false).unwrap() else {
            panic!("not taken for a FIFO");
        };
        File::from(writer).write_all(b"kept").unwrap();
        let mut client = File::from(end(Path::new(&path), false).unwrap());
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
    }

    #[test]
    fn files_are_appended_to_and_their_directories_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b/c/log");
        let uri = format!("file://{}", path.to_str().unwrap().replace(' ', "%20"));
        for _ in 0..2 {
            let Output::Log(file) = open_output(&uri, false).unwrap() else {
                panic!("not taken for a log");
            };
            File::from(file).write_all(b"line\n").unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), b"line\nline\n");
    }

    /// A FIFO without a reader must not make the shim wait.
    #[test]
    fn what_is_no_file_is_refused_as_a_log() {
        let (_dir, path) = fifo();
        for readers in 0..2 {
            let reader = (readers > 0).then(|| end(Path::new(&path), false).unwrap());
            let refused = open_output(&format!("file://{path}"), false);
            assert!(matches!(refused, Err(IoError::NoFile { .. })), "{reader:?}");
        }
        for device in ["zero", "full", "random"] {
            let refused = open_output(&format!("file:///dev/{device}"), false);
            assert!(matches!(refused, Err(IoError::NoFile { .. })), "{device}");
        }
    }

    /// Engines name it where nobody wants the output.
    #[test]
    fn the_null_device_is_a_log_that_keeps_nothing() {
        for terminal in [false, true] {
            let Output::Other(null) = open_output("file:///dev/null", terminal).unwrap() else {
                panic!("taken for a file");
            };
            let null = File::from(null);
            assert_eq!(null.metadata().unwrap().rdev(), NULL);
            (&null).write_all(b"nothing").unwrap();
        }
    }

    #[test]
    fn unknown_schemes_and_missing_fifos_are_errors() {
        assert!(matches!(
            open_output("npipe://x", false),
            Err(IoError::Scheme { .. })
        ));
        assert!(matches!(
            open_output("file://a/b", false),
            Err(IoError::Uri { .. })
        ));
        assert!(matches!(
            open_output("/nonexistent/f", false),
            Err(IoError::Open { .. })
        ));
        assert!(matches!(
            open_stdin("/nonexistent/f", false),
            Err(IoError::Open { .. })
        ));
    }
}
