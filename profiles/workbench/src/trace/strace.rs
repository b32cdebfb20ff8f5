//! Lines of `strace -f`.
//!
//! The log is somebody else's: a line is read up to a bound, and what is no line of strace is counted,
//! not guessed at.

use std::collections::BTreeMap;
use std::io::{BufRead, Read as _};

use cofferdam_profiles::seccomp::Arch;

use super::value::arguments;
use super::{SeenCall, Trace, TraceError};

/// Bytes of a line that are read. Beyond are only strings, which no filter sees.
const MAX_LINE: u64 = 64 << 10;
/// Bytes beyond, after which it is no log: with every string in full (`-s`) strace writes a few times what one
/// call can transfer to a pipe or a socket.
const MAX_REST: u64 = 256 << 20;
/// Processes whose calls may be unfinished at one time: more than Linux has by default.
const MAX_PROCESSES: usize = 65_536;
/// Bytes of the first halves of unfinished calls that are kept together; beyond, their arguments are unknown.
const MAX_HALVES: usize = 16 << 20;

/// Reads a log with every argument.
pub fn read(input: impl BufRead) -> Result<Trace, TraceError> {
    read_with(input, |_| 0b11_1111)
}

/// Reads a log; `wanted` tells which arguments (a bit each) of a call are to be told apart.
pub fn read_with(
    mut input: impl BufRead,
    wanted: impl Fn(&str) -> u8,
) -> Result<Trace, TraceError> {
    let mut reader = Reader {
        trace: Trace::default(),
        processes: BTreeMap::new(),
        halves: 0,
        wanted,
    };
    let mut bytes = Vec::new();
    let mut number = 0u64;
    loop {
        bytes.clear();
        let mut bounded = input.by_ref().take(MAX_LINE);
        if bounded
            .read_until(b'\n', &mut bytes)
            .map_err(TraceError::Read)?
            == 0
        {
            break;
        }
        number += 1;
        if bytes.last() != Some(&b'\n') && !skip_line(&mut input)? {
            return Err(TraceError::Endless { line: number });
        }
        reader.line(String::from_utf8_lossy(&bytes).trim_end(), number);
    }
    let mut open = Vec::new();
    for (pid, process) in &mut reader.processes {
        open.extend(process.begun.take().map(|half| (*pid, half)));
    }
    for (pid, half) in open {
        reader.unfinished(pid, half);
    }
    let trace = reader.trace;
    if trace.calls.is_empty() {
        return Err(TraceError::Empty {
            unreadable: trace.first_unreadable,
        });
    }
    Ok(trace)
}

/// Reads to the end of a line without keeping it; `false` if it does not end.
fn skip_line(input: &mut impl BufRead) -> Result<bool, TraceError> {
    let mut skipped = 0;
    while skipped < MAX_REST {
        let buffer = input.fill_buf().map_err(TraceError::Read)?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |at| at + 1);
        let over = end.is_some() || buffer.is_empty();
        input.consume(used);
        if over {
            return Ok(true);
        }
        skipped = skipped.saturating_add(u64::try_from(used).unwrap_or(u64::MAX));
    }
    Ok(false)
}

/// What has to be remembered of a process.
#[derive(Debug)]
struct Process {
    arch: Arch,
    /// The first half of a call.
    begun: Option<Half>,
}

#[derive(Debug)]
struct Half {
    name: String,
    /// So far; `None` if they were not kept.
    arguments: Option<String>,
    line: u64,
}

impl Half {
    fn kept(&self) -> usize {
        self.arguments.as_ref().map_or(0, String::len)
    }
}

struct Reader<F> {
    trace: Trace,
    processes: BTreeMap<u32, Process>,
    /// Bytes of the arguments in `processes`.
    halves: usize,
    wanted: F,
}

impl<F: Fn(&str) -> u8> Reader<F> {
    fn line(&mut self, line: &str, number: u64) {
        if self.mode(line) {
            return;
        }
        let (pid, rest) = split_pid(line);
        let rest = strip_columns(rest);
        if is_remark(rest) {
            return;
        }
        if let Some(rest) = rest.strip_prefix("<... ") {
            return self.resumed(pid, rest, number);
        }
        let Some((name, arguments)) = rest.split_once('(') else {
            return self.trace.refuse(number);
        };
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_name) {
            return self.trace.refuse(number);
        }
        match arguments.rfind("<unfinished ...>") {
            Some(at) if arguments[at..].trim_end() == "<unfinished ...>" => {
                self.begun(pid, name, &arguments[..at], number);
            }
            _ => self.call(pid, name, arguments, number),
        }
    }

    /// `[ Process PID=7 runs in 32 bit mode. ]`, and whether the line is one.
    fn mode(&mut self, line: &str) -> bool {
        // Only where a call would be: a string in a call may say anything.
        let (_, rest) = split_pid(line);
        let rest = strip_columns(rest);
        let rest = rest.strip_prefix("strace: ").unwrap_or(rest);
        let Some(rest) = rest.strip_prefix("[ Process PID=") else {
            return false;
        };
        let Some((pid, mode)) = rest.split_once(" runs in ") else {
            return false;
        };
        let arch = match mode.split(" mode").next() {
            Some("32 bit") => Arch::X86,
            Some("x32") => Arch::X32,
            _ => Arch::NATIVE,
        };
        if let Some(process) = pid.parse().ok().and_then(|pid| self.process(pid)) {
            process.arch = arch;
        }
        true
    }

    fn process(&mut self, pid: u32) -> Option<&mut Process> {
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&pid) {
            return None;
        }
        Some(self.processes.entry(pid).or_insert(Process {
            arch: Arch::NATIVE,
            begun: None,
        }))
    }

    fn begun(&mut self, pid: u32, name: &str, arguments: &str, number: u64) {
        let room = self.halves + arguments.len() <= MAX_HALVES;
        let half = Half {
            name: name.to_owned(),
            arguments: (room && (self.wanted)(name) != 0).then(|| arguments.to_owned()),
            line: number,
        };
        let kept = half.kept();
        let Some(process) = self.process(pid) else {
            // Its arguments would be lost: seen, with unknown ones.
            return self.call(pid, name, "", number);
        };
        let before = process.begun.replace(half);
        self.halves += kept;
        if let Some(before) = before {
            self.unfinished(pid, before);
        }
    }

    /// The end of a call is missing; it was made all the same.
    fn unfinished(&mut self, pid: u32, half: Half) {
        self.halves -= half.kept();
        self.trace.unfinished = self.trace.unfinished.saturating_add(1);
        // Without its end the last argument may be cut; so they count as unknown.
        self.call(pid, &half.name, "", half.line);
    }

    fn resumed(&mut self, pid: u32, rest: &str, number: u64) {
        let Some((name, end)) = rest.split_once(" resumed>") else {
            return self.trace.refuse(number);
        };
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_name) {
            return self.trace.refuse(number);
        }
        let begun = self
            .processes
            .get_mut(&pid)
            .and_then(|process| process.begun.take());
        match begun {
            Some(half) if half.name == name => {
                self.halves -= half.kept();
                let arguments = half.arguments.map(|begin| begin + end);
                self.call(pid, name, &arguments.unwrap_or_default(), half.line);
            }
            other => {
                if let Some(half) = other {
                    self.unfinished(pid, half);
                }
                self.call(pid, name, "", number);
            }
        }
    }

    fn call(&mut self, pid: u32, name: &str, text: &str, number: u64) {
        let wanted = (self.wanted)(name);
        let mut args = [None; 6];
        if wanted != 0 {
            args = arguments(text).unwrap_or_default();
            for (at, value) in args.iter_mut().enumerate() {
                if wanted & (1 << at) == 0 {
                    *value = None;
                }
            }
        }
        let call = SeenCall {
            arch: self
                .processes
                .get(&pid)
                .map_or(Arch::NATIVE, |process| process.arch),
            name: name.to_owned(),
            args,
        };
        self.trace.see(call, number);
    }
}

/// The pid before a line (`1234  `, `[pid 1234] `), 0 if there is none, and the rest.
fn split_pid(line: &str) -> (u32, &str) {
    let line = line.trim_start();
    if let Some((pid, rest)) = line
        .strip_prefix("[pid ")
        .and_then(|rest| rest.split_once(']'))
        && let Ok(pid) = pid.trim().parse()
    {
        return (pid, rest.trim_start());
    }
    if let Some((pid, rest)) = line.split_once(' ')
        && let Ok(pid) = pid.parse()
    {
        return (pid, rest.trim_start());
    }
    (0, line)
}

/// Drops what `-t`, `-r`, `-i` and `-n` put before a call.
fn strip_columns(mut rest: &str) -> &str {
    while let Some(first) = rest.split_whitespace().next() {
        let time = first.starts_with(|c: char| c.is_ascii_digit())
            && first
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b':' | b'.' | b'+' | b'-'));
        if time {
            rest = rest[first.len()..].trim_start();
            continue;
        }
        let Some((inside, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        else {
            break;
        };
        if !inside
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b' ' || byte == b'?')
        {
            break;
        }
        rest = after.trim_start();
    }
    rest
}

/// Signals, exits, stacks (`-k`) and what strace says of itself.
fn is_remark(rest: &str) -> bool {
    ["--- ", "+++ ", "> ", "strace: ", "Process "]
        .iter()
        .any(|start| rest.starts_with(start))
        || rest.is_empty()
        || rest == "<detached ...>"
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests;
