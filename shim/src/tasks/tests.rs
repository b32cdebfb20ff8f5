//! The life cycle without root and processes.

/// A backend that only keeps a diary, and who hears the events.
mod fake;

use std::io::{Read as _, Write as _};
use std::thread;

use ttrpc::proto::Code;

use super::*;
use fake::{code, end, world};

#[test]
fn a_whole_life() {
    let w = world();
    assert_eq!(w.create("c").unwrap(), 101);
    assert_eq!(w.tasks.start("c", "").unwrap(), 101);
    w.add("c", "e").unwrap();
    assert_eq!(w.tasks.start("c", "e").unwrap(), 102);
    let (init, exec) = (w.wait("c", ""), w.wait("c", "e"));
    w.tasks.pause("c").unwrap();
    assert!(w.tasks.state("c", "").unwrap().paused);
    w.tasks.resume("c").unwrap();
    w.end(102, 3);
    assert_eq!(exec.recv().unwrap(), 3);
    assert!(init.try_recv().is_err());
    assert_eq!(w.tasks.delete("c", "e").unwrap().0, 102);
    w.end(101, 137);
    assert_eq!(init.recv().unwrap(), 137);
    assert_eq!(w.wait("c", "").recv().unwrap(), 137);
    let (pid, exit) = w.tasks.delete("c", "").unwrap();
    assert_eq!((pid, exit.status), (101, 137));
    assert!(w.tasks.is_empty());
    assert_eq!(
        w.events(),
        [
            "create 101",
            "start 101",
            "exec-added e",
            "exec-started e 102",
            "paused c",
            "resumed c",
            "exit e 102 3",
            "exit c 101 137",
            "delete 101 137",
        ]
    );
}

#[test]
fn an_init_that_ends_while_being_started_exits_after_its_start() {
    let w = world();
    w.create("c").unwrap();
    let tasks = Arc::clone(&w.tasks);
    w.meanwhile(move || end(&tasks, 101, 7));
    w.tasks.start("c", "").unwrap();
    assert_eq!(w.events(), ["create 101", "start 101", "exit c 101 7"]);
    assert_eq!(w.wait("c", "").recv().unwrap(), 7);
}

/// A container that shares a pid namespace, as in a pod: what init has left there goes on if nobody kills it.
/// An init that ended while it was made or started was forgotten.
#[test]
fn what_an_init_leaves_behind_is_killed_whenever_it_ends() {
    for moment in ["create", "start", "run"] {
        let w = world();
        *lock(&w.diary.pids) = vec![4711];
        let tasks = Arc::clone(&w.tasks);
        let ends = move || end(&tasks, 101, 0);
        if moment == "create" {
            w.meanwhile(ends.clone());
        }
        w.create("c").unwrap();
        if moment == "start" {
            w.meanwhile(ends);
        }
        if moment != "create" {
            w.tasks.start("c", "").unwrap();
        }
        if moment == "run" {
            w.end(101, 0);
        }
        let lines = lock(&w.diary.lines).clone();
        assert_eq!(lines.last().unwrap(), "signal_all c", "{moment}: {lines:?}");
        assert_eq!(
            lines
                .iter()
                .filter(|line| line.starts_with("signal_all"))
                .count(),
            1
        );
    }
}

#[test]
fn a_process_that_ends_before_its_pid_is_known_is_not_lost() {
    let w = world();
    let tasks = Arc::clone(&w.tasks);
    w.meanwhile(move || end(&tasks, 101, 1));
    w.create("c").unwrap();
    assert_eq!(w.events(), ["create 101", "exit c 101 1"]);

    w.create("d").unwrap();
    w.tasks.start("d", "").unwrap();
    w.add("d", "e").unwrap();
    w.events();
    let tasks = Arc::clone(&w.tasks);
    w.meanwhile(move || end(&tasks, 103, 2));
    w.tasks.start("d", "e").unwrap();
    assert_eq!(w.events(), ["exec-started e 103", "exit e 103 2"]);
    assert_eq!(w.wait("d", "e").recv().unwrap(), 2);
}

/// Exits were told, and all else was done, by the thread that waited for the disk. A pipe that nobody reads
/// takes as long as the slowest disk.
#[test]
fn a_slow_log_delays_the_exits_of_its_container_only() {
    let w = world();
    w.create("c").unwrap();
    w.tasks.start("c", "").unwrap();
    w.add("c", "e").unwrap();
    w.tasks.start("c", "e").unwrap();
    w.create("d").unwrap();
    w.tasks.start("d", "").unwrap();
    let (mut log, disk) = std::io::pipe().unwrap();
    let (writer, held) = io::HeldStdio::of_log(disk.into());
    let mut writer = std::fs::File::from(writer);
    let text = vec![b'x'; 100 << 10];
    writer.write_all(&text).unwrap();
    lock(&w.tasks.table).process("c", "e").unwrap().hold(held);
    w.events();
    let (exec, init) = (w.wait("c", "e"), w.wait("c", ""));
    w.end(102, 2);
    // Without a log, but it must not come before the other.
    w.end(101, 1);
    w.end(103, 3);
    assert_eq!(w.events(), ["exit d 103 3"]);
    assert!(exec.try_recv().is_err() && init.try_recv().is_err());
    // Their pids may be others' by now.
    let killed = w.tasks.kill("c", "e", 9, false).unwrap_err();
    assert_eq!(code(killed), Code::NOT_FOUND);
    let mut written = vec![0; text.len()];
    log.read_exact(&mut written).unwrap();
    assert_eq!(init.recv().unwrap(), 1);
    assert_eq!(exec.try_recv().unwrap(), 2);
    assert_eq!(w.events(), ["exit e 102 2", "exit c 101 1"]);
    drop(writer);
    w.tasks.delete("c", "").unwrap();
}

#[test]
fn exits_that_nobody_claims_are_forgotten() {
    let w = world();
    w.end(4242, 0);
    assert!(lock(&w.tasks.table).unclaimed.is_empty());
    let tasks = Arc::clone(&w.tasks);
    w.meanwhile(move || end(&tasks, 4242, 0));
    w.create("c").unwrap();
    assert!(lock(&w.tasks.table).unclaimed.is_empty());
    assert_eq!(w.events(), ["create 101"]);
}

#[test]
fn a_failed_create_leaves_nothing() {
    let w = world();
    *lock(&w.diary.refuse) = Some("create");
    let error = w.create("c").unwrap_err();
    assert_eq!(error.to_string(), "create refused");
    assert_eq!(code(error), Code::FAILED_PRECONDITION);
    assert!(w.tasks.is_empty());
    assert!(w.events().is_empty());
    *lock(&w.diary.refuse) = None;
    w.create("c").unwrap();
}

#[test]
fn a_failed_exec_ends_its_waiters() {
    let w = world();
    w.create("c").unwrap();
    w.tasks.start("c", "").unwrap();
    w.add("c", "e").unwrap();
    let waiting = w.wait("c", "e");
    *lock(&w.diary.refuse) = Some("exec");
    assert!(w.tasks.start("c", "e").is_err());
    assert_eq!(waiting.recv().unwrap(), 255);
    w.tasks.delete("c", "e").unwrap();
    w.add("c", "e").unwrap();
}

#[test]
fn a_failed_start_can_be_deleted() {
    let w = world();
    w.create("c").unwrap();
    *lock(&w.diary.refuse) = Some("start");
    assert!(w.tasks.start("c", "").is_err());
    *lock(&w.diary.refuse) = None;
    let tasks = Arc::clone(&w.tasks);
    w.meanwhile(move || {
        let tasks = Arc::clone(&tasks);
        thread::spawn(move || end(&tasks, 101, 137));
    });
    w.tasks.delete("c", "").unwrap();
    let lines = lock(&w.diary.lines).clone();
    assert_eq!(lines, ["create c", "start c", "signal 101 9", "delete c"]);
}

#[test]
fn a_failed_delete_can_be_repeated() {
    let w = world();
    w.create("c").unwrap();
    w.tasks.start("c", "").unwrap();
    w.end(101, 0);
    *lock(&w.diary.refuse) = Some("delete");
    assert!(w.tasks.delete("c", "").is_err());
    assert_eq!(w.tasks.state("c", "").unwrap().phase, Phase::Stopped);
    *lock(&w.diary.refuse) = None;
    w.tasks.delete("c", "").unwrap();
}

#[test]
fn requests_in_the_wrong_phase() {
    let w = world();
    w.create("c").unwrap();
    assert_eq!(code(w.create("c").unwrap_err()), Code::ALREADY_EXISTS);
    assert_eq!(
        code(w.tasks.pause("c").unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    w.tasks.start("c", "").unwrap();
    assert_eq!(
        code(w.tasks.start("c", "").unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    assert_eq!(
        code(w.tasks.delete("c", "").unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    w.add("c", "e").unwrap();
    assert_eq!(code(w.add("c", "e").unwrap_err()), Code::ALREADY_EXISTS);
    assert_eq!(code(w.add("c", "").unwrap_err()), Code::INVALID_ARGUMENT);
    assert_eq!(
        code(w.tasks.kill("c", "e", 9, false).unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    w.end(101, 0);
    assert_eq!(
        code(w.tasks.start("c", "e").unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    let finished = w.tasks.kill("c", "", 9, false).unwrap_err();
    assert_eq!(finished.to_string(), "process already finished: not found");
    assert_eq!(code(finished), Code::NOT_FOUND);
    assert_eq!(
        code(w.tasks.pause("c").unwrap_err()),
        Code::FAILED_PRECONDITION
    );
    for missing in [
        w.tasks.start("x", "").map(drop),
        w.tasks.start("c", "x").map(drop),
        w.tasks.kill("x", "", 9, true),
        w.tasks.delete("x", "").map(drop),
        w.tasks.delete("c", "x").map(drop),
        w.tasks.state("x", "").map(drop),
        w.tasks.state("c", "x").map(drop),
        w.tasks.wait("x", "", Box::new(|_| {})),
        w.tasks.pids("x").map(drop),
        w.tasks.resize("x", "", 1, 1),
        w.tasks.close_stdin("c", "x"),
        w.tasks.update("x", serde_json::json!({})),
        w.tasks.stats("x").map(drop),
    ] {
        assert_eq!(code(missing.unwrap_err()), Code::NOT_FOUND);
    }
}

#[test]
fn killing_a_frozen_container_thaws_it() {
    let w = world();
    w.create("c").unwrap();
    w.tasks.start("c", "").unwrap();
    w.tasks.pause("c").unwrap();
    w.tasks.kill("c", "", libc::SIGTERM, false).unwrap();
    assert!(w.tasks.state("c", "").unwrap().paused);
    w.tasks.kill("c", "", libc::SIGKILL, false).unwrap();
    assert!(!w.tasks.state("c", "").unwrap().paused);
    let lines = lock(&w.diary.lines).clone();
    assert_eq!(lines[3..], ["signal 101 15", "signal 101 9", "resume c"]);
}

#[test]
fn memory_running_out_is_an_event() {
    let w = world();
    *lock(&w.diary.refuse) = Some("memory");
    w.create("c").unwrap();
    assert_eq!(w.events(), ["create 101", "oom c"]);
}
