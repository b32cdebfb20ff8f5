use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use cofferdam_integration::{
    binaries::build_dir,
    bundle::Bundle,
    command::{Cmd, Done},
    error::{At as _, Result},
    tiny,
};
use serde_json::Value;

/// A call that the built-in default allows, and Docker's, and that no program of these tests makes
/// unless it says so: without arguments it fails with EFAULT.
pub(crate) const MQ_UNLINK: u32 = 241;
/// Another one.
pub(crate) const UNAME: u32 = 63;
pub(crate) const EFAULT: i32 = 14;
pub(crate) const EPERM: i32 = 1;

/// Young files are not relied on; so long they must be left alone.
pub(crate) const REST: Duration = Duration::from_secs(4);

/// A bundle with its own state, cache, logs and policy.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    pub(crate) bundle: Bundle,
    /// The directory of the runtime.
    pub(crate) binaries: PathBuf,
}

impl Place {
    /// A bundle that starts `/quick`, which calls `uname`. There is also `/other`, which calls
    /// `mq_unlink`.
    pub(crate) fn new(policy: &str) -> Result<Self> {
        let directory = tempfile::tempdir().at("make a directory in", std::env::temp_dir())?;
        let mut bundle = Bundle::without_rootfs(&directory.path().join("bundle"), &["/quick"])?;
        for name in ["dev", "proc", "sys", "tmp", "etc"] {
            let path = bundle.rootfs().join(name);
            fs::create_dir_all(&path).at("make", path)?;
        }
        // Tests run at the same time, and their containers have the same names.
        let own = directory.path().file_name().unwrap_or_default();
        let cgroup = format!("/{}", own.display()).replace("/.", "/start-");
        bundle.spec["linux"]["cgroupsPath"] = cgroup.into();
        bundle.put("/quick", &tiny::caller(UNAME), 0o755)?;
        bundle.put("/other", &tiny::caller(MQ_UNLINK), 0o755)?;
        bundle.put("/sleeper", &tiny::sleeper(), 0o755)?;
        bundle.save()?;
        let place = Self {
            directory,
            bundle,
            binaries: build_dir()?,
        };
        place.policy(policy)?;
        Ok(place)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces the policy file; `lines` are of the policy in force.
    pub(crate) fn policy(&self, lines: &str) -> Result<()> {
        let file = self.path("policy.toml");
        let text = format!("default = \"made\"\n[policy.made]\nseccomp = \"generate\"\n{lines}\n");
        fs::write(&file, text).at("write", &file)?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&file, mode).at("change", file)
    }

    pub(crate) fn args(&mut self, args: &[&str]) -> Result<()> {
        self.bundle.spec["process"]["args"] = args.into();
        self.bundle.save()
    }

    pub(crate) fn cofferdam(&self) -> Cmd {
        Cmd::new(self.binaries.join("cofferdam"))
            .env("COFFERDAM_POLICY_FILE", self.path("policy.toml"))
            .env("COFFERDAM_CACHE", self.path("cache"))
            .env("COFFERDAM_LOGS", self.path("logs"))
            .arg("--root")
            .arg(self.path("state"))
    }

    /// Runs the container to its end.
    pub(crate) fn run(&self) -> Result<Done> {
        let bundle = self.bundle.dir().to_owned();
        self.cofferdam()
            .args(["run", "--bundle"])
            .arg(bundle)
            .arg("tried")
            .run()
    }

    /// Starts the container and leaves it; what was said, which is nothing where it runs. Its standard
    /// streams are a file's: a pipe would not end before it does.
    pub(crate) fn start(&self) -> Result<String> {
        let bundle = self.bundle.dir().to_owned();
        let mut job = self
            .cofferdam()
            .args(["run", "--detach", "--bundle"])
            .arg(bundle)
            .arg("sleeping")
            .background(&self.path("said"))?;
        job.wait(Duration::from_secs(60))?;
        Ok(job.output())
    }

    /// What the policy would do, as data.
    pub(crate) fn report(&self) -> Result<Value> {
        let bundle = self.bundle.dir().to_owned();
        let done = self
            .cofferdam()
            .args(["policy", "explain", "--format", "json", "--bundle"])
            .arg(bundle)
            .ok()?;
        done.json()
    }

    /// Where the profile comes from and which calls it found in files, as the report says.
    pub(crate) fn made(&self) -> Result<(String, Vec<String>)> {
        let report = self.report()?;
        let made = &report["summary"]["generated"];
        let origin = match &made["origin"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let calls = made["calls"].as_object().into_iter().flatten();
        let found = calls.filter(|(_, source)| *source == "analysis");
        Ok((origin, found.map(|(name, _)| name.clone()).collect()))
    }

    /// The entries of the cache.
    pub(crate) fn entries(&self) -> Result<Vec<PathBuf>> {
        let directory = self.path("cache/generated");
        let mut paths = Vec::new();
        for entry in fs::read_dir(&directory).at("list", &directory)? {
            paths.push(entry.at("list", &directory)?.path());
        }
        Ok(paths)
    }
}

/// Lets files come to rest.
pub(crate) fn rest() {
    thread::sleep(REST);
}

/// Copies a file with its mode.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).at("copy", from)
}
