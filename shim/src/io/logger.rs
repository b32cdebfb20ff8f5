//! Programs that take a container's output (`binary:///PATH?KEY=VALUE`).
//!
//! The protocol is containerd's (its `runtime/v2/logging` package): the program gets stdout as fd 3,
//! stderr as fd 4, and closes fd 5 once it is ready; `CONTAINER_ID` and `CONTAINER_NAMESPACE` are in
//! its environment, the query's keys and values are its arguments. It sees the end of its input when
//! the container's last process has closed its output, and is then expected to exit.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use super::{IoError, Owner, fifo};
use crate::sys;

/// How long a logger may take to say that it is ready.
const READY_SECONDS: u16 = 10;

/// A logger as its URI names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    path: PathBuf,
    args: Vec<String>,
}

/// Resolves `%XX` escapes of a URI.
pub(super) fn unescape(uri: &str, part: &str) -> Result<String, IoError> {
    let bad = || IoError::Uri {
        uri: uri.to_owned(),
    };
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or_else(bad)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(bad());
        }
        let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

impl Program {
    /// Reads a `binary://` URI; anything else is `None`.
    pub(super) fn parse(uri: &str) -> Result<Option<Self>, IoError> {
        let Some(rest) = uri.strip_prefix("binary://") else {
            return Ok(None);
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = unescape(uri, path)?;
        if !path.starts_with('/') {
            return Err(IoError::Uri {
                uri: uri.to_owned(),
            });
        }
        let mut args = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let pair = pair.replace('+', " ");
            let (key, value) = pair.split_once('=').unwrap_or((&pair, ""));
            for part in [key, value] {
                if !part.is_empty() {
                    args.push(unescape(uri, part)?);
                }
            }
        }
        Ok(Some(Self {
            path: path.into(),
            args,
        }))
    }

    /// Executes the program and waits until it is ready. Returns the ends the container writes to.
    pub(super) fn run(&self, owner: Owner<'_>) -> Result<(OwnedFd, OwnedFd), IoError> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(std::io::Error::from);
        let (out_reader, out_writer) = pipe()?;
        let (err_reader, err_writer) = pipe()?;
        let (ready_reader, ready_writer) = pipe()?;
        let null = fifo::null()?;
        let failed = |source| IoError::Logger {
            path: self.path.clone(),
            source,
        };
        self.spawn(
            owner,
            &[
                (&null, 0),
                (&null, 1),
                (&null, 2),
                (&out_reader, 3),
                (&err_reader, 4),
                (&ready_writer, 5),
            ],
        )
        .map_err(failed)?;
        drop(ready_writer);
        let mut waiting = [PollFd::new(ready_reader.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::from(READY_SECONDS.saturating_mul(1000));
        // Readable is a byte or the end of file: either way the logger closed or wrote fd 5.
        match poll(&mut waiting, timeout) {
            Ok(0) => Err(IoError::LoggerSilent {
                path: self.path.clone(),
                seconds: READY_SECONDS,
            }),
            Ok(_) => Ok((out_writer, err_writer)),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    fn spawn(&self, owner: Owner<'_>, fds: &[(&OwnedFd, i32)]) -> std::io::Result<i32> {
        let program = sys::c_string(self.path.as_os_str().as_encoded_bytes())?;
        let mut args = vec![program.clone()];
        for arg in &self.args {
            args.push(sys::c_string(arg.as_bytes())?);
        }
        let env: Vec<CString> = vec![
            sys::c_string(format!("CONTAINER_ID={}", owner.id).as_bytes())?,
            sys::c_string(format!("CONTAINER_NAMESPACE={}", owner.namespace).as_bytes())?,
        ];
        sys::spawn(&program, &args, &env, fds)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn uris() {
        let program = |path: &str, args: &[&str]| Program {
            path: path.into(),
            args: args.iter().map(|a| (*a).to_owned()).collect(),
        };
        let cases = [
            ("/run/fifo", None),
            ("file:///x", None),
            ("binary:///bin/log", Some(program("/bin/log", &[]))),
            (
                "binary:///bin/a%20b?k=v&flag",
                Some(program("/bin/a b", &["k", "v", "flag"])),
            ),
            (
                "binary:///l?-f=%2Fvar%2Flog&=x",
                Some(program("/l", &["-f", "/var/log", "x"])),
            ),
        ];
        for (uri, expected) in cases {
            assert_eq!(Program::parse(uri).unwrap(), expected, "{uri}");
        }
        for bad in [
            "binary://relative",
            "binary:///x%2",
            "binary:///x%zz",
            "binary:///%ff",
        ] {
            assert!(Program::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_logger_gets_its_streams_and_identity() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("logger");
        let out = dir.path().join("out");
        let text = format!(
            "#!/bin/sh\nexec 5>&-\n{{ echo $CONTAINER_NAMESPACE/$CONTAINER_ID $1; /bin/cat <&3 ; /bin/cat <&4; }} >{0}.new\n/bin/mv {0}.new {0}\n",
            out.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let uri = format!("binary://{}?tag", script.display());
        let program = Program::parse(&uri).unwrap().unwrap();
        let (stdout, stderr) = program
            .run(Owner {
                id: "c1",
                namespace: "ns",
            })
            .unwrap();
        File::from(stdout).write_all(b"to out\n").unwrap();
        File::from(stderr).write_all(b"to err\n").unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !out.exists() && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(
            fs::read_to_string(&out).unwrap(),
            "ns/c1 tag\nto out\nto err\n"
        );
    }
}
