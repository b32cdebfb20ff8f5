use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use super::Lab;
use crate::error::{At, Error, Result};

/// How long a kernel may take to run its first process under KVM. It takes under a second where KVM
/// works; where `/dev/kvm` is there and does not, QEMU fails or hangs.
const LIMIT: Duration = Duration::from_secs(6);

/// A way to run a guest.
pub(super) struct Accelerator {
    /// QEMU's arguments.
    pub(super) qemu: [&'static str; 4],
    /// What the kernel is told.
    pub(super) kernel: &'static str,
    /// By which factor tests' time limits are longer.
    pub(super) patience: u32,
}

const KVM: Accelerator = Accelerator {
    qemu: ["-machine", "q35,accel=kvm", "-cpu", "host"],
    kernel: "",
    patience: 1,
};

/// Emulated, the guest's time stamp counter is the machine's, of whichever processor runs QEMU's thread:
/// where those differ time would stand still in the guest. Its kernel takes the HPET instead.
const EMULATION: Accelerator = Accelerator {
    qemu: ["-machine", "q35,accel=tcg", "-cpu", "EPYC-Rome,+svm"],
    kernel: "tsc=unstable mitigations=off",
    patience: 5,
};

/// The fastest way to run a guest here that was seen to work. What was seen is kept for this boot of the
/// machine.
///
/// # Errors
/// If the answer cannot be kept, or QEMU is not there.
pub(super) fn choose(lab: &Lab) -> Result<Accelerator> {
    Ok(if kvm_works(lab)? { KVM } else { EMULATION })
}

fn kvm_works(lab: &Lab) -> Result<bool> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let kept = lab.file("kvm");
    let known = fs::read_to_string(&kept).unwrap_or_default();
    if let Some(answer) = known.strip_prefix(boot.trim()) {
        return Ok(answer.trim() == "works");
    }
    let works = fs::exists("/dev/kvm").unwrap_or(false) && boots(lab)?;
    let answer = if works { "works" } else { "fails" };
    fs::write(&kept, format!("{} {answer}\n", boot.trim())).at("write", &kept)?;
    Ok(works)
}

/// The lab's own kernel and initramfs, which say so once a process runs and end.
fn boots(lab: &Lab) -> Result<bool> {
    let dir = tempfile::tempdir().at("make", std::env::temp_dir())?;
    let console = dir.path().join("console");
    let mut command = lab.qemu();
    command
        .args(KVM.qemu)
        .args(["-m", "512"])
        .args(["-append", "console=ttyS0 panic=-1 lab.probe"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|source| Error::Spawn {
        program: "setpriv".to_owned(),
        source,
    })?;
    let deadline = Instant::now() + LIMIT;
    let mut works = false;
    while !works && Instant::now() < deadline {
        let ended = child.try_wait().at("wait for", "QEMU")?.is_some();
        let said = fs::read(&console).unwrap_or_default();
        works = String::from_utf8_lossy(&said).contains("lab: kernel runs");
        if ended {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    child.wait().at("wait for", "QEMU")?;
    Ok(works)
}
