//! The filter cache against damage, poison and neighbours.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use cofferdam_profiles::seccomp::{Arch, Filter, FilterCache, compile, default_profile};
use oci_spec::runtime::LinuxSeccomp;
use serde_json::json;

use crate::profiles::docker_capabilities;

struct Fixture {
    _directory: tempfile::TempDir,
    cache: FilterCache,
    profile: LinuxSeccomp,
    path: PathBuf,
    right: Filter,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let cache = FilterCache::at(&directory.path().join("a/b"));
    let profile = default_profile(&docker_capabilities(), Arch::NATIVE);
    let right = compile(&profile).unwrap();
    let path = cache.path_of(&profile);
    assert_eq!(cache.get_or_compile(&profile).unwrap(), right);
    assert!(path.exists());
    Fixture {
        _directory: directory,
        cache,
        profile,
        path,
        right,
    }
}

impl Fixture {
    /// The filter is right although the file is not, and the file is whole again.
    fn recovers(&self, what: &str) {
        let filter = self.cache.get_or_compile(&self.profile).unwrap();
        assert_eq!(filter, self.right, "{what}");
        let meta = fs::symlink_metadata(&self.path).unwrap();
        assert!(
            meta.is_file() && meta.mode() & 0o777 == 0o600,
            "{what}: {:o}",
            meta.mode()
        );
        let before = meta.ino();
        assert_eq!(
            self.cache.get_or_compile(&self.profile).unwrap(),
            self.right
        );
        assert_eq!(
            fs::metadata(&self.path).unwrap().ino(),
            before,
            "{what}: not replaced"
        );
    }
}

#[test]
fn a_hit_is_the_same_filter_and_leaves_the_file_alone() {
    let f = fixture();
    f.recovers("nothing wrong");
    let directory = f.path.parent().unwrap();
    assert_eq!(fs::metadata(directory).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
}

#[test]
fn a_damaged_file_is_never_used() {
    let f = fixture();
    let good = fs::read(&f.path).unwrap();
    // A flipped bit in every field of the header, and here and there in the description and program.
    for at in (0..good.len().min(150))
        .step_by(3)
        .chain((150..good.len()).step_by(397))
        .chain(good.len() - 9..good.len())
    {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&f.path, &bad).unwrap();
        f.recovers(&format!("bit flipped in byte {at}"));
    }
    for length in [0, 1, 50, 116, 117, 148, good.len() - 8, good.len() - 1] {
        fs::write(&f.path, &good[..length]).unwrap();
        f.recovers(&format!("cut to {length}"));
    }
    let mut longer = good.clone();
    longer.extend([0; 8]);
    fs::write(&f.path, &longer).unwrap();
    f.recovers("eight bytes more");
    fs::write(&f.path, vec![0; 1 << 20]).unwrap();
    f.recovers("a megabyte of zeros");
}

/// A file that is whole but belongs to a laxer profile must not pass under this one's name.
#[test]
fn a_whole_file_of_another_profile_is_never_used() {
    let f = fixture();
    let lax = serde_json::from_value(json!({"defaultAction": "SCMP_ACT_ALLOW"})).unwrap();
    f.cache.get_or_compile(&lax).unwrap();
    fs::copy(f.cache.path_of(&lax), &f.path).unwrap();
    f.recovers("another profile's file");
}

/// The attack: whoever can write the file puts a filter there that allows everything.
#[test]
fn a_file_that_others_can_write_is_never_used() {
    let f = fixture();
    for mode in [0o620, 0o602, 0o666] {
        fs::set_permissions(&f.path, Permissions::from_mode(mode)).unwrap();
        f.recovers(&format!("mode {mode:o}"));
    }
    let aside = f.path.with_extension("aside");
    fs::rename(&f.path, &aside).unwrap();
    symlink(&aside, &f.path).unwrap();
    f.recovers("a symlink to a whole file");
    // Only root can give a file away; elsewhere the case is the mode's.
    if std::os::unix::fs::chown(&f.path, Some(65534), None).is_ok()
        && fs::metadata(&f.path).unwrap().uid() == 65534
        && nix_euid() == 0
    {
        f.recovers("another user's file");
    } else {
        eprintln!("skipped: another user's file (needs root)");
    }
}

fn nix_euid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

#[test]
fn a_cache_that_cannot_be_written_costs_only_time() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let profile = default_profile(&docker_capabilities(), Arch::NATIVE);
    let right = compile(&profile).unwrap();
    for place in [file.join("below"), PathBuf::from("/proc/self/nowhere")] {
        assert_eq!(
            FilterCache::at(&place).get_or_compile(&profile).unwrap(),
            right
        );
    }
}

#[test]
fn many_at_once_all_get_the_right_filter() {
    let directory = tempfile::tempdir().unwrap();
    let cache = FilterCache::at(directory.path());
    let profile = default_profile(&docker_capabilities(), Arch::NATIVE);
    let right = compile(&profile).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(cache.get_or_compile(&profile).unwrap(), right));
        }
    });
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// Profiles that differ in anything a filter depends on never share a file.
#[test]
fn every_difference_has_its_own_file() {
    let cache = FilterCache::at(std::path::Path::new("unused"));
    let rule = |args: serde_json::Value| {
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": args}]})
    };
    let arg = |index, value, two, op| {
        rule(json!([{"index": index, "value": value, "valueTwo": two, "op": op}]))
    };
    let variants = [
        json!({"defaultAction": "SCMP_ACT_ERRNO"}),
        json!({"defaultAction": "SCMP_ACT_ALLOW"}),
        json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38}),
        json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}),
        json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86"]}),
        json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_ARM"]}),
        json!({"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}),
        json!({"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}),
        json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "/l"}),
        rule(json!([])),
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["readwrite"], "action": "SCMP_ACT_ALLOW"}]}),
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["write"], "action": "SCMP_ACT_ALLOW"}]}),
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_LOG"}]}),
        arg(0, 1, 0, "SCMP_CMP_EQ"),
        arg(1, 1, 0, "SCMP_CMP_EQ"),
        arg(0, 2, 0, "SCMP_CMP_EQ"),
        arg(0, 1, 1, "SCMP_CMP_MASKED_EQ"),
        arg(0, 1, 0, "SCMP_CMP_MASKED_EQ"),
        arg(0, 1, 0, "SCMP_CMP_NE"),
    ];
    let paths: std::collections::BTreeSet<_> = variants
        .iter()
        .map(|variant| cache.path_of(&serde_json::from_value(variant.clone()).unwrap()))
        .collect();
    assert_eq!(paths.len(), variants.len());
}

/// Whoever may bring profiles brings ever new ones: the cache does not grow with them.
#[test]
fn the_cache_does_not_grow_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for number in 0..600 {
        fs::write(path(&format!("{number:016x}.bpf")), "").unwrap();
    }
    let others = ["notes.bpf", "0123456789abcdef.txt"];
    for name in others {
        fs::write(path(name), "").unwrap();
    }
    let cache = FilterCache::at(directory.path());
    let profile = default_profile(&docker_capabilities(), Arch::NATIVE);
    cache.get_or_compile(&profile).unwrap();
    assert_eq!(
        fs::read_dir(directory.path()).unwrap().count(),
        1 + others.len()
    );
    assert!(cache.path_of(&profile).exists());
    assert!(others.iter().all(|name| path(name).exists()));
    // One that is too long is used, not kept.
    let names: Vec<String> = (0..9000).map(|n| format!("no such call {n:020}")).collect();
    let long = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": names, "action": "SCMP_ACT_ALLOW"}]});
    let long = serde_json::from_value(long).unwrap();
    assert_eq!(
        cache.get_or_compile(&long).unwrap(),
        compile(&long).unwrap()
    );
    assert!(!cache.path_of(&long).exists());
}
