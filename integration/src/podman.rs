//! Podman with storage of its own, in an [`Enclave`]. It has no daemon.

use std::{fs, path::PathBuf};

use crate::{
    binaries::{Runtime, on_path},
    cases::Engine,
    command::{Cmd, Done},
    enclave::Enclave,
    error::{At, Result},
    image::Image,
};

/// A podman with busybox loaded.
#[derive(Debug)]
pub struct Podman {
    enclave: Enclave,
    program: PathBuf,
    oci: PathBuf,
    runtime: Runtime,
    image: Image,
}

impl Podman {
    /// Prepares podman with [`Runtime::under_test`].
    ///
    /// # Errors
    /// If it is not installed.
    pub fn start() -> Result<Self> {
        let runtime = Runtime::under_test();
        let program = on_path("podman")?;
        let oci = runtime.oci()?;
        let image = Image::busybox()?;
        let enclave = Enclave::new()?;
        let config = enclave.dir().join("containers.conf");
        let text = format!(
            "[containers]\ncgroups = \"enabled\"\n[network]\nnetwork_config_dir = \"{0}/networks\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
             tmp_dir = \"{0}/tmp\"\nvolume_path = \"{0}/volumes\"\nhelper_binaries_dir = [\"/usr/lib/podman\"]\n",
            enclave.dir().display()
        );
        fs::write(&config, text).at("write", config)?;
        let engine = Self {
            enclave,
            program,
            oci,
            runtime,
            image,
        };
        let archive = engine.image.oci.clone();
        engine.cli(["load", "--input"]).arg(archive).ok()?;
        // The first container makes directories that stay.
        engine.run(&[], &["true"])?;
        Ok(engine)
    }

    /// A `podman` command.
    #[must_use]
    pub fn cli<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, args: I) -> Cmd {
        let dir = self.enclave.dir();
        self.enclave
            .cmd(&self.program)
            .arg("--root")
            .arg(dir.join("storage"))
            .arg("--runroot")
            .arg(dir.join("run"))
            .arg("--tmpdir")
            .arg(dir.join("tmp"))
            .arg("--runtime")
            .arg(&self.oci)
            .args(args)
            .env("CONTAINERS_CONF", dir.join("containers.conf"))
            .env("COFFERDAM_CACHE", dir.join("cache"))
            .env("COFFERDAM_POLICY_FILE", dir.join("policy.toml"))
    }

    /// `podman run` with flags before the image; neither `--rm` nor `--detach` is implied.
    #[must_use]
    pub fn podman_run(&self, flags: &[&str], argv: &[&str]) -> Cmd {
        let parent = format!("/{}", self.enclave.tag());
        self.cli(["run", "--cgroup-parent", &parent])
            .args(flags)
            .arg(&self.image.name)
            .args(argv)
    }

    /// Runs a container to its end and removes it; it must succeed.
    ///
    /// # Errors
    /// With everything it printed if it exits with another status than 0.
    pub fn run(&self, flags: &[&str], argv: &[&str]) -> Result<Done> {
        self.podman_run(&[&["--rm"], flags].concat(), argv).ok()
    }

    /// Starts a container in the background.
    ///
    /// # Errors
    /// If it does not start.
    pub fn detached(&self, name: &str, flags: &[&str], argv: &[&str]) -> Result<Done> {
        let flags = [&["--detach", "--name", name], flags].concat();
        self.podman_run(&flags, argv).ok()
    }

    /// Removes a container, running or not.
    ///
    /// # Errors
    /// If podman does not.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.cli(["rm", "--force", "--time", "0", "--volumes", name])
            .ok()
            .map(drop)
    }

    /// The runtime that containers run with.
    #[must_use]
    pub fn runtime(&self) -> Runtime {
        self.runtime
    }
}

impl Engine for Podman {
    fn enclave(&self) -> &Enclave {
        &self.enclave
    }

    fn name(&self) -> String {
        format!("podman {:?}", self.runtime)
    }

    fn clear(&self) -> Result<()> {
        self.cli(["rm", "--force", "--time", "0", "--all"])
            .ok()
            .map(drop)
    }

    fn is_own(&self, left: &str) -> bool {
        // Each podman process binds its storage over itself and undoes that, unless it is in a hurry.
        left == format!("mount {}/storage/overlay", self.enclave.dir().display())
    }

    fn log(&self) -> String {
        "podman keeps no log".to_owned()
    }
}
