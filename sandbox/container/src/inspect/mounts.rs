//! Mounts through which the container can write to the host's files.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use cofferdam_profiles::mountinfo;
use serde::Serialize;

/// A path of the host that can be reached, and written to, from inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostPath {
    /// Where it is in the container.
    pub destination: PathBuf,
    /// The path within its file system.
    pub source: PathBuf,
    /// The file system.
    pub file_system: String,
    /// The mount options.
    pub options: String,
}

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    device: &'a str,
    root: PathBuf,
    point: PathBuf,
    options: &'a str,
    kind: &'a str,
}

/// Mounts of the container, other than its root, that are writable and show a file system that
/// the host has mounted too. File systems whose every mount is a view of the kernel, not files
/// of the host, are left to the namespaces and the masks.
pub(super) fn writable_host_paths(container: &str, host: &str) -> Vec<HostPath> {
    const VIEWS: [&str; 6] = ["proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts"];
    let of_host: BTreeSet<&str> = parse(host).map(|mount| mount.device).collect();
    let root = PathBuf::from("/");
    let mut found: Vec<HostPath> = parse(container)
        .filter(|mount| mount.point != root)
        .filter(|mount| !VIEWS.contains(&mount.kind))
        .filter(|mount| !mount.options.split(',').any(|o| o == "ro"))
        .filter(|mount| of_host.contains(mount.device))
        .map(|mount| HostPath {
            destination: mount.point,
            source: mount.root,
            file_system: mount.kind.to_owned(),
            options: mount.options.to_owned(),
        })
        .collect();
    found.sort_by(|a, b| a.destination.cmp(&b.destination));
    found
}

fn parse(text: &str) -> impl Iterator<Item = Mount<'_>> {
    text.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ');
        let device = left.nth(2)?;
        let (root, point, options) = (left.next()?, left.next()?, left.next()?);
        Some(Mount {
            device,
            root: unescape(root),
            point: unescape(point),
            options,
            kind: right.split(' ').next()?,
        })
    })
}

fn unescape(text: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(mountinfo::unescape(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writable_views_of_the_hosts_files_count() {
        let host = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
                    30 27 0:50 / /run/x rw - overlay overlay rw\n\
                    31 27 0:6 / /dev rw - devtmpfs devtmpfs rw\n\
                    32 27 0:21 / /proc rw - proc proc rw\n";
        let container = "90 80 0:50 / / rw - overlay overlay rw\n\
                    91 90 0:70 / /proc rw - proc proc rw\n\
                    92 91 0:21 / /proc/bus rw - proc proc rw\n\
                    93 90 0:71 / /dev rw - tmpfs tmpfs rw\n\
                    94 93 0:6 /kvm /dev/kvm rw - devtmpfs devtmpfs rw\n\
                    95 90 254:0 /srv/my\\040data /data rw,nosuid - ext4 /dev/vda rw\n\
                    96 90 254:0 /etc/x /etc/x ro - ext4 /dev/vda rw\n\
                    broken line\n";
        let found = writable_host_paths(container, host);
        let pairs: Vec<_> = found
            .iter()
            .map(|p| (p.destination.to_str().unwrap(), p.source.to_str().unwrap()))
            .collect();
        assert_eq!(pairs, [("/data", "/srv/my data"), ("/dev/kvm", "/kvm")]);
    }
}
