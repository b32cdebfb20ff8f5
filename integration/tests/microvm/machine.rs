//! A machine, and how the guest is asked.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cofferdam_integration::{
    error::{At, Result},
    gate::{self, Guest},
    guest, initramfs,
};
use cofferdam_vmm::config::VsockConfig;
use cofferdam_vmm::vm::{Parts, VmState};
use cofferdam_vmm::{Vm, VmConfig};
use tempfile::TempDir;

/// How long a guest may take for anything, emulated in an emulated machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The probe's port.
const PORT: u32 = 1024;

/// A running machine with `vm-probe` as its first process.
pub(crate) struct Machine {
    pub(crate) vm: Vm,
    pub(crate) dir: TempDir,
    config: VmConfig,
}

/// What a machine is made of, in a directory of its own; none where no machine can run.
pub(crate) fn prepare() -> Result<Option<(VmConfig, TempDir)>> {
    if gate::lab(Guest::Script).is_none() {
        return Ok(None);
    }
    // As the program does, whose threads' filters these threads have.
    cofferdam_vmm::heap::share();
    let dir = tempfile::tempdir().at("make", std::env::temp_dir())?;
    let initramfs = dir.path().join("initramfs.cpio");
    initramfs::write(&initramfs, Path::new(env!("CARGO_BIN_EXE_vm-probe")))?;
    let config = VmConfig {
        kernel: guest::built_kernel()?,
        initramfs,
        vcpus: 1,
        memory: 128,
        command_line: String::new(),
        vsock: Some(VsockConfig {
            cid: 3,
            socket: dir.path().join("vsock"),
        }),
        disks: Vec::new(),
        shares: Vec::new(),
        network: Vec::new(),
        balloon: true,
        jail: None,
    };
    Ok(Some((config, dir)))
}

impl Machine {
    /// Boots what `change` makes of a machine, and waits until its probe answers.
    pub(crate) fn boot(change: impl FnOnce(&mut VmConfig, &Path)) -> Result<Option<Self>> {
        let Some((mut config, dir)) = prepare()? else {
            return Ok(None);
        };
        change(&mut config, dir.path());
        let log = dir.path().join("console");
        let log = File::create(&log).at("make", &log)?;
        let vm = Vm::boot(&config, Some(log)).expect("the machine boots");
        let machine = Self { vm, dir, config };
        let started = Instant::now();
        while machine.ask("file /proc/uptime").is_empty() {
            assert!(
                started.elapsed() < LIMIT,
                "no answer; the console says {:#?}",
                machine.vm.last_lines(40)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(machine))
    }

    /// A machine that goes on from this state of this one, which ends.
    pub(crate) fn replace(self, state: &VmState) -> Self {
        let Self { vm, dir, config } = self;
        let memory = vm.memory();
        drop(vm);
        let parts = Parts::open(&config, None).expect("the parts are there");
        let vm = parts.restore(None, memory, state);
        let vm = vm.expect("the other machine is put together");
        vm.resume();
        Self { vm, dir, config }
    }

    /// Connects to a port of the guest's; none if that is refused.
    pub(crate) fn connect(&self, port: u32) -> Option<UnixStream> {
        let mut stream = UnixStream::connect(self.dir.path().join("vsock")).expect("connect");
        stream.set_read_timeout(Some(LIMIT)).expect("set a limit");
        writeln!(stream, "CONNECT {port}").expect("write");
        let mut line = Vec::new();
        let mut byte = [0];
        while byte != *b"\n" {
            match stream.read(&mut byte) {
                Ok(1) => line.extend(byte),
                Ok(_) => return None,
                Err(error) => panic!(
                    "no answer from port {port}: {error}; the console says {:#?}",
                    self.vm.last_lines(40)
                ),
            }
        }
        assert!(line.starts_with(b"OK "), "{line:?}");
        Some(stream)
    }

    /// A connection to the probe that has made its request.
    pub(crate) fn request(&self, line: &str) -> Option<UnixStream> {
        let mut stream = self.connect(PORT)?;
        writeln!(stream, "{line}").expect("write");
        Some(stream)
    }

    /// The whole answer to a request; empty while the probe does not listen.
    pub(crate) fn ask(&self, line: &str) -> Vec<u8> {
        let mut answer = Vec::new();
        if let Some(mut stream) = self.request(line) {
            // The probe's request may be the last that this end has to say.
            stream.shutdown(Shutdown::Write).expect("shut down");
            // A reset of the machine ends it.
            let _ = stream.read_to_end(&mut answer);
        }
        answer
    }

    pub(crate) fn ask_text(&self, line: &str) -> String {
        String::from_utf8_lossy(&self.ask(line)).into_owned()
    }
}

/// The threads of this process by their names.
pub(crate) fn threads() -> Result<Vec<String>> {
    let done = Command::new("sh")
        .args(["-c", "cat /proc/$PPID/task/*/comm"])
        .output();
    let done = done.at("list", "/proc/self/task")?;
    let text = String::from_utf8_lossy(&done.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}
