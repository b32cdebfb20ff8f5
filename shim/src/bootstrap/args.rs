//! The command line, with flags in Go's style: `-name value`, `-name=value`, one dash or two.

use std::path::PathBuf;

/// What the shim was executed for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verb {
    /// Serve on the inherited socket.
    #[default]
    Serve,
    /// Start a daemon or find the one of this container's group.
    Start,
    /// Clean up after a daemon that died.
    Delete,
    /// Print the version.
    Version,
    /// Print what containerd 2.x wants to know about a runtime.
    Info,
}

/// The parsed command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// What to do.
    pub verb: Verb,
    /// containerd's namespace.
    pub namespace: String,
    /// The container's id.
    pub id: String,
    /// containerd's gRPC address.
    pub address: String,
    /// The program that publishes events where there is no ttrpc socket.
    pub publish_binary: Option<PathBuf>,
    /// The bundle; else the working directory.
    pub bundle: Option<PathBuf>,
    /// The path of the socket that is inherited.
    pub socket: Option<PathBuf>,
    /// Log more.
    pub debug: bool,
}

/// Why a command line was not accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// A flag that we do not know.
    #[error(
        "unknown flag {0:?}; containerd executes this program, it is not meant to be run by hand"
    )]
    Flag(String),
    /// A flag without its value.
    #[error("the flag -{0} needs a value")]
    Value(String),
    /// A word that is no verb.
    #[error("unknown command {0:?}; the commands are start and delete")]
    Verb(String),
    /// A flag that must be there is not.
    #[error("the flag -{0} is required")]
    Missing(&'static str),
    /// A namespace that cannot be part of a path.
    #[error("the namespace {0:?} is not a plain name")]
    Namespace(String),
}

impl Args {
    /// Parses the arguments after the program's name.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, ArgsError> {
        let mut args = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let Some(flag) = argument.strip_prefix('-') else {
                args.verb = match argument.as_str() {
                    "start" => Verb::Start,
                    "delete" => Verb::Delete,
                    _ => return Err(ArgsError::Verb(argument)),
                };
                continue;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            match name {
                "v" | "version" => args.verb = Verb::Version,
                "info" => args.verb = Verb::Info,
                "debug" => args.debug = !matches!(inline.as_deref(), Some("false" | "0" | "f")),
                "namespace" | "id" | "address" | "publish-binary" | "bundle" | "socket" => {
                    let value = match inline {
                        Some(value) => value,
                        None => arguments
                            .next()
                            .ok_or_else(|| ArgsError::Value(name.to_owned()))?,
                    };
                    args.set(name, value);
                }
                _ => return Err(ArgsError::Flag(argument)),
            }
        }
        args.check()
    }

    fn set(&mut self, name: &str, value: String) {
        let path = |value: String| (!value.is_empty()).then(|| PathBuf::from(value));
        match name {
            "namespace" => self.namespace = value,
            "id" => self.id = value,
            "address" => self.address = value,
            "publish-binary" => self.publish_binary = path(value),
            "bundle" => self.bundle = path(value),
            _ => self.socket = path(value),
        }
    }

    /// The namespace becomes part of a path and the id of another; the id is checked where it is
    /// used, by the container crate.
    fn check(self) -> Result<Self, ArgsError> {
        if matches!(self.verb, Verb::Version | Verb::Info) {
            return Ok(self);
        }
        if self.namespace.is_empty() {
            return Err(ArgsError::Missing("namespace"));
        }
        if self.id.is_empty() {
            return Err(ArgsError::Missing("id"));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !self.namespace.chars().all(plain) || self.namespace.chars().all(|c| c == '.') {
            return Err(ArgsError::Namespace(self.namespace));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, ArgsError> {
        Args::parse(
            line.split(' ')
                .filter(|word| !word.is_empty())
                .map(str::to_owned),
        )
    }

    #[test]
    fn containerd_command_lines() {
        let args = parse(
            "-namespace k8s.io -address /run/c.sock -publish-binary /usr/bin/containerd -id c1 \
             -debug start",
        )
        .unwrap();
        assert_eq!(args.verb, Verb::Start);
        assert_eq!(
            (args.namespace.as_str(), args.id.as_str()),
            ("k8s.io", "c1")
        );
        assert_eq!(args.publish_binary, Some("/usr/bin/containerd".into()));
        assert!(args.debug);
        let args = parse("--namespace=n --id=c -bundle /b delete").unwrap();
        assert_eq!((args.verb, args.bundle), (Verb::Delete, Some("/b".into())));
        assert_eq!(parse("-v").unwrap().verb, Verb::Version);
        assert_eq!(parse("-info").unwrap().verb, Verb::Info);
        assert!(!parse("-namespace n -id c -debug=false").unwrap().debug);
    }

    #[test]
    fn bad_command_lines() {
        for line in [
            "",
            "-namespace n",
            "-id c start",
            "-namespace n -id",
            "-namespace n -id c restart",
            "-namespace n -id c -unknown x",
            "-namespace ../x -id c start",
            "-namespace .. -id c start",
            "-namespace a/b -id c start",
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
    }
}
