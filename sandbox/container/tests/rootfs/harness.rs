//! Runs cases in namespaces of their own, and what the cases share.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use cofferdam_container::rootfs::{Rootfs, RootfsError, RootfsOptions};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

/// A name and what to run; a panic is a failure.
pub(crate) type Case = (&'static str, fn(&Bundle));

const STAGE: &str = "COFFERDAM_TEST_STAGE";

pub(crate) fn main(cases: &[Case]) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match (env::var(STAGE).as_deref(), arguments.as_slice()) {
        (Ok("namespaces"), [name, directory]) => in_namespaces(name, directory),
        (Ok("user"), [name, directory]) => in_user_namespace(name, directory),
        (Ok("swap"), [first, second]) => crate::attacks::swap(first, second),
        (Ok("case"), [name, directory]) => run_case(cases, name, Path::new(directory)),
        _ => run_all(cases, &arguments),
    }
}

/// The program as the test runner starts it: every case, or those with the text given.
fn run_all(cases: &[Case], arguments: &[String]) -> ExitCode {
    if arguments.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: the rootfs tests need root");
        let required = env::var_os("COFFERDAM_REQUIRE_ROOT").is_some_and(|v| v == "1");
        return ExitCode::from(u8::from(required));
    }
    let wanted = arguments.iter().find(|a| !a.starts_with('-'));
    let (mut failed, mut passed) = (Vec::new(), 0);
    for (name, _) in cases {
        if wanted.is_some_and(|w| !name.contains(w.as_str())) {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let status = if name.starts_with(USER) {
            with_mapping(name, directory.path())
        } else {
            Command::new(env::current_exe().unwrap())
                .args([Path::new(name), directory.path()])
                .env(STAGE, "namespaces")
                .status()
                .unwrap()
        };
        println!("{name}: {}", if status.success() { "ok" } else { "FAILED" });
        if status.success() {
            passed += 1;
        } else {
            failed.push(*name);
        }
    }
    // As the standard harness says it.
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "test result: {result}. {passed} passed; {} failed {failed:?}",
        failed.len()
    );
    ExitCode::from(u8::from(!failed.is_empty()))
}

/// Cases whose name begins like this run with a user namespace whose root is [`MAPPED`] outside.
const USER: &str = "userns_";

/// The host's id of the user namespace's root.
pub(crate) const MAPPED: u32 = 200_000;

/// How many ids are mapped.
const IDS: u32 = 65_536;

/// Makes the user namespace, waits for its mapping, becomes its root, and goes on as all cases do.
fn in_user_namespace(name: &str, directory: &str) -> ExitCode {
    unshare(CloneFlags::CLONE_NEWUSER).unwrap();
    println!("unshared");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setresgid(0.into(), 0.into(), 0.into()).unwrap();
    nix::unistd::setresuid(0.into(), 0.into(), 0.into()).unwrap();
    in_namespaces(name, directory)
}

/// Runs [`in_user_namespace`] and writes its mapping from outside.
fn with_mapping(name: &str, directory: &Path) -> std::process::ExitStatus {
    use std::io::{BufRead, BufReader, Write};
    // As an engine that remaps users leaves it: the root belongs to the container's root.
    fs::set_permissions(
        directory,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    std::os::unix::fs::chown(directory, Some(MAPPED), Some(MAPPED)).unwrap();
    // Given before there is a mapping, so that the case can map mounts as the runtime would.
    let mut child = Command::new(env::current_exe().unwrap())
        .args([Path::new(name), directory])
        .env(STAGE, "user")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "unshared\n");
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{}/{file}", child.id());
        fs::write(path, format!("0 {MAPPED} {IDS}\n")).unwrap();
    }
    child.stdin.take().unwrap().write_all(b"mapped\n").unwrap();
    std::io::copy(&mut output, &mut std::io::stdout()).unwrap();
    child.wait().unwrap()
}

/// Makes the namespaces; the next process is pid 1 in them.
fn in_namespaces(name: &str, directory: &str) -> ExitCode {
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET;
    unshare(flags).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let status = Command::new(env::current_exe().unwrap())
        .args([name, directory])
        .env(STAGE, "case")
        .status()
        .unwrap();
    ExitCode::from(u8::from(!status.success()))
}

fn run_case(cases: &[Case], name: &str, directory: &Path) -> ExitCode {
    let (_, run) = cases
        .iter()
        .find(|(n, _)| *n == name)
        .expect("a known case");
    run(&Bundle::new(directory));
    ExitCode::SUCCESS
}

/// A bundle with an empty image and a spec to change.
pub(crate) struct Bundle {
    pub(crate) directory: PathBuf,
    pub(crate) rootfs: PathBuf,
}

impl Bundle {
    fn new(directory: &Path) -> Self {
        let rootfs = directory.join("rootfs");
        for name in ["etc", "tmp", "usr"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        Self {
            directory: directory.to_owned(),
            rootfs,
        }
    }

    /// A directory of the host beside the rootfs.
    pub(crate) fn host_dir(&self, name: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn options(&self) -> RootfsOptions {
        RootfsOptions {
            bundle: self.directory.clone(),
            rootfs: self.rootfs.clone(),
            ..RootfsOptions::default()
        }
    }

    /// All the steps; the caller is in the container's root afterwards.
    pub(crate) fn enter(&self, spec: &Spec) {
        if let Err(error) = self.try_enter(spec) {
            panic!("{}", chain(&error));
        }
    }

    pub(crate) fn try_enter(&self, spec: &Spec) -> Result<(), RootfsError> {
        self.try_enter_with(spec, self.options())
    }

    pub(crate) fn enter_with(&self, spec: &Spec, options: RootfsOptions) {
        if let Err(error) = self.try_enter_with(spec, options) {
            panic!("{}", chain(&error));
        }
    }

    pub(crate) fn try_enter_with(
        &self,
        spec: &Spec,
        options: RootfsOptions,
    ) -> Result<(), RootfsError> {
        let mut rootfs = Rootfs::prepare(spec, &options)?;
        rootfs.pivot()?;
        rootfs.sysctl()?;
        rootfs.finish()
    }

    /// Expects a refusal whose text has `words`.
    pub(crate) fn refused(&self, spec: &Spec, words: &str) {
        let text = match self.try_enter(spec) {
            Ok(()) => panic!("not refused"),
            Err(error) => chain(&error),
        };
        assert!(text.contains(words), "{text:?} has no {words:?}");
    }
}

/// An error with all its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// A spec with these mounts; `linux` is merged over the default.
pub(crate) fn spec(mounts: Value, linux: Value) -> Spec {
    let mut value = json!({
        "ociVersion": "1.1.0",
        "root": { "path": "rootfs" },
        "mounts": mounts,
        "linux": {
            "namespaces": [
                { "type": "pid" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "network" }
            ]
        }
    });
    if let Value::Object(linux) = linux {
        for (key, field) in linux {
            value["linux"][key] = field;
        }
    }
    serde_json::from_value(value).unwrap()
}

/// The mounts that every engine's spec begins with.
pub(crate) fn base_mounts() -> Vec<Value> {
    vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
    ]
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug)]
pub(crate) struct MountLine {
    pub(crate) root: String,
    pub(crate) options: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) fstype: String,
}

/// The topmost mount at `path`, as the container sees it.
pub(crate) fn mount_at(path: &str) -> MountLine {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = text
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(path))
        .unwrap_or_else(|| panic!("no mount at {path} in:\n{text}"));
    let (left, right) = line.split_once(" - ").unwrap();
    let fields: Vec<&str> = left.split(' ').collect();
    MountLine {
        root: fields[3].to_owned(),
        options: fields[5].split(',').map(str::to_owned).collect(),
        tags: fields[6..].iter().map(|&t| t.to_owned()).collect(),
        fstype: right.split(' ').next().unwrap().to_owned(),
    }
}

impl MountLine {
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }
}

/// The errno of a failure.
#[track_caller]
pub(crate) fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}
