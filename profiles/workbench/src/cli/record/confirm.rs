//! Which capabilities are needed: the workload is run again without each.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cofferdam_profiles::capability;
use cofferdam_recorder::process;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use super::container::{self, Made};
use super::{Arguments, Done, RecordError, host};
use crate::recording::Recording;

/// How often it is looked whether a run has ended.
const LOOK: Duration = Duration::from_millis(10);
/// How long a run may take to end once it was asked to.
const GRACE: Duration = Duration::from_secs(10);
/// Of a bundle's config.json, in bytes.
const MAX_CONFIG: u64 = 16 << 20;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Status(ExitStatus),
    /// It ran until its time was over, as a server does.
    Running,
}

/// Runs the workload again: as it is, with those capabilities only that were used (or, where that could not
/// be seen or does not do, with all that there are), and then with one less and one less, as long as it
/// ends the same. What is left does together; that one alone may go because another stays is no harm so.
pub(super) fn confirm(arguments: &Arguments, done: &mut Done) -> Result<(), RecordError> {
    let granted: Set = granted(arguments)?;
    let mut rounds = Rounds {
        arguments,
        granted: &granted,
        done: 0,
    };
    let steady = rounds.with(&granted)?;
    let used: Set = done.recording.capabilities.keys().cloned().collect();
    let seen = done.recording.capabilities_unseen == 0;
    let mut kept = if seen && rounds.with(&used)? == steady {
        used
    } else {
        granted.clone()
    };
    for name in kept.clone() {
        let mut less = kept.clone();
        less.remove(&name);
        let needed = rounds.with(&less)? != steady;
        if !needed {
            kept = less;
        }
        let confirmed = &mut done.recording.capabilities_confirmed;
        confirmed.insert(name, needed);
    }
    // What ends otherwise by itself would look as if it needed everything.
    if rounds.with(&granted)? != steady {
        done.recording.capabilities_confirmed.clear();
        return Err(RecordError::Unsteady);
    }
    Ok(())
}

type Set = BTreeSet<String>;

/// Runs of the workload.
struct Rounds<'a> {
    arguments: &'a Arguments,
    granted: &'a Set,
    done: usize,
}

impl Rounds<'_> {
    /// With these capabilities and no others.
    fn with(&mut self, kept: &Set) -> Result<Ended, RecordError> {
        self.done += 1;
        if io::stderr().is_terminal() {
            say(&format!(
                "run {} again, with {} capabilities",
                self.done,
                kept.len()
            ));
        }
        match &self.arguments.bundle {
            Some(bundle) => run_bundle(self.arguments, bundle, kept),
            None => {
                let without = self
                    .granted
                    .difference(kept)
                    .filter_map(|name| number_of(name));
                let without = without.fold(0, |set, number| set | 1 << number);
                run_command(self.arguments, without)
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "progress goes to the standard error")]
fn say(what: &str) {
    eprintln!("{what}");
}

/// The capabilities that there are to give up.
fn granted(arguments: &Arguments) -> Result<Set, RecordError> {
    if let Some(bundle) = &arguments.bundle {
        let config = read_config(bundle)?;
        let bounding = config["process"]["capabilities"]["bounding"].as_array();
        let names = bounding.into_iter().flatten().filter_map(Value::as_str);
        return Ok(names.map(str::to_owned).collect());
    }
    let status = fs::read_to_string("/proc/self/status").map_err(RecordError::Rerun)?;
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0);
    let held = (0u8..64).filter(|number| set & (1 << number) != 0);
    Ok(held.filter_map(capability::name_of).collect())
}

fn run_command(arguments: &Arguments, without: u64) -> Result<Ended, RecordError> {
    let (program, rest) = host::words(arguments);
    let mut command = Command::new(program);
    command.args(rest);
    quiet(&mut command);
    process::without_capabilities(&mut command, without);
    let mut child = command.spawn().map_err(|source| RecordError::Command {
        command: program.to_owned(),
        source,
    })?;
    let ended = wait(&mut child, arguments);
    if !matches!(ended, Ok(Ended::Status(_))) {
        end(&mut child)?;
    }
    ended
}

/// In a process group of its own, and without the streams, which belong to the run that was recorded.
fn quiet(command: &mut Command) {
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
}

fn number_of(name: &str) -> Option<u8> {
    (0u8..64).find(|number| capability::name_of(*number).as_deref() == Some(name))
}

fn wait(child: &mut Child, arguments: &Arguments) -> Result<Ended, RecordError> {
    let deadline = arguments.duration().map(|d| Instant::now() + d);
    loop {
        if let Some(status) = child.try_wait().map_err(RecordError::Rerun)? {
            return Ok(Ended::Status(status));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Ended::Running);
        }
        sleep(LOOK);
    }
}

/// Ends the group of a child that was not waited for, so that its number is still its own.
fn end(child: &mut Child) -> Result<(), RecordError> {
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    for (signal, patience) in [(Signal::SIGTERM, GRACE), (Signal::SIGKILL, GRACE)] {
        // It may be gone, which is what is wanted.
        let _ = killpg(group, signal);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if child.try_wait().map_err(RecordError::Rerun)?.is_some() {
                return Ok(());
            }
            sleep(LOOK);
        }
    }
    Ok(())
}

fn run_bundle(arguments: &Arguments, bundle: &Path, kept: &Set) -> Result<Ended, RecordError> {
    let changed = tempfile::tempdir().map_err(RecordError::Rerun)?;
    let mut config = read_config(bundle)?;
    make_absolute(&mut config, bundle)?;
    restrict(&mut config, kept);
    let path = changed.path().join("config.json");
    fs::write(&path, config.to_string()).map_err(RecordError::Rerun)?;
    let id = format!("confirm-{}", std::process::id());
    let made = Made::new(arguments, id);
    let mut command = container::cofferdam(arguments, "run");
    command.arg("--bundle").arg(changed.path()).arg(made.id());
    quiet(&mut command);
    let mut child = command.spawn().map_err(container::spawn_error)?;
    let ended = wait(&mut child, arguments);
    drop(made);
    if !matches!(ended, Ok(Ended::Status(_))) {
        end(&mut child)?;
    }
    ended
}

fn read_config(bundle: &Path) -> Result<Value, RecordError> {
    use std::io::Read as _;
    let path = bundle.join("config.json");
    let failed = |source| RecordError::Config {
        path: path.clone(),
        source,
    };
    let mut text = String::new();
    let file = fs::File::open(&path).map_err(failed)?;
    file.take(MAX_CONFIG)
        .read_to_string(&mut text)
        .map_err(failed)?;
    serde_json::from_str(&text).map_err(|error| failed(error.into()))
}

/// Paths of a bundle may be relative to it.
fn make_absolute(config: &mut Value, bundle: &Path) -> Result<(), RecordError> {
    let bundle = fs::canonicalize(bundle).map_err(RecordError::Rerun)?;
    let absolute = |value: &mut Value| {
        if let Some(path) = value.as_str() {
            let path: PathBuf = bundle.join(path);
            *value = Value::from(path.to_string_lossy().into_owned());
        }
    };
    absolute(&mut config["root"]["path"]);
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        let options = mount["options"].as_array();
        let binds = options.into_iter().flatten().filter_map(Value::as_str);
        let bound = binds
            .into_iter()
            .any(|option| matches!(option, "bind" | "rbind"));
        if bound || mount["type"] == "bind" {
            absolute(&mut mount["source"]);
        }
    }
    Ok(())
}

/// Takes all others out of every set.
fn restrict(config: &mut Value, kept: &Set) {
    let sets = config["process"]["capabilities"].as_object_mut();
    for (_, set) in sets.into_iter().flatten() {
        if let Some(set) = set.as_array_mut() {
            set.retain(|name| name.as_str().is_some_and(|name| kept.contains(name)));
        }
    }
}

/// Whether reruns make sense for what is to be recorded.
pub(super) fn possible(recording: &Recording) -> bool {
    recording.lost == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_capability_is_taken_out_of_every_set_and_paths_stay_the_bundles() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = json!({
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/a", "type": "bind", "source": "data"},
                {"destination": "/b", "source": "/srv", "options": ["rbind"]},
                {"destination": "/proc", "type": "proc", "source": "proc"},
            ],
            "process": {"capabilities": {
                "bounding": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"], "permitted": [],
            }},
        });
        restrict(&mut config, &Set::from(["CAP_CHOWN".to_owned()]));
        make_absolute(&mut config, directory.path()).expect("made");
        let at = |name: &str| {
            let real = directory.path().canonicalize().expect("a path");
            json!(real.join(name).to_str())
        };
        assert_eq!(config["root"]["path"], at("rootfs"));
        assert_eq!(config["mounts"][0]["source"], at("data"));
        assert_eq!(config["mounts"][1]["source"], "/srv");
        assert_eq!(config["mounts"][2]["source"], "proc");
        let sets = &config["process"]["capabilities"];
        let expected = json!({"bounding": ["CAP_CHOWN"], "ambient": [], "permitted": []});
        assert_eq!(*sets, expected);
    }
}
