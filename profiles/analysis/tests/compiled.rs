//! Small programs in C, each against what the C library needs only when it is asked for it: once
//! without asking, and once with. The C library is this machine's; the gates know the GNU one.
#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

use std::path::Path;
use std::process::Command;

use cofferdam_analysis::{Analysis, Options, RootFs, analyse};

/// Analyses a program made of a body of `main`, in a root with the C library.
fn of(functions: &str, body: &str) -> Analysis {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for file in [
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/x86_64-linux-gnu/libc.so.6",
    ] {
        let target = root.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    }
    let source = format!(
        "#define _GNU_SOURCE\n{}\n{functions}\nint main(int argc, char **argv) {{ {body} return 0; }}\n",
        [
            "fcntl.h",
            "glob.h",
            "poll.h",
            "pwd.h",
            "signal.h",
            "spawn.h",
            "stdio.h",
            "stdlib.h",
            "sys/random.h",
            "sys/stat.h",
            "sys/uio.h",
            "time.h",
            "unistd.h"
        ]
        .map(|header| format!("#include <{header}>"))
        .join("\n")
    );
    let file = root.join("program.c");
    std::fs::write(&file, source).unwrap();
    let made = Command::new("gcc")
        .args(["-O2", "-w", "-o"])
        .arg(root.join("program"))
        .arg(&file)
        .status()
        .unwrap();
    assert!(made.success(), "gcc: {functions} {body}");
    let root = RootFs::open(root).unwrap();
    analyse(&root, Path::new("/program"), &Options::default()).unwrap()
}

fn has(analysis: &Analysis, call: &str) -> bool {
    analysis.syscalls.contains_key(call)
}

#[test]
fn the_c_library_does_what_it_is_asked_for_and_no_more() {
    const SPAWN: &str = "posix_spawn_file_actions_t a; posix_spawnattr_t s; int p; \
        posix_spawn_file_actions_init(&a); posix_spawnattr_init(&s);";
    const RUN: &str = "posix_spawn(&p, argv[1], &a, &s, argv, argv);";
    let spawn = |extra: &str| format!("{SPAWN} {extra} {RUN}");
    // Calls, a program that must lack them, one that must have them.
    let table: [(&[&str], String, String); 10] = [
        (
            &[
                "setsid",
                "setpgid",
                "setresuid",
                "setresgid",
                "sched_setparam",
            ],
            "system(argv[1]);".to_owned(),
            spawn("posix_spawnattr_setflags(&s, argc);"),
        ),
        (
            &["fchdir"],
            spawn(""),
            spawn("posix_spawn_file_actions_addfchdir_np(&a, 3);"),
        ),
        (
            &["chdir"],
            spawn(""),
            spawn("posix_spawn_file_actions_addchdir_np(&a, argv[1]);"),
        ),
        (
            &["close_range"],
            spawn(""),
            spawn("posix_spawn_file_actions_addclosefrom_np(&a, 3);"),
        ),
        (
            &["getpgid"],
            spawn(""),
            spawn("posix_spawn_file_actions_addtcsetpgrp_np(&a, 0);"),
        ),
        (&["dup2"], spawn(""), "popen(argv[1], \"r\");".to_owned()),
        (
            &["alarm"],
            "glob_t g; glob(argv[1], GLOB_MARK, 0, &g);".to_owned(),
            "glob_t g; glob(argv[1], GLOB_MARK | GLOB_TILDE, 0, &g);".to_owned(),
        ),
        // The same where the flags are not constant.
        (
            &["alarm"],
            "glob_t g; glob(argv[1], 0, 0, &g);".to_owned(),
            "glob_t g; glob(argv[1], argc, 0, &g);".to_owned(),
        ),
        (
            &["readv"],
            "getpwnam(argv[1]);".to_owned(),
            "struct iovec v; preadv2(argc, &v, 1, -1, 0);".to_owned(),
        ),
        (
            &["time"],
            "return time(0);".to_owned(),
            "return syscall(201, 0);".to_owned(),
        ),
    ];
    for (calls, without, with) in table {
        let (lacks, owns) = (of("", &without), of("", &with));
        for call in calls {
            assert!(
                !has(&lacks, call),
                "{call} by {without}: {:?}",
                lacks.syscalls[*call].path
            );
            assert!(has(&owns, call), "{call} is not found in {with}");
        }
    }
}

#[test]
fn a_pointer_to_glob_may_be_told_anything() {
    let table = "int (*table[])(const char *, int, int (*)(const char *, int), glob_t *) = {glob};";
    let analysis = of(table, "glob_t g; return table[argc](argv[1], 0, 0, &g);");
    assert!(has(&analysis, "alarm"));
}

#[test]
fn nothing_runs_after_a_call_that_always_is_there() {
    let analysis = of(
        "",
        "faccessat(argc, argv[1], 4, AT_EACCESS); return arc4random();",
    )
    .syscalls;
    assert!(analysis.contains_key("faccessat2") && analysis.contains_key("getrandom"));
    for call in ["faccessat", "getgroups", "getegid", "ppoll"] {
        assert!(
            !analysis.contains_key(call),
            "{call}: {:?}",
            analysis[call].path
        );
    }
}

#[test]
fn what_comes_before_the_main_loop_is_not_serving() {
    let functions = "
        __attribute__((noinline)) void start(char *p) { mkdir(p, 0700); chroot(p); }
        __attribute__((noinline)) void handle(int f) { char b[9]; write(f, b, read(f, b, 9)); }
        __attribute__((noinline)) void stop(int s) { symlink(\"a\", \"b\"); }
        __attribute__((noinline)) void serve(int f) {
            struct pollfd p = {f, 1, 0};
            for (;;) { poll(&p, 1, -1); if (p.revents) handle(f); }
        }";
    let analysis = of(functions, "start(argv[1]); signal(15, stop); serve(argc);");
    let serving = analysis.serving.clone().unwrap();
    assert_eq!(serving.main_loop, "program:serve");
    for call in ["poll", "read", "write", "symlink", "exit_group"] {
        assert!(serving.syscalls.contains(call), "{call}: {serving:?}");
    }
    for call in ["mkdir", "chroot"] {
        assert!(
            has(&analysis, call) && !serving.syscalls.contains(call),
            "{call}: {serving:?}"
        );
    }
    assert!(of("", "puts(argv[1]);").serving.is_none());
}
