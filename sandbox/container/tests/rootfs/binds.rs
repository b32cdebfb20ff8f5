//! Binds: sources, destinations, attributes, propagation, id mapping.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;

use cofferdam_container::rootfs::{Owners, open_sources};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use crate::harness::{Bundle, Case, base_mounts, errno, mount_at, spec};

pub(crate) const CASES: &[Case] = &[
    ("bind_of_directory_and_file", bind_of_directory_and_file),
    ("bind_below_the_bundle", bind_below_the_bundle),
    ("bind_keeps_the_hosts_limits", bind_keeps_the_hosts_limits),
    ("ro_is_not_recursive_rro_is", ro_is_not_recursive_rro_is),
    (
        "remount_changes_what_is_there",
        remount_changes_what_is_there,
    ),
    ("remount_lifts_nothing", remount_lifts_nothing),
    ("propagation_rslave", propagation_rslave),
    ("propagation_default_root", propagation_default_root),
    ("propagation_rprivate", propagation_rprivate),
    ("propagation_rshared", propagation_rshared),
    ("idmapped", idmapped),
    ("idmap_impossible", idmap_impossible),
    ("sources_of_the_runtime", sources_of_the_runtime),
    ("dev_of_the_host", dev_of_the_host),
    ("dev_leads_to_the_host", dev_leads_to_the_host),
    ("absurd_destinations", absurd_destinations),
    ("no_mount_namespace", no_mount_namespace),
    ("source_missing", source_missing),
    ("source_became_a_link", source_became_a_link),
    ("directory_onto_file", directory_onto_file),
    (
        "links_in_the_image_stay_inside",
        links_in_the_image_stay_inside,
    ),
];

fn bind(source: &Path, destination: &str, options: &[&str]) -> Value {
    json!({ "destination": destination, "type": "bind", "source": source, "options": options })
}

/// These mounts after the base ones.
fn with_base(mounts: Vec<Value>) -> Value {
    let mut all = base_mounts();
    all.extend(mounts);
    json!(all)
}

fn tmpfs(at: &Path, flags: MsFlags) {
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, None::<&str>).unwrap();
}

fn bind_of_directory_and_file(bundle: &Bundle) {
    let dir = bundle.host_dir("volume");
    fs::write(dir.join("in"), "volume").unwrap();
    let file = bundle.directory.join("resolv.conf");
    fs::write(&file, "resolver").unwrap();
    let mounts = with_base(vec![
        bind(
            &dir,
            "/data/deep/down",
            &["rbind", "rprivate", "nosuid", "nodev"],
        ),
        bind(&file, "/etc/resolv.conf", &["rbind", "ro"]),
        bind(&file, "/new/place/file", &["bind"]),
    ]);
    bundle.enter(&spec(mounts, json!({})));
    assert_eq!(fs::read_to_string("/data/deep/down/in").unwrap(), "volume");
    assert_eq!(fs::read_to_string("/new/place/file").unwrap(), "resolver");
    assert_eq!(errno(fs::write("/etc/resolv.conf", "")), libc::EROFS);
    fs::write("/new/place/file", "written").unwrap();
    let line = mount_at("/data/deep/down");
    assert!(
        line.has("nosuid") && line.has("nodev") && line.has("rw"),
        "{line:?}"
    );
    assert!(line.tags.is_empty(), "private: {line:?}");
}

fn bind_below_the_bundle(bundle: &Bundle) {
    bundle.host_dir("beside");
    let mounts = with_base(vec![bind(Path::new("beside"), "/beside", &["bind"])]);
    bundle.enter(&spec(mounts, json!({})));
    assert!(mount_at("/beside").root.ends_with("/beside"));
}

/// `rw,suid,dev,exec` in a spec never lift what the host's administrator has mounted with.
fn bind_keeps_the_hosts_limits(bundle: &Bundle) {
    let dir = bundle.host_dir("limited");
    tmpfs(
        &dir,
        MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
    );
    let options = ["rbind", "rw", "suid", "dev", "exec", "nosymfollow"];
    let mounts = with_base(vec![bind(&dir, "/data", &options)]);
    bundle.enter(&spec(mounts, json!({})));
    let line = mount_at("/data");
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(line.has(option), "{option}: {line:?}");
    }
}

fn ro_is_not_recursive_rro_is(bundle: &Bundle) {
    let dir = bundle.host_dir("tree");
    fs::create_dir(dir.join("below")).unwrap();
    tmpfs(&dir.join("below"), MsFlags::empty());
    let mounts = with_base(vec![
        bind(&dir, "/ro", &["rbind", "ro"]),
        bind(&dir, "/rro", &["rbind", "rro", "rnosuid"]),
        bind(&dir, "/flat", &["bind", "rro"]),
    ]);
    bundle.enter(&spec(mounts, json!({})));
    assert_eq!(errno(fs::write("/ro/x", "")), libc::EROFS);
    fs::write("/ro/below/x", "").unwrap();
    assert_eq!(errno(fs::write("/rro/x", "")), libc::EROFS);
    assert_eq!(errno(fs::write("/rro/below/x", "")), libc::EROFS);
    assert!(mount_at("/rro/below").has("nosuid"));
    assert!(!mount_at("/ro/below").has("nosuid"));
    assert_eq!(fs::read_dir("/flat/below").unwrap().count(), 0);
}

fn remount_changes_what_is_there(bundle: &Bundle) {
    let dir = bundle.host_dir("volume");
    let mounts = with_base(vec![
        bind(&dir, "/data", &["rbind"]),
        json!({ "destination": "/data", "options": ["remount", "bind", "ro", "nosuid"] }),
    ]);
    bundle.enter(&spec(mounts, json!({})));
    let line = mount_at("/data");
    assert!(line.has("ro") && line.has("nosuid"), "{line:?}");
    assert!(fs::metadata(&bundle.directory).is_err());
}

/// A remount with `rrw` made writable what the policy had let in as read-only.
fn remount_lifts_nothing(bundle: &Bundle) {
    let dir = bundle.host_dir("volume");
    let mounts = with_base(vec![
        bind(&dir, "/data", &["rbind", "ro", "rro", "rnosuid"]),
        json!({ "destination": "/data", "type": "tmpfs", "options": ["remount", "rrw", "rsuid"] }),
    ]);
    bundle.enter(&spec(mounts, json!({})));
    assert_eq!(errno(fs::write("/data/x", "")), libc::EROFS);
    assert!(mount_at("/data").has("nosuid"));
}

/// The host's mount namespace and the container's, to go back and forth.
struct TwoNamespaces {
    host: File,
    container: Option<File>,
}

impl TwoNamespaces {
    /// Splits off a namespace for the container, with `volume` shared on the host's side.
    fn new(volume: &Path) -> Self {
        tmpfs(volume, MsFlags::empty());
        let shared = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, volume, None::<&str>, shared, None::<&str>).unwrap();
        fs::create_dir(volume.join("sub")).unwrap();
        let host = File::open("/proc/self/ns/mnt").unwrap();
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        Self {
            host,
            container: None,
        }
    }

    fn entered(&mut self) {
        // Of the procfs in the container.
        self.container = Some(File::open("/proc/self/ns/mnt").unwrap());
    }

    fn on_host<T>(&self, run: impl FnOnce() -> T) -> T {
        setns(&self.host, CloneFlags::CLONE_NEWNS).unwrap();
        let result = run();
        if let Some(container) = &self.container {
            setns(container, CloneFlags::CLONE_NEWNS).unwrap();
        }
        result
    }
}

/// Mounts the volume with `options`, then lets both sides mount in it: (host's mount is seen in the
/// container, container's mount is seen on the host).
fn propagates(bundle: &Bundle, options: &[&str], linux: Value) -> (bool, bool) {
    let volume = bundle.host_dir("volume");
    let mut two = TwoNamespaces::new(&volume);
    let mut mounts = base_mounts();
    mounts.push(bind(&volume, "/volume", options));
    bundle.enter(&spec(json!(mounts), linux));
    two.entered();
    let sub = volume.join("sub");
    two.on_host(|| {
        tmpfs(&sub, MsFlags::empty());
        fs::write(sub.join("from-host"), "").unwrap();
    });
    let inward = fs::metadata("/volume/sub/from-host").is_ok();
    fs::create_dir("/volume/inner").unwrap();
    tmpfs(Path::new("/volume/inner"), MsFlags::empty());
    fs::write("/volume/inner/from-container", "").unwrap();
    let outward = two.on_host(|| fs::metadata(volume.join("inner/from-container")).is_ok());
    // Nothing of the container's own mounts is seen outside in any case.
    let rootfs = bundle.rootfs.clone();
    let proc_outside = two.on_host(|| fs::metadata(rootfs.join("proc/self")).is_ok());
    assert!(!proc_outside);
    (inward, outward)
}

fn propagation_rslave(bundle: &Bundle) {
    let result = propagates(bundle, &["rbind", "rslave"], json!({}));
    assert_eq!(result, (true, false));
    assert!(mount_at("/volume").tags[0].starts_with("master:"));
}

fn propagation_default_root(bundle: &Bundle) {
    let result = propagates(bundle, &["rbind"], json!({}));
    assert_eq!(result, (true, false));
}

fn propagation_rprivate(bundle: &Bundle) {
    let result = propagates(bundle, &["rbind", "rprivate"], json!({}));
    assert_eq!(result, (false, false));
}

fn propagation_rshared(bundle: &Bundle) {
    let linux = json!({ "rootfsPropagation": "rshared" });
    let result = propagates(bundle, &["rbind", "rshared"], linux);
    assert_eq!(result, (true, true));
}

fn idmapped(bundle: &Bundle) {
    let dir = bundle.host_dir("volume");
    fs::write(dir.join("roots"), "").unwrap();
    fs::write(dir.join("fives"), "").unwrap();
    chown(dir.join("fives"), Some(5), Some(6)).unwrap();
    let map = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 100 }]);
    let mounts = json!([
        { "destination": "/data", "type": "bind", "source": dir, "options": ["rbind", "idmap"],
          "uidMappings": map(1000), "gidMappings": map(2000) },
        bind(&dir, "/plain", &["rbind"]),
    ]);
    bundle.enter(&spec(mounts, json!({})));
    let owner = |path: &str| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!(owner("/data/roots"), (1000, 2000));
    assert_eq!(owner("/data/fives"), (1005, 2006));
    assert_eq!(owner("/plain/fives"), (5, 6));
}

fn idmap_impossible(bundle: &Bundle) {
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 100 }]);
    let entry = |source: &str| {
        json!([{ "destination": "/data", "type": "bind", "source": source, "options": ["bind", "idmap"],
            "uidMappings": map, "gidMappings": map }])
    };
    bundle.refused(
        &spec(entry("/proc"), json!({})),
        "file system proc cannot be id-mapped",
    );
    let half = json!([{ "destination": "/data", "type": "bind", "source": "/usr",
        "options": ["bind", "idmap"], "uidMappings": map }]);
    bundle.refused(&spec(half, json!({})), "must both be given");
    let none = json!([bind(Path::new("/usr"), "/data", &["bind", "idmap"])]);
    bundle.refused(&spec(none, json!({})), "needs uidMappings");
}

/// The runtime, in the host's namespaces, opens and maps what init in a user namespace cannot.
fn sources_of_the_runtime(bundle: &Bundle) {
    let hidden = bundle.host_dir("hidden/volume");
    fs::write(hidden.join("file"), "").unwrap();
    let file = bundle.directory.join("hosts");
    fs::write(&file, "hosts").unwrap();
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 100 }]);
    let mounts = with_base(vec![
        json!({ "destination": "/data", "type": "bind", "source": hidden,
            "options": ["rbind", "idmap", "ro"], "uidMappings": map, "gidMappings": map }),
        bind(&file, "/etc/hosts", &["rbind", "rprivate"]),
    ]);
    let spec = spec(mounts, json!({}));
    let mut options = bundle.options();
    let user = File::open("/proc/self/ns/user").unwrap();
    let owners = Owners {
        user: user.as_fd(),
        first: None,
        may_be_unmapped: false,
        network: None,
    };
    options.sources = open_sources(&spec, &options, Some(owners)).unwrap().mounts;
    assert_eq!(options.sources.keys().collect::<Vec<_>>(), [&2, &3]);
    // Not to be found by init: only the descriptors lead there now.
    fs::rename(&file, bundle.directory.join("moved")).unwrap();
    bundle.enter_with(&spec, options);
    assert_eq!(fs::metadata("/data/file").unwrap().uid(), 1000);
    assert!(mount_at("/data").has("ro"));
    assert_eq!(fs::read_to_string("/etc/hosts").unwrap(), "hosts");
}

/// Nothing is made in a `/dev` that belongs to the host.
fn dev_of_the_host(bundle: &Bundle) {
    let dev = bundle.host_dir("hostdev");
    fs::write(dev.join("ptmx"), "the host's").unwrap();
    let mounts = json!([bind(&dev, "/dev", &["rbind"])]);
    bundle.enter(&spec(mounts, json!({})));
    assert_eq!(fs::read_to_string("/dev/ptmx").unwrap(), "the host's");
    assert_eq!(fs::read_dir("/dev").unwrap().count(), 1);
}

/// The same where the image's `/dev` is a link into what is bound.
fn dev_leads_to_the_host(bundle: &Bundle) {
    let dev = bundle.host_dir("hostdev");
    fs::write(dev.join("ptmx"), "the host's").unwrap();
    symlink("/inner/dev", bundle.rootfs.join("dev")).unwrap();
    fs::create_dir(dev.join("dev")).unwrap();
    fs::write(dev.join("dev/ptmx"), "the host's").unwrap();
    let mounts = json!([bind(&dev, "/inner", &["rbind"])]);
    bundle.enter(&spec(mounts, json!({})));
    assert_eq!(fs::read_to_string("/dev/ptmx").unwrap(), "the host's");
    assert_eq!(fs::read_dir("/dev/").unwrap().count(), 1);
}

/// Paths that no kernel call takes are refused before anything is made.
fn absurd_destinations(bundle: &Bundle) {
    let dir = bundle.host_dir("volume");
    for (destination, words) in [
        ("/a".repeat(3000), "File name too long"),
        (format!("/{}", "a".repeat(300)), "File name too long"),
        ("/nul\0byte".to_owned(), "Invalid argument"),
        (String::new(), "container's root"),
    ] {
        let mounts = json!([bind(&dir, &destination, &["rbind"])]);
        bundle.refused(&spec(mounts, json!({})), words);
    }
    assert!(fs::metadata(bundle.rootfs.join("a")).is_err());
}

/// Only its own mount namespace is changed.
fn no_mount_namespace(bundle: &Bundle) {
    for namespaces in [
        json!([]),
        json!([{ "type": "pid" }]),
        json!([{ "type": "mount", "path": "/proc/1/ns/mnt" }]),
    ] {
        let spec = spec(json!([]), json!({ "namespaces": namespaces }));
        bundle.refused(&spec, "needs a new mount namespace");
    }
}

fn source_missing(bundle: &Bundle) {
    let mounts = json!([bind(Path::new("/nowhere/at/all"), "/data", &["rbind"])]);
    bundle.refused(&spec(mounts, json!({})), "No such file or directory");
}

/// Policy approved a canonical path; a link on it now is somebody's swap.
fn source_became_a_link(bundle: &Bundle) {
    let real = bundle.host_dir("real");
    fs::create_dir(real.join("sub")).unwrap();
    symlink(&real, bundle.directory.join("link")).unwrap();
    for source in ["link", "link/sub"] {
        let source = bundle.directory.join(source);
        let mounts = json!([bind(&source, "/data", &["rbind"])]);
        bundle.refused(&spec(mounts, json!({})), "has become a symbolic link");
    }
}

fn directory_onto_file(bundle: &Bundle) {
    let dir = bundle.host_dir("volume");
    fs::write(bundle.rootfs.join("etc/file"), "").unwrap();
    let mounts = json!([bind(&dir, "/etc/file", &["rbind"])]);
    bundle.refused(&spec(mounts, json!({})), "mount a directory onto a file");
}

fn links_in_the_image_stay_inside(bundle: &Bundle) {
    let dir = bundle.host_dir("volume");
    let outside = bundle.host_dir("outside");
    fs::write(dir.join("mark"), "").unwrap();
    fs::create_dir(bundle.rootfs.join("var")).unwrap();
    let link = |target: &str, at: &str| symlink(target, bundle.rootfs.join(at)).unwrap();
    link("/run", "var/run"); // dangling: the image has no /run
    link("../../../../../../..", "up");
    link(outside.to_str().unwrap(), "abs");
    link("loop", "loop");
    let mounts = json!([
        bind(&dir, "/var/run/app", &["rbind"]),
        bind(&dir, "/up/from/top", &["rbind"]),
        bind(&dir, "/abs/there", &["rbind"]),
        bind(&dir, "/../../dots", &["rbind"]),
        bind(&dir, "relative/./place", &["rbind"]),
    ]);
    let looped = json!([bind(&dir, "/loop/x", &["rbind"])]);
    bundle.refused(&spec(looped, json!({})), "cannot be followed safely");
    bundle.enter(&spec(mounts, json!({})));
    let inside = format!("{}/there", outside.to_str().unwrap());
    for place in ["/run/app", "/from/top", &inside, "/dots", "/relative/place"] {
        assert!(fs::metadata(format!("{place}/mark")).is_ok(), "{place}");
    }
}
