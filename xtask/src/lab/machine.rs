use std::{
    fs,
    io::{self, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    Init, Lab, accelerator,
    job::{self, Disk},
};
use crate::{
    error::{At, Error, Result},
    wire::{self, PORT, Request, ToHost},
};

/// How long a guest may take to start; under emulation on a busy machine it takes a minute at most.
const START_LIMIT: Duration = Duration::from_secs(150);

/// A guest that takes commands. It ends when this is dropped, and what it wrote is gone.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    port: UnixStream,
    dir: TempDir,
    init: Init,
    patience: u32,
}

/// After how much silence a guest in which a command runs stands still; it says every few seconds that it
/// lives.
const SILENCE: Duration = Duration::from_secs(90);

/// Variables that every command in the guest gets, besides the first process's kind and the patience that
/// tests are to have.
const ENVIRONMENT: [(&str, &str); 4] = [
    (
        "PATH",
        "/job/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ),
    ("HOME", "/root"),
    ("LANG", "C.UTF-8"),
    ("COFFERDAM_REQUIRE_ROOT", "1"),
];

impl Machine {
    /// Starts a guest and waits until its agent is there. One that does not get ready is started once
    /// more, and that is said.
    ///
    /// # Errors
    /// If QEMU cannot be started or the guest does not get ready.
    #[expect(
        clippy::print_stderr,
        reason = "who looks at a slow start must see why"
    )]
    pub fn boot(lab: &Lab, init: Init, job: &Disk) -> Result<Self> {
        match Self::start(lab, init, job) {
            Err(Error::NotReady { console }) => {
                eprintln!("lab ({init}): not ready, is started once more; its console:\n{console}");
                Self::start(lab, init, job)
            }
            other => other,
        }
    }

    fn start(lab: &Lab, init: Init, job: &Disk) -> Result<Self> {
        let dir = tempfile::tempdir().at("make", std::env::temp_dir())?;
        let socket = dir.path().join("port");
        let log = dir.path().join("qemu.log");
        let log = fs::File::create(&log).at("make", &log)?;
        let drive = |file: PathBuf, id: &str, rest: &str| {
            format!("file={},format=raw,if=none,id={id},{rest}", file.display())
        };
        let scratch = dir.path().join("scratch");
        job::make_scratch(&scratch)?;
        let accelerator = accelerator::choose(lab)?;
        let append = format!(
            "console=ttyS0 panic=-1 quiet apparmor=1 lab.init={init} {}",
            accelerator.kernel
        );
        let mut command = lab.qemu();
        command
            .args(accelerator.qemu)
            .args(["-smp", "1", "-m", "2048", "-append", &append, "-serial"])
            .arg(format!("file:{}", dir.path().join("console").display()))
            .arg("-drive")
            .arg(drive(lab.file("root.ext4"), "root", "snapshot=on"))
            .args(["-device", "virtio-blk-pci,drive=root", "-drive"])
            .arg(drive(job.image().to_owned(), "job", "readonly=on"))
            .args(["-device", "virtio-blk-pci,drive=job", "-drive"])
            .arg(drive(scratch, "scratch", "cache=unsafe"))
            .args(["-device", "virtio-blk-pci,drive=scratch"])
            .args(["-device", "virtio-serial-pci", "-chardev"])
            .arg(format!(
                "socket,id=lab,path={},server=on,wait=off",
                socket.display()
            ))
            .args([
                "-device",
                &format!("virtserialport,chardev=lab,name={PORT}"),
            ])
            .stdout(Stdio::null())
            .stderr(log);
        let qemu = command.spawn().map_err(|source| Error::Spawn {
            program: "setpriv".to_owned(),
            source,
        })?;
        Self::greet(qemu, dir, init, accelerator.patience)
    }

    fn greet(mut qemu: Child, dir: TempDir, init: Init, patience: u32) -> Result<Self> {
        let socket = dir.path().join("port");
        let deadline = Instant::now() + START_LIMIT;
        let port = loop {
            if let Ok(port) = UnixStream::connect(&socket) {
                break port;
            }
            if qemu.try_wait().at("wait for", "QEMU")?.is_some() || Instant::now() > deadline {
                let _ = qemu.kill();
                qemu.wait().at("wait for", "QEMU")?;
                return Err(Error::NotReady {
                    console: last_words(&dir),
                });
            }
            thread::sleep(Duration::from_millis(20));
        };
        let mut machine = Self {
            qemu,
            port,
            dir,
            init,
            patience,
        };
        let limited = Some(START_LIMIT);
        machine
            .port
            .set_read_timeout(limited)
            .at("set up", &socket)?;
        match wire::receive(&mut machine.port) {
            Ok(ToHost::Ready) => {
                machine.port.set_read_timeout(None).at("set up", &socket)?;
                Ok(machine)
            }
            Ok(other) => Err(Error::Unexpected {
                answer: format!("{other:?}"),
            }),
            Err(_) => Err(Error::NotReady {
                console: last_words(&machine.dir),
            }),
        }
    }

    /// Runs a command in the guest, its output going to the two writers as it comes; returns its status.
    /// The command is killed, and its status is 137, when it takes longer than the limit.
    ///
    /// # Errors
    /// If the guest is lost, or a writer fails.
    pub fn run(
        &mut self,
        argv: &[String],
        limit: Duration,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<i32> {
        let seconds = limit.as_secs().to_string();
        let killed = ["timeout", "--signal=KILL", &seconds].map(str::to_owned);
        let request = Request {
            argv: killed.into_iter().chain(argv.iter().cloned()).collect(),
            env: self.environment(),
        };
        // The guest itself may stand still.
        self.port
            .set_read_timeout(Some(SILENCE))
            .at("set up", "the port")?;
        wire::send(&mut self.port, &request).map_err(|source| self.lost(source))?;
        let end = Instant::now() + limit + SILENCE;
        loop {
            if Instant::now() > end {
                return Err(self.lost(wire::Error::Overdue));
            }
            match wire::receive(&mut self.port).map_err(|source| self.lost(source))? {
                ToHost::Alive => {}
                ToHost::Output {
                    error: false,
                    bytes,
                } => pass_on(out, &bytes)?,
                ToHost::Output { error: true, bytes } => pass_on(err, &bytes)?,
                ToHost::Ended(status) => return Ok(status),
                other @ ToHost::Ready => {
                    return Err(Error::Unexpected {
                        answer: format!("{other:?}"),
                    });
                }
            }
        }
    }

    /// Lets the guest have this machine's target directory where it is here, for tests know by their path
    /// what was built with them.
    ///
    /// # Errors
    /// If the link cannot be made.
    pub fn link_target(&mut self, target: &Path) -> Result<()> {
        let script = r#"mkdir -p "${1%/*}" && ln -sfn /job/target "$1""#;
        let mut argv = ["sh", "-c", script, "sh"].map(str::to_owned).to_vec();
        argv.push(target.display().to_string());
        let mut said = Vec::new();
        match self.run(&argv, START_LIMIT, &mut io::sink(), &mut said)? {
            0 => Ok(()),
            status => Err(Error::Unexpected {
                answer: format!("{status} ({})", String::from_utf8_lossy(&said)),
            }),
        }
    }

    /// The processor time that the guest has taken so far: unlike the time that passes it tells what a step
    /// costs on a busy machine as well.
    #[must_use]
    pub fn processor_time(&self) -> Duration {
        // proc(5): the 14th and 15th fields are ticks in user and kernel mode, of which Linux counts
        // a hundred in a second for user space. The second field, the name, may have blanks.
        const TICKS: u64 = 100;
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.qemu.id())).unwrap_or_default();
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let fields = rest.split(' ').skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 1000 / TICKS)
    }

    fn environment(&self) -> Vec<(String, String)> {
        let (init, patience) = (self.init.to_string(), self.patience.to_string());
        let own = [
            ("COFFERDAM_LAB", init.as_str()),
            ("COFFERDAM_TEST_PATIENCE", patience.as_str()),
        ];
        ENVIRONMENT
            .into_iter()
            .chain(own)
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    fn lost(&self, source: wire::Error) -> Error {
        let is_silence = matches!(&source, wire::Error::Port(error)
            if error.kind() == io::ErrorKind::WouldBlock);
        Error::Lost {
            source: if is_silence {
                wire::Error::Silent(SILENCE.as_secs())
            } else {
                source
            },
            console: last_words(&self.dir),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn pass_on(writer: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    writer
        .write_all(bytes)
        .and_then(|()| writer.flush())
        .at("write to", "the output")
}

/// The end of what QEMU and the guest's console said.
fn last_words(dir: &TempDir) -> String {
    let read = |name: &str| {
        let bytes = fs::read(dir.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let said = read("qemu.log") + &read("console");
    let lines: Vec<_> = said.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
