//! From a bundle to a hardened spec, and from a request to join to a hardened process.

/// What the policy must know about this host.
mod facts;
/// A profile made of the container's files.
mod generate;
/// Whose turn it is to make one.
mod turn;

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use cofferdam_profiles::policy::spec::{MAX_SPEC_BYTES, SpecError, parse_spec};
use cofferdam_profiles::policy::{
    ContainerRecord, Hardened, HostFacts, ISOLATION_ANNOTATION, PolicyFile, PolicyFileError,
    Refusal, Report, Selection, check_before_generating, harden, harden_exec,
};
use oci_spec::runtime::{Process, Spec};

/// Names the policy when neither the command line nor the runtime handler does.
pub const POLICY_VARIABLE: &str = "COFFERDAM_POLICY";
/// Names the policy file when the command line does not.
pub const POLICY_FILE_VARIABLE: &str = "COFFERDAM_POLICY_FILE";
/// Where compiled seccomp filters are kept, if not in [`FILTER_CACHE`].
pub const CACHE_VARIABLE: &str = "COFFERDAM_CACHE";

/// The policy file when nobody names another.
pub const POLICY_FILE: &str = "/etc/cofferdam/policy.toml";
/// Where compiled seccomp filters are kept.
pub const FILTER_CACHE: &str = "/var/cache/cofferdam";

/// Why a bundle cannot be launched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// There is no bundle.
    #[error("cannot use the bundle {}", path.display())]
    Bundle {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no config.json.
    #[error("JSON specification file {} not found", path.display())]
    NoConfig {
        /// The file.
        path: PathBuf,
    },
    /// The config.json cannot be read.
    #[error("cannot read {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The config.json is a directory, a FIFO, a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// What it says is not a spec.
    #[error("{}", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: SpecError,
    },
    /// The root file system is not there.
    #[error("cannot use the root file system {}", path.display())]
    Rootfs {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The root file system is something else than a directory.
    #[error("the root file system {} is not a directory", path.display())]
    RootfsKind {
        /// The path.
        path: PathBuf,
    },
    /// The root file system could be exchanged under us.
    #[error(
        "invalid rootfs: {} is a symlink or reached through one; set root.path to {}",
        path.display(), target.display()
    )]
    RootfsLink {
        /// The path as the spec has it.
        path: PathBuf,
        /// What it leads to.
        target: PathBuf,
    },
    /// A bind mount's source is not there.
    #[error("cannot find the source {} of the mount at {}", path.display(), destination.display())]
    MountSource {
        /// The source.
        path: PathBuf,
        /// Where it should be mounted.
        destination: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A namespace to join is not there.
    #[error("cannot find the namespace {}", path.display())]
    Namespace {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The policy file is wrong.
    #[error(transparent)]
    PolicyFile(#[from] PolicyFileError),
    /// The policy refuses the spec.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Who chose which policy, and where policies come from.
#[derive(Debug, Clone)]
pub struct PolicyChoice {
    /// Who chose.
    pub selection: Selection,
    /// The policy file.
    pub file: PathBuf,
    /// The command line or the environment names the file, so it must be there.
    pub named: bool,
    /// The runtime's name asks for a virtual machine.
    pub microvm: bool,
}

impl PolicyChoice {
    /// What the environment says, with `policy` and `file` of the command line before it.
    pub fn from_environment(policy: Option<&str>, file: Option<&Path>) -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        // A name that is not UTF-8 is no policy's name; it must not mean "the default".
        let environment = variable(POLICY_VARIABLE).map(|name| name.to_string_lossy().into_owned());
        let named = file.map(Path::to_owned);
        let named = named.or_else(|| variable(POLICY_FILE_VARIABLE).map(PathBuf::from));
        Self {
            selection: Selection {
                command_line: policy.map(str::to_owned),
                handler: None,
                environment,
            },
            named: named.is_some(),
            microvm: is_called_vm(),
            file: named.unwrap_or_else(|| POLICY_FILE.into()),
        }
    }

    /// Reads the policy file.
    pub fn load(&self) -> Result<PolicyFile, PolicyFileError> {
        if self.named {
            PolicyFile::load_named(&self.file)
        } else {
            PolicyFile::load(&self.file)
        }
    }
}

/// Whether this program is called `cofferdam-vm`, or as the shim of `io.containerd.cofferdam-vm.v2`: names by which
/// engines can choose a virtual machine that let them set nothing else.
pub fn is_called_vm() -> bool {
    let name = env::args_os().next().map(PathBuf::from);
    let name = name.as_deref().and_then(Path::file_name);
    name.is_some_and(|name| name == "cofferdam-vm" || name == "containerd-shim-cofferdam-vm-v2")
}

/// The directory of compiled seccomp filters.
pub fn filter_cache() -> PathBuf {
    env::var_os(CACHE_VARIABLE)
        .filter(|value| !value.is_empty())
        .map_or_else(|| FILTER_CACHE.into(), PathBuf::from)
}

/// A bundle that was read and looks sound, before any policy.
#[derive(Debug)]
pub struct Bundle {
    /// The directory, absolute and without symlinks.
    pub path: PathBuf,
    /// Its spec.
    pub spec: Spec,
    facts: HostFacts,
}

impl Bundle {
    /// Reads the bundle at `path` and looks at everything its spec points to.
    pub fn open(path: &Path) -> Result<Self, LaunchError> {
        let real = fs::canonicalize(path).map_err(|source| LaunchError::Bundle {
            path: path.to_owned(),
            source,
        })?;
        let spec = read_spec(&real.join("config.json"))?;
        // A spec without a root is for the policy to refuse.
        let rootfs = match spec.root() {
            Some(root) => Some(check_rootfs(&real.join(root.path()))?),
            None => None,
        };
        let facts = facts::find(&real, rootfs.as_deref(), &spec)?;
        Ok(Self {
            path: real,
            spec,
            facts,
        })
    }

    /// The root file system; none if the spec has none, which the policy refuses.
    fn root(&self) -> Option<PathBuf> {
        let root = self.spec.root().as_ref()?;
        self.facts.mount_sources.get(root.path()).cloned()
    }

    /// Applies the chosen policy.
    pub fn harden(mut self, choice: &PolicyChoice) -> Result<Hardened<Spec>, LaunchError> {
        let policies = choice.load()?;
        if choice.microvm {
            // As the annotation, which may ask for more than the policy does.
            let annotations = self.spec.annotations_mut().get_or_insert_default();
            annotations.insert(ISOLATION_ANNOTATION.to_owned(), "microvm".to_owned());
        }
        let documents = policies.wants_access(&choice.selection, &self.spec)?;
        self.facts.access = facts::documents(documents);
        if policies.wants_apparmor(&choice.selection, &self.spec)? {
            facts::find_for_apparmor(&mut self.facts);
        }
        let wanted = policies.wants_generated(&choice.selection, &self.spec)?;
        if let (Some(wanted), Some(root)) = (wanted, self.root()) {
            // Nothing of a container that will not start is looked at.
            check_before_generating(self.spec.clone(), &policies, &choice.selection, &self.facts)?;
            let files = generate::Files {
                spec: &self.spec,
                root: &root,
                source: &|path| self.facts.mount_sources.get(path).cloned(),
            };
            self.facts.generated = Some(generate::profile(&files, &wanted));
        }
        let hardened = harden(self.spec, &policies, &choice.selection, &self.facts)?;
        log_findings(hardened.report());
        Ok(hardened)
    }
}

/// Hardens a process that joins the container of `record`.
pub fn harden_process(
    process: Process,
    record: &ContainerRecord,
) -> Result<Hardened<Process>, Refusal> {
    let hardened = harden_exec(process, record)?;
    log_findings(hardened.report());
    Ok(hardened)
}

fn log_findings(report: &Report) {
    for finding in &report.findings {
        tracing::debug!(
            rule = %finding.rule, field = %finding.field, action = %finding.action,
            asked = %finding.asked, got = %finding.got, "policy: {}", finding.reason
        );
    }
}

/// Reads and checks a config.json of bounded size.
pub(crate) fn read_spec(path: &Path) -> Result<Spec, LaunchError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LaunchError::NoConfig {
            path: path.to_owned(),
        },
        _ => LaunchError::Config {
            path: path.to_owned(),
            source,
        },
    };
    // One byte more than the parser takes, so that it sees what is too long.
    let text = read_regular(path, MAX_SPEC_BYTES as u64 + 1)
        .map_err(failed)?
        .ok_or_else(|| LaunchError::NotAFile {
            path: path.to_owned(),
        })?;
    parse_spec(&text).map_err(|source| LaunchError::Spec {
        path: path.to_owned(),
        source,
    })
}

/// Reads a file, but no more than `most` bytes of it; `None` if it is not a regular one. Never waits
/// for a FIFO's writer.
pub(crate) fn read_regular(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Ok(None);
    }
    // Room for all of it at once, and to see its end without growing.
    let expected = usize::try_from(found.len().min(most)).unwrap_or(0) + 1;
    let mut text = Vec::with_capacity(expected);
    file.take(most).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// The root must be a directory that is named by its real path: whoever owns a symlink on the way
/// could exchange it between this check and the mount.
fn check_rootfs(path: &Path) -> Result<PathBuf, LaunchError> {
    let target = fs::canonicalize(path).map_err(|source| LaunchError::Rootfs {
        path: path.to_owned(),
        source,
    })?;
    // Comparing components forgives `rootfs/` and `./rootfs`, not `..`.
    if target.components().ne(path.components()) {
        return Err(LaunchError::RootfsLink {
            path: path.to_owned(),
            target,
        });
    }
    match fs::symlink_metadata(&target) {
        Ok(found) if found.is_dir() => Ok(target),
        Ok(_) => Err(LaunchError::RootfsKind {
            path: path.to_owned(),
        }),
        Err(source) => Err(LaunchError::Rootfs {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_rootfs_is_a_real_directory() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir(base.join("rootfs")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        symlink("rootfs", base.join("link")).unwrap();
        symlink(".", base.join("here")).unwrap();
        for good in ["rootfs", "rootfs/", "./rootfs", "rootfs/."] {
            assert!(check_rootfs(&base.join(good)).is_ok(), "{good}");
        }
        let kind = |path: &str| check_rootfs(&base.join(path)).unwrap_err();
        assert!(matches!(kind("none"), LaunchError::Rootfs { .. }));
        assert!(matches!(kind("file"), LaunchError::RootfsKind { .. }));
        for link in ["link", "here/rootfs", "rootfs/../rootfs"] {
            assert!(
                matches!(kind(link), LaunchError::RootfsLink { .. }),
                "{link}"
            );
        }
    }

    #[test]
    fn a_config_that_is_no_file_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let none = read_spec(&path).unwrap_err();
        assert!(matches!(none, LaunchError::NoConfig { .. }), "{none:?}");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = read_spec(&path).unwrap_err();
        assert!(matches!(fifo, LaunchError::NotAFile { .. }), "{fifo:?}");
    }
}
