//! What is done with files: the calls that take a path are looked at while they wait for their answer, so
//! that the caller's root, working directory and descriptors are those that the call will see.
//!
//! Why not BPF: what the programs there could give is the text of a path, and where it leads would be
//! looked up later, when the process may have moved or ended. Why not fanotify: it tells neither what was
//! removed, nor what was made in file systems that give no file handles, nor ports.

/// Which calls take paths, and what they do with them.
mod calls;
/// Where a path leads.
mod resolve;

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::Question;
use crate::touched::{Touched, TouchedPlace, touch};
use calls::{Action, At, Call};
use resolve::{Found, Last, View};

/// The longest path, with its NUL.
const PATH_MAX: usize = 4096;
/// The longest `#!` line, and what is looked at of a program.
const HEAD: usize = 4096;
/// Programs that are started by a program: `#!` of `#!`.
const INTERPRETERS: usize = 5;

/// Files that were used.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) touched: Touched,
    /// How many places there is room for; 0: nothing is recorded.
    most: usize,
}

impl Files {
    pub(super) fn new(most: u32) -> Self {
        Self {
            touched: Touched::default(),
            most: usize::try_from(most).unwrap_or(usize::MAX),
        }
    }

    /// The native numbers that must ask.
    pub(super) fn asked(most: u32) -> impl Iterator<Item = u32> {
        calls::numbers().filter(move |_| most > 0)
    }

    /// A 32-bit call.
    pub(super) fn foreign(&mut self) {
        if self.most > 0 {
            self.touched.unseen.insert("calls of 32-bit programs");
        }
    }

    /// Looks at a call; before the payload runs, at its execution only.
    pub(super) fn note(&mut self, question: &Question, number: u32, payload: bool) {
        if self.most == 0 {
            return;
        }
        let Some(call) = calls::find(number) else {
            return;
        };
        if !payload && !matches!(call.action, Action::Execute) {
            return;
        }
        if let Action::Unseen(what) = call.action {
            self.touched.unseen.insert(what);
            return;
        }
        let thread = question.thread;
        let Some(view) = View::of(thread) else {
            // Gone: its call does not run.
            return;
        };
        self.act(&view, call, &question.arguments);
    }

    fn act(&mut self, view: &View, call: &Call, arguments: &[u64; 6]) {
        match call.action {
            Action::Open(flags) => {
                let flags = argument(arguments, flags);
                self.open(view, call, arguments, flags);
            }
            Action::OpenHow(how) => {
                // The first field of struct open_how is the flags.
                let Some(flags) = view.word(argument(arguments, how)) else {
                    return;
                };
                self.open(view, call, arguments, flags);
            }
            Action::Create => {
                let flags = (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC).unsigned_abs();
                self.open(view, call, arguments, flags.into());
            }
            Action::Execute => self.execute(view, call, arguments),
            Action::Truncate => {
                if let Some(found) = self.find(view, &call.at, arguments, Last::Follow) {
                    self.add(&found, touch::WRITE);
                }
            }
            Action::Make(mode) => {
                let kind = mode.map_or(0, |mode| argument(arguments, mode)) & 0o170_000;
                let device = matches!(kind, 0o020_000 | 0o060_000);
                // What is there already is no longer made: the call fails before anybody is asked.
                let found = self.find(view, &call.at, arguments, Last::Name);
                if let Some(found) = found.filter(|found| !found.exists) {
                    let what = if device {
                        touch::MAKE_DEVICE
                    } else {
                        touch::CREATE
                    };
                    self.add(&found, what);
                }
            }
            Action::Remove => {
                if let Some(found) = self.existing(view, &call.at, arguments, Last::Name) {
                    self.add(&found, touch::REMOVE);
                }
            }
            Action::Move(to) => self.moves(view, call, arguments, &to, touch::REMOVE),
            // To link across directories takes the same right on both.
            Action::Link(to) => self.moves(view, call, arguments, &to, touch::CREATE),
            Action::MapCode => self.map(view, arguments),
            Action::Command => self.on_descriptor(view, arguments[0], touch::IOCTL, true),
            Action::Lock => self.on_descriptor(view, arguments[0], touch::LOCK, false),
            Action::Control => {
                // F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW
                if matches!(arguments[1], 6 | 7 | 37 | 38) {
                    self.on_descriptor(view, arguments[0], touch::LOCK, false);
                }
            }
            Action::Bind => self.address(view, arguments, true),
            Action::Connect => self.address(view, arguments, false),
            Action::Unseen(_) => {}
        }
    }

    fn open(&mut self, view: &View, call: &Call, arguments: &[u64; 6], flags: u64) {
        let has = |flag: i32| flags & u64::from(flag.unsigned_abs()) != 0;
        if has(libc::O_PATH) {
            return;
        }
        let Some(found) = self.find(view, &call.at, arguments, Last::Follow) else {
            return;
        };
        let mut what = match flags & 3 {
            0 => touch::READ,
            1 => touch::WRITE,
            _ => touch::READ | touch::WRITE,
        };
        if has(libc::O_TRUNC) {
            what |= touch::WRITE;
        }
        if flags & 0o20_000_000 != 0 {
            // O_TMPFILE: something without a name is made in the directory.
            let below = touch::CREATE | touch::REMOVE | touch::READ | touch::WRITE;
            self.keep(found.path, true, below);
            return;
        }
        if !found.exists {
            if !has(libc::O_CREAT) {
                // A look at what is not there.
                return;
            }
            what |= touch::CREATE;
        } else if found.directory {
            what = touch::LIST;
        }
        self.add(&found, what);
    }

    /// The program, and what the kernel loads or starts for it.
    fn execute(&mut self, view: &View, call: &Call, arguments: &[u64; 6]) {
        let found = match self.find(view, &call.at, arguments, Last::Follow) {
            Some(found) => found,
            // execveat of a descriptor.
            None => {
                self.on_descriptor(view, arguments[0], touch::EXECUTE | touch::READ, false);
                return;
            }
        };
        let mut next = Some(found);
        for _ in 0..INTERPRETERS {
            let Some(found) = next.take().filter(|found| found.exists) else {
                return;
            };
            // The kernel reads and maps it; a script is read by its interpreter.
            self.add(&found, touch::EXECUTE | touch::READ | touch::MAP_EXECUTE);
            let head = found.head(HEAD);
            next = interpreter(&head).and_then(|path| view.resolve(None, path, Last::Follow));
        }
    }

    fn moves(&mut self, view: &View, call: &Call, arguments: &[u64; 6], to: &At, source: u16) {
        let from = self.existing(view, &call.at, arguments, Last::Name);
        let (Some(from), Some(to)) = (from, self.find(view, to, arguments, Last::Name)) else {
            return;
        };
        if to.exists && source == touch::CREATE {
            // A link's name is taken.
            return;
        }
        self.add(&from, source);
        let replaced = if to.exists && source == touch::REMOVE {
            touch::REMOVE
        } else {
            0
        };
        self.add(&to, touch::CREATE | replaced);
        if directory(&from.path) != directory(&to.path) {
            let moved = &mut self.touched.moved;
            if moved.len() < self.most {
                moved.insert((from.path, to.path));
            } else {
                self.touched.lost = self.touched.lost.saturating_add(1);
            }
        }
    }

    fn map(&mut self, view: &View, arguments: &[u64; 6]) {
        let code = arguments[2] & u64::from(libc::PROT_EXEC.unsigned_abs()) != 0;
        let anonymous = arguments[3] & u64::from(libc::MAP_ANONYMOUS.unsigned_abs()) != 0;
        if code && !anonymous {
            self.on_descriptor(view, arguments[4], touch::MAP_EXECUTE, false);
        }
    }

    /// What a descriptor is open on, if that is a file with a name.
    fn on_descriptor(&mut self, view: &View, fd: u64, what: u16, device: bool) {
        if let Some(found) = view.descriptor(fd)
            && (found.device || !device)
        {
            self.add(&found, what);
        }
    }

    /// `struct sockaddr` of bind and connect.
    fn address(&mut self, view: &View, arguments: &[u64; 6], bind: bool) {
        let length = usize::try_from(arguments[2]).unwrap_or(0).min(110);
        let bytes = view.bytes(arguments[1], length);
        let Some((family, rest)) = bytes.split_first_chunk::<2>() else {
            return;
        };
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET | libc::AF_INET6 => {
                if let Some((port, _)) = rest.split_first_chunk::<2>() {
                    let port = u16::from_be_bytes(*port);
                    let ports = if bind {
                        &mut self.touched.bound
                    } else {
                        &mut self.touched.connected
                    };
                    ports.insert(port);
                }
            }
            libc::AF_UNIX if rest.first().is_some_and(|first| *first != 0) => {
                let path = rest.split(|b| *b == 0).next().unwrap_or_default();
                let last = if bind { Last::Name } else { Last::Follow };
                let found = view.resolve(None, path, last);
                let used = touch::READ | touch::WRITE;
                match found {
                    Some(found) if bind => self.add(&found, touch::CREATE | used),
                    Some(found) if found.exists => self.add(&found, used),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn find(&self, view: &View, at: &At, arguments: &[u64; 6], last: Last) -> Option<Found> {
        let path = view.string(argument(arguments, at.path), PATH_MAX)?;
        let base = at.directory.map(|index| argument(arguments, index));
        view.resolve(base, &path, last)
    }

    fn existing(&self, view: &View, at: &At, arguments: &[u64; 6], last: Last) -> Option<Found> {
        self.find(view, at, arguments, last)
            .filter(|found| found.exists)
    }

    fn add(&mut self, found: &Found, what: u16) {
        self.keep(found.path.clone(), found.subtree, what);
    }

    fn keep(&mut self, path: Vec<u8>, subtree: bool, what: u16) {
        let place = TouchedPlace { path, subtree };
        let files = &mut self.touched.files;
        if files.len() >= self.most && !files.contains_key(&place) {
            self.touched.lost = self.touched.lost.saturating_add(1);
            return;
        }
        *files.entry(place).or_default() |= what;
    }
}

fn argument(arguments: &[u64; 6], index: usize) -> u64 {
    arguments.get(index).copied().unwrap_or(0)
}

fn directory(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

/// What the kernel starts for a program: of a script its interpreter, of ELF its loader.
fn interpreter(head: &[u8]) -> Option<&[u8]> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|b| *b == b'\n').next()?;
        let mut words = line.split(|b| b" \t".contains(b));
        return words.find(|word| !word.is_empty());
    }
    // Elf64_Ehdr: e_phoff at 32, e_phentsize at 54, e_phnum at 56. Elf64_Phdr: p_type at 0, p_offset at
    // 8, p_filesz at 32.
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let half = |at: usize| {
        let bytes = head.get(at..at + 2)?.try_into().ok()?;
        Some(usize::from(u16::from_le_bytes(bytes)))
    };
    let word = |at: usize| {
        let bytes = head.get(at..at.checked_add(8)?)?.try_into().ok()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let (start, size) = (word(32)?, half(54)?);
    for number in 0..half(56)? {
        let at = start.checked_add(number.checked_mul(size)?)?;
        if head.get(at..at.checked_add(4)?)? == [3, 0, 0, 0] {
            let from = word(at.checked_add(8)?)?;
            let length = word(at.checked_add(32)?)?;
            let text = head.get(from..from.checked_add(length)?)?;
            return text.split(|b| *b == 0).next();
        }
    }
    None
}

/// The memory of a thread.
fn memory(thread: u32) -> Option<File> {
    File::open(format!("/proc/{thread}/mem")).ok()
}

/// Up to `most` bytes; fewer at the end of what is mapped.
fn read(memory: &File, address: u64, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; most];
    let mut length = 0;
    while length < most {
        // To the end of a page: the next one may not be there.
        let at = address.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        let page = 4096 - usize::try_from(at % 4096).unwrap_or(0);
        let end = (length + page).min(most);
        match bytes
            .get_mut(length..end)
            .map(|part| memory.read_at(part, at))
        {
            Some(Ok(count)) if count > 0 => length += count,
            _ => break,
        }
    }
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_found_and_garbage_is_none() {
        for (head, found) in [
            (&b"#! /bin/sh -e\n"[..], Some(&b"/bin/sh"[..])),
            (b"#!/usr/bin/env python3", Some(b"/usr/bin/env")),
            (b"#!\n", None),
            (b"", None),
            (b"\x7fELF\x02\x01", None),
        ] {
            assert_eq!(interpreter(head), found, "{head:?}");
        }
        let own = std::fs::read("/proc/self/exe").expect("read");
        let head = own.get(..HEAD).expect("long");
        let loader = interpreter(head).map(<[u8]>::to_vec);
        // Tests are linked dynamically, or not.
        assert!(loader.is_none_or(|path| path.starts_with(b"/")));
        for end in 0..head.len().min(512) {
            let _ = interpreter(head.get(..end).expect("shorter"));
        }
    }
}
