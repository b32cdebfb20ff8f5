use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Instant,
};

use cofferdam_integration::{
    error::{At, Error, Result},
    initramfs,
};
use cofferdam_vmm::{VmConfig, console::BOOTED};

use crate::{
    sample::{Rows, turns},
    times::PAUSE,
};

/// Guest memory, MiB.
const MEMORY: u32 = 128;
/// What both are told besides what each needs.
pub(crate) const COMMAND_LINE: &str =
    "console=ttyS0 quiet reboot=t panic=-1 tsc=reliable no_timer_check 8250.nr_uarts=1";
/// QEMU's machine.
pub(crate) const QEMU_MACHINE: &str =
    "microvm,acpi=off,pit=on,pic=on,rtc=off,isa-serial=on,accel=kvm";
/// The candidates.
const WHO: [&str; 2] = ["cofferdam", "qemu"];
const START: &str = "start of the monitor to the guest's first process, wall clock";
const MEMORY_ROW: &str = "the monitor without guest memory, PSS";

/// Compares with QEMU's `microvm`, each with the same kernel and initramfs and no devices but a serial port. `place`
/// is a directory with `cofferdam-vmm`, `vm-probe` and `vmlinux`; QEMU is on the path.
pub(crate) fn measure(rows: &mut Rows, rounds: usize, place: &Path) -> Result<()> {
    let dir = tempfile::tempdir().at("make", std::env::temp_dir())?;
    let archive = dir.path().join("initramfs.cpio");
    initramfs::write(&archive, &place.join("vm-probe"))?;
    let config = VmConfig {
        kernel: place.join("vmlinux"),
        initramfs: archive,
        vcpus: 1,
        memory: MEMORY,
        command_line: String::new(),
        vsock: None,
        disks: Vec::new(),
        shares: Vec::new(),
        network: Vec::new(),
        balloon: false,
        jail: None,
    };
    let description = dir.path().join("vm.json");
    let text = serde_json::to_vec(&config).map_err(|error| Error::Json {
        what: "the machine's description".to_owned(),
        text: format!("{config:?}"),
        source: error,
    })?;
    fs::write(&description, text).at("write", &description)?;
    // The first of each reads the files from the disk.
    for (round, who) in turns(&WHO, rounds + 1).into_iter().enumerate() {
        let command = match who {
            "qemu" => qemu(&config),
            _ => {
                let mut command = Command::new(place.join("cofferdam-vmm"));
                command.arg(&description).arg("/proc/self/fd/1");
                command
            }
        };
        let (took, own) = boot(command)?;
        if round >= WHO.len() {
            rows.add(START, who, took);
            rows.add(MEMORY_ROW, who, own);
        }
        thread::sleep(PAUSE);
    }
    rows.compare(START, "ms", "cofferdam", &[("qemu", Some(0.5))]);
    rows.compare(MEMORY_ROW, "KiB", "cofferdam", &[("qemu", None)]);
    println!("  goal <= 5120 KiB");
    Ok(())
}

fn qemu(config: &VmConfig) -> Command {
    let mut command = Command::new("qemu-system-x86_64-microvm");
    command
        .args([
            "-M",
            QEMU_MACHINE,
            "-cpu",
            "host",
            "-smp",
            "1",
            "-m",
            &MEMORY.to_string(),
        ])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            "stdio",
        ])
        .arg("-kernel")
        .arg(&config.kernel)
        .arg("-initrd")
        .arg(&config.initramfs)
        .args(["-append", COMMAND_LINE]);
    command
}

/// Milliseconds until the first process runs, and then the monitor's own memory, KiB.
fn boot(mut command: Command) -> Result<(f64, f64)> {
    let started = Instant::now();
    let mut child = Running::start(command.stdout(Stdio::piped()))?;
    let out = child.0.stdout.take().into_iter();
    let mut lines = out
        .flat_map(|out| BufReader::new(out).lines())
        .map_while(std::result::Result::ok);
    if !lines.any(|line| line.contains(BOOTED)) {
        return Err(Error::Missing {
            what: "the guest's first line".to_owned(),
            remedy: "run it in the lab, where KVM boots the kernel",
        });
    }
    let took = started.elapsed().as_secs_f64() * 1000.0;
    let maps = format!("/proc/{}/smaps", child.0.id());
    let maps = fs::read_to_string(&maps).at("read", maps)?;
    Ok((took, without_guest(&maps)))
}

/// Ends with its owner.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).spawn();
        child.at("start", program).map(Self)
    }

    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let ended = self.0.try_wait();
        ended.at("wait for", self.0.id().to_string())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The proportional share of all mappings but the guest's memory, which is the only one of its size or more.
fn without_guest(maps: &str) -> f64 {
    let value = |line: &str, name: &str| -> Option<u32> {
        line.strip_prefix(name)?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    };
    let (mut sum, mut counts) = (0, true);
    for line in maps.lines() {
        if let Some(size) = value(line, "Size:") {
            counts = size < MEMORY << 10;
        }
        if let Some(share) = value(line, "Pss:").filter(|_| counts) {
            sum += share;
        }
    }
    f64::from(sum)
}
