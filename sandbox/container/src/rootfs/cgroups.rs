//! `/sys/fs/cgroup` in the container.
//!
//! What is mounted are binds of the container's own cgroup directories. In a cgroup namespace they
//! look like mounts of the hierarchy (the kernel shows their root as `/`), without one superblock
//! for each hierarchy and container. The hierarchy's real root is never reachable through them.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::symlinkat;

use super::CgroupDir;
use super::error::MountProblem;
use super::filesystem::Context;
use super::mounts::{Entry, Mounter, Outcome, attach};
use super::resolve::{Kind, Place, open_ordinary};
use super::sys::{self, attr};

const HOST_MOUNT_POINT: &str = "/sys/fs/cgroup";

fn system<E: Into<std::io::Error>>(action: &'static str) -> impl Fn(E) -> MountProblem {
    move |source| MountProblem::system(action)(source.into())
}

/// Mounts the `cgroup` or `cgroup2` entry of a spec.
pub(super) fn mount(mounter: &mut Mounter<'_>, entry: &Entry<'_>) -> Outcome<()> {
    let found;
    let directories: &[CgroupDir] = if mounter.options.cgroups.is_empty() {
        found = discover(mounter.options.has_cgroupns)?;
        &found
    } else {
        &mounter.options.cgroups
    };
    let v1: Vec<&CgroupDir> = directories
        .iter()
        .filter(|directory| !directory.controllers.is_empty())
        .collect();
    let place = mounter.place(entry, Kind::Directory, None)?;
    if entry.fstype == "cgroup2" || v1.is_empty() {
        let unified = directories.iter().find(|d| d.controllers.is_empty());
        let tree = one(unified.map(|d| d.path.as_path()), "", entry)?;
        return attach(tree.as_fd(), &place);
    }
    hierarchies(mounter, entry, &place, &v1)
}

/// v1: a tmpfs with a directory for each hierarchy.
fn hierarchies(
    mounter: &mut Mounter<'_>,
    entry: &Entry<'_>,
    place: &Place,
    directories: &[&CgroupDir],
) -> Outcome<()> {
    let context = Context::open("tmpfs")?;
    context.source(b"cgroup")?;
    context.set("mode", Some("755"))?;
    if !mounter.label.is_empty() {
        context.set("context", Some(mounter.label))?;
    }
    let attributes = entry.options.alone().set;
    let tmpfs = context.mount(attributes & !attr::RDONLY)?;
    attach(tmpfs.as_fd(), place)?;
    for directory in directories {
        hierarchy(tmpfs.as_fd(), entry, directory)?;
    }
    if attributes & attr::RDONLY != 0 {
        mounter
            .mounted
            .late_read_only
            .push((tmpfs, place.path.clone()));
    }
    Ok(())
}

fn hierarchy(tmpfs: BorrowedFd<'_>, entry: &Entry<'_>, directory: &CgroupDir) -> Outcome<()> {
    let controllers = directory.controllers.as_str();
    let name = directory_name(controllers);
    let path = (!directory.path.as_os_str().is_empty()).then_some(directory.path.as_path());
    let tree = one(path, controllers, entry)?;
    mkdirat(tmpfs, name, Mode::from_bits_truncate(0o755))
        .map_err(system("make the hierarchy's directory"))?;
    let target =
        open_ordinary(tmpfs, Path::new(name)).map_err(system("open the hierarchy's directory"))?;
    sys::attach(tree.as_fd(), target.as_fd()).map_err(system("attach the hierarchy"))?;
    // "cpu,cpuacct" is also found as "cpu" and as "cpuacct".
    if name.contains(',') {
        for controller in name.split(',') {
            symlinkat(name, tmpfs, controller).map_err(system("link the controller"))?;
        }
    }
    Ok(())
}

/// `name=systemd` is mounted as `systemd`, controllers under their own names.
fn directory_name(controllers: &str) -> &str {
    controllers.strip_prefix("name=").unwrap_or(controllers)
}

/// One hierarchy, detached, with the entry's attributes.
fn one(path: Option<&Path>, controllers: &str, entry: &Entry<'_>) -> Outcome<OwnedFd> {
    let Some(path) = path else {
        return mount_hierarchy(controllers, entry);
    };
    let source = super::binds::open_source(path).map_err(system("open the container's cgroup"))?;
    let kind = fstatfs(&source)
        .map_err(system("look at the container's cgroup"))?
        .filesystem_type();
    if kind != CGROUP_SUPER_MAGIC && kind != CGROUP2_SUPER_MAGIC {
        return Err(MountProblem::System {
            action: "use the container's cgroup",
            detail: format!(": {} is not in a cgroup file system", path.display()),
            source: std::io::Error::from_raw_os_error(libc::EINVAL),
        });
    }
    let tree = sys::clone_tree(source.as_fd(), false).map_err(system("copy the cgroup mount"))?;
    let attributes = entry.options.alone().to_mount_attr();
    // A new mount would have exactly these; the host's own `ro` may stay where it is locked.
    let attributes = sys::MountAttr {
        clear: attributes.clear & attr::ATIME,
        propagation: libc::MS_PRIVATE,
        ..attributes
    };
    sys::set_attributes(tree.as_fd(), &attributes, false)
        .map_err(system("set the mount's options"))?;
    Ok(tree)
}

/// A mount of the hierarchy itself: shows the cgroup namespace's root.
fn mount_hierarchy(controllers: &str, entry: &Entry<'_>) -> Outcome<OwnedFd> {
    if controllers.is_empty() {
        let context = Context::open("cgroup2")?;
        context.source(b"cgroup")?;
        return context.mount(entry.options.alone().set);
    }
    let context = Context::open("cgroup")?;
    context.source(b"cgroup")?;
    match controllers.strip_prefix("name=") {
        Some(name) => {
            context.set("none", None)?;
            context.set("name", Some(name))?;
        }
        None => {
            for controller in controllers.split(',') {
                context.set(controller, None)?;
            }
        }
    }
    context.mount(entry.options.alone().set)
}

/// Reads where this process is from the kernel, for callers that did not make a cgroup themselves.
fn discover(has_cgroupns: bool) -> Outcome<Vec<CgroupDir>> {
    let text = fs::read_to_string("/proc/self/cgroup").map_err(system("read /proc/self/cgroup"))?;
    Ok(parse(&text, has_cgroupns))
}

/// `4:cpu,cpuacct:/a/b` -> controllers and directory; in a cgroup namespace the directory is not
/// known and left empty.
fn parse(text: &str, has_cgroupns: bool) -> Vec<CgroupDir> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let mut directory = PathBuf::new();
        if !has_cgroupns {
            directory.push(HOST_MOUNT_POINT);
            directory.push(directory_name(controllers));
            directory.push(path.trim_start_matches('/'));
        }
        found.push(CgroupDir {
            controllers: controllers.to_owned(),
            path: directory,
        });
    }
    if has_cgroupns && found.iter().all(|d| d.controllers.is_empty()) {
        found.clear();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_self_cgroup() {
        let text = "4:cpu,cpuacct:/a/b\n3:name=systemd:/\n0::/c:d\ngarbage\n";
        let found = parse(text, false);
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|d| (d.controllers.as_str(), d.path.to_str().unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/a/b"),
                ("name=systemd", "/sys/fs/cgroup/systemd/"),
                ("", "/sys/fs/cgroup/c:d"),
            ]
        );
        assert!(parse("0::/x\n", true).is_empty());
    }
}
