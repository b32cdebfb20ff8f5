//! Podman with storage of its own, in an [`Enclave`]. It has no daemon.

use std::{fs, path::PathBuf};

use crate::{
    binaries::{Runtime, on_path},
    cases::{Engine, is_parent_cgroup},
    client::Client,
    command::Cmd,
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
        // The built-in policies, whatever this machine has in /etc.
        let policies = enclave.dir().join("policy.toml");
        fs::write(&policies, "").at("write", policies)?;
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
}

impl Client for Podman {
    fn cli<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, args: I) -> Cmd {
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
            .env("COFFERDAM_LOGS", dir.join("logs"))
            .env("COFFERDAM_POLICY_FILE", dir.join("policy.toml"))
    }

    fn run_of(&self, image: &str, flags: &[&str], argv: &[&str]) -> Cmd {
        let parent = format!("/{}", self.enclave.tag());
        self.cli(["run", "--cgroup-parent", &parent])
            .args(flags)
            .arg(image)
            .args(argv)
    }

    fn image(&self) -> &str {
        &self.image.name
    }

    fn run_by_runc(&self, image: &str, flags: &[&str], argv: &[&str]) -> Result<Cmd> {
        let parent = format!("/{}", self.enclave.tag());
        // The last one counts.
        let cmd = self.cli(["--runtime"]).arg(Runtime::Runc.oci()?);
        let cmd = cmd.args(["run", "--cgroup-parent", &parent]).args(flags);
        Ok(cmd.arg(image).args(argv))
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.cli(["rm", "--force", "--time", "0", "--volumes", name])
            .ok()
            .map(drop)
    }

    fn runtime(&self) -> Runtime {
        self.runtime
    }

    fn copies_as_nobody(&self) -> bool {
        self.runtime() == Runtime::Cofferdam
    }

    /// 4.3's attach loses the output of a container that ends at once, in 5 of 80 runs with runc and in
    /// 7 of 80 with this runtime; what came out of the terminal is in its log every time.
    fn may_lose_output(&self) -> bool {
        true
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
            // runc's, which makes it when it is asked to be the control.
            || left == "file /run/runc"
            || is_parent_cgroup(left, &self.enclave)
    }

    fn log(&self) -> String {
        "podman keeps no log".to_owned()
    }
}
