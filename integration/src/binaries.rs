use std::{
    env,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    guest,
};

/// The runtime under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// This project's.
    Cofferdam,
    /// This project's by the names that ask for a virtual machine.
    Machine,
    /// Debian's runc and its shim, as a control: a case that fails with it too tests the wrong thing.
    Runc,
}

impl Runtime {
    /// Cofferdam, unless `COFFERDAM_TEST_RUNTIME=runc` asks for the control.
    #[must_use]
    pub fn under_test() -> Self {
        match env::var("COFFERDAM_TEST_RUNTIME").as_deref() {
            Ok("runc") => Self::Runc,
            _ => Self::Cofferdam,
        }
    }

    /// The name that containerd knows it by.
    #[must_use]
    pub fn containerd_name(self) -> &'static str {
        match self {
            Self::Cofferdam => "io.containerd.cofferdam.v2",
            Self::Machine => "io.containerd.cofferdam-vm.v2",
            Self::Runc => "io.containerd.runc.v2",
        }
    }

    /// The file name of its shim.
    #[must_use]
    pub fn shim_name(self) -> &'static str {
        match self {
            Self::Cofferdam => "containerd-shim-cofferdam-v2",
            Self::Machine => "containerd-shim-cofferdam-vm-v2",
            Self::Runc => "containerd-shim-runc-v2",
        }
    }

    /// The OCI command line.
    ///
    /// # Errors
    /// If it has not been built or installed.
    pub fn oci(self) -> Result<PathBuf> {
        match self {
            Self::Cofferdam => Ok(build_dir()?.join("cofferdam")),
            Self::Machine => Ok(guest::installed()?.join("cofferdam-vm")),
            Self::Runc => on_path("runc"),
        }
    }
}

/// The directory with this build's binaries: `COFFERDAM_BIN_DIR`, else the release build, else the
/// debug build (tests run beside it).
///
/// # Errors
/// If nothing has been built.
pub fn build_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("COFFERDAM_BIN_DIR") {
        return Ok(PathBuf::from(dir));
    }
    let exe = env::current_exe().unwrap_or_default();
    // target/<triple>/<profile>/[deps/]<test>
    let profiles = exe
        .ancestors()
        .find(|dir| dir.ends_with("debug") || dir.ends_with("release"))
        .and_then(Path::parent);
    let built = profiles.and_then(|dir| {
        ["release", "debug"]
            .map(|profile| dir.join(profile))
            .into_iter()
            .find(|dir| dir.join("containerd-shim-cofferdam-v2").exists())
    });
    built.ok_or_else(|| Error::Missing {
        what: "the cofferdam binaries".to_owned(),
        remedy: "cargo build --release, or set COFFERDAM_BIN_DIR",
    })
}

/// A program on the search path.
///
/// # Errors
/// If it is not installed.
pub fn on_path(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    // Debian keeps daemons out of an ordinary user's PATH.
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| Error::Missing {
            what: program.to_owned(),
            remedy: "run scripts/setup",
        })
}

/// Where things are kept that are costly to make: unpacked engines and images. It lies outside the
/// source tree, so that a checkout stays clean.
#[must_use]
pub fn cache_dir() -> PathBuf {
    env::var_os("COFFERDAM_TEST_CACHE").map_or_else(
        || PathBuf::from("/var/cache/cofferdam-tests"),
        PathBuf::from,
    )
}

/// A program of an engine that `scripts/fetch-engines` unpacked, for instance `containerd-2.1`.
///
/// # Errors
/// If it has not been fetched.
pub fn unpacked(engine: &str, program: &str) -> Result<PathBuf> {
    let root = cache_dir().join("engines").join(engine);
    ["usr/bin", "usr/sbin"]
        .into_iter()
        .map(|dir| root.join(dir).join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| Error::Missing {
            what: format!("{program} of {engine}"),
            remedy: "run scripts/fetch-engines",
        })
}
