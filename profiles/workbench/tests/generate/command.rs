//! The command as a user runs it: exit status, files, JSON, errors.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cofferdam_profiles::seccomp::{Arch, Call, Evaluator, compile, resolve};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use crate::archive::{Parts, Tar, config, image_of, program};
use crate::support::small_object;

/// A directory of its own for files, temporary files and the cache.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("tmp")).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn command(&self, words: &[&dyn AsRef<OsStr>]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam-profile"));
        for word in words {
            command.arg(word.as_ref());
        }
        command.env("TMPDIR", self.path("tmp"));
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command.current_dir(self.0.path());
        command
    }

    pub(crate) fn run(&self, words: &[&dyn AsRef<OsStr>]) -> Output {
        let output = self.command(words).output().unwrap();
        let left = fs::read_dir(self.path("tmp")).unwrap().count();
        assert_eq!(left, 0, "nothing is left: {output:?}");
        output
    }
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn error_of(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// umask in /usr/bin/server, sync in /opt/bin/server, execve in /usr/bin/dash, which is sh.
fn layer() -> Tar {
    Tar::new()
        .file("usr/bin/server", &program(95))
        .file("opt/bin/server", &program(162))
        .file("usr/bin/dash", &program(59))
        .symlink("usr/bin/sh", "dash")
        .file("srv/run.sh", b"#!/usr/bin/sh\nexec \"$@\"\n")
}

fn image(place: &Place, entrypoint: &[&str], cmd: &[&str]) -> PathBuf {
    let parts = Parts::oci(&[layer().end()], &config(entrypoint, cmd));
    place.write("image.tar", parts.tar())
}

/// Whether a profile lets a call pass.
fn allows(profile: &Value, name: &str) -> bool {
    let profile: LinuxSeccomp = serde_json::from_value(profile.clone()).unwrap();
    compile(&profile).unwrap();
    let call = Call {
        audit: Arch::X86_64.audit(),
        number: resolve(Arch::X86_64, name).unwrap(),
        args: [0; 6],
    };
    Evaluator::new(&profile).unwrap().answer(&call).allows()
}

#[test]
fn the_command_is_the_images_or_the_users() {
    let place = Place::new();
    // Of the image; of the user; the programs that are found.
    type Case = (
        (&'static [&'static str], &'static [&'static str]),
        &'static [&'static str],
        &'static [&'static str],
    );
    let table: &[Case] = &[
        // The image's PATH has /opt/bin first; its working directory is /srv.
        ((&["server"], &[]), &[], &["/opt/bin/server"]),
        ((&[], &["server"]), &[], &["/opt/bin/server"]),
        (
            (&["./run.sh"], &["server"]),
            &[],
            &["/srv/run.sh", "/opt/bin/server"],
        ),
        (
            (&["./run.sh"], &["server"]),
            &["--", "/usr/bin/server"],
            &["/srv/run.sh", "/usr/bin/server"],
        ),
        (
            (&["./run.sh"], &["server"]),
            &["--entrypoint", "/usr/bin/server"],
            &["/usr/bin/server"],
        ),
        (
            (&["./run.sh"], &["x"]),
            &["--entrypoint", "sh", "--", "-c", "server"],
            &["/usr/bin/dash", "/opt/bin/server"],
        ),
        (
            (&["server"], &[]),
            &["--path", "/usr/bin"],
            &["/usr/bin/server"],
        ),
        (
            (&["./server"], &[]),
            &["--workdir", "/usr/bin"],
            &["/usr/bin/server"],
        ),
    ];
    for ((entrypoint, cmd), words, expected) in table {
        let image = image(&place, entrypoint, cmd);
        let mut all: Vec<&dyn AsRef<OsStr>> =
            vec![&"generate", &"--format", &"json", &"--image", &image];
        all.extend(words.iter().map(|word| word as &dyn AsRef<OsStr>));
        let output = place.run(&all);
        let made = json_of(&output);
        let programs = made["programs"].as_array().unwrap();
        let names: Vec<&str> = programs
            .iter()
            .map(|one| one[0].as_str().unwrap())
            .collect();
        assert_eq!(names, *expected, "{entrypoint:?} {cmd:?} {words:?}");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let profile = &made["profile"];
        assert_eq!(
            allows(profile, "umask"),
            expected.contains(&"/usr/bin/server")
        );
        assert_eq!(
            allows(profile, "sync"),
            expected.contains(&"/opt/bin/server")
        );
        assert!(!allows(profile, "reboot"));
    }
}

#[test]
fn what_is_written_is_what_the_other_commands_read() {
    let place = Place::new();
    let image = image(&place, &["./run.sh"], &["server"]);
    let (profile, evidence) = (place.path("p.json"), place.path("e.json"));
    let words: &[&dyn AsRef<OsStr>] = &[
        &"generate",
        &"--image",
        &image,
        &"--output",
        &profile,
        &"--evidence",
        &evidence,
    ];
    let output = place.run(words);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "./run.sh server\n",
        "program     /srv/run.sh (a script: shell)\n",
        "may start   /opt/bin/server\n",
        "image       1 layer, 0 MiB unpacked\n",
        "confidence  medium\n",
        "dangerous   none\n",
        "unresolved  none\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let written: Value = serde_json::from_slice(&fs::read(&profile).unwrap()).unwrap();
    assert!(allows(&written, "sync") && !allows(&written, "umask"));
    // Without --output the same on the standard output, the summary beside it.
    let output = place.run(&words[..3]);
    assert_eq!(output.stdout, fs::read(&profile).unwrap());
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("allowed     ")
    );
    let lint = place.run(&[&"--format", &"json", &"lint", &profile]);
    assert!(
        matches!(lint.status.code(), Some(0 | 1)),
        "no errors: {lint:?}"
    );
    let explain = place.run(&[&"explain", &profile, &"sync"]);
    assert!(String::from_utf8(explain.stdout).unwrap().contains("allow"));
    let report = place.run(&[
        &"--format",
        &"json",
        &"report",
        &profile,
        &"--evidence",
        &evidence,
    ]);
    let rows = json_of(&report);
    let row = rows["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"] == "sync")
        .unwrap();
    assert_eq!(row["reached"]["certainty"], "constant");
    assert!(
        !row["reached"]["path"].as_array().unwrap().is_empty(),
        "{row}"
    );
    let spo = place.run(&[
        &"generate",
        &"--image",
        &image,
        &"--to",
        &"spo",
        &"--name",
        &"web",
    ]);
    let yaml = String::from_utf8(spo.stdout).unwrap();
    assert!(
        yaml.contains("kind: SeccompProfile") && yaml.contains("name: web"),
        "{yaml}"
    );
    let read = place.write("spo.yaml", yaml);
    assert_eq!(
        place.run(&[&"diff", &profile, &read]).status.code(),
        Some(0)
    );
}

#[test]
fn a_root_file_system_and_the_cache() {
    let place = Place::new();
    let root = place.path("root");
    fs::create_dir(&root).unwrap();
    tar::Archive::new(layer().end().as_slice())
        .unpack(&root)
        .unwrap();
    let words: &[&dyn AsRef<OsStr>] = &[
        &"generate",
        &"--format",
        &"json",
        &"--rootfs",
        &root,
        &"--",
        &"server",
    ];
    let first = json_of(&place.run(words));
    assert_eq!(first["program"], "/usr/bin/server");
    let kept = place.path("cache/cofferdam/summaries");
    assert_ne!(fs::read_dir(&kept).unwrap().count(), 0);
    let second = json_of(&place.run(words));
    assert_eq!(first["profile"], second["profile"]);
    fs::remove_dir_all(place.path("cache")).unwrap();
    let mut without = words[..5].to_vec();
    without.extend([&"--no-cache" as &dyn AsRef<OsStr>, &"--", &"server"]);
    assert_eq!(json_of(&place.run(&without))["profile"], first["profile"]);
    assert!(!place.path("cache").exists());
    // Somebody else could put summaries there that hide calls.
    use std::os::unix::fs::PermissionsExt as _;
    let open = place.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let mut shared = words[..5].to_vec();
    shared.extend([&"--cache" as &dyn AsRef<OsStr>, &open, &"--", &"server"]);
    let output = place.run(&shared);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("is not used to keep summaries")
    );
    assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
}

#[test]
fn a_recording_fills_holes_and_says_so() {
    let place = Place::new();
    let image = image(&place, &["/usr/bin/server"], &[]);
    let recording = |name: &str, startup: Value, lost: u64| {
        let recording = json!({
            "version": 1, "name": name, "runs": 1, "lost": lost,
            "phases": { "runtime": { "mount": {"count": 1} }, "startup": startup, "serving": {} },
        });
        place.write(name, recording.to_string())
    };
    let found = recording("found.json", json!({ "umask": {"count": 3} }), 0);
    let hole = recording(
        "hole.json",
        json!({ "sync": {"count": 1}, "x86:open": {"count": 1} }),
        0,
    );
    let words: &[&dyn AsRef<OsStr>] = &[
        &"generate",
        &"--format",
        &"json",
        &"--image",
        &image,
        &"--recording",
        &found,
    ];
    let output = place.run(words);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(json_of(&output)["holes"].as_array().unwrap().is_empty());
    let mut both = words.to_vec();
    both.push(&hole);
    let output = place.run(&both);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let made = json_of(&output);
    assert_eq!(made["confidence"], "low");
    assert_eq!(made["holes"][0]["calls"], json!(["sync"]));
    assert_eq!(made["holes"][0]["foreign"], json!(["x86:open"]));
    assert_eq!(made["calls"]["sync"], "observed");
    assert!(allows(&made["profile"], "sync") && !allows(&made["profile"], "mount"));
    let lost = recording("lost.json", json!({}), 7);
    let output = place.run(&[&"generate", &"--image", &image, &"--recording", &lost]);
    assert!(error_of(&output).contains("lost 7 events"));
}

#[test]
fn what_cannot_be_done_is_said() {
    let place = Place::new();
    let root = place.path("root");
    fs::create_dir(&root).unwrap();
    let image = image(&place, &["nothing"], &[]);
    let empty = place.write(
        "empty.tar",
        Parts::oci(&[layer().end()], &config(&[], &[])).tar(),
    );
    let hostile = place.write("hostile.tar", image_of(Tar::new().file("../x", b"")));
    let mut arm = small_object();
    arm[18] = 183;
    let arm = place.write("arm.tar", image_of(Tar::new().file("server", &arm)));
    let not = place.write("not.json", "{}");
    let none = place.path("none");
    let table: &[(&[&dyn AsRef<OsStr>], &str)] = &[
        (
            &[&"--rootfs", &none, &"--", &"x"],
            "cannot open the root file system",
        ),
        (
            &[&"--rootfs", &root, &"--", &"x"],
            "\"x\" is no program of the root file system; looked for in /usr/local/sbin:",
        ),
        (
            &[&"--rootfs", &root],
            "there is no command to analyse; name one",
        ),
        (
            &[&"--image", &image],
            "\"nothing\" is no program of the root file system; looked for in /opt/bin:/usr/bin",
        ),
        (&[&"--image", &empty], "there is no command to analyse"),
        (
            &[&"--image", &hostile],
            "has the entry ../x: its name leads upwards",
        ),
        (&[&"--image", &arm], "cannot analyse /server"),
        (&[&"--image", &not], "cannot read the image's archive"),
        (&[&"--image", &none], "cannot read the image"),
        (
            &[&"--image", &image, &"--max-entries", &"2"],
            "--max-entries",
        ),
        (&[&"--image", &image, &"--recording", &not], "cannot use"),
        (
            &[&"--image", &image, &"--tag", &"x"],
            "there is no image tagged \"x\"",
        ),
        (
            &[&"--rootfs", &root, &"--image", &image],
            "cannot be used with",
        ),
        (&[], "required"),
    ];
    for (words, expected) in table {
        let mut all: Vec<&dyn AsRef<OsStr>> = vec![&"generate"];
        all.extend_from_slice(words);
        let error = error_of(&place.run(&all));
        assert!(error.contains(expected), "{expected}: {error}");
    }
    // The entry is not there any more than what it would have overwritten.
    assert!(!place.path("x").exists() && !place.path("tmp/x").exists());
}

#[test]
fn a_file_is_written_as_a_whole_or_not_at_all() {
    let place = Place::new();
    let image = image(&place, &["server"], &[]);
    let target = place.write("p.json", "before");
    let directory = place.path("gone/p.json");
    let output = place.run(&[&"generate", &"--image", &image, &"--output", &directory]);
    assert!(error_of(&output).contains("cannot write"));
    let output = place.run(&[&"generate", &"--image", &image, &"--output", &target]);
    assert_eq!(output.status.code(), Some(0));
    assert!(fs::read_to_string(&target).unwrap().starts_with('{'));
    let null = Path::new("/dev/null");
    let output = place.run(&[&"generate", &"--image", &image, &"--output", &null]);
    assert_eq!(output.status.code(), Some(0));
    let kind = fs::symlink_metadata(null).unwrap().file_type();
    assert!(!kind.is_file(), "/dev/null is still a device");
}

/// The figure that the summary shows beside its own, from Docker's profile where the test cache has it.
#[test]
fn dockers_default_is_counted_alike() {
    let cache = std::env::var_os("COFFERDAM_TEST_CACHE");
    let cache = cache.map_or_else(
        || PathBuf::from("/var/cache/cofferdam-tests"),
        PathBuf::from,
    );
    let docker = cache.join("profiles/docker.json");
    let is_required = std::env::var_os("COFFERDAM_REQUIRE_PROFILES").is_some();
    assert!(
        docker.exists() || !is_required,
        "run scripts/fetch-profiles"
    );
    if !docker.exists() {
        return;
    }
    let place = Place::new();
    let explained = json_of(&place.run(&[&"--format", &"json", &"explain", &docker]));
    let native = explained["architectures"].as_array().unwrap().iter();
    let native = native.filter(|one| one["arch"] == "x86_64");
    let count =
        |one: &Value| one["allowed"].as_u64().unwrap() + one["conditional"].as_u64().unwrap();
    let counts: Vec<u64> = native.map(count).collect();
    let image = image(&place, &["server"], &[]);
    let made = json_of(&place.run(&[&"generate", &"--format", &"json", &"--image", &image]));
    assert_eq!(json!(counts), json!([made["compared"]["docker_default"]]));
}
