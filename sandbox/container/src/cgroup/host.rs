//! Which cgroup hierarchies this host has and where they are mounted.
//!
//! The standard mount points are tried first with statfs(2): mountinfo grows with every container
//! on the host and is read only where a hierarchy is not where distributions put it.

use std::path::{Path, PathBuf};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use serde::{Deserialize, Serialize};

use super::{Error, file};

/// Where distributions mount the hierarchies.
pub(crate) const MOUNT_ROOT: &str = "/sys/fs/cgroup";

/// The name under which the unified hierarchy stands in `Hierarchy::controllers`.
const UNIFIED: &str = "";

/// Which generation of cgroups manages the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One hierarchy per controller, perhaps with an empty unified one beside them.
    V1,
    /// One hierarchy for everything.
    V2,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Controllers (`cpu`, `name=systemd`); empty for the unified hierarchy.
    pub(crate) controllers: Vec<String>,
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// The cgroup of this process, as /proc/self/cgroup names it.
    pub(crate) own: PathBuf,
    /// The part of the hierarchy that the mount shows, when mountinfo was read.
    pub(crate) mount_root: Option<PathBuf>,
}

impl Hierarchy {
    /// The directory of this process's own cgroup.
    pub(crate) fn own_dir(&self) -> Result<PathBuf, Error> {
        let direct = join(&self.mount, &self.own);
        if self.mount_root.is_none() && direct.is_dir() {
            return Ok(direct);
        }
        // A container without a cgroup namespace: the mount shows only a subtree.
        let root = match &self.mount_root {
            Some(root) => root.clone(),
            None => {
                let text = file::read(Path::new("/proc/self/mountinfo"))?;
                find_mount(&text, &self.controllers)
                    .map(|found| found.1)
                    .unwrap_or_default()
            }
        };
        let below = self.own.strip_prefix(&root).unwrap_or(&self.own);
        Ok(join(&self.mount, below))
    }
}

/// All hierarchies of the host.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) mode: Mode,
    pub(crate) hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// Looks at the host.
    pub(crate) fn probe() -> Result<Self, Error> {
        let own = file::read(Path::new("/proc/self/cgroup"))?;
        let lines = parse_own(&own);
        let root = Path::new(MOUNT_ROOT);
        let unified_own = lines
            .iter()
            .find(|(controllers, _)| controllers.is_empty())
            .map(|(_, path)| path.clone());
        if is_fs(root, CGROUP2_SUPER_MAGIC) {
            return Ok(Self {
                mode: Mode::V2,
                hierarchies: vec![Hierarchy {
                    controllers: vec![],
                    mount: root.to_owned(),
                    own: unified_own.unwrap_or_else(|| PathBuf::from("/")),
                    mount_root: None,
                }],
            });
        }
        let mut mountinfo = None;
        let mut hierarchies = Vec::with_capacity(lines.len());
        for (controllers, own) in lines.iter().filter(|(c, _)| !c.is_empty()) {
            let standard = standard_mount(root, controllers);
            let (mount, mount_root) = if is_fs(&standard, CGROUP_SUPER_MAGIC) {
                (standard, None)
            } else {
                let text = match &mountinfo {
                    Some(text) => text,
                    None => mountinfo.insert(file::read(Path::new("/proc/self/mountinfo"))?),
                };
                match find_mount(text, controllers) {
                    Some((mount, mount_root)) => (mount, Some(mount_root)),
                    None => continue,
                }
            };
            hierarchies.push(Hierarchy {
                controllers: controllers.clone(),
                mount,
                own: own.clone(),
                mount_root,
            });
        }
        if hierarchies.is_empty() {
            return Err(Error::NoHierarchy);
        }
        // Hybrid: runc joins the unified hierarchy too, where systemd mounts it.
        let unified = root.join("unified");
        if let Some(own) = unified_own
            && is_fs(&unified, CGROUP2_SUPER_MAGIC)
        {
            hierarchies.push(Hierarchy {
                controllers: vec![],
                mount: unified,
                own,
                mount_root: None,
            });
        }
        Ok(Self {
            mode: Mode::V1,
            hierarchies,
        })
    }
}

/// `id:controllers:path` lines of /proc/PID/cgroup.
pub(crate) fn parse_own(text: &str) -> Vec<(Vec<String>, PathBuf)> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let controllers = controllers
                .split(',')
                .filter(|c| *c != UNIFIED)
                .map(str::to_owned)
                .collect();
            Some((controllers, PathBuf::from(path)))
        })
        .collect()
}

/// Where a v1 hierarchy is mounted by systemd, cgroupfs-mount and OpenRC alike.
fn standard_mount(root: &Path, controllers: &[String]) -> PathBuf {
    let name = controllers.join(",");
    root.join(name.strip_prefix("name=").unwrap_or(&name))
}

/// The mount point and the mount's root of a hierarchy, from mountinfo (proc_pid_mountinfo(5)).
fn find_mount(mountinfo: &str, controllers: &[String]) -> Option<(PathBuf, PathBuf)> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ');
        let (root, mount) = (left.nth(3)?, left.next()?);
        let mut right = right.split(' ');
        let (fs, _, options) = (right.next()?, right.next()?, right.next()?);
        let wanted = match fs {
            "cgroup" => {
                !controllers.is_empty()
                    && controllers
                        .iter()
                        .all(|c| options.split(',').any(|o| o == c))
            }
            "cgroup2" => controllers.is_empty(),
            _ => false,
        };
        wanted.then(|| (PathBuf::from(mount), PathBuf::from(root)))
    })
}

/// `dir` is the root of a mount of that type, as far as statfs(2) can tell.
pub(crate) fn is_fs(dir: &Path, magic: FsType) -> bool {
    statfs(dir).is_ok_and(|s| s.filesystem_type() == magic)
}

/// `base` + `path`, where `path` may be absolute: `Path::join` would drop `base`.
pub(crate) fn join(base: &Path, path: &Path) -> PathBuf {
    let below = path.strip_prefix("/").unwrap_or(path);
    if below.as_os_str().is_empty() {
        base.to_owned()
    } else {
        base.join(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 /docker/x /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /other/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn mounts_are_found_by_their_options() {
        for (controllers, expected) in [
            (
                &["cpuacct", "cpu"][..],
                Some(("/sys/fs/cgroup/cpu,cpuacct", "/docker/x")),
            ),
            (&["memory"], Some(("/other/memory", "/"))),
            (&["name=systemd"], Some(("/sys/fs/cgroup/systemd", "/"))),
            (&[], Some(("/sys/fs/cgroup/unified", "/"))),
            (&["pids"], None),
        ] {
            let controllers: Vec<String> = controllers.iter().map(ToString::to_string).collect();
            let expected = expected.map(|(a, b)| (PathBuf::from(a), PathBuf::from(b)));
            assert_eq!(
                find_mount(MOUNTINFO, &controllers),
                expected,
                "{controllers:?}"
            );
        }
    }

    #[test]
    fn own_cgroups_keep_colons_in_the_path() {
        let lines = parse_own("4:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/user.slice\nbroken\n");
        assert_eq!(
            lines,
            [
                (vec!["cpu".into(), "cpuacct".into()], "/a:b".into()),
                (vec!["name=systemd".into()], "/".into()),
                (vec![], "/user.slice".into()),
            ]
        );
    }

    #[test]
    fn standard_places() {
        let at = |c: &[&str]| {
            let c: Vec<String> = c.iter().map(ToString::to_string).collect();
            standard_mount(Path::new("/r"), &c)
        };
        assert_eq!(at(&["name=systemd"]), Path::new("/r/systemd"));
        assert_eq!(at(&["cpu", "cpuacct"]), Path::new("/r/cpu,cpuacct"));
    }
}
