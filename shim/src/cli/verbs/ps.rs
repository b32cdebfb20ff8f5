//! `ps`: the processes of a container, as the host's ps shows them.

use std::ffi::OsString;
use std::process::Command;

use super::{FORMAT, Output, PLAIN, Verb, json, output};
use crate::cli::flags::{Until, Words};
use crate::cli::process::container_id;
use crate::cli::{CliError, Context, print};

pub(super) const VERB: Verb = Verb {
    name: "ps",
    arguments: "<container-id> [ps options]",
    count: (1, usize::MAX),
    summary: "list the processes of a container",
    description: "Shows the container's lines of the host's `ps -ef`, or of ps with other options.\n\
                  With --format json it prints their pids.",
    example: "cofferdam ps web-1 -o pid,comm",
    flags: &[FORMAT],
    until: Until::FirstPlain,
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let id = container_id(words)?;
    // Also after the id, as runc's callers write it.
    let rest = words.plain.get(1..).unwrap_or_default();
    let late = Words::parse(&[FORMAT], Until::TheEnd, rest.iter().cloned()).ok();
    let late = late.filter(|late| late.plain.is_empty() && !rest.is_empty());
    let format = match &late {
        Some(late) => output("ps", late)?,
        None => output("ps", words)?,
    };
    let pids = cofferdam_container::ps(&context.root, &id)?;
    let mut pids: Vec<i32> = pids.into_iter().map(nix::unistd::Pid::as_raw).collect();
    pids.sort_unstable();
    if format == Output::Json {
        return print(&json(&pids)?);
    }
    let everything = [OsString::from("-ef")];
    let options = if late.is_some() || rest.is_empty() {
        &everything[..]
    } else {
        rest
    };
    print(&only(&host_ps(options)?, &pids)?)
}

fn host_ps(options: &[OsString]) -> Result<String, CliError> {
    let failed = |source| CliError::System {
        action: "run ps",
        source,
    };
    // Without it ps shows those of its own user only, and the container's are other users.
    let dashed = |option: &OsString| option.as_encoded_bytes().starts_with(b"-");
    let every = options.first().is_some_and(dashed).then_some("-e");
    let output = Command::new("ps").args(every).args(options).output();
    let output = output.map_err(failed)?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(std::io::Error::other(words)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The heading and the lines whose PID column has one of `pids`.
fn only(listing: &str, pids: &[i32]) -> Result<String, CliError> {
    let mut lines = listing.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading
        .split_ascii_whitespace()
        .position(|title| title == "PID")
        .ok_or(CliError::Usage("couldn't find PID field in ps output"))?;
    let mut kept = format!("{heading}\n");
    for line in lines {
        let pid = line.split_ascii_whitespace().nth(column);
        let pid = pid.and_then(|text| text.parse().ok());
        if pid.is_some_and(|pid: i32| pids.binary_search(&pid).is_ok()) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_are_shown() {
        let listing = "UID        PID  PPID CMD\nroot      10     1 a\nroot      11    10 b 10\n";
        assert_eq!(
            only(listing, &[11]).unwrap(),
            "UID        PID  PPID CMD\nroot      11    10 b 10\n"
        );
        assert!(only("CMD\nsh\n", &[1]).is_err());
    }
}
