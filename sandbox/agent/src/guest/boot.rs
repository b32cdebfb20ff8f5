//! From the kernel to a place where containers can be made.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, umask};

use super::say;
use crate::protocol::{BOOTED, SHARE, SHARE_TAG, SHARED_MEMORY};

/// Where the guest's cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Makes the file systems and what else containers need.
pub(super) fn set_up() -> io::Result<()> {
    umask(Mode::from_bits_truncate(0o022));
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let system = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    leave_absolute_root()?;
    make("proc", "proc", "/proc", quiet, None)?;
    #[expect(clippy::print_stdout, reason = "the monitor waits for it")]
    {
        println!("{BOOTED}");
    }
    make("sysfs", "sysfs", "/sys", quiet, None)?;
    make("devtmpfs", "dev", "/dev", system, Some("mode=755"))?;
    make(
        "devpts",
        "devpts",
        "/dev/pts",
        system,
        Some("mode=620,gid=5,ptmxmode=666"),
    )?;
    make("tmpfs", "run", "/run", quiet, Some("mode=755"))?;
    make("tmpfs", "tmp", "/tmp", quiet, Some("mode=1777"))?;
    make("cgroup2", "cgroup", CGROUPS, quiet, None)?;
    fs::create_dir_all("/run/cofferdam")?;
    let memory = Some("mode=1777");
    make("tmpfs", "shm", SHARED_MEMORY, quiet, memory)?;
    make("virtiofs", SHARE_TAG, SHARE, MsFlags::MS_NODEV, None)?;
    // Containers' mounts stay in their namespaces.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    enable_controllers()?;
    Ok(())
}

/// The first root file system has no mount above it, and `pivot_root` refuses to leave such a one: it is put on top of
/// itself.
fn leave_absolute_root() -> io::Result<()> {
    const PLACE: &str = "/root";
    fs::create_dir_all(PLACE)?;
    let (none, flags) = (None::<&str>, MsFlags::MS_BIND);
    mount(Some("/"), PLACE, none, flags, none)?;
    std::env::set_current_dir(PLACE)?;
    mount(Some("."), "/", none, MsFlags::MS_MOVE, none)?;
    nix::unistd::chroot(".")?;
    std::env::set_current_dir("/")
}

fn make(
    kind: &str,
    source: &str,
    place: &str,
    flags: MsFlags,
    options: Option<&str>,
) -> io::Result<()> {
    fs::create_dir_all(place)?;
    match mount(Some(source), place, Some(kind), flags, options) {
        // The kernel has mounted this one itself.
        Err(nix::errno::Errno::EBUSY) if kind == "devtmpfs" => Ok(()),
        other => other.map_err(|errno| {
            io::Error::new(
                io::Error::from(errno).kind(),
                format!("cannot mount {kind} at {place}: {errno}"),
            )
        }),
    }
}

/// All controllers for the containers' groups.
fn enable_controllers() -> io::Result<()> {
    let root = Path::new(CGROUPS);
    let there = fs::read_to_string(root.join("cgroup.controllers"))?;
    for controller in there.split_whitespace() {
        if let Err(error) = fs::write(
            root.join("cgroup.subtree_control"),
            format!("+{controller}"),
        ) {
            say(&format!("no limits by {controller}: {error}"));
        }
    }
    Ok(())
}
