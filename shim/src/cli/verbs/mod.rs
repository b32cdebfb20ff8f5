//! The verbs, a file each, and the tables that the parser and the help are made from.

mod checkpoint;
pub(crate) mod create;
mod delete;
mod denials;
mod doctor;
mod events;
mod exec;
pub(crate) mod features;
mod inspect;
mod kill;
mod list;
mod pause;
mod policy;
mod profile;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use std::io::{self, Read as _};
use std::path::Path;

use serde::de::DeserializeOwned;

use super::flags::{Flag, Until, Words};
use super::{CliError, Context};
use crate::launch::read_regular;

/// A verb: how it is called, what its help says, and the function that does it.
#[derive(Debug)]
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    /// The plain words as the help shows them.
    pub(crate) arguments: &'static str,
    /// How many plain words it takes, at least and at most.
    pub(crate) count: (usize, usize),
    /// One line.
    pub(crate) summary: &'static str,
    /// A paragraph.
    pub(crate) description: &'static str,
    /// A command that works.
    pub(crate) example: &'static str,
    pub(crate) flags: &'static [Flag],
    pub(crate) until: Until,
    /// Not in the list of commands: for our own processes.
    pub(crate) hidden: bool,
    pub(crate) run: fn(&Context, &Words) -> Result<u8, CliError>,
}

/// What most verbs have in common: one container id, no flags.
pub(crate) const PLAIN: Verb = Verb {
    name: "",
    arguments: "<container-id>",
    count: (1, 1),
    summary: "",
    description: "",
    example: "",
    flags: &[],
    until: Until::TheEnd,
    hidden: false,
    run: |_, _| Ok(0),
};

impl Verb {
    /// Whether it takes this many plain words.
    pub(crate) fn check_count(&self, given: usize) -> Result<(), CliError> {
        let (least, most) = self.count;
        if (least..=most).contains(&given) {
            return Ok(());
        }
        let wanted = match (least, most) {
            (least, most) if least == most => format!("exactly {least} argument(s)"),
            (least, usize::MAX) => format!("a minimum of {least} argument(s)"),
            (least, most) => format!("{least} to {most} argument(s)"),
        };
        Err(CliError::Arguments {
            verb: self.name,
            wanted,
        })
    }
}

/// The flags before the verb.
pub(crate) static GLOBAL_FLAGS: &[Flag] = &[
    Flag::switch("debug", '\0', "log what helps to find a fault"),
    Flag::value(
        "log",
        '\0',
        "FILE",
        "write the log here (default: the standard error)",
    ),
    Flag::value("log-format", '\0', "FORMAT", "text (default) or json"),
    Flag::value(
        "root",
        '\0',
        "DIR",
        "where containers are kept (default: /run/cofferdam)",
    ),
    Flag::value(
        "criu",
        '\0',
        "PATH",
        "accepted for runc's callers; checkpoints are not supported",
    ),
    Flag::switch(
        "systemd-cgroup",
        '\0',
        "let systemd make cgroups; cgroupsPath is slice:prefix:name",
    ),
    Flag::value(
        "rootless",
        '\0',
        "WHEN",
        "go on without a cgroup: true, false or auto (default)",
    ),
    Flag::value(
        "policy",
        '\0',
        "NAME",
        "the policy to harden with (or COFFERDAM_POLICY)",
    ),
    Flag::value(
        "policy-file",
        '\0',
        "FILE",
        "policies (or COFFERDAM_POLICY_FILE; default: /etc/cofferdam/policy.toml)",
    ),
    Flag::switch("version", 'v', "print the version"),
];

/// The flags that create and run share.
macro_rules! create_flags {
    ($($more:expr),* $(,)?) => {
        &[
            Flag::value("bundle", 'b', "DIR", "the bundle (default: the working directory)"),
            Flag::value("console-socket", '\0', "PATH", "a Unix socket that gets the terminal's master"),
            Flag::value("pid-file", '\0', "FILE", "write the container's pid here"),
            Flag::switch("no-pivot", '\0', "do not use pivot_root; for a root on a ramdisk"),
            Flag::switch("no-new-keyring", '\0', "keep the caller's session keyring"),
            Flag::value("preserve-fds", '\0', "N", "pass on N descriptors after the standard ones and $LISTEN_FDS"),
            $($more),*
        ]
    };
}
use create_flags;

/// Every verb, in the order of the help.
pub(crate) static VERBS: &[Verb] = &[
    create::VERB,
    start::VERB,
    run::VERB,
    exec::VERB,
    state::VERB,
    kill::VERB,
    delete::VERB,
    list::VERB,
    ps::VERB,
    pause::PAUSE,
    pause::RESUME,
    update::VERB,
    events::VERB,
    inspect::VERB,
    denials::VERB,
    doctor::VERB,
    policy::VERB,
    profile::VERB,
    spec::VERB,
    features::VERB,
    checkpoint::CHECKPOINT,
    checkpoint::RESTORE,
    crate::helper_verb::VERB,
    crate::denials_verb::VERB,
];

/// An error about a flag of `verb`.
fn flag(verb: &'static str) -> impl Fn(super::flags::FlagError) -> CliError {
    move |flag| CliError::Flag { verb, flag }
}

/// Reads a value of at most `most` bytes of JSON from a file, or from the standard input as `-`.
fn read_json<T: DeserializeOwned>(
    path: &Path,
    most: u64,
    expected: &'static str,
) -> Result<T, CliError> {
    let text = if path == Path::new("-") {
        let mut text = Vec::new();
        let read = io::stdin().take(most).read_to_end(&mut text);
        read.map(|_| text)
    } else {
        read_regular(path, most)
            .and_then(|text| text.ok_or_else(|| io::ErrorKind::InvalidInput.into()))
    };
    let text = text.map_err(|source| CliError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&text).map_err(|source| CliError::Json {
        path: path.to_owned(),
        expected,
        source,
    })
}

/// The two forms that our own verbs and runc's list and ps print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Table,
    Json,
}

const FORMAT: Flag = Flag::value("format", 'f', "FORMAT", "table (default) or json");

fn output(verb: &'static str, words: &Words) -> Result<Output, CliError> {
    match words.text("format").map_err(flag(verb))? {
        None | Some("table") => Ok(Output::Table),
        Some("json") => Ok(Output::Json),
        Some(other) => Err(CliError::Value {
            what: "format option",
            value: other.to_owned(),
            expected: "table or json expected",
        }),
    }
}

/// A value as JSON, one line.
fn json(value: &impl serde::Serialize) -> Result<String, CliError> {
    let mut text = serde_json::to_string(value).map_err(unprintable)?;
    text.push('\n');
    Ok(text)
}

/// A value as indented JSON.
fn pretty(value: &impl serde::Serialize) -> Result<String, CliError> {
    let mut text = serde_json::to_string_pretty(value).map_err(unprintable)?;
    text.push('\n');
    Ok(text)
}

fn unprintable(error: serde_json::Error) -> CliError {
    CliError::output(error.into())
}
