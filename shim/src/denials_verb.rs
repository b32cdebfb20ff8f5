//! The hidden verb that answers and explains the denied calls of one container.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cofferdam_container::ContainerId;
use cofferdam_container::denials::{self, ListenerCommand};
use std::os::fd::OwnedFd;

use crate::cli::flags::Words;
use crate::cli::verbs::{PLAIN, Verb};
use crate::cli::{CliError, Context};

/// The name of the verb.
pub(crate) const NAME: &str = "denials-listener";

/// Where logs of denied calls are, if not in [`LOGS`].
pub(crate) const LOGS_VARIABLE: &str = "COFFERDAM_LOGS";

/// Where logs of denied calls are.
pub(crate) const LOGS: &str = "/var/log/cofferdam/denials";

pub(crate) const VERB: Verb = Verb {
    name: NAME,
    arguments: "<descriptor> <state-directory>",
    count: (2, 2),
    summary: "answer a container's denied calls",
    description: "Not for people: create starts it where the policy has `denials = \"explain\"`.",
    example: "cofferdam denials-listener 3 /run/cofferdam/web-1 3<>/path/to/channel",
    hidden: true,
    run,
    ..PLAIN
};

fn run(_: &Context, words: &Words) -> Result<u8, CliError> {
    let [descriptor, directory] = words.plain.as_slice() else {
        return Err(CliError::Usage("a descriptor and a directory are expected"));
    };
    let descriptor = descriptor
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or(CliError::Usage("the descriptor is no number"))?;
    denials::serve(descriptor, Path::new(directory))?;
    Ok(0)
}

/// The log of a container.
pub(crate) fn log(root: &Path, id: &ContainerId) -> PathBuf {
    let logs = std::env::var_os(LOGS_VARIABLE)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    // Who is not root cannot write there; a hidden directory of the state root is no container.
    let own = || {
        if nix::unistd::geteuid().is_root() {
            LOGS.into()
        } else {
            root.join(".denials")
        }
    };
    let logs = logs.unwrap_or_else(own);
    denials::log::path(&logs, root, id.as_str())
}

/// How this program runs the listener of a container.
pub(crate) fn command(root: &Path, id: &ContainerId, events: Option<OwnedFd>) -> ListenerCommand {
    ListenerCommand {
        program: "/proc/self/exe".into(),
        arguments: vec![OsString::from(NAME)],
        log: log(root, id),
        events,
    }
}
