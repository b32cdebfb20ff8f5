//! What the specs of containerd, Docker and Podman ask for.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use cofferdam_container::rootfs::CgroupDir;
use serde_json::{Value, json};

use crate::harness::{Bundle, Case, base_mounts, errno, mount_at, spec};

pub(crate) const CASES: &[Case] = &[
    ("containerd_default", containerd_default),
    ("podman_devices", podman_devices),
    ("read_only_root", read_only_root),
    ("cgroup_hierarchies", cgroup_hierarchies),
    ("cgroup_asked_for_with_rro", cgroup_asked_for_with_rro),
    ("cgroup_of_the_container", cgroup_of_the_container),
    ("sysctls", sysctls),
    ("sysctl_of_the_host", sysctl_of_the_host),
    ("sysctl_without_namespace", sysctl_without_namespace),
    ("no_pivot", no_pivot),
    ("unknown_file_system", unknown_file_system),
    ("unknown_option_is_named", unknown_option_is_named),
    ("tmpfs_keeps_the_images_mode", tmpfs_keeps_the_images_mode),
    ("tmpcopyup", tmpcopyup),
    ("overlay_of_many_layers", overlay_of_many_layers),
    ("rootfs_is_a_link", rootfs_is_a_link),
];

/// The mounts that containerd gives every container.
fn containerd_mounts() -> Vec<Value> {
    let mut mounts = base_mounts();
    mounts.extend([
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"] }),
        json!({ "destination": "/run", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
    ]);
    mounts
}

fn containerd_default(bundle: &Bundle) {
    bundle.enter(&spec(json!(containerd_mounts()), json!({})));
    assert_eq!(std::process::id(), 1);
    assert!(fs::metadata("/proc/1/status").is_ok());
    for (path, fstype, options) in [
        ("/proc", "proc", &["rw", "relatime"][..]),
        ("/dev", "tmpfs", &["rw", "nosuid"]),
        ("/dev/pts", "devpts", &["rw", "nosuid", "noexec"]),
        ("/dev/shm", "tmpfs", &["rw", "nosuid", "nodev", "noexec"]),
        (
            "/dev/mqueue",
            "mqueue",
            &["rw", "nosuid", "nodev", "noexec"],
        ),
        ("/sys", "sysfs", &["ro", "nosuid", "nodev", "noexec"]),
        ("/run", "tmpfs", &["rw", "nosuid"]),
    ] {
        let line = mount_at(path);
        assert_eq!(line.fstype, fstype, "{path}");
        for option in options {
            assert!(line.has(option), "{path}: {line:?}");
        }
    }
    // strictatime shows by the absence of the others.
    assert!(!mount_at("/dev").has("relatime"));
    for (name, device) in [
        ("null", (1, 3)),
        ("zero", (1, 5)),
        ("full", (1, 7)),
        ("random", (1, 8)),
        ("urandom", (1, 9)),
        ("tty", (5, 0)),
    ] {
        let node = fs::symlink_metadata(format!("/dev/{name}")).unwrap();
        assert!(node.file_type().is_char_device(), "{name}");
        assert_eq!(node.permissions().mode() & 0o7777, 0o666, "{name}");
        assert_eq!(
            (
                nix::sys::stat::major(node.rdev()),
                nix::sys::stat::minor(node.rdev())
            ),
            device,
            "{name}"
        );
    }
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        assert_eq!(
            fs::read_link(format!("/dev/{name}")).unwrap().to_str(),
            Some(target)
        );
    }
    fs::write("/dev/null", "x").unwrap();
    assert_eq!(
        fs::metadata("/dev/shm").unwrap().permissions().mode() & 0o7777,
        0o1777
    );
    // Nothing of the host is left.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(mounts.lines().count(), 8, "{mounts}");
    assert_eq!(std::env::current_dir().unwrap().to_str(), Some("/"));
}

fn podman_devices(bundle: &Bundle) {
    let devices = json!({ "devices": [
        { "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640,
          "uid": 3, "gid": 4 },
        { "path": "/opt/pipe", "type": "p", "fileMode": 0o600 },
        { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600 },
        { "path": "/dev/sub/zero", "type": "u", "major": 1, "minor": 5 },
    ] });
    bundle.enter(&spec(json!(base_mounts()), devices));
    let fuse = fs::symlink_metadata("/dev/fuse").unwrap();
    assert_eq!(
        (fuse.uid(), fuse.gid(), fuse.mode() & 0o7777),
        (3, 4, 0o640)
    );
    assert!(
        fs::symlink_metadata("/opt/pipe")
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert_eq!(fs::metadata("/dev/null").unwrap().mode() & 0o7777, 0o600);
    assert!(
        fs::metadata("/dev/sub/zero")
            .unwrap()
            .file_type()
            .is_char_device()
    );
}

fn read_only_root(bundle: &Bundle) {
    let mut spec = spec(json!(containerd_mounts()), json!({}));
    if let Some(root) = spec.root_mut() {
        root.set_readonly(Some(true));
    }
    bundle.enter(&spec);
    assert_eq!(errno(fs::write("/etc/x", "x")), libc::EROFS);
    fs::write("/run/x", "x").unwrap();
    fs::write("/dev/shm/x", "x").unwrap();
}

fn cgroup_hierarchies(bundle: &Bundle) {
    let mut mounts = containerd_mounts();
    mounts.push(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }),
    );
    let host = fs::read_to_string("/proc/self/cgroup").unwrap();
    bundle.enter(&spec(json!(mounts), json!({})));
    let mut v1 = 0;
    for line in host.lines() {
        let controllers = line.split(':').nth(1).unwrap();
        let name = controllers.trim_start_matches("name=");
        if name.is_empty() {
            continue;
        }
        v1 += 1;
        let path = format!("/sys/fs/cgroup/{name}");
        let mount = mount_at(&path);
        assert_eq!(mount.fstype, "cgroup", "{path}");
        assert!(
            mount.has("ro") && mount.has("nosuid") && mount.has("nodev"),
            "{path}"
        );
        assert!(fs::metadata(format!("{path}/tasks")).is_ok(), "{path}");
    }
    let top = mount_at("/sys/fs/cgroup");
    assert!(top.has("ro"), "{top:?}");
    assert_eq!(top.fstype, if v1 > 0 { "tmpfs" } else { "cgroup2" });
}

/// With the container's directories known, those are bound and nothing above them can be reached.
/// `rro` counted as read-only for the policy and as nothing for the cgroup mount: a container got
/// its own limits to write to.
fn cgroup_asked_for_with_rro(bundle: &Bundle) {
    let mut mounts = base_mounts();
    mounts.push(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "rro"] }),
    );
    bundle.enter(&spec(json!(mounts), json!({})));
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let cgroups = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|at| at.starts_with("/sys/fs/cgroup"));
    for path in cgroups {
        assert!(mount_at(path).has("ro"), "{path}");
    }
}

fn cgroup_of_the_container(bundle: &Bundle) {
    let mut mounts = containerd_mounts();
    mounts.push(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }),
    );
    let spec = spec(json!(mounts), json!({}));
    let dir = |controllers: &str, path: &str| CgroupDir {
        controllers: controllers.to_owned(),
        path: path.into(),
    };
    let mut options = bundle.options();
    options.cgroups = vec![dir("cpu,cpuacct", bundle.directory.to_str().unwrap())];
    let error = bundle.try_enter_with(&spec, options).unwrap_err();
    let text = crate::harness::chain(&error);
    assert!(text.contains("is not in a cgroup file system"), "{text}");
    if fs::metadata("/sys/fs/cgroup/memory/tasks").is_err() {
        return;
    }
    let mut options = bundle.options();
    options.cgroups = vec![
        dir("memory,nothing", "/sys/fs/cgroup/memory"),
        dir("", "/sys/fs/cgroup/unified"),
    ];
    bundle.enter_with(&spec, options);
    let line = mount_at("/sys/fs/cgroup/memory,nothing");
    assert!(line.has("ro") && line.has("noexec"), "{line:?}");
    let link = fs::read_link("/sys/fs/cgroup/memory").unwrap();
    assert_eq!(link.to_str(), Some("memory,nothing"));
    assert!(fs::metadata("/sys/fs/cgroup/memory/tasks").is_ok());
    assert!(fs::metadata("/sys/fs/cgroup/unified").is_err());
}

fn sysctls(bundle: &Bundle) {
    let linux = json!({ "sysctl": {
        "net.ipv4.ip_default_ttl": "77",
        "kernel.shmmni": "77",
        "kernel.domainname": "cofferdam.test",
    } });
    bundle.enter(&spec(json!(base_mounts()), linux));
    for (path, value) in [
        ("net/ipv4/ip_default_ttl", "77"),
        ("kernel/shmmni", "77"),
        ("kernel/domainname", "cofferdam.test"),
    ] {
        let read = fs::read_to_string(format!("/proc/sys/{path}")).unwrap();
        assert_eq!(read.trim(), value, "{path}");
    }
}

fn sysctl_of_the_host(bundle: &Bundle) {
    for key in [
        "kernel.core_pattern",
        "vm.swappiness",
        "net/../kernel/core_pattern",
        "kernel",
    ] {
        let linux = json!({ "sysctl": { key: "1" } });
        bundle.refused(&spec(json!(base_mounts()), linux), "is refused");
    }
}

fn sysctl_without_namespace(bundle: &Bundle) {
    let linux = json!({
        "sysctl": { "net.ipv4.ip_default_ttl": "77" },
        "namespaces": [{ "type": "mount" }, { "type": "pid" }]
    });
    bundle.refused(&spec(json!(base_mounts()), linux), "shares the namespace");
}

fn no_pivot(bundle: &Bundle) {
    use cofferdam_container::rootfs::{Rootfs, RootfsOptions};
    let spec = spec(json!(containerd_mounts()), json!({}));
    let options = RootfsOptions {
        no_pivot: true,
        ..bundle.options()
    };
    fs::write(bundle.rootfs.join("etc/here"), "").unwrap();
    let mut rootfs = Rootfs::prepare(&spec, &options).unwrap();
    rootfs.pivot().unwrap();
    rootfs.finish().unwrap();
    assert!(fs::metadata("/etc/here").is_ok());
    assert!(fs::metadata(&bundle.directory).is_err());
}

fn unknown_file_system(bundle: &Bundle) {
    let mounts = json!([{ "destination": "/x", "type": "nosuchfs", "source": "none" }]);
    bundle.refused(&spec(mounts, json!({})), "no file system \"nosuchfs\"");
}

fn unknown_option_is_named(bundle: &Bundle) {
    let mounts = json!([{ "destination": "/x", "type": "tmpfs", "options": ["colour=red"] }]);
    bundle.refused(&spec(mounts, json!({})), "Unknown parameter 'colour'");
    let mounts =
        json!([{ "destination": "/x", "type": "bind", "source": "/usr", "options": ["colour"] }]);
    bundle.refused(
        &spec(mounts, json!({})),
        "option \"colour\": unknown for a bind",
    );
}

fn tmpfs_keeps_the_images_mode(bundle: &Bundle) {
    let tmp = bundle.rootfs.join("tmp");
    fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1741)).unwrap();
    let mounts = json!([
        { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
        { "destination": "/new", "type": "tmpfs", "source": "tmpfs", "options": ["ro"] },
        { "destination": "/new/inner", "type": "tmpfs", "source": "tmpfs", "options": ["mode=0700"] },
    ]);
    bundle.enter(&spec(mounts, json!({})));
    let mode = |path: &str| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode("/tmp"), 0o1741);
    assert_eq!(mode("/new"), 0o1777);
    assert_eq!(mode("/new/inner"), 0o700);
    assert_eq!(errno(fs::write("/new/x", "")), libc::EROFS);
    fs::write("/new/inner/x", "").unwrap();
}

fn tmpcopyup(bundle: &Bundle) {
    let var = bundle.rootfs.join("var");
    fs::create_dir_all(var.join("lib/deep")).unwrap();
    fs::write(var.join("lib/file"), "text").unwrap();
    fs::set_permissions(var.join("lib/file"), fs::Permissions::from_mode(0o4640)).unwrap();
    std::os::unix::fs::chown(var.join("lib/file"), Some(7), Some(8)).unwrap();
    fs::set_permissions(var.join("lib/file"), fs::Permissions::from_mode(0o4640)).unwrap();
    fs::set_permissions(&var, fs::Permissions::from_mode(0o711)).unwrap();
    symlink("/etc/passwd", var.join("link")).unwrap();
    let mut mounts = base_mounts();
    mounts.push(
        json!({ "destination": "/var", "type": "tmpfs", "source": "tmpfs",
        "options": ["tmpcopyup", "nodev"] }),
    );
    bundle.enter(&spec(json!(mounts), json!({})));
    assert_eq!(mount_at("/var").fstype, "tmpfs");
    assert_eq!(fs::read_to_string("/var/lib/file").unwrap(), "text");
    let file = fs::metadata("/var/lib/file").unwrap();
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777),
        (7, 8, 0o4640)
    );
    assert_eq!(fs::metadata("/var").unwrap().mode() & 0o7777, 0o711);
    assert!(fs::metadata("/var/lib/deep").unwrap().is_dir());
    assert_eq!(
        fs::read_link("/var/link").unwrap().to_str(),
        Some("/etc/passwd")
    );
}

/// fsconfig takes at most 255 bytes in one string; lists of layers are longer.
fn overlay_of_many_layers(bundle: &Bundle) {
    let mut layers = Vec::new();
    for index in 0..12 {
        let layer = bundle.host_dir(&format!("layer-with-a-long-name-{index}"));
        fs::write(layer.join(format!("file{index}")), "").unwrap();
        layers.push(layer.to_str().unwrap().to_owned());
    }
    let lower = format!("lowerdir={}", layers.join(":"));
    let mounts = json!([
        { "destination": "/merged", "type": "overlay", "source": "overlay", "options": [lower] }
    ]);
    bundle.enter(&spec(mounts, json!({})));
    assert_eq!(fs::read_dir("/merged").unwrap().count(), 12);
}

fn rootfs_is_a_link(bundle: &Bundle) {
    let real = bundle.directory.join("real");
    fs::rename(&bundle.rootfs, &real).unwrap();
    symlink(&real, &bundle.rootfs).unwrap();
    bundle.refused(&spec(json!([]), json!({})), "is a symbolic link");
}
