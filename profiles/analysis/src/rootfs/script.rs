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
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MAX_LINE: usize = 256;
const MAX_COMMANDS: usize = 64;
/// How deep scripts that read other scripts are followed.
const MAX_DEPTH: usize = 4;
const MAX_DIRECTORIES: usize = 32;
/// Files of a directory of scripts, as `run-parts` takes.
const MAX_PARTS: usize = 64;
/// The largest script that is read, in bytes.
pub(crate) const MAX_SCRIPT: u64 = 1024 * 1024;

/// Where the commands of a process are looked for.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    root: &'a RootFs,
    directories: Vec<PathBuf>,
}

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

impl<'a> Search<'a> {
    /// With a `PATH`; the usual directories without one. A relative directory would make the working
    /// directory part of the search, and is left out, as at the start of a container.
    pub(crate) fn new(root: &'a RootFs, path: Option<&str>) -> Self {
        let path = path.unwrap_or(PATH).split(':');
        let directories = path.filter(|directory| directory.starts_with('/'));
        Self {
            root,
            directories: directories
                .map(PathBuf::from)
                .take(MAX_DIRECTORIES)
                .collect(),
        }
    }

    /// The directories, for people.
    pub(crate) fn shown(&self) -> String {
        let each = self
            .directories
            .iter()
            .map(|path| path.display().to_string());
        each.collect::<Vec<_>>().join(":")
    }

    /// Where a command is, as named without a directory.
    pub(crate) fn which(&self, command: &str) -> Option<PathBuf> {
        if command.starts_with('/') {
            return program(self.root, Path::new(command));
        }
        if command.is_empty() || command.contains('/') {
            return None;
        }
        let mut candidates = self.directories.iter();
        candidates.find_map(|directory| program(self.root, &directory.join(command)))
    }

    /// Programs a shell script may start: its words that are paths of programs, names found in the
    /// search path, or directories of scripts (`/docker-entrypoint.d`); also those of scripts that
    /// it reads.
    pub(crate) fn commands(&self, content: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        self.collect(content, 0, &mut found);
        found
    }

    fn collect(&self, content: &str, depth: usize, found: &mut Vec<PathBuf>) {
        for line in content.lines() {
            let line = line.trim_start();
            if line.starts_with('#') {
                continue;
            }
            let is_read = [". ", "source "].iter().any(|word| line.starts_with(word));
            for word in line.split(|c: char| !(c.is_alphanumeric() || "/._+-[".contains(c))) {
                if found.len() >= MAX_COMMANDS {
                    return;
                }
                if word.len() > 255 {
                    continue;
                }
                let word = word.trim_end_matches('/');
                if let Some(path) = self.which(word) {
                    if !found.contains(&path) {
                        found.push(path);
                    }
                } else if word.starts_with('/') && word.ends_with(".d") {
                    self.parts(Path::new(word), depth, found);
                } else if is_read && word.starts_with('/') {
                    self.read(Path::new(word), depth, found);
                }
            }
        }
    }

    /// The scripts of a directory: those that can be executed are, the others are read.
    fn parts(&self, directory: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        for name in self.root.list(directory, MAX_PARTS) {
            let path = directory.join(&name);
            match program(self.root, &path) {
                Some(path) if found.len() < MAX_COMMANDS && !found.contains(&path) => {
                    found.push(path);
                }
                Some(_) => {}
                None if name.ends_with("sh") => self.read(&path, depth, found),
                None => {}
            }
        }
    }

    fn read(&self, path: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        if depth < MAX_DEPTH
            && let Some(text) = self.root.text(path, MAX_SCRIPT)
        {
            self.collect(&text, depth + 1, found);
        }
    }
}

/// Where a path of a program leads.
pub(crate) fn program(root: &RootFs, path: &Path) -> Option<PathBuf> {
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
