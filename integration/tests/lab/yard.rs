use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use cofferdam_integration::{
    binaries::Runtime,
    bundle::Bundle,
    command::{Cmd, Done, eventually},
    error::{At as _, Error, Result},
    gate::{self, Guest},
    image::Image,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Where containers are made in the guest itself, by one driver of cgroups.
pub(crate) struct Yard {
    dir: TempDir,
    image: Image,
    guest: Guest,
}

/// A container that runs; deleted by force when dropped.
pub(crate) struct Running<'a> {
    yard: &'a Yard,
    pub(crate) id: String,
    pub(crate) pid: u32,
}

impl Yard {
    pub(crate) fn new(guest: Guest) -> Result<Option<Self>> {
        if gate::lab(guest).is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            dir: tempfile::tempdir().at("make", "a temporary directory")?,
            image: Image::busybox()?,
            guest,
        }))
    }

    /// A directory on disk.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The image that bundles are made of.
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// The command line, with the driver that is right in this guest.
    pub(crate) fn oci(&self) -> Result<Cmd> {
        let cmd = Cmd::new(Runtime::under_test().oci()?)
            .arg("--root")
            .arg(self.dir.path().join("state"));
        Ok(match self.guest {
            Guest::Script => cmd,
            Guest::Systemd => cmd.arg("--systemd-cgroup"),
        })
    }

    /// What the spec says of a container's cgroup.
    fn cgroups_path(&self, id: &str) -> String {
        match self.guest {
            Guest::Script => format!("/lab/{id}"),
            Guest::Systemd => format!("lab.slice:lab:{id}"),
        }
    }

    /// A bundle with these resources, besides that it may open no devices of its own.
    pub(crate) fn bundle(&self, id: &str, args: &[&str], resources: &Value) -> Result<Bundle> {
        let mut bundle = Bundle::ordinary(&self.dir.path().join(id), &self.image, args)?;
        let linux = &mut bundle.spec["linux"];
        linux["cgroupsPath"] = json!(self.cgroups_path(id));
        linux["namespaces"]
            .as_array_mut()
            .into_iter()
            .for_each(|all| all.push(json!({"type": "cgroup"})));
        for (key, value) in resources.as_object().into_iter().flatten() {
            linux["resources"][key] = value.clone();
        }
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
        // The container keeps the descriptors it is given: not the pipes this test reads to their end.
        let line = self.oci()?.args(["run", "--detach", "--bundle"]);
        let script = format!(
            "exec {} {} {id} </dev/null >{log} 2>&1",
            line.line(),
            bundle.dir().display(),
            log = log.display(),
        );
        let done = Cmd::new("bash").args(["-c", &script]).run()?;
        if !done.status.success() {
            let stderr = fs::read_to_string(&log).unwrap_or_default();
            return Err(Error::from(Done { stderr, ..done }));
        }
        let state = self.oci()?.args(["state", id]).ok()?.json()?;
        let pid = state["pid"].as_u64().and_then(|pid| pid.try_into().ok());
        Ok(Running {
            yard: self,
            id: id.to_owned(),
            pid: pid.unwrap_or_default(),
        })
    }

    /// Starts a container that sleeps.
    pub(crate) fn sleeper(&self, id: &str, resources: &Value) -> Result<Running<'_>> {
        let bundle = self.bundle(id, &["sleep", "1000"], resources)?;
        self.start(&bundle, id)
    }
}

impl Running<'_> {
    /// Its directory in the cgroup file system, as the kernel says it.
    pub(crate) fn cgroup(&self) -> Result<PathBuf> {
        let path = format!("/proc/{}/cgroup", self.pid);
        let text = fs::read_to_string(&path).at("read", &path)?;
        let mut lines = text.lines();
        let only = lines.next().and_then(|line| line.strip_prefix("0::/"));
        assert!(lines.next().is_none(), "cgroup v2 alone: {text}");
        Ok(Path::new("/sys/fs/cgroup").join(only.unwrap_or_default()))
    }

    /// Waits until it has printed a text.
    pub(crate) fn prints(&self, text: &str) -> Result<()> {
        let path = self.yard.dir.path().join(&self.id).join("log");
        eventually("the text is printed", Duration::from_secs(20), || {
            let printed = fs::read_to_string(&path).unwrap_or_default();
            if printed.contains(text) {
                Ok(())
            } else {
                Err(printed)
            }
        })
    }

    /// What is stored of it, the report included.
    pub(crate) fn record(&self) -> Result<String> {
        let state = self.yard.dir.path().join("state");
        let path = state.join(&self.id).join("record.json");
        fs::read_to_string(&path).at("read", path)
    }

    /// A file of its cgroup, trimmed.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        let path = self.cgroup()?.join(name);
        let text = fs::read_to_string(&path).at("read", path)?;
        Ok(text.trim().to_owned())
    }

    /// All these files of its cgroup hold these texts.
    pub(crate) fn holds(&self, expected: &[(&str, &str)]) -> Result<()> {
        for (name, value) in expected {
            assert_eq!(self.read(name)?, *value, "{name} of {}", self.id);
        }
        Ok(())
    }

    /// A command of the runtime about this container.
    pub(crate) fn command(&self, words: &[&str]) -> Result<Cmd> {
        Ok(self.yard.oci()?.args(words))
    }

    pub(crate) fn exec(&self, args: &[&str]) -> Result<Cmd> {
        Ok(self.command(&["exec", &self.id])?.args(args))
    }

    /// Deletes it by force; its cgroup must go.
    pub(crate) fn delete(self) -> Result<()> {
        let dir = self.cgroup()?;
        self.command(&["delete", "--force", &self.id])?.ok()?;
        eventually("the cgroup goes", Duration::from_secs(20), || {
            if dir.exists() {
                Err(dir.display().to_string())
            } else {
                Ok(())
            }
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let delete = self.command(&["delete", "--force", &self.id]);
        let _ = delete.and_then(Cmd::run);
    }
}

/// Limits that both drivers must set, and what the kernel then says.
pub(crate) fn limits() -> (Value, &'static [(&'static str, &'static str)]) {
    let resources = json!({
        "memory": {"limit": 33_554_432, "swap": 33_554_432, "reservation": 16_777_216},
        "cpu": {"shares": 2048, "quota": 30_000, "period": 100_000, "cpus": "0"},
        "pids": {"limit": 64},
    });
    let expected = &[
        ("memory.max", "33554432"),
        ("memory.swap.max", "0"),
        ("memory.low", "16777216"),
        ("cpu.max", "30000 100000"),
        ("cpu.weight", "174"),
        ("cpuset.cpus", "0"),
        ("pids.max", "64"),
    ];
    (resources, expected)
}

/// A container that uses 48 MiB is killed where 16 MiB are allowed, which `events` tells; the same one
/// ends well where that is not limited.
pub(crate) fn memory_is_limited(yard: &Yard) -> Result<()> {
    let hungry = "sleep 3; dd if=/dev/zero of=/dev/null bs=48M count=1";
    let args = ["sh", "-c", hungry];
    let done = yard.run(&yard.bundle("hungry", &args, &json!({}))?, "hungry")?;
    assert!(done.status.success(), "the control: {done:?}");

    let limited = json!({"memory": {"limit": 16_777_216, "swap": 16_777_216}});
    let looped = [
        "sh",
        "-c",
        "while :; do dd if=/dev/zero of=/dev/null bs=48M count=1; sleep 1; done",
    ];
    let container = yard.start(&yard.bundle("starved", &looped, &limited)?, "starved")?;
    let log = yard.dir.path().join("events.log");
    let events = container
        .command(&["events", "--interval", "60s", "starved"])?
        .background(&log)?;
    events.wait_for("\"type\":\"oom\"")?;
    let killed = container.read("memory.events")?;
    assert!(!killed.contains("oom_kill 0"), "{killed}");
    container.delete()
}

/// A fork bomb stops at the limit, and its control does not.
pub(crate) fn processes_are_limited(yard: &Yard) -> Result<()> {
    let many = "for i in $(seq 40); do sleep 30 & done; echo all";
    let args = ["sh", "-c", many];
    let done = yard.run(&yard.bundle("free", &args, &json!({}))?, "free")?;
    assert_eq!(done.stdout, "all\n", "the control: {done:?}");
    let limited = yard.bundle("bound", &args, &json!({"pids": {"limit": 20}}))?;
    let done = yard.run(&limited, "bound")?;
    assert!(!done.stdout.contains("all"), "{done:?}");
    assert!(done.stderr.contains("fork"), "{done:?}");
    Ok(())
}

/// Who is in the container's cgroup cannot open the guest's disk, whatever else he may: the same shell
/// can before it joins. What every container may open can be opened afterwards too.
pub(crate) fn devices_are_denied(container: &Running) -> Result<()> {
    let script = r#"read_one() { head -c 1 "$1" 2>/dev/null | wc -c; }
        read_one /dev/vda; echo $$ >"$1/cgroup.procs" || exit 1; read_one /dev/vda; read_one /dev/zero"#;
    let done = Cmd::new("bash")
        .args(["-c", script, "bash"])
        .arg(container.cgroup()?)
        .ok()?;
    assert_eq!(done.stdout, "1\n0\n1\n", "{}", container.id);
    Ok(())
}
