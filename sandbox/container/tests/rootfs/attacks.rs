//! Images and neighbours that attack the runtime while it mounts.

use std::env;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use cofferdam_container::rootfs::{Rootfs, RootfsOptions};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::harness::{Bundle, Case, base_mounts, chain, spec};

pub(crate) const CASES: &[Case] = &[
    ("cve_2021_30465_swapped_directory", swapped_directory),
    ("cve_2021_30465_control", swapped_directory_control),
    ("swapped_mask", swapped_mask),
    ("cve_2019_16884_proc_is_a_link", proc_is_a_link),
    ("cve_2019_16884_mount_inside_proc", mount_inside_proc),
    ("proc_replaced_by_a_bind", proc_replaced_by_a_bind),
    ("lxcfs_files_in_proc", lxcfs_files_in_proc),
    ("mount_over_the_root", mount_over_the_root),
    ("cve_2025_31133_fake_null", fake_null),
    ("cve_2025_31133_null_of_the_image", null_of_the_image),
    ("cve_2025_52565_console_is_a_link", console_is_a_link),
    ("console", console),
    ("cve_2025_52881_sysctl_redirect", sysctl_redirect),
    (
        "rootfs_is_reached_through_a_link",
        rootfs_is_reached_through_a_link,
    ),
    ("nodes_stay_out_of_binds", nodes_stay_out_of_binds),
];

/// Exchanges two names in a loop until it is killed.
fn swapper(first: &Path, second: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([first, second])
        .env("COFFERDAM_TEST_STAGE", "swap")
        .spawn()
        .unwrap()
}

/// Stage `swap`.
pub(crate) fn swap(first: &str, second: &str) -> ! {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    loop {
        let _ = renameat2(
            AT_FDCWD,
            first,
            AT_FDCWD,
            second,
            RenameFlags::RENAME_EXCHANGE,
        );
    }
}

fn stop(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

const ITERATIONS: u32 = 3000;

/// The image's `/swap` is now a directory, now a link to a directory of the host.
struct Swap {
    outside: std::path::PathBuf,
    child: Child,
}

impl Swap {
    fn new(bundle: &Bundle) -> Self {
        let outside = bundle.host_dir("outside");
        let real = bundle.rootfs.join("swap");
        fs::create_dir_all(real.join("inner")).unwrap();
        fs::create_dir_all(outside.join("inner")).unwrap();
        let link = bundle.rootfs.join("link");
        symlink(&outside, &link).unwrap();
        let child = swapper(&real, &link);
        Self { outside, child }
    }

    fn escaped(&self) -> bool {
        let inner = fs::metadata(self.outside.join("inner")).unwrap();
        inner.dev() != fs::metadata(&self.outside).unwrap().dev()
    }
}

/// Thousands of mounts onto a destination that changes under us: none lands outside.
fn swapped_directory(bundle: &Bundle) {
    let swap = Swap::new(bundle);
    let mounts = json!([
        { "destination": "/swap/inner", "type": "tmpfs", "source": "tmpfs" },
        { "destination": "/swap/made/deep", "type": "tmpfs", "source": "tmpfs" },
    ]);
    let spec = spec(mounts, json!({}));
    let (mut made, mut refused) = (0, 0);
    for _ in 0..ITERATIONS {
        match Rootfs::prepare(&spec, &bundle.options()) {
            Ok(_) => made += 1,
            Err(_) => refused += 1,
        }
        assert!(!swap.escaped());
        // The bind of the rootfs, with all that was mounted in it.
        while umount2(&bundle.rootfs, MntFlags::MNT_DETACH).is_ok() {}
    }
    // Where the link's text leads inside the root: the walk did meet the link.
    let by_link = bundle.rootfs.join(swap.outside.strip_prefix("/").unwrap());
    assert!(
        fs::metadata(by_link.join("made")).is_ok(),
        "the race was never met"
    );
    println!("  {made} mounted inside, {refused} refused, none outside");
    assert_eq!(fs::read_dir(&swap.outside).unwrap().count(), 1);
    assert!(made > 0);
    stop(swap.child);
}

/// The same with a look first and mount(2) by path afterwards: it does escape here, so the case
/// above tests something.
fn swapped_directory_control(bundle: &Bundle) {
    let swap = Swap::new(bundle);
    let target = bundle.rootfs.join("swap/inner");
    let mut escapes = 0;
    let start = Instant::now();
    while escapes < 3 && start.elapsed() < Duration::from_secs(60) {
        let swap_is_dir = fs::symlink_metadata(bundle.rootfs.join("swap"))
            .is_ok_and(|metadata| metadata.is_dir());
        let flags = MsFlags::empty();
        if !swap_is_dir
            || mount(Some("tmpfs"), &target, Some("tmpfs"), flags, None::<&str>).is_err()
        {
            continue;
        }
        if swap.escaped() {
            escapes += 1;
        }
        while umount2(&swap.outside.join("inner"), MntFlags::MNT_DETACH).is_ok() {}
        for name in ["swap/inner", "link/inner"] {
            while umount2(&bundle.rootfs.join(name), MntFlags::MNT_DETACH).is_ok() {}
        }
    }
    stop(swap.child);
    println!("  the control escaped {escapes} times");
    assert!(
        escapes > 0,
        "the race was never won; the attack case proves nothing"
    );
}

/// A masked path below a directory that changes: whatever was masked, the host's file was not.
fn swapped_mask(bundle: &Bundle) {
    let swap = Swap::new(bundle);
    let spec = spec(json!([]), json!({ "maskedPaths": ["/swap/inner"] }));
    for _ in 0..ITERATIONS {
        if let Ok(mut rootfs) = Rootfs::prepare(&spec, &bundle.options()) {
            let _ = rootfs.finish();
        }
        assert!(!swap.escaped());
        while umount2(&bundle.rootfs, MntFlags::MNT_DETACH).is_ok() {}
    }
    stop(swap.child);
}

fn proc_is_a_link(bundle: &Bundle) {
    let proc = json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]);
    let sys = json!([{ "destination": "/sys", "type": "sysfs", "source": "sysfs" }]);
    fs::create_dir_all(bundle.rootfs.join("fake/self/attr")).unwrap();
    for name in ["proc", "sys"] {
        symlink("/fake", bundle.rootfs.join(name)).unwrap();
    }
    bundle.refused(
        &spec(proc.clone(), json!({})),
        "must be an ordinary directory",
    );
    bundle.refused(&spec(sys, json!({})), "must be an ordinary directory");
    fs::remove_file(bundle.rootfs.join("proc")).unwrap();
    fs::write(bundle.rootfs.join("proc"), "").unwrap();
    bundle.refused(&spec(proc, json!({})), "must be an ordinary directory");
}

fn mount_inside_proc(bundle: &Bundle) {
    let dir = bundle.host_dir("volume");
    fs::write(dir.join("file"), "").unwrap();
    symlink("/proc", bundle.rootfs.join("alias")).unwrap();
    symlink("../proc/sys", bundle.rootfs.join("etc/alias")).unwrap();
    let file = dir.join("file");
    for (destination, source) in [
        ("/proc/sys/kernel/core_pattern", &file),
        ("/proc/sys", &dir),
        ("/proc/1/attr", &dir),
        ("/proc/../proc/sys", &dir),
        ("//proc//sys/", &dir),
        ("/alias/sys", &dir),
        ("/alias/sys/kernel/hostname", &file),
        ("/etc/alias", &dir),
        ("/alias", &dir),
        ("/proc/self/attr", &dir),
        ("/alias/self/attr", &dir),
        ("/proc/thread-self/attr/exec", &file),
        ("/proc/self/root/tmp", &dir),
    ] {
        let mut mounts = base_mounts();
        mounts.push(
            json!({ "destination": destination, "type": "bind", "source": source,
            "options": ["rbind"] }),
        );
        let error = bundle
            .try_enter(&spec(json!(mounts), json!({})))
            .unwrap_err();
        let text = chain(&error);
        assert!(
            text.contains("is inside /proc") || text.contains("cannot be followed safely"),
            "{destination}: {text}"
        );
        umount2(&bundle.rootfs, MntFlags::MNT_DETACH).unwrap();
    }
    let mut mounts = base_mounts();
    mounts.push(json!({ "destination": "/proc/sys", "type": "tmpfs", "source": "tmpfs" }));
    bundle.refused(&spec(json!(mounts), json!({})), "is inside /proc");
}

fn proc_replaced_by_a_bind(bundle: &Bundle) {
    let fake = bundle.host_dir("fakeproc");
    for source in [fake.to_str().unwrap(), "/proc/sys", "/proc/1", "/sys"] {
        let mounts = json!([
            { "destination": "/proc", "type": "bind", "source": source, "options": ["rbind"] }
        ]);
        bundle.refused(&spec(mounts, json!({})), "is inside /proc");
    }
    let tmpfs = json!([{ "destination": "/proc", "type": "tmpfs", "source": "tmpfs" }]);
    bundle.refused(&spec(tmpfs, json!({})), "is inside /proc");
    // A container that shares the host's pid namespace binds the host's procfs.
    let mounts = json!([
        { "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] }
    ]);
    bundle.enter(&spec(mounts, json!({})));
    assert!(fs::metadata("/proc/version").is_ok());
}

fn lxcfs_files_in_proc(bundle: &Bundle) {
    let file = bundle.directory.join("uptime");
    fs::write(&file, "1.00 1.00\n").unwrap();
    let mut mounts = base_mounts();
    mounts.push(
        json!({ "destination": "/proc/uptime", "type": "bind", "source": file,
        "options": ["rbind", "ro"] }),
    );
    bundle.enter(&spec(json!(mounts), json!({})));
    assert_eq!(fs::read_to_string("/proc/uptime").unwrap(), "1.00 1.00\n");
}

fn mount_over_the_root(bundle: &Bundle) {
    symlink("/", bundle.rootfs.join("top")).unwrap();
    for destination in ["/", "/..", "/etc/..", "/top"] {
        let mounts = json!([{ "destination": destination, "type": "tmpfs", "source": "tmpfs" }]);
        bundle.refused(&spec(mounts, json!({})), "container's root");
    }
}

/// A mask is made of the real null device even where the container's is a file of the attacker's.
fn fake_null(bundle: &Bundle) {
    let dev = bundle.host_dir("dev");
    fs::write(dev.join("null"), "attacker's").unwrap();
    fs::write(bundle.rootfs.join("etc/secret"), "secret").unwrap();
    let mounts = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"] },
    ]);
    let masked = json!({ "maskedPaths": ["/etc/secret", "/proc/interrupts"] });
    bundle.enter(&spec(mounts, masked));
    for path in ["/etc/secret", "/proc/interrupts"] {
        assert!(fs::metadata(path).unwrap().file_type().is_char_device());
        assert_eq!(fs::read(path).unwrap(), b"");
    }
}

fn null_of_the_image(bundle: &Bundle) {
    fs::create_dir(bundle.rootfs.join("dev")).unwrap();
    for make in [
        |path: &Path| symlink("/proc/sys/kernel/core_pattern", path).unwrap(),
        |path: &Path| fs::write(path, "").unwrap(),
        |path: &Path| fs::create_dir(path).unwrap(),
    ] {
        let null = bundle.rootfs.join("dev/null");
        make(&null);
        bundle.refused(&spec(json!([]), json!({})), "is not the device c 1:3");
        umount2(&bundle.rootfs, MntFlags::MNT_DETACH).unwrap();
        let _ = fs::remove_file(&null).or_else(|_| fs::remove_dir(&null));
    }
}

fn terminal() -> std::os::fd::OwnedFd {
    // Any character device will do; a pty is the host's business.
    fs::File::open("/dev/zero").unwrap().into()
}

fn console_is_a_link(bundle: &Bundle) {
    let dev = bundle.host_dir("dev");
    symlink("/etc/target", dev.join("console")).unwrap();
    let mounts = json!([
        { "destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"] }
    ]);
    let spec = spec(mounts, json!({}));
    let terminal = terminal();
    let rootfs = Rootfs::prepare(&spec, &bundle.options()).unwrap();
    let error = rootfs.console(terminal.as_fd()).unwrap_err();
    assert!(chain(&error).contains("/dev/console"), "{}", chain(&error));
}

fn console(bundle: &Bundle) {
    let spec = spec(json!(base_mounts()), json!({}));
    let terminal = terminal();
    let rootfs = Rootfs::prepare(&spec, &bundle.options()).unwrap();
    rootfs.console(terminal.as_fd()).unwrap();
    let console = fs::metadata(bundle.rootfs.join("dev/console")).unwrap();
    assert_eq!(console.rdev(), fs::metadata("/dev/zero").unwrap().rdev());
}

/// What is mounted over parts of the container's procfs does not get the runtime's writes.
fn sysctl_redirect(bundle: &Bundle) {
    // With the allow list the only way left is somebody who mounts between our steps.
    let spec = spec(
        json!(base_mounts()),
        json!({ "sysctl": { "kernel.shmmni": "77" } }),
    );
    let file = bundle.directory.join("decoy");
    fs::write(&file, "").unwrap();
    let mut rootfs = Rootfs::prepare(&spec, &bundle.options()).unwrap();
    let target = bundle.rootfs.join("proc/sys/kernel/shmmni");
    let bind = MsFlags::MS_BIND;
    mount(Some(&file), &target, None::<&str>, bind, None::<&str>).unwrap();
    let error = rootfs.sysctl().unwrap_err();
    assert!(chain(&error).contains("kernel.shmmni"), "{}", chain(&error));
    assert_eq!(fs::read(&file).unwrap(), b"");
}

fn rootfs_is_reached_through_a_link(bundle: &Bundle) {
    let real = bundle.directory.join("real");
    fs::create_dir(&real).unwrap();
    fs::rename(&bundle.rootfs, real.join("rootfs")).unwrap();
    let link = bundle.directory.join("link");
    symlink(&real, &link).unwrap();
    let options = RootfsOptions {
        rootfs: link.join("rootfs"),
        ..bundle.options()
    };
    let error = Rootfs::prepare(&spec(json!([]), json!({})), &options).unwrap_err();
    let text = chain(&error);
    assert!(text.contains("reached through one"), "{text}");
}

/// The image chooses where the path of a node leads; into a volume it must not.
fn nodes_stay_out_of_binds(bundle: &Bundle) {
    let volume = bundle.host_dir("volume");
    symlink("/data/below", bundle.rootfs.join("alias")).unwrap();
    let mut mounts = base_mounts();
    mounts.push(
        json!({ "destination": "/data", "type": "bind", "source": volume,
        "options": ["rbind", "rw"] }),
    );
    for path in ["/data/null", "/data/below/null", "/alias/null"] {
        let devices = json!([{ "path": path, "type": "c", "major": 1, "minor": 3 }]);
        let spec = spec(json!(mounts), json!({ "devices": devices }));
        bundle.refused(&spec, "in the host's directory that is mounted at /data");
        assert!(fs::metadata(volume.join("null")).is_err());
        assert!(fs::metadata(volume.join("below/null")).is_err());
        umount2(&bundle.rootfs, MntFlags::MNT_DETACH).unwrap();
    }
    // The volume hides what was mounted below its place before.
    let hidden = json!({ "destination": "/data/tmp", "type": "tmpfs", "source": "tmpfs" });
    mounts.insert(mounts.len() - 1, hidden);
    let devices = json!([{ "path": "/data/tmp/null", "type": "c", "major": 1, "minor": 3 }]);
    let spec = spec(json!(mounts), json!({ "devices": devices }));
    bundle.refused(&spec, "in the host's directory that is mounted at /data");
    assert!(fs::metadata(volume.join("tmp/null")).is_err());
}
