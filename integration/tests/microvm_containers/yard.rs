use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cofferdam_integration::binaries::Runtime;
use cofferdam_integration::bundle::Bundle;
use cofferdam_integration::command::{Cmd, Done, eventually};
use cofferdam_integration::error::{At as _, Error, Result};
use cofferdam_integration::gate::{self, Guest};
use cofferdam_integration::guest;
use cofferdam_integration::image::Image;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take, emulated in an emulated machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Where machines are kept.
const MACHINES: &str = "/run/cofferdam/.vm";

/// Where containers are made.
pub(crate) struct Yard {
    dir: TempDir,
    image: Image,
}

/// A container that runs; deleted by force when dropped.
pub(crate) struct Running<'a> {
    yard: &'a Yard,
    pub(crate) id: String,
    /// What stands in for it on the host.
    pub(crate) pid: i32,
}

impl Yard {
    pub(crate) fn new() -> Result<Option<Self>> {
        if gate::lab(Guest::Script).is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            dir: tempfile::tempdir().at("make", "a temporary directory")?,
            image: Image::busybox()?,
        }))
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The command line by the name that asks for a machine.
    pub(crate) fn oci(&self) -> Result<Cmd> {
        Ok(Cmd::new(Runtime::Machine.oci()?)
            .env(guest::VARIABLE, guest::installed()?)
            .limit(LIMIT)
            .arg("--root")
            .arg(self.dir().join("state")))
    }

    pub(crate) fn bundle(&self, id: &str, args: &[&str]) -> Result<Bundle> {
        let mut bundle = Bundle::ordinary(&self.dir().join(id), &self.image, args)?;
        bundle.spec["linux"]["cgroupsPath"] = json!(format!("/lab/{id}"));
        bundle.spec["annotations"] = json!({"cofferdam.dev/vm-memory": "192"});
        Ok(bundle)
    }

    /// Runs a bundle to its end.
    pub(crate) fn run(&self, bundle: &Bundle, id: &str) -> Result<Done> {
        bundle.save()?;
        let run = self.oci()?.args(["run", "--bundle"]).arg(bundle.dir());
        run.arg(id).run()
    }

    /// Starts a bundle in the background.
    pub(crate) fn start(&self, bundle: &Bundle, id: &str) -> Result<Running<'_>> {
        bundle.save()?;
        let log = bundle.dir().join("log");
        let line = self.oci()?.args(["run", "--detach", "--bundle"]);
        let script = format!(
            "export {}={}; exec {} {} {id} </dev/null >{log} 2>&1",
            guest::VARIABLE,
            guest::installed()?.display(),
            line.line(),
            bundle.dir().display(),
            log = log.display(),
        );
        let done = Cmd::new("bash").args(["-c", &script]).limit(LIMIT).run()?;
        if !done.status.success() {
            let stderr = fs::read_to_string(&log).unwrap_or_default();
            return Err(Error::from(Done { stderr, ..done }));
        }
        let mut running = Running {
            yard: self,
            id: id.to_owned(),
            pid: 0,
        };
        let pid = running.state()?["pid"].as_i64();
        running.pid = pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
        Ok(running)
    }

    pub(crate) fn sleeper(&self, id: &str) -> Result<Running<'_>> {
        self.start(&self.bundle(id, &["sleep", "1000"])?, id)
    }
}

impl Running<'_> {
    pub(crate) fn command(&self, words: &[&str]) -> Result<Cmd> {
        Ok(self.yard.oci()?.args(words))
    }

    pub(crate) fn exec(&self, args: &[&str]) -> Result<Cmd> {
        Ok(self.command(&["exec", &self.id])?.args(args))
    }

    pub(crate) fn state(&self) -> Result<Value> {
        self.command(&["state", &self.id])?.ok()?.json()
    }

    pub(crate) fn log(&self) -> String {
        let path = self.yard.dir().join(&self.id).join("log");
        fs::read_to_string(path).unwrap_or_default()
    }

    pub(crate) fn is_stopped(&self) -> Result<()> {
        eventually(
            "the container stops",
            Duration::from_secs(20),
            || match self.state() {
                Ok(state) if state["status"] == "stopped" => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
    }

    /// The directory of its machine; every test has its own root, and this its only container.
    pub(crate) fn machine(&self) -> Result<PathBuf> {
        let path = self
            .yard
            .dir()
            .join("state")
            .join(&self.id)
            .join("guest.json");
        let text = fs::read_to_string(&path).at("read", &path)?;
        let guest: Value = serde_json::from_str(&text).expect("it is JSON");
        Ok(PathBuf::from(guest["machine"].as_str().unwrap_or_default()))
    }

    /// The monitor's processes: the outer and the inner one.
    pub(crate) fn monitors(&self) -> Result<[i32; 2]> {
        let path = self.machine()?.join("machine.json");
        let text = fs::read_to_string(&path).at("read", &path)?;
        let record: Value = serde_json::from_str(&text).expect("it is JSON");
        let outer = record["process"][0].as_i64().unwrap_or(0);
        let children = format!("/proc/{outer}/task/{outer}/children");
        let children = fs::read_to_string(&children).at("read", children)?;
        let inner = children.trim().parse().unwrap_or(0);
        Ok([i32::try_from(outer).unwrap_or(0), inner])
    }

    /// Deletes it by force; its machine must go with all that it had.
    pub(crate) fn delete(self) -> Result<()> {
        let machine = self.machine()?;
        let monitors = self.monitors().unwrap_or_default();
        self.command(&["delete", "--force", &self.id])?.ok()?;
        nothing_is_left(&machine, &monitors);
        Ok(())
    }
}

/// No directory, mount, or process of a machine.
pub(crate) fn nothing_is_left(machine: &Path, monitors: &[i32]) {
    assert!(machine.starts_with(MACHINES), "{}", machine.display());
    assert!(!machine.exists(), "{} is left", machine.display());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = machine.display().to_string();
    assert!(!mounts.contains(&place), "{mounts}");
    for pid in monitors.iter().filter(|pid| **pid > 0) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(
            status.is_empty() || status.contains("State:\tZ"),
            "process {pid} is left: {status}"
        );
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let delete = self.command(&["delete", "--force", &self.id]);
        let _ = delete.and_then(Cmd::run);
    }
}
