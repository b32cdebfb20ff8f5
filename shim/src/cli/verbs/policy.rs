//! `policy`: shows policies, checks a policy file, and explains what a policy does to a bundle.

use std::path::Path;

use cofferdam_profiles::policy::PolicyFile;

use super::{FORMAT, Flag, Output, PLAIN, Verb, output, pretty};
use crate::cli::flags::Words;
use crate::cli::{CliError, Context, print, width};
use crate::launch::Bundle;

pub(super) const VERB: Verb = Verb {
    name: "policy",
    arguments: "show [name] | check FILE | explain | example",
    count: (1, 2),
    summary: "show, check and explain policies",
    description: "show lists the policies, or prints one whole; check reads a policy file and says\n\
                  what is wrong with it; explain tells what the policy would do to a bundle,\n\
                  without starting anything and without being root; example prints a policy file to\n\
                  start from.",
    example: "cofferdam policy explain --bundle /containers/web\n\
              cofferdam policy check /etc/cofferdam/policy.toml",
    flags: &[
        FORMAT,
        Flag::value(
            "bundle",
            'b',
            "DIR",
            "the bundle to explain (default: the working directory)",
        ),
    ],
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let output = output("policy", words)?;
    let word = |at: usize| words.plain.get(at).map(|word| word.to_string_lossy());
    match (word(0).as_deref(), word(1)) {
        (Some("show"), None) => names(&context.policy.load()?, output),
        (Some("show"), Some(name)) => one(&context.policy.load()?, &name),
        (Some("check"), Some(path)) => check(Path::new(path.as_ref())),
        (Some("example"), None) => print(PolicyFile::example()),
        (Some("explain"), None) => explain(context, words, output),
        _ => Err(CliError::Arguments {
            verb: "policy",
            wanted: format!("one of: {}", VERB.arguments),
        }),
    }
}

fn names(file: &PolicyFile, output: Output) -> Result<u8, CliError> {
    let names: Vec<&str> = file.names().collect();
    match output {
        Output::Json => print(&pretty(&names)?),
        Output::Table => print(
            &names
                .iter()
                .map(|name| format!("{name}\n"))
                .collect::<String>(),
        ),
    }
}

fn one(file: &PolicyFile, name: &str) -> Result<u8, CliError> {
    let policy = file.policy(name).ok_or_else(|| CliError::UnknownPolicy {
        name: name.to_owned(),
        known: file.names().collect::<Vec<_>>().join(", "),
    })?;
    print(&pretty(policy)?)
}

fn check(path: &Path) -> Result<u8, CliError> {
    // A file that is not there means the built-in policies everywhere else; here it was asked for.
    if let Err(source) = std::fs::metadata(path) {
        return Err(CliError::File {
            action: "read",
            path: path.to_owned(),
            source,
        });
    }
    let file = PolicyFile::load(path)?;
    let names = file.names().collect::<Vec<_>>().join(", ");
    print(&format!("{}: valid; policies: {names}\n", path.display()))
}

fn explain(context: &Context, words: &Words, output: Output) -> Result<u8, CliError> {
    let bundle = Bundle::open(words.path("bundle").unwrap_or(Path::new(".")))?;
    let hardened = bundle.harden(&context.policy)?;
    match output {
        Output::Json => print(&pretty(hardened.report())?),
        Output::Table => print(&hardened.report().render(width())),
    }
}
