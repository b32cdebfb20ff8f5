//! The directories that the container is made from.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Trial;

/// Top-level directories of this machine that a container has of its own.
const OWN: &[&str] = &["dev", "proc", "run", "sys", "tmp"];

/// Where the files of the command are.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// In a root file system.
    Root(&'a Path),
    /// In this machine's own directories, mounted read-only.
    Host,
}

/// Why the bundle cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file or directory.
    #[error("cannot {action} {}", path.display())]
    File {
        /// `read`, `make`.
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A path that JSON and TOML cannot hold.
    #[error("{} is not UTF-8", .0.display())]
    NotText(PathBuf),
}

fn failed<'p>(action: &'static str, path: &'p Path) -> impl Fn(io::Error) -> BundleError + 'p {
    move |source| BundleError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Writes the bundle, and says which directories of the host it mounts, as a TOML list.
pub(super) fn make(bundle: &Path, trial: &Trial) -> Result<String, BundleError> {
    let mut mounts = system_mounts();
    let mut sources = Vec::new();
    let root = match trial.place {
        Place::Root(root) => fs::canonicalize(root).map_err(failed("read", root))?,
        Place::Host => {
            let root = bundle.join("rootfs");
            for directory in host_root(&root)? {
                mounts.push(bind(&directory, "ro")?);
                sources.push(directory);
            }
            root
        }
    };
    for directory in trial.writable {
        let directory = fs::canonicalize(directory).map_err(failed("read", directory))?;
        mounts.push(bind(&directory, "rw")?);
        sources.push(directory);
    }
    let cwd = match trial.place {
        Place::Root(_) => PathBuf::from("/"),
        Place::Host => {
            let cwd = std::env::current_dir().map_err(failed("read", Path::new(".")))?;
            let (cwd, hidden) = working_directory(cwd);
            if hidden && !sources.iter().any(|source| cwd.starts_with(source)) {
                mounts.push(bind(&cwd, "ro")?);
                sources.push(cwd.clone());
            }
            cwd
        }
    };
    let config = config(trial, &root, &cwd, mounts)?;
    let path = bundle.join("config.json");
    fs::write(&path, config.to_string()).map_err(failed("make", &path))?;
    let texts: Result<Vec<&str>, BundleError> = sources.iter().map(|path| text(path)).collect();
    // A JSON list of strings is a TOML one too.
    Ok(json!(texts?).to_string())
}

/// The working directory in the container, and whether the container's own /tmp or /run hides it.
fn working_directory(cwd: PathBuf) -> (PathBuf, bool) {
    let below = |top: &str| cwd.starts_with(top) && cwd != Path::new(top);
    if below("/tmp") || below("/run") {
        return (cwd, true);
    }
    let own = OWN
        .iter()
        .any(|name| cwd.starts_with(Path::new("/").join(name)));
    (if own { "/".into() } else { cwd }, false)
}

fn text(path: &Path) -> Result<&str, BundleError> {
    path.to_str()
        .ok_or_else(|| BundleError::NotText(path.to_owned()))
}

/// A root with the links and mount points that this machine's own has; the directories to mount there.
fn host_root(root: &Path) -> Result<Vec<PathBuf>, BundleError> {
    fs::create_dir(root).map_err(failed("make", root))?;
    let host = Path::new("/");
    let mut directories = Vec::new();
    for entry in fs::read_dir(host).map_err(failed("read", host))? {
        let entry = entry.map_err(failed("read", host))?;
        let (path, own) = (entry.path(), root.join(entry.file_name()));
        let kind = entry.file_type().map_err(failed("read", &path))?;
        if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(failed("read", &path))?;
            symlink(target, &own).map_err(failed("make", &own))?;
        } else if kind.is_dir() {
            fs::create_dir(&own).map_err(failed("make", &own))?;
            let is_own = entry
                .file_name()
                .to_str()
                .is_some_and(|name| OWN.contains(&name));
            if !is_own {
                directories.push(path);
            }
        }
    }
    directories.sort();
    Ok(directories)
}

fn bind(directory: &Path, access: &str) -> Result<Value, BundleError> {
    let directory = text(directory)?;
    Ok(json!({
        "destination": directory, "type": "bind", "source": directory,
        "options": ["rbind", "rprivate", "nodev", access],
    }))
}

fn system_mounts() -> Vec<Value> {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": kind, "options": options});
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
            ],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount(
            "/run",
            "tmpfs",
            &["nosuid", "nodev", "mode=755", "size=65536k"],
        ),
        mount(
            "/tmp",
            "tmpfs",
            &["nosuid", "nodev", "mode=1777", "size=1048576k"],
        ),
    ]
}

fn config(
    trial: &Trial,
    root: &Path,
    cwd: &Path,
    mounts: Vec<Value>,
) -> Result<Value, BundleError> {
    let capabilities = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ];
    let path = std::env::var("PATH").unwrap_or_default();
    Ok(json!({
        "ociVersion": "1.2.0",
        "root": {"path": text(root)?, "readonly": true},
        "hostname": "trial",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "cwd": text(cwd)?, "args": trial.command,
            "env": [format!("PATH={path}"), "HOME=/tmp"],
            "noNewPrivileges": true,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "mounts": mounts,
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"},
            ],
            "seccomp": trial.profile,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_working_directory_is_one_the_container_has() {
        for (cwd, wanted) in [
            ("/home/me", ("/home/me", false)),
            ("/tmp/work", ("/tmp/work", true)),
            ("/run/work/deep", ("/run/work/deep", true)),
            ("/tmp", ("/", false)),
            ("/proc/1", ("/", false)),
            ("/devices", ("/devices", false)),
        ] {
            assert_eq!(
                working_directory(cwd.into()),
                (wanted.0.into(), wanted.1),
                "{cwd}"
            );
        }
    }
}
