//! Command lines, and everything they may start.
#![expect(clippy::unwrap_used, reason = "a failed set-up is a failed test")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use cofferdam_analysis::{Confidence, Entry, EntryError, Generated, Options, RootFs, generate};
use cofferdam_profiles::seccomp::{Arch, Call, Evaluator, resolve};
use support::small_object;

/// A program that makes the call of this number.
fn calls(number: u32) -> Vec<u8> {
    let mut file = small_object();
    file[0x201..0x205].copy_from_slice(&number.to_le_bytes());
    file
}

/// A root in which each program makes one call of its own.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("usr/bin");
    fs::create_dir_all(&bin).unwrap();
    symlink("usr/bin", root.path().join("bin")).unwrap();
    // umask, sync, and execve, which the tools that start others have.
    put(root.path(), "usr/bin/server", &calls(95));
    put(root.path(), "usr/bin/helper", &calls(162));
    put(root.path(), "usr/bin/dash", &calls(59));
    put(root.path(), "usr/bin/tini", &calls(59));
    symlink("dash", bin.join("sh")).unwrap();
    root
}

fn put(root: &Path, path: &str, content: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn run(root: &Path, args: &[&str], path: Option<&str>, cwd: &str) -> Result<Generated, EntryError> {
    let args: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
    let entry = Entry {
        args: &args,
        path,
        cwd: Path::new(cwd),
    };
    generate(&RootFs::open(root).unwrap(), &entry, &Options::default())
}

fn programs(generated: &Generated) -> Vec<&str> {
    let programs = generated.programs.iter();
    programs.map(|p| p.program.to_str().unwrap()).collect()
}

#[test]
fn the_program_is_found_as_at_the_start_of_a_container() {
    let root = root();
    put(root.path(), "opt/bin/server", &calls(162));
    // Not a program: the search goes on.
    fs::create_dir_all(root.path().join("opt/none/server")).unwrap();
    fs::write(root.path().join("srv"), calls(95)).unwrap();
    let table = [
        (&["server"][..], None, "/", Some("/usr/bin/server")),
        (&["/bin/server"], None, "/", Some("/usr/bin/server")),
        (
            &["server"],
            Some("/opt/none:/opt/bin:/usr/bin"),
            "/",
            Some("/opt/bin/server"),
        ),
        (&["./server"], None, "/opt/bin", Some("/opt/bin/server")),
        (&["bin/server"], None, "/opt", Some("/opt/bin/server")),
        (&["../../bin/server"], None, "/opt", Some("/usr/bin/server")),
        // A relative directory in PATH is no place to look in.
        (&["server"], Some("bin:"), "/opt", None),
        // Not executable, not there, a directory, nothing.
        (&["/srv"], None, "/", None),
        (&["nothing"], None, "/", None),
        (&["/usr"], None, "/", None),
        (&[""], None, "/", None),
        (&[], None, "/", None),
    ];
    for (args, path, cwd, expected) in table {
        let found = run(root.path(), args, path, cwd).ok();
        let found = found.map(|found| found.entry.to_str().unwrap().to_owned());
        assert_eq!(found.as_deref(), expected, "{args:?} {path:?} {cwd}");
    }
}

#[test]
fn what_it_may_start_shares_its_profile() {
    let root = root();
    put(
        root.path(),
        "entry.sh",
        b"#!/bin/sh\nhelper --once\nexec \"$@\"\n",
    );
    put(root.path(), "read.sh", b"#!/bin/sh\n. /lib.inc\n");
    fs::write(root.path().join("lib.inc"), "server &\n").unwrap();
    put(
        root.path(),
        "parts.sh",
        b"#!/bin/sh\nfor f in /entry.d/*; do $f; done\n",
    );
    put(root.path(), "entry.d/10-run", b"#!/bin/sh\nserver\n");
    fs::create_dir_all(root.path().join("entry.d")).unwrap();
    fs::write(root.path().join("entry.d/20-read.sh"), "helper\n").unwrap();
    let table = [
        (&["server", "helper"][..], &["/usr/bin/server"][..]),
        (
            &["tini", "--", "server"],
            &["/usr/bin/tini", "/usr/bin/server"],
        ),
        (
            &["sh", "-c", "exec server"],
            &["/usr/bin/dash", "/usr/bin/server"],
        ),
        (
            &["sh", "/entry.sh", "server"],
            &[
                "/usr/bin/dash",
                "/entry.sh",
                "/usr/bin/helper",
                "/usr/bin/server",
            ],
        ),
        (
            &["/entry.sh", "server"],
            &["/entry.sh", "/usr/bin/helper", "/usr/bin/server"],
        ),
        (&["/read.sh"], &["/read.sh", "/usr/bin/server"]),
        (
            &["/parts.sh"],
            &[
                "/parts.sh",
                "/entry.d/10-run",
                "/usr/bin/helper",
                "/usr/bin/server",
            ],
        ),
    ];
    for (args, expected) in table {
        let generated = run(root.path(), args, None, "/").unwrap();
        assert_eq!(programs(&generated), expected, "{args:?}");
        assert_eq!(generated.left_out, []);
        let evaluator = Evaluator::new(&generated.profile).unwrap();
        for (call, program) in [("umask", "/usr/bin/server"), ("sync", "/usr/bin/helper")] {
            let call = Call {
                audit: Arch::X86_64.audit(),
                number: resolve(Arch::X86_64, call).unwrap(),
                args: [0; 6],
            };
            let is_allowed = evaluator.answer(&call).allows();
            assert_eq!(
                is_allowed,
                expected.contains(&program),
                "{args:?} {program}"
            );
        }
    }
}

#[test]
fn a_shell_at_the_start_is_said() {
    let root = root();
    let bare = run(root.path(), &["sh"], None, "/").unwrap();
    assert_eq!(bare.confidence, Confidence::Low);
    let text = bare.reasons.join("\n");
    assert!(
        text.contains("interprets shell, and no script is named"),
        "{text}"
    );
    let scripted = run(root.path(), &["sh", "-c", "server"], None, "/").unwrap();
    assert_eq!(scripted.confidence, Confidence::Medium);
    let text = scripted.reasons.join("\n");
    assert!(
        text.contains("only as far as the script names it (1 found)"),
        "{text}"
    );
    // Once, by the command and not by the program again.
    for reasons in [&bare.reasons, &scripted.reasons] {
        assert_eq!(reasons.len(), 1, "{reasons:?}");
    }
    let started = run(root.path(), &["tini", "sh"], None, "/").unwrap();
    let of_shell = started.reasons.iter().filter(|why| why.contains("dash"));
    assert_eq!(of_shell.count(), 1, "{:?}", started.reasons);
    // An interpreter of another kind loads modules, which is another matter.
    put(root.path(), "usr/bin/perl", &calls(59));
    let perl = run(root.path(), &["perl"], None, "/").unwrap();
    let modules = |why: &String| why.contains("modules and programs that the script loads");
    assert!(perl.reasons.iter().any(modules), "{:?}", perl.reasons);
    let plain = run(root.path(), &["server"], None, "/").unwrap();
    assert_eq!(
        (plain.confidence, plain.reasons.as_slice()),
        (Confidence::High, &[][..])
    );
}

#[test]
fn what_cannot_be_analysed_is_left_out_and_said() {
    let root = root();
    let mut arm = small_object();
    arm[18] = 183;
    put(root.path(), "usr/bin/foreign", &arm);
    let generated = run(root.path(), &["sh", "-c", "foreign; server"], None, "/").unwrap();
    assert_eq!(programs(&generated), ["/usr/bin/dash", "/usr/bin/server"]);
    assert_eq!(generated.left_out.len(), 1);
    assert_eq!(generated.left_out[0].program, Path::new("/usr/bin/foreign"));
    assert_eq!(generated.confidence, Confidence::Low);
    let error = run(root.path(), &["foreign"], None, "/").unwrap_err();
    assert!(matches!(error, EntryError::Analysis(_)), "{error}");
}

#[test]
fn scripts_that_start_each_other_and_hundreds_of_programs_end() {
    let root = root();
    put(root.path(), "one", b"#!/bin/sh\n/two\n. /one\n");
    put(root.path(), "two", b"#!/bin/sh\n/one\n");
    let generated = run(root.path(), &["/one"], None, "/").unwrap();
    assert_eq!(programs(&generated), ["/one", "/two"]);
    // Each script names the next sixty.
    for script in 0..10 {
        let mut text = "#!/bin/sh\n".to_owned();
        for name in 0..60 {
            let program = format!("usr/bin/p{script}-{name}");
            put(root.path(), &program, &calls(95));
            text.push_str(&format!("p{script}-{name}\n"));
        }
        text.push_str(&format!("/many{}\n", script + 1));
        put(root.path(), &format!("many{script}"), text.as_bytes());
    }
    let generated = run(root.path(), &["/many0"], None, "/").unwrap();
    assert_eq!(generated.programs.len(), 128);
    assert!(!generated.left_out.is_empty());
    assert_eq!(generated.confidence, Confidence::Low);
}

#[test]
fn what_was_seen_and_not_found_is_added_and_said() {
    let root = root();
    let mut generated = run(root.path(), &["server"], None, "/").unwrap();
    assert_eq!(
        generated.observe(["umask", "execve", "no_such_call"], "r"),
        [""; 0]
    );
    assert_eq!(generated.confidence, Confidence::High);
    assert_eq!(
        generated.observe(["sync", "statx", "umask"], "r.json"),
        ["sync", "statx"]
    );
    assert_eq!(generated.confidence, Confidence::Low);
    assert_eq!(
        generated.reasons[0],
        "r.json has calls that the analysis did not find: sync, statx"
    );
    let evaluator = Evaluator::new(&generated.profile).unwrap();
    // statx was answered with ENOSYS before.
    for name in ["sync", "statx", "umask"] {
        let call = Call {
            audit: Arch::X86_64.audit(),
            number: resolve(Arch::X86_64, name).unwrap(),
            args: [0; 6],
        };
        assert!(evaluator.answer(&call).allows(), "{name}");
    }
}
