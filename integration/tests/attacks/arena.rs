//! Where attacks are made: an enclave, bundles in it, and the probe.

use std::path::{Path, PathBuf};

use cofferdam_integration::{
    binaries::Runtime,
    bundle::Bundle,
    command::{Cmd, Job},
    enclave::Enclave,
    error::{Error, Result},
    gate,
    image::{Extra, Image},
};

/// What the probe says of one attempt.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Outcome {
    pub(crate) worked: bool,
    pub(crate) how: String,
}

/// An enclave, an image with the probe in it, and the probe.
pub(crate) struct Arena {
    pub(crate) enclave: Enclave,
    pub(crate) image: Image,
    pub(crate) probe: PathBuf,
}

impl Arena {
    pub(crate) fn new() -> Result<Option<Self>> {
        if gate::root().is_none() {
            return Ok(None);
        }
        let probe = PathBuf::from(env!("CARGO_BIN_EXE_attack-probe"));
        let extra = Extra {
            files: vec![("/bin/attack-probe".to_owned(), probe.clone(), 0o755)],
            config: Vec::new(),
        };
        Ok(Some(Self {
            enclave: Enclave::new()?,
            image: Image::busybox_with("attack", &extra)?,
            probe,
        }))
    }

    pub(crate) fn ordinary(&self, name: &str, args: &[&str]) -> Result<Bundle> {
        Bundle::ordinary(&self.enclave.dir().join(name), &self.image, args)
    }

    pub(crate) fn permissive(&self, name: &str, args: &[&str]) -> Result<Bundle> {
        Bundle::permissive(&self.enclave.dir().join(name), &self.image, args)
    }

    /// A command line of the runtime, with a state root of the enclave's own.
    pub(crate) fn oci(&self, runtime: Runtime) -> Result<Cmd> {
        Ok(self
            .enclave
            .cmd(runtime.oci()?)
            .args(["--root", &format!("/run/state-{}", runtime.shim_name())]))
    }

    /// Runs a bundle to its end and reads the probe's answer.
    pub(crate) fn attempt(&self, runtime: Runtime, bundle: &Bundle, id: &str) -> Result<Outcome> {
        bundle.save()?;
        let id = format!("{}-{id}", self.enclave.tag());
        let done = self
            .oci(runtime)?
            .args(["run", "--bundle"])
            .arg(bundle.dir())
            .arg(id)
            .run()?;
        outcome(&done.stdout).ok_or(Error::Command {
            command: done.command,
            status: done.status,
            stdout: done.stdout,
            stderr: done.stderr,
        })
    }

    /// Starts a bundle in the background; its id.
    pub(crate) fn start(&self, runtime: Runtime, bundle: &Bundle, id: &str) -> Result<String> {
        bundle.save()?;
        let id = format!("{}-{id}", self.enclave.tag());
        // The container keeps the descriptors it is given: not the pipes this test reads to their end.
        let script = format!(
            "exec {} --root /run/state-{} run --detach --bundle {} {id} </dev/null >/run/{id}.log 2>&1",
            runtime.oci()?.display(),
            runtime.shim_name(),
            bundle.dir().display(),
        );
        self.enclave.cmd("bash").args(["-c", &script]).ok()?;
        Ok(id)
    }

    /// Exchanges two names again and again until it is dropped.
    pub(crate) fn swapper(&self, first: &Path, second: &Path) -> Result<Job> {
        let log = self.enclave.dir().join("swapper.log");
        // Not through nsenter: when the job is dropped nothing is exchanged any more.
        let swapper = Cmd::new(&self.probe).arg("swap");
        swapper.arg(first).arg(second).background(&log)
    }

    pub(crate) fn delete(&self, runtime: Runtime, id: &str) -> Result<()> {
        self.oci(runtime)?
            .args(["delete", "--force", id])
            .ok()
            .map(drop)
    }

    /// The bundle is refused with an error that names the rule, and nothing is left of it.
    pub(crate) fn refused(&self, bundle: &Bundle, id: &str, rule: &str) -> Result<()> {
        bundle.save()?;
        let id = format!("{}-{id}", self.enclave.tag());
        let done = self
            .oci(Runtime::Cofferdam)?
            .args(["run", "--bundle"])
            .arg(bundle.dir())
            .arg(&id)
            .run()?;
        assert!(!done.status.success(), "{id} was started: {}", done.stdout);
        assert!(done.stderr.contains(rule), "{id}: {}", done.stderr);
        let listed = self.oci(Runtime::Cofferdam)?.args(["list", "-q"]).ok()?;
        assert!(!listed.stdout.contains(&id), "{}", listed.stdout);
        Ok(())
    }

    /// What a container prints that ends with "shown"; it may be refused as well.
    pub(crate) fn show(&self, runtime: Runtime, bundle: &Bundle, id: &str) -> Result<String> {
        bundle.save()?;
        let id = format!("{}-{id}", self.enclave.tag());
        let run = self
            .oci(runtime)?
            .args(["run", "--bundle"])
            .arg(bundle.dir())
            .arg(id);
        let done = run.run()?;
        // The container ran, or was refused with a word why: a silent nothing proves nothing.
        assert!(
            done.stdout.ends_with("shown\n") || (!done.status.success() && !done.stderr.is_empty()),
            "{done:?}"
        );
        Ok(done.stdout)
    }
}

/// The probe's answer in what a command printed.
pub(crate) fn outcome(printed: &str) -> Option<Outcome> {
    printed
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok())
}
