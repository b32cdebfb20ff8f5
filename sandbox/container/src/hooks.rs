//! The spec's hooks: programs that run at points of the life cycle with the state on their stdin.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::Pid;
use oci_spec::runtime::{Hook, Hooks};
use serde::Serialize;

use crate::state::{State, Status};
use crate::sys::pidfd;

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Point {
    /// The spec's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// The hooks of this point.
    pub(crate) fn of(self, hooks: Option<&Hooks>) -> &[Hook] {
        let Some(hooks) = hooks else { return &[] };
        match self {
            Self::Prestart => hooks.prestart(),
            Self::CreateRuntime => hooks.create_runtime(),
            Self::CreateContainer => hooks.create_container(),
            Self::StartContainer => hooks.start_container(),
            Self::Poststart => hooks.poststart(),
            Self::Poststop => hooks.poststop(),
        }
        .as_deref()
        .unwrap_or_default()
    }
}

/// A hook that failed.
#[derive(Debug)]
pub(crate) struct HookError {
    pub(crate) point: Point,
    pub(crate) index: usize,
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

/// The OCI state, as hooks read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OciState<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: Status,
    pid: i32,
    bundle: &'a std::path::Path,
    annotations: &'a std::collections::BTreeMap<String, String>,
}

/// Runs the hooks of one point in their order, up to the first that fails.
pub(crate) fn run(
    point: Point,
    hooks: Option<&Hooks>,
    state: &State,
    status: Status,
    pid: Option<Pid>,
) -> Result<(), HookError> {
    (0..point.of(hooks).len()).try_for_each(|index| run_at(point, index, hooks, state, status, pid))
}

/// Runs one hook of a point.
pub(crate) fn run_at(
    point: Point,
    index: usize,
    hooks: Option<&Hooks>,
    state: &State,
    status: Status,
    pid: Option<Pid>,
) -> Result<(), HookError> {
    let Some(hook) = point.of(hooks).get(index) else {
        return Ok(());
    };
    let oci = OciState {
        oci_version: &state.oci_version,
        id: &state.id,
        status,
        pid: pid.map_or(0, Pid::as_raw),
        bundle: &state.bundle,
        annotations: &state.annotations,
    };
    run_one(hook, &oci).map_err(|source| HookError {
        point,
        index,
        path: hook.path().clone(),
        source,
    })
}

/// The most bytes of a hook's output that go into an error.
const LARGEST_OUTPUT: u64 = 2048;

fn run_one(hook: &Hook, state: &OciState<'_>) -> io::Result<()> {
    if !hook.path().is_absolute() {
        return Err(io::Error::other("a hook's path must be absolute"));
    }
    let limit = match hook.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
            _ => return Err(io::Error::other("a hook's timeout must be above zero")),
        },
    };
    // A file and not a pipe: the state may be larger than a pipe, and the hook need not read it.
    let mut stdin = memory_file()?;
    serde_json::to_writer(&mut stdin, state)?;
    stdin.flush()?;
    stdin.rewind()?;
    let mut output = memory_file()?;

    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = hook.args().as_deref().unwrap_or_default().split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear();
    for entry in hook.env().iter().flatten() {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        command.env(OsStr::new(name), OsStr::new(value));
    }
    let mut child = command
        .stdin(stdin)
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()?;
    if let Some(limit) = limit {
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        if !pidfd::wait_end(pidfd::open(pid)?, limit)? {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!(
                "it did not end within its timeout of {} s",
                limit.as_secs()
            )));
        }
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    output.rewind()?;
    let mut said = Vec::new();
    output.take(LARGEST_OUTPUT).read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said);
    Err(io::Error::other(format!(
        "{status}, output: {}",
        said.trim_end()
    )))
}

fn memory_file() -> io::Result<File> {
    Ok(memfd_create("hook", MFdFlags::MFD_CLOEXEC)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: serde_json::Value) -> Hook {
        serde_json::from_value(json).expect("a hook")
    }

    fn run_json(json: serde_json::Value) -> Result<(), String> {
        let annotations = std::collections::BTreeMap::new();
        let state = OciState {
            oci_version: "1.0.2",
            id: "x",
            status: Status::Creating,
            pid: 7,
            bundle: std::path::Path::new("/b"),
            annotations: &annotations,
        };
        run_one(&hook(json), &state).map_err(|e| e.to_string())
    }

    #[test]
    fn hooks_get_the_state_their_arguments_and_only_their_environment() {
        run_json(serde_json::json!({
            "path": "/bin/sh",
            "args": ["sh", "-c", r#"
                read -r state
                [ "$state" = '{"ociVersion":"1.0.2","id":"x","status":"creating","pid":7,"bundle":"/b","annotations":{}}' ] &&
                [ "$A" = b=c ] && [ -z "$CARGO_MANIFEST_DIR" ]"#],
            "env": ["A=b=c"],
        }))
        .expect("the hook saw what it should");
    }

    #[test]
    fn failures_say_why() {
        for (json, why) in [
            (
                serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", "echo oops >&2; exit 3"]}),
                "oops",
            ),
            (
                serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}),
                "exit status: 3",
            ),
            (serde_json::json!({"path": "sh"}), "absolute"),
            (serde_json::json!({"path": "/nonexistent"}), "No such file"),
            (
                serde_json::json!({"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}),
                "timeout",
            ),
            (
                serde_json::json!({"path": "/bin/true", "timeout": 0}),
                "above zero",
            ),
        ] {
            let error = run_json(json.clone()).expect_err("must fail");
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}
