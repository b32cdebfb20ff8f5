//! `test`: runs a command under a profile and reports what was denied.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::container::Container;
use super::{CliError, Format, files};
use crate::trial::{Outcome, Place, Trial, without_kills};

/// Run a command in a container under a profile, and report the calls it was denied
///
/// The profile is taken as it is; everything else is hardened by the policy "baseline". Without --rootfs the
/// command sees this machine's directories read-only, /tmp and /run empty, and no network. Its output goes to
/// the standard error. Needs root. Exit status: 0 nothing was denied and the command succeeded, 1 calls were
/// denied or the command was killed for one, 2 it could not be run, 3 nothing was denied and the command
/// failed by itself.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cofferdam profile test ls.json -- ls -l /usr\n  \
                  cofferdam profile test web.json --rootfs ./rootfs --write ./rootfs/var -- nginx -t"
)]
pub(super) struct Arguments {
    /// The profile; `-` is the standard input.
    file: PathBuf,
    /// The root file system that the command is in; it is mounted read-only.
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// A directory of this machine that the command may write to, at the same path; repeatable.
    #[arg(long, value_name = "DIR")]
    write: Vec<PathBuf>,
    /// Answer EPERM where the profile kills or traps, so that the command goes on and every denial is seen.
    #[arg(long)]
    no_kill: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
    #[command(flatten)]
    container: Container,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, CliError> {
    let mut profile = files::profile(&arguments.file, &arguments.container)?;
    if arguments.no_kill {
        profile = without_kills(&profile);
    }
    let trial = Trial {
        profile: &profile,
        place: arguments.rootfs.as_deref().map_or(Place::Host, Place::Root),
        writable: &arguments.write,
        command: &arguments.command,
    };
    let outcome = trial.run()?;
    match format {
        Format::Json => files::print_json(&json!({
            "status": outcome.status.code(),
            "killed": outcome.killed,
            "denied": outcome.denied,
        }))?,
        Format::Human => files::print(&text(&outcome, arguments.no_kill))?,
    }
    let status = match (
        outcome.killed || !outcome.denied.is_empty(),
        outcome.status.success(),
    ) {
        (true, _) => 1,
        (false, true) => 0,
        (false, false) => 3,
    };
    Ok(ExitCode::from(status))
}

fn text(outcome: &Outcome, soft: bool) -> String {
    let mut text = String::new();
    for line in &outcome.denied {
        denied(&mut text, line);
    }
    // Writing to a String cannot fail.
    let _ = match outcome.killed {
        true => writeln!(
            text,
            "the command was killed (SIGSYS){}",
            if soft {
                ""
            } else {
                "; --no-kill goes on and shows each denied call"
            }
        ),
        false => writeln!(
            text,
            "{}; the command ended with status {}",
            match outcome.denied.len() {
                0 => "nothing was denied".to_owned(),
                1 => "one denial".to_owned(),
                lines => format!("{lines} denials"),
            },
            outcome.status.code().unwrap_or(-1)
        ),
    };
    text
}

/// A line of the container's log in words.
fn denied(text: &mut String, line: &Value) {
    let word = |pointer: &str| {
        line.pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if word("/type") == "suppressed" {
        let count = line
            .get("count")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        let _ = writeln!(text, "denied {count} times more: {}", word("/syscall"));
        return;
    }
    let _ = writeln!(
        text,
        "denied: {} got {} in {}",
        word("/syscall"),
        word("/errno"),
        word("/executable")
    );
    for pointer in ["/cause/text", "/cause/edit/text"] {
        if !word(pointer).is_empty() {
            let _ = writeln!(text, "  {}", word(pointer));
        }
    }
}
