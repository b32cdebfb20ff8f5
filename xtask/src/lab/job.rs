//! The job disk: an ext4 file system that the guest mounts read-only at `/job`. Unlike an archive it
//! need not be unpacked; the guest reads what it runs.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::Lab;
use crate::error::{At, Error, Result};

/// A directory that becomes the job disk.
#[derive(Debug)]
pub struct Job {
    dir: TempDir,
}

impl Job {
    /// A job with what every guest needs: the scripts it starts with, and this program, the agent.
    ///
    /// # Errors
    /// If a file cannot be made.
    pub fn new(agent: &Path) -> Result<Self> {
        let dir = tempfile::tempdir().at("make", std::env::temp_dir())?;
        let job = Self { dir };
        job.write("early", include_str!("../../guest/early"), 0o644)?;
        job.write("lab/init", include_str!("../../guest/init"), 0o755)?;
        let unit = include_str!("../../guest/lab-agent.service");
        job.write("lab/lab-agent.service", unit, 0o644)?;
        job.add(agent, "lab/xtask")?;
        Ok(job)
    }

    /// Puts a file or a directory there, by its path below `/job`. A symbolic link is followed; those in a directory
    /// are kept, for it may be a root file system.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn add(&self, source: &Path, below: &str) -> Result<()> {
        self.copy(source, below, "-H")
    }

    /// Puts a directory there with the symbolic links in it as they are.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn add_tree(&self, source: &Path, below: &str) -> Result<()> {
        self.copy(source, below, "--no-dereference")
    }

    /// Puts the lab's QEMU there, and on the guest's PATH.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn add_qemu(&self, lab: &Lab) -> Result<()> {
        self.add_tree(&lab.file("qemu"), "qemu")?;
        for name in ["qemu-system-x86_64", "qemu-system-x86_64-microvm"] {
            let wrapper = include_str!("../../guest/qemu");
            self.write(&format!("bin/{name}"), wrapper, 0o755)?;
        }
        Ok(())
    }

    fn copy(&self, source: &Path, below: &str, links: &str) -> Result<()> {
        let target = self.target(below)?;
        let status = Command::new("cp")
            .args(["--archive", links, "--reflink=auto", "-T", "--"])
            .args([source, &target])
            .status()
            .at("copy", source)?;
        ended("cp", status)
    }

    /// Writes a file there.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, below: &str, text: &str, mode: u32) -> Result<()> {
        let target = self.target(below)?;
        fs::write(&target, text).at("write", &target)?;
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&target, mode).at("set the mode of", &target)
    }

    /// Makes a symbolic link there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn link(&self, below: &str, to: &str) -> Result<()> {
        let target = self.target(below)?;
        symlink(to, &target).at("link", target)
    }

    fn target(&self, below: &str) -> Result<PathBuf> {
        let target = self.dir.path().join(below);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).at("make", parent)?;
        }
        Ok(target)
    }

    /// Makes the disk, which lives as long as what is returned.
    ///
    /// # Errors
    /// If the file system cannot be made.
    pub fn disk(self) -> Result<Disk> {
        let holder = tempfile::tempdir().at("make", std::env::temp_dir())?;
        let image = holder.path().join("job.ext4");
        let used = size(self.dir.path())?;
        let file = fs::File::create(&image).at("make", &image)?;
        file.set_len(used + used / 8 + (16 << 20))
            .at("extend", &image)?;
        make_file_system(&image, "lab-job", Some(self.dir.path()))?;
        Ok(Disk {
            image,
            _holder: holder,
        })
    }
}

/// A made job disk.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    _holder: TempDir,
}

impl Disk {
    /// Its image.
    #[must_use]
    pub fn image(&self) -> &Path {
        &self.image
    }
}

/// Makes an empty disk for what the guest writes. It is sparse: what is not used takes no place.
///
/// # Errors
/// If the file system cannot be made.
pub(super) fn make_scratch(image: &Path) -> Result<()> {
    const SIZE: u64 = 12 << 30;
    let file = fs::File::create(image).at("make", image)?;
    file.set_len(SIZE).at("extend", image)?;
    make_file_system(image, "lab-scratch", None)
}

fn make_file_system(image: &Path, label: &str, content: Option<&Path>) -> Result<()> {
    let mut command = Command::new("/sbin/mkfs.ext4");
    command
        .args(["-q", "-L", label, "-m", "0", "-O", "^has_journal"])
        .args(["-E", "root_owner=0:0"]);
    if let Some(content) = content {
        command.arg("-d").arg(content);
    }
    let status = command.arg(image).status().map_err(|source| Error::Spawn {
        program: "mkfs.ext4".to_owned(),
        source,
    })?;
    ended("mkfs.ext4", status)
}

fn ended(program: &str, status: std::process::ExitStatus) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(Error::Preparation {
        program: program.to_owned(),
        status,
    })
}

/// What the files take, in whole blocks, in bytes.
fn size(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir).at("list", dir)? {
        let path = entry.at("list", dir)?.path();
        let meta = fs::symlink_metadata(&path).at("look at", &path)?;
        sum += meta.len().next_multiple_of(4096) + 512;
        if meta.is_dir() {
            sum += size(&path)?;
        }
    }
    Ok(sum)
}
