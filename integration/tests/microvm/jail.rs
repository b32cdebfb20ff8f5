//! The monitor as a process, in its jail.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cofferdam_integration::error::{At, Result};
use cofferdam_vmm::VmConfig;
use cofferdam_vmm::config::{JailConfig, ShareConfig};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use crate::machine::{LIMIT, prepare};

/// Ids that no test machine gives to anybody.
const ID: u32 = 3_000_000_000;

/// A monitor and its machine.
pub(crate) struct Process {
    outer: Child,
    inner: i32,
    dir: TempDir,
}

impl Process {
    /// A machine whose shared directory is its jail. None where no machine can run.
    pub(crate) fn boot(change: impl FnOnce(&mut VmConfig)) -> Result<Option<Self>> {
        let Some((mut config, dir)) = prepare()? else {
            return Ok(None);
        };
        let root = dir.path().join("share");
        fs::create_dir(&root).at("make", &root)?;
        let none = None::<&str>;
        mount(Some("share"), &root, Some("tmpfs"), MsFlags::MS_NODEV, none).expect("mount");
        mount(none, &root, none, MsFlags::MS_SHARED, none).expect("share the mount");
        chown(&root, Some(ID), Some(ID)).at("give away", &root)?;
        fs::copy("/bin/busybox", root.join("busybox")).at("copy to", &root)?;
        config.shares.push(ShareConfig {
            tag: "files".to_owned(),
            path: root.clone(),
            read_only: false,
            validity: 0,
        });
        config.jail = Some(JailConfig {
            uid: ID,
            gid: ID,
            count: 1 << 16,
            root,
        });
        change(&mut config);
        let description = dir.path().join("vm.json");
        let text = serde_json::to_vec(&config).expect("plain data");
        fs::write(&description, text).at("write", &description)?;
        // Whoever starts it may have left something open.
        let secret = dir.path().join("secret");
        let secret = fs::File::create(&secret).at("make", &secret)?;
        fcntl(&secret, FcntlArg::F_SETFD(FdFlag::empty())).expect("let it be inherited");
        let report = dir.path().join("report");
        let outer = Command::new(env!("CARGO_BIN_EXE_vmm-under-test"))
            .arg(&description)
            .arg(dir.path().join("console"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(&report).at("make", &report)?)
            .spawn()
            .expect("the monitor starts");
        let mut process = Self {
            outer,
            inner: 0,
            dir,
        };
        process.await_answer();
        let id = process.outer.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.expect("its children are listed");
        process.inner = children.trim().parse().expect("one child");
        Ok(Some(process))
    }

    fn await_answer(&mut self) {
        let started = Instant::now();
        while self.ask("file /proc/uptime").is_empty() {
            let ended = self.outer.try_wait().expect("its status");
            assert!(
                ended.is_none() && started.elapsed() < LIMIT,
                "{ended:?}: {}{}",
                self.read("report"),
                self.read("console")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The probe's answer; empty while there is none.
    pub(crate) fn ask(&self, line: &str) -> String {
        let mut answer = Vec::new();
        if let Ok(mut stream) = UnixStream::connect(self.path("vsock")) {
            stream.set_read_timeout(Some(LIMIT)).expect("set a limit");
            // A machine that is not there yet, or no more, breaks it.
            let _ = writeln!(stream, "CONNECT 1024\n{line}");
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut answer);
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (_, answer) = text.split_once('\n').unwrap_or_default();
        answer.to_owned()
    }

    fn sh(&self, script: &str) -> String {
        let script = script.replace("bb ", "/share/busybox ");
        self.ask(&format!("sh 0 cd /share; {script}"))
    }

    fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.outer.try_wait().expect("its status") {
                return status;
            }
            assert!(started.elapsed() < LIMIT, "it goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A field of the status of each of its threads, by their names.
    fn threads(&self, field: &str) -> Vec<(String, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.inner)).expect("its threads");
        let of = |path: &Path| {
            let text = fs::read_to_string(path.join("status")).expect("a status");
            let value = |field: &str| {
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"));
                line.expect("the field").replace('\t', " ")
            };
            (value("Name"), value(field))
        };
        let mut threads: Vec<_> = tasks
            .map(|task| of(&task.expect("a thread").path()))
            .collect();
        threads.sort();
        threads
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.outer.kill());
        drop(self.outer.wait());
        let _ = umount2(&self.path("share"), MntFlags::MNT_DETACH);
    }
}

fn await_end(pid: i32) {
    let started = Instant::now();
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(started.elapsed() < LIMIT, "{pid} goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_machine_in_its_jail_serves_and_is_confined() -> Result<()> {
    let Some(mut process) = Process::boot(|config| {
        config.vcpus = 2;
        let disk = config.kernel.with_file_name("config");
        config.disks.push(cofferdam_vmm::config::DiskConfig {
            path: disk,
            writable: false,
        });
    })?
    else {
        return Ok(());
    };
    let names = [
        "devices",
        "disk",
        "share",
        "vcpu0",
        "vcpu1",
        "vmm-under-test",
    ];
    let all = |value: &str| {
        names
            .map(|name| (name.to_owned(), value.to_owned()))
            .to_vec()
    };
    assert_eq!(process.threads("Seccomp"), all("2"));
    assert_eq!(process.threads("NoNewPrivs"), all("1"));
    let ids = [ID; 4].map(|id| id.to_string()).join(" ");
    assert_eq!(process.threads("Uid"), all(&ids));
    assert_eq!(process.threads("Gid"), all(&ids));
    for field in ["CapPrm", "CapEff"] {
        let mut wanted = all("0000000000000000");
        // Owners and modes of files, within the ids of the jail.
        wanted[2].1 = "00000000800000db".to_owned();
        assert_eq!(process.threads(field), wanted, "{field}");
    }
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        assert_ne!(of(&process.inner.to_string()), of("self"), "{kind}");
    }

    // Of what they were started with nothing is open, and outside nothing of the machine's.
    let open = |pid: &str| -> Vec<String> {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("its files");
        let links = files.map(|file| fs::read_link(file.expect("a file").path()));
        let names = links.map(|link| link.expect("a link").to_string_lossy().into_owned());
        names.collect()
    };
    let inner = open(&process.inner.to_string());
    assert!(
        inner.iter().any(|name| name.contains("kvm"))
            && !inner.iter().any(|name| name.ends_with("/secret")),
        "{inner:?}"
    );
    let outer = open(&process.outer.id().to_string());
    assert_eq!(outer.len(), 3, "{outer:?}");

    // It works all the same.
    assert_eq!(process.ask("mount files /share"), "done\n");
    assert_eq!(
        process.sh("echo one >a && bb chown 7:8 a && bb chmod 4711 a && bb cat a"),
        "one\n"
    );
    let made = fs::metadata(process.path("share/a")).at("look at", process.path("share/a"))?;
    assert_eq!(
        (made.uid(), made.gid(), made.mode()),
        (ID + 7, ID + 8, 0o104_711)
    );
    // What the host mounts while it runs is there.
    let late = process.path("share/late");
    fs::create_dir(&late).at("make", &late)?;
    let none = None::<&str>;
    mount(Some("late"), &late, Some("tmpfs"), MsFlags::MS_NODEV, none).expect("mount");
    fs::write(late.join("new"), "new\n").at("write", &late)?;
    assert_eq!(process.sh("bb cat late/new"), "new\n");
    assert!(
        process
            .ask("file /dev/vda")
            .starts_with("#\n# Automatically generated")
    );

    assert_eq!(process.ask("reset"), "");
    assert_eq!(process.wait().code(), Some(0), "{}", process.read("report"));
    assert!(!process.path("vsock").exists());
    await_end(process.inner);
    Ok(())
}

#[test]
fn who_kills_the_monitor_ends_the_machine() -> Result<()> {
    let Some(mut process) = Process::boot(|_| {})? else {
        return Ok(());
    };
    process.outer.kill().expect("kill");
    assert_eq!(process.wait().signal(), Some(9));
    await_end(process.inner);
    Ok(())
}

#[test]
fn a_panic_of_the_guests_kernel_is_told() -> Result<()> {
    let Some(mut process) = Process::boot(|_| {})? else {
        return Ok(());
    };
    assert_eq!(process.ask("panic"), "");
    assert_eq!(process.wait().code(), Some(3));
    let report = process.read("report");
    assert!(
        report.contains("console: ")
            && report.contains("Kernel panic - not syncing")
            && report.ends_with("cofferdam-vmm: the guest's kernel panicked\n"),
        "{report}"
    );
    Ok(())
}

/// A host that finds no place is turned away at once, and is taken in again when there is one.
#[test]
fn without_descriptors_hosts_are_turned_away() -> Result<()> {
    let Some(process) = Process::boot(|_| {})? else {
        return Ok(());
    };
    let limit = |most: &str| {
        let done = Command::new("prlimit")
            .args([
                &format!("--pid={}", process.inner),
                &format!("--nofile={most}"),
            ])
            .status();
        assert!(done.expect("prlimit runs").success());
    };
    // All numbers below the first that is free.
    let is_open = |number: &u32| {
        let path = format!("/proc/{}/fd/{number}", process.inner);
        fs::symlink_metadata(path).is_ok()
    };
    let free = (0..).find(|number| !is_open(number)).expect("a number");
    limit(&format!("{free}:100000"));
    for _ in 0..3 {
        let started = Instant::now();
        let mut stream = UnixStream::connect(process.path("vsock")).expect("connect");
        stream.set_read_timeout(Some(LIMIT)).expect("set a limit");
        assert!(matches!(stream.read(&mut [0]), Ok(0)), "it is taken in");
        assert!(started.elapsed() < LIMIT / 2);
    }
    // It waits for the next one, at rest.
    let worked = |pid: i32| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its times");
        let (_, rest) = text.rsplit_once(')').expect("a name");
        let fields = rest.split_whitespace().skip(11).take(2);
        fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    };
    let before = worked(process.inner);
    std::thread::sleep(Duration::from_secs(2));
    let ticks = worked(process.inner) - before;
    assert!(ticks < 100, "{ticks} hundredths of a second in two seconds");
    limit("100000:100000");
    let answer = process.ask("file /sys/devices/system/cpu/online");
    assert_eq!(answer, "0\n", "{}", process.read("report"));
    Ok(())
}
