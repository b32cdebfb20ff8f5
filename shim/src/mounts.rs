//! Mounts the root file system that containerd's snapshotter describes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use containerd_shim_protos::api::Mount;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::helper::FailureKind;
use crate::sys;

/// The kernel takes one page of options at most, its terminating zero included.
const OPTIONS_MAX: usize = 4095;

/// Why a root file system could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The target directory could not be made.
    #[error("cannot make the mount point {}", path.display())]
    Target {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An option that we would have to ignore.
    #[error("mount option {option:?} of the root file system ({kind} {from}) is not supported")]
    Option {
        /// The option.
        option: String,
        /// The file system type.
        kind: String,
        /// The source.
        from: String,
    },
    /// The options do not fit a page even with relative layer paths.
    #[error(
        "the options of the {kind} mount take {length} bytes, the kernel accepts {OPTIONS_MAX}; \
         the image has too many layers"
    )]
    TooLong {
        /// The file system type.
        kind: String,
        /// The options' length.
        length: usize,
    },
    /// The kernel refused.
    #[error("cannot mount {kind} {from} at {}", path.display())]
    Mount {
        /// The file system type.
        kind: String,
        /// The source.
        from: String,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot unmount {}", path.display())]
    Unmount {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// What kind of failure this is.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Option { .. } | Self::TooLong { .. } => FailureKind::InvalidArgument,
            Self::Target { .. } | Self::Mount { .. } | Self::Unmount { .. } => {
                FailureKind::Internal
            }
        }
    }
}

/// A mount as mount(2) takes it.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    kind: String,
    from: String,
    flags: MsFlags,
    data: Vec<String>,
    /// An overlay whose lower layers are to be mapped (`uidmap=`, `gidmap=`): the container's own mount of it
    /// is, see `cofferdam_container::CreateOptions::map_layers`.
    map_layers: bool,
}

/// Flags by option name: set or cleared.
fn flag(option: &str) -> Option<(MsFlags, bool)> {
    Some(match option {
        "ro" => (MsFlags::MS_RDONLY, true),
        "rw" => (MsFlags::MS_RDONLY, false),
        "nosuid" => (MsFlags::MS_NOSUID, true),
        "suid" => (MsFlags::MS_NOSUID, false),
        "nodev" => (MsFlags::MS_NODEV, true),
        "dev" => (MsFlags::MS_NODEV, false),
        "noexec" => (MsFlags::MS_NOEXEC, true),
        "exec" => (MsFlags::MS_NOEXEC, false),
        "sync" => (MsFlags::MS_SYNCHRONOUS, true),
        "async" => (MsFlags::MS_SYNCHRONOUS, false),
        "dirsync" => (MsFlags::MS_DIRSYNC, true),
        "noatime" => (MsFlags::MS_NOATIME, true),
        "atime" => (MsFlags::MS_NOATIME, false),
        "nodiratime" => (MsFlags::MS_NODIRATIME, true),
        "diratime" => (MsFlags::MS_NODIRATIME, false),
        "relatime" => (MsFlags::MS_RELATIME, true),
        "norelatime" => (MsFlags::MS_RELATIME, false),
        "strictatime" => (MsFlags::MS_STRICTATIME, true),
        "nostrictatime" => (MsFlags::MS_STRICTATIME, false),
        "bind" => (MsFlags::MS_BIND, true),
        "rbind" => (MsFlags::MS_BIND.union(MsFlags::MS_REC), true),
        "defaults" => (MsFlags::empty(), true),
        _ => return None,
    })
}

impl Request {
    fn parse(mount: &Mount) -> Result<Self, MountError> {
        let mut flags = MsFlags::empty();
        let mut data = Vec::new();
        let mut map_layers = false;
        for option in &mount.options {
            match flag(option) {
                Some((bits, true)) => flags |= bits,
                Some((bits, false)) => flags &= !bits,
                // Which ids is said by the spec too.
                None if mount.type_ == "overlay"
                    && (option.starts_with("uidmap=") || option.starts_with("gidmap=")) =>
                {
                    map_layers = true;
                }
                // Handled by containerd itself or by mount helpers; to drop one would change what
                // the container sees.
                None if option == "loop"
                    || option.starts_with("X-")
                    || option.starts_with("uidmap=")
                    || option.starts_with("gidmap=") =>
                {
                    return Err(MountError::Option {
                        option: option.clone(),
                        kind: mount.type_.clone(),
                        from: mount.source.clone(),
                    });
                }
                None => data.push(option.clone()),
            }
        }
        Ok(Self {
            kind: mount.type_.clone(),
            from: mount.source.clone(),
            flags,
            data,
            map_layers,
        })
    }

    fn failed(&self, path: &Path, errno: Errno) -> MountError {
        MountError::Mount {
            kind: self.kind.clone(),
            from: self.from.clone(),
            path: path.to_owned(),
            source: errno.into(),
        }
    }

    fn perform(&self, target: &Path, data: &str) -> Result<(), MountError> {
        let data = (!data.is_empty()).then_some(data);
        let failed = |errno| self.failed(target, errno);
        if !self.flags.contains(MsFlags::MS_BIND) {
            let (from, kind) = (Some(self.from.as_str()), Some(self.kind.as_str()));
            return mount(from, target, kind, self.flags, data).map_err(failed);
        }
        let bind = self.flags & (MsFlags::MS_BIND | MsFlags::MS_REC);
        mount(
            Some(self.from.as_str()),
            target,
            None::<&str>,
            bind,
            None::<&str>,
        )
        .map_err(failed)?;
        let rest = self.flags.difference(bind);
        if rest.is_empty() {
            return Ok(());
        }
        // A bind takes its source's flags; ours need a second call, and a failure must not leave the
        // first, more open mount behind.
        let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | rest;
        mount(None::<&str>, target, None::<&str>, again, None::<&str>).map_err(|errno| {
            umount2(target, MntFlags::MNT_DETACH).unwrap_or_default();
            self.failed(target, errno)
        })
    }
}

/// The longest directory that all of overlay's layers share, and the options with layer paths
/// relative to it.
fn relative_layers(data: &[String]) -> Option<(PathBuf, String)> {
    let keys = ["lowerdir=", "upperdir=", "workdir="];
    let layers = |option: &str| -> Option<(&'static str, Vec<String>)> {
        keys.iter().find_map(|key| {
            let list = option.strip_prefix(key)?;
            Some((*key, list.split(':').map(str::to_owned).collect()))
        })
    };
    let all: Vec<String> = data
        .iter()
        .filter_map(|option| layers(option))
        .flat_map(|(_, list)| list)
        .collect();
    let mut common = PathBuf::from(all.first()?);
    while !all
        .iter()
        .all(|layer| Path::new(layer).starts_with(&common))
    {
        if !common.pop() {
            return None;
        }
    }
    if !common.is_absolute() || all.iter().any(|layer| Path::new(layer) == common) {
        return None;
    }
    let shorten = |layer: &String| -> Option<String> {
        Some(
            Path::new(layer)
                .strip_prefix(&common)
                .ok()?
                .to_str()?
                .to_owned(),
        )
    };
    let mut options = Vec::new();
    for option in data {
        options.push(match layers(option) {
            None => option.clone(),
            Some((key, list)) => {
                let list: Option<Vec<String>> = list.iter().map(shorten).collect();
                format!("{key}{}", list?.join(":"))
            }
        });
    }
    Some((common, options.join(",")))
}

/// Performs one mount. Options longer than a page are shortened by entering the directory that the
/// layers share, on a thread with a working directory of its own.
fn perform(request: &Request, target: &Path) -> Result<(), MountError> {
    let data = request.data.join(",");
    if data.len() <= OPTIONS_MAX {
        return request.perform(target, &data);
    }
    let length = data.len();
    let too_long = || MountError::TooLong {
        kind: request.kind.clone(),
        length,
    };
    let (directory, data) = relative_layers(&request.data).ok_or_else(too_long)?;
    if data.len() > OPTIONS_MAX {
        return Err(too_long());
    }
    let enter = || {
        sys::own_working_directory()?;
        std::env::set_current_dir(&directory)
    };
    let work = || {
        enter().map_err(|source| MountError::Target {
            path: directory.clone(),
            source,
        })?;
        request.perform(target, &data)
    };
    std::thread::scope(|scope| scope.spawn(work).join()).map_err(|_| too_long())?
}

/// Mounts everything `mounts` lists at `target`, in order; on failure nothing stays mounted. Whether the lower
/// layers are to be mapped for the container.
pub fn mount_all(mounts: &[Mount], target: &Path) -> Result<bool, MountError> {
    fs::create_dir_all(target).map_err(|source| MountError::Target {
        path: target.to_owned(),
        source,
    })?;
    let mut map_layers = false;
    for mount in mounts {
        let relative = mount.target.trim_start_matches('/');
        if !relative.is_empty() {
            return Err(MountError::Option {
                option: format!("target={}", mount.target),
                kind: mount.type_.clone(),
                from: mount.source.clone(),
            });
        }
        let done = Request::parse(mount).and_then(|request| {
            perform(&request, target)?;
            Ok(request.map_layers)
        });
        match done {
            Ok(mapped) => map_layers |= mapped,
            Err(e) => {
                unmount_all(target)?;
                return Err(e);
            }
        }
    }
    Ok(map_layers)
}

/// Unmounts everything that is mounted at `target`. Nothing mounted, or no such path, is fine.
pub fn unmount_all(target: &Path) -> Result<(), MountError> {
    // Detached, so that a process that still has a file open delays nobody; the file system goes
    // away with its last user.
    loop {
        match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => {
                return Err(MountError::Unmount {
                    path: target.to_owned(),
                    source: errno.into(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount_of(options: &[&str]) -> Mount {
        Mount {
            type_: "overlay".to_owned(),
            source: "overlay".to_owned(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn options_become_flags_or_data() {
        let request = Request::parse(&mount_of(&[
            "ro",
            "nodev",
            "rw",
            "index=off",
            "lowerdir=/a:/b",
        ]))
        .unwrap();
        assert_eq!(request.flags, MsFlags::MS_NODEV);
        assert_eq!(request.data, ["index=off", "lowerdir=/a:/b"]);
        let request = Request::parse(&mount_of(&["rbind", "ro"])).unwrap();
        assert!(
            request
                .flags
                .contains(MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY)
        );
    }

    #[test]
    fn options_we_would_have_to_drop_are_refused() {
        for option in ["loop", "X-containerd.mkdir.path=/x"] {
            assert!(Request::parse(&mount_of(&[option])).is_err(), "{option}");
        }
        for option in ["uidmap=0:1:2", "gidmap=0:1:2"] {
            let overlay = mount_of(&[option, "lowerdir=/a:/b"]);
            let request = Request::parse(&overlay).unwrap();
            assert!(request.map_layers);
            assert_eq!(request.data, ["lowerdir=/a:/b"]);
            let bind = Mount {
                type_: "bind".to_owned(),
                ..overlay
            };
            assert!(Request::parse(&bind).is_err(), "{option}");
        }
    }

    #[test]
    fn long_layer_lists_become_relative() {
        let layer = |n: u32| format!("/var/lib/snapshots/{n}/fs");
        let lower = format!("lowerdir={}:{}", layer(1), layer(2));
        let data = [
            "index=off".to_owned(),
            lower,
            format!("upperdir={}", layer(3)),
        ];
        let (directory, options) = relative_layers(&data).unwrap();
        assert_eq!(directory, Path::new("/var/lib/snapshots"));
        assert_eq!(options, "index=off,lowerdir=1/fs:2/fs,upperdir=3/fs");
        for bad in [
            "lowerdir=a:b",
            "lowerdir=/a",
            "lowerdir=/a:/a/b",
            "index=off",
        ] {
            assert_eq!(relative_layers(&[bad.to_owned()]), None, "{bad}");
        }
    }

    #[test]
    fn unmounting_nothing_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        assert!(unmount_all(&dir.path().join("absent")).is_ok());
    }
}
