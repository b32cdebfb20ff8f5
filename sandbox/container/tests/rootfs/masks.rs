//! Masked and read-only paths.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};

use serde_json::json;

use crate::harness::{Bundle, Case, base_mounts, errno, mount_at, spec};

pub(crate) const CASES: &[Case] = &[
    ("masked_paths", masked_paths),
    ("mask_through_a_link", mask_through_a_link),
    ("mask_by_pattern", mask_by_pattern),
    ("read_only_paths", read_only_paths),
    (
        "read_only_path_with_mounts_below",
        read_only_path_with_mounts_below,
    ),
];

fn masked_paths(bundle: &Bundle) {
    fs::create_dir_all(bundle.rootfs.join("secrets")).unwrap();
    fs::write(bundle.rootfs.join("secrets/key"), "secret").unwrap();
    fs::write(bundle.rootfs.join("etc/shadow"), "secret").unwrap();
    let paths = [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/interrupts",
        "/proc/acpi",
        "/proc/nothing/here",
        "/etc/shadow/not-a-directory",
        "/sys/firmware",
        "/secrets",
        "/etc/shadow",
    ];
    let mut mounts = base_mounts();
    mounts.push(
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
        "options": ["nosuid", "noexec", "nodev", "ro"] }),
    );
    bundle.enter(&spec(json!(mounts), json!({ "maskedPaths": paths })));
    for path in ["/proc/interrupts", "/etc/shadow", "/proc/timer_list"] {
        let metadata = fs::metadata(path).unwrap();
        assert!(metadata.file_type().is_char_device(), "{path}");
        assert_eq!(fs::read(path).unwrap(), b"", "{path}");
        let line = mount_at(path);
        assert!(
            line.has("ro") && line.has("nosuid") && line.has("noexec"),
            "{line:?}"
        );
    }
    for path in ["/secrets", "/sys/firmware"] {
        assert_eq!(fs::read_dir(path).unwrap().count(), 0, "{path}");
        assert_eq!(
            errno(fs::write(format!("{path}/x"), "")),
            libc::EROFS,
            "{path}"
        );
    }
    // The host's null device is behind the mask: its mode must be out of reach.
    let chmod = fs::set_permissions(
        "/etc/shadow",
        fs::metadata("/etc/shadow").unwrap().permissions(),
    );
    assert_eq!(errno(chmod), libc::EROFS);
}

/// What the path leads to inside the container is masked, wherever that is.
fn mask_through_a_link(bundle: &Bundle) {
    fs::create_dir_all(bundle.rootfs.join("real")).unwrap();
    fs::write(bundle.rootfs.join("real/secret"), "secret").unwrap();
    symlink("/real/secret", bundle.rootfs.join("etc/link")).unwrap();
    symlink("/nowhere", bundle.rootfs.join("etc/dangling")).unwrap();
    let masked = json!({ "maskedPaths": ["/etc/link", "/etc/dangling"] });
    bundle.enter(&spec(json!(base_mounts()), masked));
    assert_eq!(fs::read("/etc/link").unwrap(), b"");
    assert_eq!(fs::read("/real/secret").unwrap(), b"");
}

fn mask_by_pattern(bundle: &Bundle) {
    for cpu in ["cpu0", "cpu1", "cpufreq", "gpu0"] {
        fs::create_dir_all(bundle.rootfs.join("devices").join(cpu).join("throttle")).unwrap();
        fs::write(
            bundle
                .rootfs
                .join("devices")
                .join(cpu)
                .join("throttle/count"),
            "1",
        )
        .unwrap();
    }
    let masked = json!({ "maskedPaths": ["/devices/cpu*/throttle", "/none/*/x"] });
    bundle.enter(&spec(json!(base_mounts()), masked));
    for (cpu, left) in [("cpu0", 0), ("cpu1", 0), ("cpufreq", 0), ("gpu0", 1)] {
        let path = format!("/devices/{cpu}/throttle");
        assert_eq!(fs::read_dir(&path).unwrap().count(), left, "{path}");
    }
}

fn read_only_paths(bundle: &Bundle) {
    let mut mounts = base_mounts();
    mounts[0]["options"] = json!(["nosuid", "noexec", "nodev"]);
    let paths = [
        "/proc/sys",
        "/proc/irq",
        "/proc/interrupts",
        "/proc/absent",
        "/etc",
    ];
    bundle.enter(&spec(json!(mounts), json!({ "readonlyPaths": paths })));
    assert_eq!(
        errno(fs::write("/proc/sys/kernel/hostname", "x")),
        libc::EROFS
    );
    assert_eq!(errno(fs::write("/proc/interrupts", "")), libc::EROFS);
    assert_eq!(errno(fs::write("/etc/x", "")), libc::EROFS);
    for option in ["ro", "nosuid", "noexec", "nodev"] {
        assert!(mount_at("/proc/sys").has(option), "{option}");
    }
    fs::write("/tmp/x", "").unwrap();
}

fn read_only_path_with_mounts_below(bundle: &Bundle) {
    let mounts = json!([
        { "destination": "/data", "type": "tmpfs", "source": "tmpfs" },
        { "destination": "/data/sub", "type": "tmpfs", "source": "tmpfs" },
    ]);
    bundle.enter(&spec(mounts, json!({ "readonlyPaths": ["/data"] })));
    assert_eq!(errno(fs::write("/data/x", "")), libc::EROFS);
    assert_eq!(errno(fs::write("/data/sub/x", "")), libc::EROFS);
}
