//! A private dockerd in an [`Enclave`], with a containerd of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    binaries::{Runtime, build_dir, on_path, unpacked},
    cases::{Engine, is_parent_cgroup, tail},
    client::Client,
    command::{Cmd, Job, eventually},
    enclave::Enclave,
    error::{At, Result},
    image::Image,
};

/// A release line of Docker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Debian 12's: runtimes are command lines.
    V20_10,
    /// A later suite's: runtimes may also be containerd shims.
    V28,
}

/// How dockerd is told of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// As a runc-like command line (`path`).
    Path,
    /// As a containerd shim (`runtimeType`).
    Shim,
}

/// A running dockerd with busybox loaded.
#[derive(Debug)]
pub struct Docker {
    _daemon: Job,
    enclave: Enclave,
    client: PathBuf,
    version: Version,
    door: Door,
    runtime: Runtime,
    image: Image,
}

impl Docker {
    /// Starts dockerd with [`Runtime::under_test`] and waits until it answers.
    ///
    /// # Errors
    /// If it is not installed or does not come up.
    pub fn start(version: Version, door: Door) -> Result<Self> {
        Self::start_with(version, door, Runtime::under_test(), &[])
    }

    /// Starts dockerd with a runtime and files (`policy.toml` is the runtime's policy) of the
    /// caller's choice.
    ///
    /// # Errors
    /// As [`Docker::start`].
    pub fn start_with(
        version: Version,
        door: Door,
        runtime: Runtime,
        files: &[(&str, &str)],
    ) -> Result<Self> {
        Self::launch(version, door, runtime, files, &[])
    }

    /// Starts dockerd with `userns-remap`: containers' ids begin at `first` on the host.
    ///
    /// # Errors
    /// As [`Docker::start`].
    pub fn start_remapped(version: Version, door: Door, first: u32) -> Result<Self> {
        // The enclave's own /etc, which goes with it.
        let ranges = format!("nobody:{first}:65536\nnogroup:{first}:65536\n");
        let files = [("/etc/subuid", &ranges), ("/etc/subgid", &ranges)];
        let files = files.map(|(path, text)| (path, text.as_str()));
        Self::launch(version, door, Runtime::under_test(), &[], &files)
    }

    /// What dockerd says where it cannot copy a file into a container of runc's, which is not started.
    ///
    /// # Errors
    /// If such a container cannot be made, or removed.
    pub fn refuses_to_copy_into_runc(&self) -> Result<Option<String>> {
        let file = self.enclave.dir().join("control");
        fs::write(&file, "content").at("write", &file)?;
        let create = self.cli(["create", "--runtime", "runc", "--name", "control"]);
        create.args([self.image(), "true"]).ok()?;
        let copy = self.cli(["cp"]).arg(&file).arg("control:/tmp/file").run()?;
        self.remove("control")?;
        Ok((copy.code() != 0).then_some(copy.stderr))
    }

    fn launch(
        version: Version,
        door: Door,
        runtime: Runtime,
        files: &[(&str, &str)],
        remapped: &[(&str, &str)],
    ) -> Result<Self> {
        let (daemon, client) = programs(version)?;
        let image = Image::busybox()?;
        let enclave = Enclave::new()?;
        for (path, text) in remapped {
            let add = enclave.cmd("tee").args(["-a", path]);
            add.stdin(*text).ok()?;
        }
        let dir = enclave.dir().to_owned();
        // The built-in policies, whatever this machine has in /etc.
        for (name, text) in [&[("policy.toml", "")][..], files].concat() {
            let path = dir.join(name);
            fs::write(&path, text).at("write", path)?;
        }
        let config = dir.join("daemon.json");
        let mut text = configuration(&enclave, runtime, door)?;
        if !remapped.is_empty() {
            text["userns-remap"] = "nobody:nogroup".into();
        }
        fs::write(&config, text.to_string()).at("write", &config)?;
        let job = enclave
            .cmd(daemon)
            .arg("--config-file")
            .arg(config)
            .env("PATH", search_path(version, runtime)?)
            .env("COFFERDAM_CACHE", dir.join("cache"))
            .env("COFFERDAM_LOGS", dir.join("logs"))
            .env("COFFERDAM_POLICY_FILE", dir.join("policy.toml"))
            .background(&dir.join("dockerd.log"))?;
        let engine = Self {
            _daemon: job,
            enclave,
            client,
            version,
            door,
            runtime,
            image,
        };
        eventually("dockerd answers", Duration::from_secs(60), || match engine
            .cli(["version"])
            .run()
        {
            Ok(done) if done.status.success() => Ok(()),
            Ok(done) => Err(format!("{}\n{}", done.stderr, engine.log())),
            Err(error) => Err(error.chain()),
        })?;
        let archive = engine.image.docker.clone();
        engine.cli(["load", "--input"]).arg(archive).ok()?;
        // The first container makes directories and cgroups that stay.
        engine.run(&[], &["true"])?;
        Ok(engine)
    }

    /// What dockerd calls the runtime under test.
    #[must_use]
    pub fn runtime_name(&self) -> &'static str {
        match self.runtime {
            Runtime::Cofferdam => "cofferdam",
            Runtime::Machine => "cofferdam-vm",
            Runtime::Runc => "runc",
        }
    }

    /// The release line.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }
}

impl Client for Docker {
    fn cli<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(&self, args: I) -> Cmd {
        let socket = self.enclave.dir().join("docker.sock");
        self.enclave
            .cmd(&self.client)
            .args(args)
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("DOCKER_CONFIG", self.enclave.dir().join("client"))
    }

    fn run_of(&self, image: &str, flags: &[&str], argv: &[&str]) -> Cmd {
        self.cli(["run", "--runtime", self.runtime_name()])
            .args(flags)
            .arg(image)
            .args(argv)
    }

    fn image(&self) -> &str {
        &self.image.name
    }

    fn run_by_runc(&self, image: &str, flags: &[&str], argv: &[&str]) -> Result<Cmd> {
        let run = self.cli(["run", "--runtime", "runc"]).args(flags);
        Ok(run.arg(image).args(argv))
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.cli(["rm", "--force", "--volumes", name])
            .ok()
            .map(drop)
    }

    fn runtime(&self) -> Runtime {
        self.runtime
    }

    fn blurs_exec_status(&self) -> bool {
        self.version == Version::V20_10
    }
}

impl Engine for Docker {
    fn enclave(&self) -> &Enclave {
        &self.enclave
    }

    fn name(&self) -> String {
        format!(
            "docker {:?} {:?} {:?}",
            self.version, self.door, self.runtime
        )
    }

    fn clear(&self) -> Result<()> {
        let list = self.cli(["ps", "--all", "--quiet"]).ok()?;
        for id in list.stdout.lines() {
            let _ = self.remove(id);
        }
        Ok(())
    }

    fn is_own(&self, left: &str) -> bool {
        is_parent_cgroup(left, &self.enclave)
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.enclave.dir().join("dockerd.log")).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.contains("level=info"));
        tail(&lines.collect::<Vec<_>>().join("\n"), 15)
    }
}

fn programs(version: Version) -> Result<(PathBuf, PathBuf)> {
    match version {
        Version::V20_10 => {
            // A client installed by other means may stand before Debian's on the search path.
            let debian = Path::new("/usr/bin/docker");
            let client = if debian.exists() {
                debian.to_owned()
            } else {
                on_path("docker")?
            };
            Ok((on_path("dockerd")?, client))
        }
        Version::V28 => Ok((
            unpacked("docker-28", "dockerd")?,
            unpacked("docker-28", "docker")?,
        )),
    }
}

fn search_path(version: Version, runtime: Runtime) -> Result<String> {
    let mut dirs = Vec::new();
    if runtime == Runtime::Cofferdam {
        dirs.push(build_dir()?);
    }
    let own: &[(&str, &str)] = match version {
        Version::V20_10 => &[],
        Version::V28 => &[
            ("containerd-2.1", "containerd"),
            ("docker-28", "docker-proxy"),
        ],
    };
    for (engine, program) in own {
        dirs.extend(unpacked(engine, program)?.parent().map(Path::to_owned));
    }
    // The machine's runc goes before the unpacked one, which needs a newer C library.
    dirs.insert(
        0,
        on_path("runc")?
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default(),
    );
    if runtime == Runtime::Cofferdam {
        dirs.swap(0, 1);
    }
    dirs.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    Ok(dirs.join(":"))
}

fn configuration(enclave: &Enclave, runtime: Runtime, door: Door) -> Result<serde_json::Value> {
    let dir = enclave.dir().display();
    let mut config = serde_json::json!({
        "data-root": format!("{dir}/data"),
        "exec-root": format!("{dir}/exec"),
        "pidfile": format!("{dir}/docker.pid"),
        "hosts": [format!("unix://{dir}/docker.sock")],
        "group": "root",
        "cgroup-parent": format!("/{}", enclave.tag()),
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "storage-driver": "overlay2",
    });
    if runtime == Runtime::Cofferdam {
        let entry = match door {
            Door::Path => serde_json::json!({ "path": build_dir()?.join("cofferdam") }),
            Door::Shim => serde_json::json!({ "runtimeType": runtime.containerd_name() }),
        };
        config["runtimes"] = serde_json::json!({ "cofferdam": entry });
    }
    Ok(config)
}
