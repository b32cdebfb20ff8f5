//! The calls that each executable made, from a log of `strace -f --pidns-translation`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// System calls by executable, as it was named to execve(2).
    pub by_executable: BTreeMap<String, BTreeSet<String>>,
}

impl Trace {
    /// Everything from the first program that is executed on: the runtime's own calls before that are
    /// left out.
    #[must_use]
    pub fn read(log: &str) -> Self {
        let mut reader = Reader::default();
        for line in log.lines() {
            reader.line(line);
        }
        reader.finish()
    }

    /// The calls of all executables.
    #[must_use]
    pub fn all(&self) -> BTreeSet<String> {
        self.by_executable.values().flatten().cloned().collect()
    }
}

#[derive(Default)]
struct Reader {
    /// What a process executes; absent until that is known.
    executes: HashMap<u32, String>,
    /// Calls of a process before it was known what it executes: its parent tells, later in the log.
    orphans: HashMap<u32, BTreeSet<String>>,
    parents: Vec<(u32, Option<String>)>,
    /// The program of an execve(2) that has not returned yet.
    executing: HashMap<u32, String>,
    trace: Trace,
    started: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let Some((pid, rest)) = line.split_once(' ') else {
            return;
        };
        let Ok(pid) = pid.parse() else { return };
        let rest = rest.trim_start();
        let (name, resumed) = match rest.strip_prefix("<... ") {
            Some(rest) => (rest.split(' ').next().unwrap_or_default(), true),
            None => (rest.split('(').next().unwrap_or_default(), false),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return;
        }
        if self.started && !resumed {
            self.called(pid, name);
        }
        match name {
            "execve" | "execveat" => self.exec(pid, rest, resumed),
            "clone" | "clone3" | "fork" | "vfork" => self.cloned(pid, rest),
            _ => {}
        }
    }

    fn called(&mut self, pid: u32, name: &str) {
        let calls = match self.executes.get(&pid) {
            Some(path) => match self.trace.by_executable.get_mut(path) {
                Some(calls) => calls,
                None => self.trace.by_executable.entry(path.clone()).or_default(),
            },
            None => self.orphans.entry(pid).or_default(),
        };
        if !calls.contains(name) {
            calls.insert(name.to_owned());
        }
    }

    fn exec(&mut self, pid: u32, rest: &str, resumed: bool) {
        if !resumed {
            let path = rest.split('"').nth(1).unwrap_or_default();
            self.executing.insert(pid, path.to_owned());
        }
        if rest.ends_with("= 0")
            && let Some(path) = self.executing.remove(&pid)
        {
            self.started = true;
            self.executes.insert(pid, path);
        }
    }

    fn cloned(&mut self, parent: u32, rest: &str) {
        let Some((_, result)) = rest.rsplit_once(" = ") else {
            return;
        };
        // `7 /* 12345 in strace's PID NS */` from a pid namespace, `12345` without one.
        let child = match result.split_once("/* ") {
            Some((_, translated)) => translated.split(' ').next(),
            None => result.split(' ').next(),
        };
        let Some(child) = child.and_then(|child| child.parse().ok()) else {
            return;
        };
        let executes = self.executes.get(&parent).cloned();
        if let (Some(path), false) = (&executes, self.executes.contains_key(&child)) {
            self.executes.insert(child, path.clone());
        }
        self.parents.push((child, executes));
    }

    fn finish(mut self) -> Trace {
        for (child, executes) in std::mem::take(&mut self.parents) {
            if let (Some(path), Some(calls)) = (executes, self.orphans.remove(&child)) {
                self.trace
                    .by_executable
                    .entry(path)
                    .or_default()
                    .extend(calls);
            }
        }
        // Nobody said whose child it was: it still counts.
        for calls in self.orphans.into_values() {
            self.trace
                .by_executable
                .entry("unknown".to_owned())
                .or_default()
                .extend(calls);
        }
        self.trace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &str) -> BTreeSet<String> {
        words.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn calls_go_to_the_executable_that_made_them() {
        let log = "\
10    prctl(PR_SET_NO_NEW_PRIVS, 1) = 0
10    execve(\"/usr/bin/sh\", [\"sh\"], 0x7ffd /* 3 vars */) = 0
10    brk(NULL) = 0x5581
10    clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD <unfinished ...>
11    close(3 <unfinished ...>
10    <... clone resumed>, child_tidptr=0x7f) = 2 /* 11 in strace's PID NS */
11    <... close resumed>) = 0
11    getpid() = 2
11    execve(\"/none\", [\"x\"], 0x7ffd /* 3 vars */) = -1 ENOENT (No such file or directory)
11    execve(\"/usr/bin/id\", [\"id\"], 0x7ffd /* 3 vars */ <unfinished ...>
10    wait4(-1,  <unfinished ...>
11    <... execve resumed>) = 0
11    geteuid() = 0
11    exit_group(0) = ?
11    +++ exited with 0 +++
10    <... wait4 resumed>[{WIFEXITED(s)}], 0, NULL) = 2
10    --- SIGCHLD {si_signo=SIGCHLD} ---
10    syscall_0x1f4(0x1, 0x2) = -1 ENOSYS (Function not implemented)
";
        let trace = Trace::read(log);
        let expected = BTreeMap::from([
            (
                "/usr/bin/sh".to_owned(),
                set("brk clone close getpid execve wait4 syscall_0x1f4"),
            ),
            ("/usr/bin/id".to_owned(), set("geteuid exit_group")),
        ]);
        assert_eq!(trace.by_executable, expected);
        assert!(!trace.all().contains("prctl"));
    }
}
