//! The OCI command line `cofferdam`: a drop-in for runc 1.1, and verbs of our own.
//!
//! Words are sorted by tables ([`flags`]), a verb is a function in a file of [`verbs`], whatever goes
//! wrong is a [`CliError`], and only [`main`] prints it.

/// What ends a verb early, and the exit status of it.
mod error;
/// Flags as runc's users write them.
pub(crate) mod flags;
/// Waits for a process in the foreground: signals, terminal, exit status.
mod foreground;
/// The help of the command line and of every verb.
mod help;
/// The log in the formats that engines parse.
mod log;
/// Descriptors, console sockets and ids: what create, run and exec have in common.
mod process;
/// The system calls of the command line that have no safe wrapper elsewhere.
pub(crate) mod sys;
/// Tables of text.
mod table;
/// The verbs, a file each.
pub(crate) mod verbs;

pub use error::{CliError, chain};

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cofferdam_container::cgroup::Driver;
use nix::unistd::geteuid;

use crate::launch::PolicyChoice;
use flags::{Until, Words};
use verbs::{GLOBAL_FLAGS, VERBS, Verb};

/// Where containers are kept when nobody says otherwise.
pub const ROOT: &str = "/run/cofferdam";

/// The version of the OCI runtime specification that this command line implements.
pub const OCI_VERSION: &str = "1.2.0";

/// What the global flags and the environment settle for every verb.
#[derive(Debug)]
pub(crate) struct Context {
    /// The state root.
    pub(crate) root: PathBuf,
    /// Who makes cgroups.
    pub(crate) cgroup_driver: Driver,
    /// Go on without a cgroup when it cannot be made.
    pub(crate) rootless: bool,
    /// Which policy, and the file it comes from.
    pub(crate) policy: PolicyChoice,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let mut settings = log::Settings::default();
    let mut verb_name = "";
    let words = env::args_os().skip(1);
    match run(words, &mut settings, &mut verb_name) {
        Ok(status) => ExitCode::from(status),
        // The standard error of the hidden verb is a container's.
        Err(_) if verb_name == crate::helper::VERB => ExitCode::FAILURE,
        Err(error) => {
            log::install(settings.clone());
            let what = match verb_name {
                // runc's own prefixes, which people grep for.
                "create" => "cofferdam create failed: ",
                "run" => "cofferdam run failed: ",
                "exec" => "exec failed: ",
                _ => "",
            };
            let message = chain(&error);
            let message = message.strip_prefix(what).unwrap_or(&message);
            log::fatal(&settings, &format!("{what}{message}"));
            ExitCode::from(error.status(verb_name))
        }
    }
}

fn run(
    words: impl Iterator<Item = OsString>,
    settings: &mut log::Settings,
    verb_name: &mut &'static str,
) -> Result<u8, CliError> {
    let global = Words::parse(GLOBAL_FLAGS, Until::FirstPlain, words)
        .map_err(|flag| CliError::Flag { verb: "", flag })?;
    let flag = |flag| CliError::Flag { verb: "", flag };
    settings.file = global.path("log").map(Path::to_owned);
    settings.debug = global.on("debug");
    settings.format = match global.text("log-format").map_err(flag)? {
        None | Some("text") => log::Format::Text,
        Some("json") => log::Format::Json,
        Some(other) => {
            return Err(CliError::Value {
                what: "log-format:",
                value: other.to_owned(),
                expected: "text or json expected",
            });
        }
    };
    if global.on("version") {
        return print(&version());
    }
    let mut plain = global.plain.iter().cloned();
    let Some(name) = plain.next().filter(|_| !global.help) else {
        return print(&help::general());
    };
    if name == "help" || name == "h" {
        return match plain.next() {
            Some(topic) => print(&help::of(find(&topic)?)),
            None => print(&help::general()),
        };
    }
    let verb = find(&name)?;
    *verb_name = verb.name;
    if !verb.hidden {
        log::install(settings.clone());
    }
    let words = Words::parse(verb.flags, verb.until, plain).map_err(|flag| CliError::Flag {
        verb: verb.name,
        flag,
    })?;
    if words.help {
        return print(&help::of(verb));
    }
    verb.check_count(words.plain.len())?;
    (verb.run)(&context(&global)?, &words)
}

fn find(name: &OsString) -> Result<&'static Verb, CliError> {
    let found = VERBS.iter().find(|verb| verb.name == name);
    found.ok_or_else(|| CliError::UnknownVerb {
        verb: name.to_string_lossy().into_owned(),
    })
}

fn context(global: &Words) -> Result<Context, CliError> {
    let flag = |flag| CliError::Flag { verb: "", flag };
    let rootless = match global.text("rootless").map_err(flag)? {
        None | Some("auto") => !geteuid().is_root(),
        Some("true") => true,
        Some("false") => false,
        Some(other) => {
            return Err(CliError::Value {
                what: "rootless:",
                value: other.to_owned(),
                expected: "true, false or auto expected",
            });
        }
    };
    let root = match global.path("root") {
        Some(root) => std::path::absolute(root).map_err(|source| CliError::System {
            action: "find the working directory",
            source,
        })?,
        None => default_root(rootless),
    };
    let policy = global.text("policy").map_err(flag)?;
    Ok(Context {
        root,
        cgroup_driver: if global.on("systemd-cgroup") {
            Driver::Systemd
        } else {
            Driver::Fs
        },
        rootless,
        policy: PolicyChoice::from_environment(policy, global.path("policy-file")),
    })
}

fn default_root(rootless: bool) -> PathBuf {
    match env::var_os("XDG_RUNTIME_DIR").filter(|dir| rootless && !dir.is_empty()) {
        Some(dir) => Path::new(&dir).join("cofferdam"),
        None => ROOT.into(),
    }
}

/// What `docker info`, go-runc and Podman read: `NAME version V`, then `key: value` lines.
fn version() -> String {
    format!(
        "cofferdam version {}\nspec: {OCI_VERSION}\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// Writes to the standard output; a reader that went away is not an error.
pub(crate) fn print(text: &str) -> Result<u8, CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::output(error)),
        _ => Ok(0),
    }
}

/// How wide a text for the standard output may be, in characters.
pub(crate) fn width() -> usize {
    const WITHOUT_A_TERMINAL: usize = 100;
    match sys::window_size(io::stdout()) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => WITHOUT_A_TERMINAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_can_read_the_version() {
        let version = version();
        let first = version.lines().next().unwrap();
        assert!(first.starts_with("cofferdam version 0."), "{first}");
        assert_eq!(version.lines().filter(|l| l.contains("version")).count(), 1);
    }
}
