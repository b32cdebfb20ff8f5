//! A container is recorded through the command lines that people use.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use cofferdam_integration::{
    binaries::build_dir,
    bundle::Bundle,
    command::{Cmd, Done},
    error::{At, Error, Result},
    gate,
    image::Image,
};
use serde_json::{Value, json};

const ALLOW: &str = "[annotations]\nallow = [\"cofferdam.dev/record\"]\n";

/// What the container of these tests does: calls that a shell alone does not make.
const SCRIPT: &str = "sync; mkdir /tmp/x; (sleep 0.1; uname >/dev/null); rmdir /tmp/x";

/// Of `SCRIPT`: `sync`, `mkdir`, `nanosleep` (as `clock_nanosleep`), `uname`, `rmdir`.
const SEEN: [&str; 4] = ["sync", "mkdir", "uname", "rmdir"];

struct Place {
    directory: tempfile::TempDir,
    bundle: Bundle,
}

impl Place {
    fn new(script: &str) -> Result<Self> {
        let directory = tempfile::tempdir().at("make a directory in", std::env::temp_dir())?;
        let path = directory.path().join("bundle");
        let bundle = Bundle::ordinary(&path, &Image::busybox()?, &["sh", "-c", script])?;
        bundle.save()?;
        let policy = directory.path().join("policy.toml");
        fs::write(&policy, ALLOW).at("write", &policy)?;
        Ok(Self { directory, bundle })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `cofferdam` with its state, its policy and its recordings in this place.
    fn cofferdam(&self) -> Result<Cmd> {
        Ok(Cmd::new(build_dir()?.join("cofferdam"))
            .env("COFFERDAM_POLICY_FILE", self.path("policy.toml"))
            .env("COFFERDAM_RECORDINGS", self.path("recordings"))
            .arg("--root")
            .arg(self.path("state")))
    }

    /// The recordings there are, once `count` of them are complete.
    fn recordings(&self, count: usize) -> Result<Vec<Value>> {
        let directory = self.path("recordings");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let found = entries(&directory)?;
            let done = |path: &&PathBuf| path.extension().is_some_and(|e| e == "json");
            // The log goes when the recorder is content; until then it is at work.
            if found.len() == count && found.iter().filter(done).count() == count {
                return found.iter().map(|path| read(path)).collect();
            }
            assert!(
                Instant::now() < deadline,
                "no {count} recordings: {found:?}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).at("list", directory)? {
        paths.push(entry.at("list", directory)?.path());
    }
    Ok(paths)
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).at("read", path)?;
    parse(&text)
}

fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|source| Error::Json {
        what: "a recording".to_owned(),
        text: text.to_owned(),
        source,
    })
}

fn names(recording: &Value, phase: &str) -> BTreeSet<String> {
    let calls = recording["phases"][phase].as_object();
    calls
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect()
}

fn assert_is_of_the_script(recording: &Value) {
    assert_eq!(recording["lost"], 0, "{recording}");
    // Between its filter and its program, init does nothing but execute it.
    assert_eq!(
        names(recording, "runtime"),
        BTreeSet::from(["execve".to_owned()])
    );
    let seen = names(recording, "startup");
    for name in SEEN {
        assert!(seen.contains(name), "{name} is missing: {seen:?}");
    }
    assert!(
        !seen.contains("pivot_root") && !seen.contains("seccomp"),
        "{seen:?}"
    );
    let mkdir = &recording["phases"]["startup"]["mkdir"]["count"];
    assert_eq!(mkdir, 1);
    let executables = recording["executables"].as_object();
    let executables: Vec<&String> = executables
        .into_iter()
        .flatten()
        .map(|(path, _)| path)
        .collect();
    assert!(
        executables.iter().all(|path| path.starts_with("/bin/")),
        "{executables:?}"
    );
}

#[test]
fn an_annotation_records_where_the_policy_file_allows_it() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let mut place = Place::new(SCRIPT)?;
    place.bundle.spec["annotations"] = json!({"cofferdam.dev/record": "script"});
    place.bundle.save()?;
    let run = |place: &Place| -> Result<Done> {
        let run = place
            .cofferdam()?
            .arg("run")
            .arg("--bundle")
            .arg(place.bundle.dir());
        run.arg("recorded").run()
    };
    for count in 1..=2 {
        let done = run(&place)?;
        assert_eq!(done.code(), 0, "{}", done.stderr);
        for recording in place.recordings(count)? {
            assert_is_of_the_script(&recording);
            assert_eq!(recording["name"], "script");
            let filters = recording["filters"].to_string();
            assert!(filters.contains("built-in default"), "{filters}");
        }
    }
    let policy = place.path("policy.toml");
    fs::write(&policy, "").at("write", &policy)?;
    let done = run(&place)?;
    assert_ne!(done.code(), 0);
    assert!(done.stderr.contains("[annotations]"), "{}", done.stderr);
    assert_eq!(entries(&place.path("recordings"))?.len(), 2);
    Ok(())
}

#[test]
fn a_fresh_bundle_is_recorded_and_its_profile_lets_it_run() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let mut place = Place::new(SCRIPT)?;
    let record = |place: &Place, emit: &str| -> Result<Value> {
        let record = place
            .cofferdam()?
            .args(["profile", "record", "--format", "json"]);
        let done = record
            .args(["--emit", emit, "--bundle"])
            .arg(place.bundle.dir())
            .ok()?;
        parse(&done.stdout)
    };
    assert_is_of_the_script(&record(&place, "recording")?);
    let made = record(&place, "seccomp")?;
    // Killed at the first call that was not recorded: there is none.
    place.bundle.spec["linux"]["seccomp"] = made["profile"].clone();
    place.bundle.spec["linux"]["seccomp"]["defaultAction"] = json!("SCMP_ACT_KILL_PROCESS");
    place.bundle.spec["linux"]["seccomp"]["defaultErrnoRet"].take();
    place.bundle.save()?;
    let run = place
        .cofferdam()?
        .arg("run")
        .arg("--bundle")
        .arg(place.bundle.dir());
    let done = run.arg("enforced").run()?;
    assert_eq!(done.code(), 0, "{}", done.stderr);
    Ok(())
}

/// The filter that asks is put on the runtime and comes down to the container's init with it; what the
/// runtime itself calls is not the container's.
#[test]
fn a_bundle_is_recorded_by_notifications_as_by_bpf() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let place = Place::new(SCRIPT)?;
    let record = |by: &str, predict: &str| -> Result<Value> {
        let record = place
            .cofferdam()?
            .args(["profile", "record", "--format", "json"]);
        let done = record
            .args(["--by", by, "--predict", predict, "--bundle"])
            .arg(place.bundle.dir())
            .ok()?;
        parse(&done.stdout)
    };
    let (bpf, notify) = (record("bpf", "nothing")?, record("notify", "nothing")?);
    assert_is_of_the_script(&notify);
    for phase in ["runtime", "startup", "serving"] {
        assert_eq!(names(&bpf, phase), names(&notify, phase), "{phase}");
    }
    assert_eq!(bpf["filters"], notify["filters"]);
    assert_eq!(notify["methods"], json!(["notify"]));
    // The bundle's own program is analysed in its own root: what it may call runs unasked.
    let predicted = record("notify", "analysis")?;
    let unseen = predicted["predicted"].as_array().map_or(0, Vec::len);
    assert!(unseen > 50, "{predicted}");
    assert!(names(&predicted, "startup").len() < names(&notify, "startup").len());
    Ok(())
}

#[test]
fn a_bundles_capabilities_are_confirmed_by_doing_without() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let script = "touch /tmp/x; chmod 0 /tmp/x; cat /tmp/x >/dev/null; chown 1:1 /tmp/x";
    let place = Place::new(script)?;
    let record = place
        .cofferdam()?
        .args(["profile", "record", "--format", "json"]);
    let done = record
        .args(["--confirm-capabilities", "--bundle"])
        .arg(place.bundle.dir())
        .ok()?;
    let recording = parse(&done.stdout)?;
    let confirmed = &recording["capabilities_confirmed"];
    assert_eq!(confirmed["CAP_CHOWN"], true, "{recording}");
    // An engine gives CAP_DAC_OVERRIDE, and `cat` has its way by it; but nobody minds if not.
    assert_eq!(confirmed["CAP_DAC_OVERRIDE"], false, "{recording}");
    let list = place.cofferdam()?.args(["list", "--quiet"]).ok()?;
    assert_eq!(list.stdout.trim(), "");
    Ok(())
}

#[test]
fn a_running_container_and_what_is_executed_in_it_are_recorded() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    // Ends when it is told to.
    let place = Place::new("while [ ! -e /tmp/end ]; do sleep 0.05; done; sync")?;
    let run = place.cofferdam()?.args(["run", "--detach", "--bundle"]);
    // The container keeps the streams of this command: into a file with them.
    let run = run.arg(place.bundle.dir()).arg("watched");
    let started = run
        .background(&place.path("run.log"))?
        .wait(Duration::from_secs(30))?;
    assert!(started.success(), "{started}");
    let output = place.path("running.json");
    let record =
        place
            .cofferdam()?
            .args(["profile", "record", "--container", "watched", "--output"]);
    let mut recorder = record
        .arg(&output)
        .background(&place.path("recorder.log"))?;
    recorder.wait_for("recording watched")?;
    place.cofferdam()?.args(["exec", "watched", "uname"]).ok()?;
    place
        .cofferdam()?
        .args(["exec", "watched", "touch", "/tmp/end"])
        .ok()?;
    let status = recorder.wait(Duration::from_secs(30))?;
    assert!(status.success(), "{status}: {}", recorder.output());
    place
        .cofferdam()?
        .args(["delete", "--force", "watched"])
        .ok()?;
    let recording = read(&output)?;
    assert_eq!(recording["lost"], 0);
    assert!(names(&recording, "serving").contains("sync"), "{recording}");
    assert!(
        names(&recording, "startup").contains("uname"),
        "{recording}"
    );
    Ok(())
}

/// A container whose recording cannot begin does not start.
#[test]
fn without_a_recorder_there_is_no_container() -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let mut place = Place::new("true")?;
    place.bundle.spec["annotations"] = json!({"cofferdam.dev/record": "none"});
    place.bundle.save()?;
    // A copy of the runtime with no recorder beside it.
    let alone = place.path("cofferdam");
    let built = build_dir()?.join("cofferdam");
    fs::copy(&built, &alone).at("copy", &built)?;
    let done = Cmd::new(&alone)
        .env("COFFERDAM_POLICY_FILE", place.path("policy.toml"))
        .env("COFFERDAM_RECORDINGS", place.path("recordings"))
        .arg("--root")
        .arg(place.path("state"))
        .args(["run", "--bundle"])
        .arg(place.bundle.dir())
        .arg("unrecorded")
        .run()?;
    assert_ne!(done.code(), 0);
    assert!(done.stderr.contains("cofferdam-profile"), "{}", done.stderr);
    let list = place.cofferdam()?.args(["list", "--quiet"]).ok()?;
    assert_eq!(list.stdout.trim(), "");
    Ok(())
}
