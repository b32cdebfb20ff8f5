//! What is mounted below a directory of the host, and a directory that is mounted with other ids.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cofferdam_integration::command::Cmd;
use cofferdam_integration::error::{At, Result};

use crate::machine::LIMIT;
use crate::shares::Shared;

/// A mount of a test's, that goes with it.
pub(crate) struct Mounted(pub(crate) PathBuf);

impl Mounted {
    fn tmpfs(place: PathBuf) -> Result<Self> {
        Cmd::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&place)
            .ok()?;
        Ok(Self(place))
    }
}

impl Mounted {
    pub(crate) fn overlay(lower: &Path, upper: &Path, work: &Path, place: PathBuf) -> Result<Self> {
        let (lower, upper, work) = (lower.display(), upper.display(), work.display());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        Cmd::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&place)
            .ok()?;
        Ok(Self(place))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Cmd::new("umount").arg("-l").arg(&self.0).run());
    }
}

/// What is mounted below the share, also later, is another file system to the guest, however its inodes are numbered.
#[test]
fn mounts_below_are_seen_as_file_systems_of_their_own() -> Result<()> {
    let Some(shared) = Shared::boot()? else {
        return Ok(());
    };
    let mut mounted = Vec::new();
    for name in ["first", "second"] {
        let place = shared.dir.join(name);
        fs::create_dir(&place).at("make", &place)?;
        assert_eq!(shared.sh(&format!("bb ls {name}")), "");
        mounted.push(Mounted::tmpfs(place)?);
        assert_eq!(
            shared.sh(&format!("echo {name} >{name}/file; bb cat {name}/file")),
            format!("{name}\n")
        );
    }
    let inode = |name: &str| {
        let path = shared.dir.join(name).join("file");
        fs::metadata(&path)
            .map(|meta| meta.ino())
            .at("look at", path)
    };
    assert_eq!(
        inode("first")?,
        inode("second")?,
        "each is the first file of its tmpfs"
    );
    let said = shared
        .sh("bb stat -c %d:%i first/file second/file; bb stat -c %d . first second | bb sort -u");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 5, "{said}");
    assert_ne!(lines[0], lines[1], "{said}");
    // Across them names are not moved, as elsewhere.
    let said = shared.sh("bb ln first/file second/other");
    assert!(said.contains("Invalid cross-device link"), "{said}");
    for mount in mounted {
        let place = mount.0.clone();
        drop(mount);
        assert_eq!(
            shared.sh(&format!("bb ls {}", place.display())
                .replace(&shared.dir.display().to_string(), ".")),
            ""
        );
    }
    Ok(())
}

/// The guest can mount a share with other ids, as a container with ids of its own wants it.
#[test]
fn a_share_can_be_mounted_with_mapped_ids() -> Result<()> {
    let Some(shared) = Shared::boot()? else {
        return Ok(());
    };
    let namespace = "bb unshare -U /share/busybox sleep 1000 >/dev/null 2>&1 & bb sleep 1; \
         echo 0 100000 65536 >/proc/$!/uid_map; echo 0 100000 65536 >/proc/$!/gid_map; echo $!";
    let process = shared.sh(namespace);
    let mounted = format!("mount-mapped /share /mapped {}", process.trim());
    assert_eq!(shared.machine.ask_text(&mounted), "done\n", "{process}");
    assert_eq!(
        shared.sh("bb stat -c %u:%g /mapped/busybox"),
        "100000:100000\n"
    );
    // Who is 100007 there is 7 on the disk.
    fs::set_permissions(&shared.dir, fs::Permissions::from_mode(0o777)).at("open", &shared.dir)?;
    let said = shared.sh_as(
        100_007,
        "echo mine >/mapped/mine; bb stat -c %u /mapped/mine",
    );
    assert_eq!(said, "100007\n");
    let mine = fs::metadata(shared.dir.join("mine")).at("look at", "mine")?;
    assert_eq!((mine.uid(), mine.gid()), (7, 7));
    Ok(())
}

/// A file system below the share that never answers: who asks for it waits, and nobody else.
#[test]
fn a_file_system_that_does_not_answer_holds_up_no_stream() -> Result<()> {
    let Some(shared) = Shared::boot()? else {
        return Ok(());
    };
    let place = shared.dir.join("stuck");
    fs::create_dir(&place).at("make", &place)?;
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .at("open", "/dev/fuse")?;
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0",
        device.as_raw_fd()
    );
    let kind = Some("fuse");
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(kind, &place, kind, flags, Some(&*options)).expect("mount");
    let mounted = Mounted(place);

    let mut asked = shared
        .machine
        .request("sh 0 /share/busybox ls /share/stuck")
        .expect("the probe listens");
    asked
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("set a limit");
    let early = asked.read(&mut [0; 100]);
    assert!(early.is_err(), "{early:?}");
    for _ in 0..20 {
        assert_eq!(
            shared
                .machine
                .ask_text("file /sys/devices/system/cpu/online"),
            "0\n"
        );
    }
    // Without a server who waits is told, and the share goes on.
    drop(device);
    asked.set_read_timeout(Some(LIMIT)).expect("set a limit");
    let mut said = String::new();
    asked.read_to_string(&mut said).expect("an answer");
    assert!(said.contains("stuck") && said.contains("exit"), "{said}");
    drop(mounted);
    assert_eq!(shared.sh("bb ls stuck"), "");
    Ok(())
}
