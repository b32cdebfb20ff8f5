//! Containers with a user namespace: what its root may not do is done another way, or refused.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use cofferdam_container::rootfs::{Rootfs, RootfsOptions};
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use crate::harness::{Bundle, Case, base_mounts, errno, mount_at, spec};

pub(crate) const CASES: &[Case] = &[
    ("userns_default", userns_default),
    ("userns_hosts_network", userns_hosts_network),
    (
        "userns_bind_keeps_locked_flags",
        userns_bind_keeps_locked_flags,
    ),
    ("userns_bind_cannot_lift", userns_bind_cannot_lift),
    (
        "userns_idmap_needs_the_runtime",
        userns_idmap_needs_the_runtime,
    ),
    ("userns_no_devices_of_its_own", userns_no_devices_of_its_own),
    ("userns_cgroups", userns_cgroups),
];

fn options(bundle: &Bundle) -> RootfsOptions {
    RootfsOptions {
        has_userns: true,
        ..bundle.options()
    }
}

fn mounts() -> Vec<Value> {
    let mut mounts = base_mounts();
    mounts.extend([
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"] }),
    ]);
    mounts
}

fn hardened(mounts: Vec<Value>) -> Spec {
    let linux = json!({
        "maskedPaths": ["/proc/kcore", "/proc/interrupts", "/proc/acpi", "/sys/firmware"],
        "readonlyPaths": ["/proc/sys", "/proc/irq"],
    });
    spec(json!(mounts), linux)
}

fn userns_default(bundle: &Bundle) {
    bundle.enter_with(&hardened(mounts()), options(bundle));
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let node = fs::metadata(format!("/dev/{name}")).unwrap();
        assert!(node.file_type().is_char_device(), "{name}");
    }
    fs::write("/dev/null", "x").unwrap();
    // The host's nodes, whose owner is not mapped: their mode is out of reach.
    let mode = fs::metadata("/dev/null").unwrap().permissions();
    assert_eq!(errno(fs::set_permissions("/dev/null", mode)), libc::EPERM);
    assert_eq!(fs::read("/proc/interrupts").unwrap(), b"");
    assert_eq!(fs::read_dir("/sys/firmware").unwrap().count(), 0);
    assert_eq!(
        errno(fs::write("/proc/sys/kernel/shmmni", "1")),
        libc::EROFS
    );
    assert_eq!(mount_at("/sys").fstype, "sysfs");
    assert_eq!(fs::metadata("/").unwrap().uid(), 0);
}

/// Prepares in a user namespace below the case's own: there the case's mounts are locked and the
/// network namespace is another's.
fn in_nested_namespace(bundle: &Bundle, mounts: Value) -> Result<(), String> {
    let flags = nix::sched::CloneFlags::CLONE_NEWUSER | nix::sched::CloneFlags::CLONE_NEWNS;
    nix::sched::unshare(flags).unwrap();
    let namespaces = json!([{ "type": "mount" }, { "type": "user" }]);
    let spec = spec(mounts, json!({ "namespaces": namespaces }));
    match Rootfs::prepare(&spec, &options(bundle)) {
        Ok(_) => Ok(()),
        Err(error) => Err(crate::harness::chain(&error)),
    }
}

/// sysfs belongs to whoever owns the network namespace: with the host's, the host's is bound.
fn userns_hosts_network(bundle: &Bundle) {
    let mounts = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid"] },
    ]);
    in_nested_namespace(bundle, mounts).unwrap();
    let sys = bundle.rootfs.join("sys");
    assert!(fs::metadata(sys.join("class")).is_ok());
    assert_eq!(
        errno(fs::write(sys.join("kernel/uevent_helper"), "x")),
        libc::EROFS
    );
    assert!(fs::metadata(bundle.rootfs.join("proc/self")).is_ok());
}

fn limited_volume(bundle: &Bundle) -> std::path::PathBuf {
    let volume = bundle.host_dir("volume");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_RDONLY;
    mount(Some("tmpfs"), &volume, Some("tmpfs"), flags, None::<&str>).unwrap();
    volume
}

fn userns_bind_keeps_locked_flags(bundle: &Bundle) {
    let mounts = json!([{ "destination": "/tmp", "type": "bind", "source": limited_volume(bundle),
        "options": ["rbind", "rw", "noexec", "rprivate"] }]);
    in_nested_namespace(bundle, mounts).unwrap();
    let flags = statvfs(&bundle.rootfs.join("tmp")).unwrap().flags();
    let wanted = FsFlags::ST_NOSUID | FsFlags::ST_NODEV | FsFlags::ST_RDONLY | FsFlags::ST_NOEXEC;
    assert!(flags.contains(wanted), "{flags:?}");
}

fn userns_bind_cannot_lift(bundle: &Bundle) {
    let mounts = json!([{ "destination": "/tmp", "type": "bind", "source": limited_volume(bundle),
        "options": ["rbind", "rsuid"] }]);
    let error = in_nested_namespace(bundle, mounts).unwrap_err();
    assert!(error.contains("may not lift"), "{error}");
}

/// Init in a user namespace cannot map the host's file systems: the runtime opens those binds.
fn userns_idmap_needs_the_runtime(bundle: &Bundle) {
    let map = json!([{ "containerID": 0, "hostID": 0, "size": 10 }]);
    let mut all = mounts();
    all.push(
        json!({ "destination": "/data", "type": "bind", "source": bundle.host_dir("volume"),
        "options": ["rbind", "idmap"], "uidMappings": map, "gidMappings": map }),
    );
    let error = bundle
        .try_enter_with(&hardened(all), options(bundle))
        .unwrap_err();
    let text = crate::harness::chain(&error);
    assert!(text.contains("does not own its file system"), "{text}");
}

fn userns_no_devices_of_its_own(bundle: &Bundle) {
    let linux = json!({ "devices": [
        { "path": "/dev/null", "type": "c", "major": 1, "minor": 9 }
    ] });
    let spec = spec(json!(mounts()), linux);
    let error = bundle.try_enter_with(&spec, options(bundle)).unwrap_err();
    let text = crate::harness::chain(&error);
    assert!(text.contains("is not the device c 1:9"), "{text}");
}

fn userns_cgroups(bundle: &Bundle) {
    let mut all = mounts();
    all.push(
        json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "ro"] }),
    );
    bundle.enter_with(&hardened(all), options(bundle));
    let top = mount_at("/sys/fs/cgroup");
    assert!(top.has("ro") && top.has("nosuid"), "{top:?}");
    assert!(fs::read_dir("/sys/fs/cgroup").unwrap().count() > 0);
}
