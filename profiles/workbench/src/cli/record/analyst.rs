//! `predict`, for `record` only: the static analysis of the program that is to be recorded, as a process of
//! its own. The files are an image's, and an image is hostile: this process bounds what it takes before it
//! looks at any of them, and if it ends by that, the one that records goes on.

use std::env;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use cofferdam_analysis::{Options, RootFs, analyse};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use crate::cli::{CliError, bounds};

/// Answers a recording; not for people.
#[derive(Debug, Args)]
#[command(hide = true)]
pub(in crate::cli) struct Arguments {
    /// The root file system that the program is in.
    root: PathBuf,
    /// Where it may be, as seen from inside: the first that can be analysed counts.
    candidates: Vec<PathBuf>,
}

/// Which calls a program can make, or why that is not known.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Calls(Vec<String>),
    Unknown(String),
}

/// So long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest answer, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// Answers one question, on the standard output.
pub(in crate::cli) fn run(arguments: &Arguments) -> Result<ExitCode, CliError> {
    let answer = match bounds::analyst() {
        Ok(()) => answer(&arguments.root, &arguments.candidates),
        Err(error) => Answer::Unknown(format!("the analysis cannot be bounded: {error}")),
    };
    let text = serde_json::to_vec(&answer).map_err(|error| CliError::Print(error.into()))?;
    let mut out = io::stdout().lock();
    let written = out.write_all(&text).and_then(|()| out.flush());
    written.map_err(CliError::Print)?;
    Ok(ExitCode::SUCCESS)
}

fn answer(root: &Path, candidates: &[PathBuf]) -> Answer {
    let opened = match RootFs::open(root) {
        Ok(opened) => opened,
        Err(error) => {
            return Answer::Unknown(format!("cannot open {}: {error}", root.display()));
        }
    };
    let mut complaint = "it is not in the PATH".to_owned();
    for candidate in candidates {
        match analyse(&opened, candidate, &Options::default()) {
            Ok(analysis) => return Answer::Calls(analysis.syscalls.into_keys().collect()),
            Err(error) => complaint = error.to_string(),
        }
    }
    Answer::Unknown(complaint)
}

/// The names of the calls that a program can make; or why they are not known, in plain words.
pub(super) fn calls(root: &Path, candidates: &[PathBuf]) -> Result<Vec<String>, String> {
    let failed = |error: io::Error| format!("its analysis cannot be run: {error}");
    let program = env::current_exe().map_err(failed)?;
    let mut analyst = Command::new(program)
        .arg("predict")
        .arg("--")
        .arg(root)
        .args(candidates)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // What is said there of memory that cannot be had is told below.
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let said = read(&mut analyst, Instant::now() + PATIENCE);
    // It may have ended by itself; then this changes nothing.
    let _ = analyst.kill();
    let status = analyst.wait().map_err(failed)?;
    let text = said.map_err(failed)?;
    let text = text.ok_or_else(|| format!("its analysis took longer than {PATIENCE:?}"))?;
    if !status.success() {
        return Err(format!("its analysis took too much or failed: {status}"));
    }
    match serde_json::from_slice(&text) {
        Ok(Answer::Calls(names)) => Ok(names),
        Ok(Answer::Unknown(why)) => Err(why),
        Err(error) => Err(format!("its analysis gave no answer: {error}")),
    }
}

/// Reads to the end of what it says; nothing if that takes too long.
fn read(analyst: &mut Child, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let Some(mut output) = analyst.stdout.take() else {
        return Ok(Some(text));
    };
    let mut part = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, left) {
            Ok(0) => return Ok(None),
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let count = output.read(&mut part)?;
        if count == 0 {
            return Ok(Some(text));
        }
        text.extend_from_slice(part.get(..count).unwrap_or_default());
        if text.len() > MAX_ANSWER {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_candidate_that_can_be_analysed_counts() {
        let of = |candidates: &[&str]| {
            let candidates: Vec<PathBuf> = candidates.iter().map(PathBuf::from).collect();
            answer(Path::new("/"), &candidates)
        };
        let found = of(&["/none/true", "/usr/bin/true", "/none/more"]);
        let Answer::Calls(names) = &found else {
            panic!("{found:?}");
        };
        for name in ["read", "write", "mmap"] {
            assert!(names.iter().any(|own| own == name), "{name}");
        }
        assert!(matches!(of(&["/none/true"]), Answer::Unknown(_)));
        assert!(matches!(of(&[]), Answer::Unknown(why) if why == "it is not in the PATH"));
        let nowhere = answer(Path::new("/none"), &[]);
        assert!(matches!(nowhere, Answer::Unknown(why) if why.contains("/none")));
    }
}
