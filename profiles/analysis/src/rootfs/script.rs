//! Scripts: their interpreter and the commands they name.

use std::path::{Path, PathBuf};

use super::RootFs;

/// The first line of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    /// What the kernel starts.
    pub(crate) interpreter: PathBuf,
    /// What that starts in turn: the program after `env`.
    pub(crate) command: Option<String>,
}

/// What a shell finds a command in.
const PATH: &[&str] = &[
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];
const MAX_LINE: usize = 256;
const MAX_COMMANDS: usize = 64;

/// The `#!` line of a file's content.
pub(crate) fn parse(content: &[u8]) -> Option<Script> {
    let line = content.strip_prefix(b"#!")?;
    let line = &line[..line.len().min(MAX_LINE)];
    let line = line.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_whitespace();
    let interpreter = PathBuf::from(words.next()?);
    let is_env = interpreter.file_name().is_some_and(|name| name == "env");
    let command = words.find(|word| !word.starts_with('-') && !word.contains('='));
    Some(Script {
        command: command.filter(|_| is_env).map(str::to_owned),
        interpreter,
    })
}

/// Programs a shell script may start: its words that are paths of programs, or names found in the
/// usual directories.
pub(crate) fn commands(root: &RootFs, content: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in content.lines() {
        let line = line.trim_start();
        if line.starts_with('#') {
            continue;
        }
        for word in line.split(|c: char| !(c.is_alphanumeric() || "/._+-[".contains(c))) {
            if word.is_empty() || word.len() > 255 || word.ends_with('/') {
                continue;
            }
            if let Some(path) = which(root, word)
                && !found.contains(&path)
                && found.len() < MAX_COMMANDS
            {
                found.push(path);
            }
        }
    }
    found
}

/// Where a command is.
pub(crate) fn which(root: &RootFs, command: &str) -> Option<PathBuf> {
    if command.starts_with('/') {
        return program(root, Path::new(command));
    }
    if command.contains('/') {
        return None;
    }
    let mut candidates = PATH
        .iter()
        .map(|directory| Path::new(directory).join(command));
    candidates.find_map(|path| program(root, &path))
}

fn program(root: &RootFs, path: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = root.metadata(path)?;
    (metadata.is_file() && metadata.mode() & 0o111 != 0).then(|| root.canonical(path))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        /// The first line, and the interpreter and command it names.
        type Case = (&'static [u8], Option<(&'static str, Option<&'static str>)>);
        let table: &[Case] = &[
            (b"#!/bin/sh\necho", Some(("/bin/sh", None))),
            (b"#! /bin/sh -e", Some(("/bin/sh", None))),
            (
                b"#!/usr/bin/env -S A=1 python3 -u\n",
                Some(("/usr/bin/env", Some("python3"))),
            ),
            (b"#!\n", None),
            (b"#!/bin/\xff\n", None),
            (b"\x7fELF", None),
            (b"", None),
        ];
        for (content, expected) in table {
            let script = parse(content);
            let found = script
                .as_ref()
                .map(|s| (s.interpreter.to_str().unwrap_or(""), s.command.as_deref()));
            assert_eq!(found, *expected, "{content:?}");
        }
    }
}
