//! Against the kernel, as root, in cgroups of the test's own below the current one.
#![expect(unsafe_code, reason = "a child joins by itself between fork and exec")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;

/// A cgroup that is gone when the test ends, however it ends.
struct Scratch {
    cgroup: Cgroup,
    children: Vec<Child>,
}

impl Scratch {
    /// `None`, with a line on the terminal, where this cannot run.
    fn new(linux: serde_json::Value) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(
                std::env::var_os("COFFERDAM_REQUIRE_ROOT").is_none_or(|v| v != "1"),
                "COFFERDAM_REQUIRE_ROOT is set, but this test needs root"
            );
            println!("SKIPPED: needs root to make cgroups");
            return None;
        }
        Some(Self {
            cgroup: make(&unique(), linux).unwrap(),
            children: vec![],
        })
    }

    /// Starts a shell that joins by itself, as init does.
    fn shell(&mut self, script: &str) -> &mut Child {
        let joiner =
            Cgroup::open_to_join(self.cgroup.location(), nix::unistd::Pid::this(), None).unwrap();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // SAFETY: the closure writes to files; what it allocates is safe after fork with the C
        // library's allocator, which resets its locks in the child.
        unsafe {
            command.pre_exec(move || {
                // std's spawn cannot clone into a v2 cgroup.
                match joiner.location().mode {
                    Mode::V1 => joiner.join_self(),
                    Mode::V2 => joiner.add(nix::unistd::Pid::this()),
                }
                .map_err(std::io::Error::other)
            });
        }
        let child = command.spawn().unwrap();
        self.children.push(child);
        self.children.last_mut().unwrap()
    }

    fn read(&self, controller: &str, name: &str) -> String {
        let dir = self.cgroup.location().controller(controller).unwrap();
        fs::read_to_string(dir.join(name))
            .unwrap()
            .trim()
            .to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.cgroup.thaw();
        let _ = self.cgroup.kill_all();
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.cgroup.remove().unwrap();
    }
}

fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("cofferdam-test-{}-{next}", std::process::id())
}

fn spec(linux: serde_json::Value) -> Spec {
    let mut spec = json!({"ociVersion": "1.0.2", "root": {"path": "rootfs"}});
    spec["linux"] = linux;
    serde_json::from_value(spec).unwrap()
}

fn make(id: &str, linux: serde_json::Value) -> Result<Cgroup, Error> {
    let spec = spec(linux);
    Cgroup::create(Cgroup::plan(Driver::Fs, &spec, id)?, &spec)
}

fn resources(value: serde_json::Value) -> LinuxResources {
    serde_json::from_value(value).unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_process_is_in_every_hierarchy_and_all_are_removed() {
    let Some(mut scratch) = Scratch::new(json!({})) else {
        return;
    };
    let pid = scratch.shell("sleep 60").id();
    let listed = host::parse_own(&fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap());
    for dir in scratch.cgroup.location().dirs.clone() {
        // The test's child was not born with CLONE_INTO_CGROUP.
        if dir.is_unified() && scratch.cgroup.location().mode == Mode::V1 {
            continue;
        }
        let (_, at) = listed.iter().find(|l| l.0 == dir.controllers).unwrap();
        let name = dir.path.file_name().unwrap();
        assert_eq!(at.file_name(), Some(name), "{:?}", dir.controllers);
    }
    let dirs = scratch.cgroup.location().dirs.clone();
    drop(scratch);
    for dir in dirs {
        assert!(!dir.path.exists(), "{} was left", dir.path.display());
    }
}

#[test]
fn limits_reach_the_kernel() {
    let Some(scratch) = Scratch::new(json!({"resources": {
        "memory": {"limit": 67_108_864, "reservation": 33_554_432},
        "cpu": {"shares": 512, "quota": 50_000, "period": 200_000, "cpus": "0"},
        "pids": {"limit": 32},
    }})) else {
        return;
    };
    let check = |controller, v1: &str, one: &str, v2: &str, two: &str| {
        let (name, value) = match scratch.cgroup.location().mode {
            Mode::V1 => (v1, one),
            Mode::V2 => (v2, two),
        };
        assert_eq!(scratch.read(controller, name), value, "{name}");
    };
    check(
        "memory",
        "memory.limit_in_bytes",
        "67108864",
        "memory.max",
        "67108864",
    );
    check(
        "memory",
        "memory.soft_limit_in_bytes",
        "33554432",
        "memory.low",
        "33554432",
    );
    check("cpu", "cpu.shares", "512", "cpu.weight", "59");
    check(
        "cpu",
        "cpu.cfs_quota_us",
        "50000",
        "cpu.max",
        "50000 200000",
    );
    check("cpuset", "cpuset.cpus", "0", "cpuset.cpus", "0");
    check("pids", "pids.max", "32", "pids.max", "32");

    scratch
        .cgroup
        .update(&resources(json!({
            "memory": {"limit": 16_777_216, "swap": 16_777_216},
            "cpu": {"quota": 400_000, "period": 1_000_000},
            "pids": {"limit": -1},
        })))
        .unwrap();
    check(
        "memory",
        "memory.limit_in_bytes",
        "16777216",
        "memory.max",
        "16777216",
    );
    check(
        "cpu",
        "cpu.cfs_quota_us",
        "400000",
        "cpu.max",
        "400000 1000000",
    );
    check("pids", "pids.max", "max", "pids.max", "max");
    // And up again, which wants the other order of writes.
    scratch
        .cgroup
        .update(&resources(
            json!({"memory": {"limit": 50_331_648, "swap": 50_331_648}}),
        ))
        .unwrap();
    check(
        "memory",
        "memory.limit_in_bytes",
        "50331648",
        "memory.max",
        "50331648",
    );
}

#[test]
fn a_limit_without_its_controller_is_an_error_that_names_it() {
    let Some(scratch) = Scratch::new(json!({})) else {
        return;
    };
    // In v2 there is one directory for all, and no such controller.
    let location = scratch.cgroup.location();
    if location.mode == Mode::V1 && location.controller("net_cls").is_some() {
        println!("SKIPPED: this host has net_cls");
        return;
    }
    let asked = resources(json!({"network": {"classID": 7}}));
    let error = scratch.cgroup.apply(&asked).unwrap_err().to_string();
    assert!(error.contains("linux.resources.network.classID"), "{error}");
    assert!(error.contains("net_cls"), "{error}");
}

#[test]
fn a_fork_bomb_stops_at_the_pids_limit() {
    let Some(mut scratch) = Scratch::new(json!({"resources": {"pids": {"limit": 12}}})) else {
        return;
    };
    scratch.shell("bomb() { bomb | bomb & }; while :; do bomb; done");
    until("the limit is reached", || {
        let events = scratch.read("pids", "pids.events");
        file::parse_flat_keyed(&events).any(|(key, n)| key == "max" && n > 0)
    });
    assert!(scratch.cgroup.pids(true).unwrap().len() <= 12);
    scratch.cgroup.kill_all().unwrap();
    until("all are dead", || {
        scratch.cgroup.pids(true).unwrap().is_empty()
    });
}

#[test]
fn frozen_processes_stand_still() {
    let Some(mut scratch) = Scratch::new(json!({})) else {
        return;
    };
    let pid = scratch.shell("while :; do :; done").id();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(11).unwrap().parse::<u64>().unwrap()
    };
    until("it runs", || ticks() > 2);
    assert!(!scratch.cgroup.frozen().unwrap());
    scratch.cgroup.freeze().unwrap();
    assert!(scratch.cgroup.frozen().unwrap());
    let stopped = ticks();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ticks(), stopped);
    scratch.cgroup.thaw().unwrap();
    until("it runs again", || ticks() > stopped);
    scratch.cgroup.freeze().unwrap();
    scratch.cgroup.kill_all().unwrap();
    // systemd can be quicker than the thaw that follows a kill.
    scratch.cgroup.remove().unwrap();
    assert!(scratch.cgroup.thaw().is_err());
    freeze::thaw_killed(scratch.cgroup.location()).unwrap();
}

#[test]
fn only_listed_devices_can_be_opened() {
    let Some(mut scratch) = Scratch::new(json!({"resources": {"devices": [
        {"allow": false, "access": "rwm"},
    ]}})) else {
        return;
    };
    let script = "echo go > /dev/null && echo null; \
                  head -c 1 /dev/urandom > /dev/null && echo random; \
                  { : < /dev/kmsg; } 2> /dev/null && echo kmsg; \
                  d=$(mktemp -u); mknod $d b 7 200 2> /dev/null && echo mknod; rm -f $d; :";
    let child = scratch.shell(script);
    let mut output = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut output).unwrap();
    assert_eq!(output, "null\nrandom\n");
}

#[test]
fn nested_cgroups_with_processes_go_too() {
    let Some(mut scratch) = Scratch::new(json!({})) else {
        return;
    };
    let pid = scratch.shell("sleep 60").id();
    for dir in &scratch.cgroup.location().dirs {
        let nested = dir.path.join("a/b");
        fs::create_dir_all(&nested).unwrap();
        if dir.controllers.iter().any(|c| c == "freezer")
            || scratch.cgroup.location().mode == Mode::V2
        {
            fs::write(nested.join("cgroup.procs"), pid.to_string()).unwrap();
        }
    }
    // The rest happens when the scratch cgroup is dropped.
    scratch.cgroup.remove().unwrap();
    until("the process is dead", || {
        scratch.children[0].try_wait().unwrap().is_some()
    });
}

#[test]
fn what_was_there_before_stays() {
    let Some(scratch) = Scratch::new(json!({})) else {
        return;
    };
    let name = scratch.cgroup.location().dirs[0].path.file_name().unwrap();
    let name = name.to_str().unwrap();
    // Below a cgroup that exists: only what is new goes.
    let nested = make("x", json!({"cgroupsPath": format!("{name}/new/leaf")})).unwrap();
    nested.remove().unwrap();
    let dir = &scratch.cgroup.location().dirs[0].path;
    assert!(dir.exists() && !dir.join("new").exists());
    // The same cgroup again: used while empty, not removed. A v1 device list can be reset only
    // once the kernel has finished with the children just removed.
    let mut again = None;
    until("it can be used again", || {
        again = make("x", json!({"cgroupsPath": name})).ok();
        again.is_some()
    });
    again.unwrap().remove().unwrap();
    assert!(dir.exists());
}

#[test]
fn a_cgroup_with_processes_or_frozen_is_refused() {
    let Some(mut scratch) = Scratch::new(json!({})) else {
        return;
    };
    let name = scratch.cgroup.location().dirs[0].path.file_name().unwrap();
    let path = json!({"cgroupsPath": name.to_str().unwrap()});
    scratch.cgroup.freeze().unwrap();
    assert!(matches!(make("x", path.clone()), Err(Error::Frozen { .. })));
    scratch.cgroup.thaw().unwrap();
    scratch.shell("sleep 60");
    assert!(matches!(make("x", path), Err(Error::NotEmpty { .. })));
}

#[test]
fn a_failed_creation_leaves_nothing() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let id = unique();
    let linux = json!({"resources": {"cpu": {"cpus": "nonsense"}}});
    let location = Cgroup::plan(Driver::Fs, &spec(json!({})), &id).unwrap();
    assert!(make(&id, linux).is_err());
    for dir in location.dirs {
        assert!(!dir.path.exists(), "{} was left", dir.path.display());
    }
}

/// Fills memory until the kernel kills it.
const HOG: &str = "exec dd if=/dev/zero of=/dev/null bs=64M count=1";

#[test]
fn running_out_of_memory_is_reported_and_counted() {
    let Some(mut scratch) = Scratch::new(json!({"resources": {
        "memory": {"limit": 8_388_608, "swap": 8_388_608},
    }})) else {
        return;
    };
    let watch = scratch.cgroup.oom_watch().unwrap();
    assert_eq!(watch.count().unwrap(), Some(0));
    let status = scratch.shell(HOG).wait().unwrap();
    assert!(!status.success());
    let mut poll = [nix::poll::PollFd::new(
        std::os::fd::AsFd::as_fd(&watch),
        nix::poll::PollFlags::POLLIN,
    )];
    assert_eq!(nix::poll::poll(&mut poll, 5000u16).unwrap(), 1);
    watch.drain().unwrap();
    until("it is counted", || watch.count().unwrap() == Some(1));
    let stats = scratch.cgroup.stats().unwrap();
    assert_eq!(stats.memory.usage.limit, 8_388_608);
    assert_eq!(stats.memory.events["oom_kill"], 1);
    drop(scratch);
    assert_eq!(watch.count().unwrap(), None);
}

#[test]
fn figures_follow_what_happens() {
    let Some(mut scratch) = Scratch::new(json!({"resources": {"pids": {"limit": 50}}})) else {
        return;
    };
    scratch.shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 60");
    until("processor time is counted", || {
        scratch.cgroup.stats().unwrap().cpu.usage.total > 10_000_000
    });
    let stats = scratch.cgroup.stats().unwrap();
    assert_eq!(stats.pids.limit, 50);
    assert!((1..=2).contains(&stats.pids.current));
    assert!(stats.memory.usage.usage > 0 && !stats.memory.raw.is_empty());
    assert!(!stats.cpuset.cpus.is_empty());
}
