//! File systems in user space, for volumes and logs. Their servers run in an enclave and end with it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    command::{Cmd, Job, eventually},
    enclave::Enclave,
    error::{At, Error, Result},
    gate,
    loads::stage,
};

/// A server, and where its file system is.
#[derive(Debug)]
pub struct Served<'a> {
    enclave: &'a Enclave,
    server: Job,
    at: PathBuf,
}

impl<'a> Served<'a> {
    /// Starts a server for a new directory of the enclave's.
    ///
    /// # Errors
    /// If it does not mount.
    pub fn new(
        enclave: &'a Enclave,
        name: &str,
        server: impl FnOnce(&Path) -> Cmd,
    ) -> Result<Self> {
        let at = enclave.dir().join(name);
        fs::create_dir(&at).at("make", &at)?;
        let log = enclave.dir().join(format!("{name}.log"));
        let server = server(&at).background(&log)?;
        eventually("it is mounted", Duration::from_secs(10), || {
            let kind = enclave.cmd("stat").args(["-f", "-c", "%T"]).arg(&at);
            match kind.run() {
                Ok(done) if done.stdout.trim() == "fuseblk" => Ok(()),
                other => Err(format!("{other:?}: {}", server_log(&log))),
            }
        })?;
        Ok(Self {
            enclave,
            server,
            at,
        })
    }

    /// bindfs, which shows `source`; `None` with a visible note where there is none.
    ///
    /// # Errors
    /// If it does not mount, or is missing and must not be.
    pub fn bindfs(enclave: &'a Enclave, name: &str, source: &Path) -> Result<Option<Self>> {
        let Some(root) = gate::present(device().and_then(|()| stage::rootfs("bindfs")))? else {
            return Ok(None);
        };
        Self::new(enclave, name, |at| {
            // With the libraries it was built for, whatever the machine has.
            let loader = enclave.cmd(root.join("lib64/ld-linux-x86-64.so.2"));
            let loader = loader.arg("--library-path");
            let loader = loader.arg(root.join("usr/lib/x86_64-linux-gnu"));
            let server = loader.arg(root.join("usr/bin/bindfs"));
            let server = server.args(["-f", "-o", "allow_other,default_permissions"]);
            server.arg(source).arg(at)
        })
        .map(Some)
    }

    /// Where it is mounted, in the enclave.
    #[must_use]
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Signals a packaged server: stopped, it is the slowest of disks.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        for process in self.enclave.find(&self.at.display().to_string())? {
            if process.name.starts_with("ld-linux") {
                self.enclave.signal(process.pid, signal)?;
            }
        }
        // What started it in the enclave stops when it does, and is not continued by it.
        let entered = Pid::from_raw(self.server.id().cast_signed());
        if signal == Signal::SIGCONT {
            kill(entered, signal)
                .map_err(io::Error::from)
                .at("continue", "nsenter")?;
        }
        Ok(())
    }

    /// Ends a packaged server, which unmounts its file system then.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        self.server.wait(Duration::from_secs(10)).map(drop)
    }
}

fn server_log(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

/// Whether this machine has FUSE at all.
///
/// # Errors
/// If it has not.
pub fn device() -> Result<()> {
    match fs::metadata("/dev/fuse") {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::Missing {
            what: "/dev/fuse".to_owned(),
            remedy: "use a kernel with FUSE, or load its module",
        }),
    }
}
