//! What the policy must know about this host, found out with as few system calls as will do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use cofferdam_container::apparmor::find_parser;
use cofferdam_container::doctor::landlock_abi;
use cofferdam_profiles::access::{Access, MAX_DOCUMENT_BYTES};
use cofferdam_profiles::apparmor::Stream;
use cofferdam_profiles::policy::{
    HostFacts, NamespaceOwner, Questions, is_engine_profile, read_trusted,
};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use oci_spec::runtime::Spec;

use super::LaunchError;

/// Looks at everything that the spec of the bundle points to; its root is known already.
pub(super) fn find(
    bundle: &Path,
    rootfs: Option<&Path>,
    spec: &Spec,
) -> Result<HostFacts, LaunchError> {
    let mut questions = Questions::of(spec);
    let mut known = BTreeMap::new();
    if let (Some(root), Some(rootfs)) = (spec.root(), rootfs) {
        questions.mount_sources.remove(root.path());
        known.insert(root.path().clone(), rootfs.to_owned());
    }
    known.extend(resolve(bundle, spec, questions.mount_sources)?);
    let apparmor = fs::read("/sys/module/apparmor/parameters/enabled");
    let apparmor = apparmor.is_ok_and(|flag| flag.starts_with(b"Y"));
    let profiles = match apparmor && questions.apparmor_profiles {
        true => fs::read_to_string("/sys/kernel/security/apparmor/profiles"),
        false => Ok(String::new()),
    };
    Ok(HostFacts {
        apparmor,
        apparmor_profiles: enforced_defaults(&profiles.unwrap_or_default()),
        bundle: bundle.to_owned(),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        cgroup_v2: statfs("/sys/fs/cgroup")
            .is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC),
        mount_sources: known,
        namespaces: owners(questions.namespaces)?,
        limits: limits(),
        masked_paths: thermal_throttle(),
        generated: None,
        apparmor_compiler: false,
        apparmor_own: None,
        streams: Vec::new(),
        landlock_abi: landlock_abi(),
        access: BTreeMap::new(),
    })
}

/// Reads access documents that the policy names.
pub(super) fn documents(
    paths: impl IntoIterator<Item = PathBuf>,
) -> BTreeMap<PathBuf, Result<Access, String>> {
    let read = |path: &Path| {
        let text = read_trusted(path, MAX_DOCUMENT_BYTES)?;
        Access::from_json(&text).map_err(|error| {
            let error: &dyn std::error::Error = &error;
            let source = error
                .source()
                .map_or_else(String::new, |s| format!(": {s}"));
            format!("{}: {error}{source}", path.display())
        })
    };
    let paths = paths.into_iter();
    paths.map(|path| (path.clone(), read(&path))).collect()
}

/// Looks at what only a policy that makes AppArmor profiles must know.
pub(super) fn find_for_apparmor(facts: &mut HostFacts) {
    facts.apparmor_compiler = find_parser().is_some();
    let own = [
        "/proc/self/attr/apparmor/current",
        "/proc/self/attr/current",
    ];
    let own = own.iter().find_map(|path| fs::read_to_string(path).ok());
    facts.apparmor_own = own.as_deref().and_then(profile_of);
    facts.streams = (0..3).filter_map(stream).collect();
}

/// The name in a label, `NAME (MODE)`; none for who is unconfined.
fn profile_of(label: &str) -> Option<String> {
    let label = label.trim_end_matches(['\n', '\0']);
    let name = label.rsplit_once(" (").map_or(label, |(name, _)| name);
    (!name.is_empty() && name != "unconfined").then(|| name.to_owned())
}

/// What a standard stream is, if it has a path; the container gets it.
fn stream(fd: i32) -> Option<Stream> {
    let link = format!("/proc/self/fd/{fd}");
    let path = fs::read_link(&link)
        .ok()
        .filter(|path| path.is_absolute())?;
    let fifo = fs::metadata(&link).is_ok_and(|found| found.file_type().is_fifo());
    Some(Stream { path, fifo })
}

/// Engines' default profiles among those that the kernel lists as `NAME (MODE)`.
fn enforced_defaults(listed: &str) -> Vec<String> {
    let enforced = listed.lines().filter_map(|l| l.strip_suffix(" (enforce)"));
    let defaults = enforced.filter(|name| is_engine_profile(name));
    defaults.map(str::to_owned).collect()
}

/// Sources as the spec names them, with their real paths.
fn resolve(
    bundle: &Path,
    spec: &Spec,
    sources: impl IntoIterator<Item = PathBuf>,
) -> Result<BTreeMap<PathBuf, PathBuf>, LaunchError> {
    let real = |source: PathBuf| match fs::canonicalize(bundle.join(&source)) {
        Ok(real) => Ok((source, real)),
        Err(error) => Err(LaunchError::MountSource {
            destination: destination_of(spec, &source),
            path: source,
            source: error,
        }),
    };
    sources.into_iter().map(real).collect()
}

fn destination_of(spec: &Spec, source: &Path) -> PathBuf {
    let mut mounts = spec.mounts().iter().flatten();
    let mount = mounts.find(|mount| mount.source().as_deref() == Some(source));
    mount.map_or_else(|| "/".into(), |mount| mount.destination().clone())
}

/// Whether each namespace is one of this process's own, or of pid 1's.
fn owners(
    paths: impl IntoIterator<Item = PathBuf>,
) -> Result<BTreeMap<PathBuf, NamespaceOwner>, LaunchError> {
    let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let mut own = None;
    let mut owners = BTreeMap::new();
    for path in paths {
        let id = identity(&path).map_err(|source| LaunchError::Namespace {
            path: path.clone(),
            source,
        })?;
        let own = own.get_or_insert_with(|| {
            let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
            // An engine may have namespaces of its own; those of its init are the host's all the
            // same.
            ["/proc/self/ns", "/proc/1/ns"]
                .map(|of| kinds.map(|kind| identity(&Path::new(of).join(kind)).ok()))
                .concat()
        });
        let owner = if own.contains(&Some(id)) {
            NamespaceOwner::Host
        } else {
            NamespaceOwner::Other
        };
        owners.insert(path, owner);
    }
    Ok(owners)
}

/// This process's own limits, which a container without privileges cannot pass.
fn limits() -> BTreeMap<String, (u64, u64)> {
    let all = [
        ("as", Resource::RLIMIT_AS),
        ("core", Resource::RLIMIT_CORE),
        ("cpu", Resource::RLIMIT_CPU),
        ("data", Resource::RLIMIT_DATA),
        ("fsize", Resource::RLIMIT_FSIZE),
        ("locks", Resource::RLIMIT_LOCKS),
        ("memlock", Resource::RLIMIT_MEMLOCK),
        ("msgqueue", Resource::RLIMIT_MSGQUEUE),
        ("nice", Resource::RLIMIT_NICE),
        ("nofile", Resource::RLIMIT_NOFILE),
        ("nproc", Resource::RLIMIT_NPROC),
        ("rss", Resource::RLIMIT_RSS),
        ("rtprio", Resource::RLIMIT_RTPRIO),
        ("rttime", Resource::RLIMIT_RTTIME),
        ("sigpending", Resource::RLIMIT_SIGPENDING),
        ("stack", Resource::RLIMIT_STACK),
    ];
    let known = all.into_iter().filter_map(|(name, resource)| {
        let limits = getrlimit(resource).ok()?;
        Some((name.to_owned(), limits))
    });
    known.collect()
}

/// The CPUs' thermal throttle counters, which let a container time its neighbours. Where the first
/// CPU has none, no CPU has.
fn thermal_throttle() -> Vec<String> {
    let cpus = Path::new("/sys/devices/system/cpu");
    if !cpus.join("cpu0/thermal_throttle").exists() {
        return Vec::new();
    }
    let entries = fs::read_dir(cpus).into_iter().flatten().flatten();
    let counters = entries
        .filter(|entry| {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("cpu"));
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.exists());
    let mut paths: Vec<_> = counters.map(|path| path.display().to_string()).collect();
    paths.sort_unstable();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespaces_are_the_hosts() {
        let net = PathBuf::from("/proc/self/ns/net");
        let owners = owners([net.clone()]).unwrap();
        assert_eq!(owners[&net], NamespaceOwner::Host);
        let missing = super::owners(["/proc/self/ns/none".into()]).unwrap_err();
        assert!(matches!(missing, LaunchError::Namespace { .. }));
    }

    #[test]
    fn only_enforced_defaults_of_engines_count() {
        let listed = "/usr/bin/man (enforce)\ndocker-default (enforce)\n\
                      containers-default-0.57.4 (enforce)\ncri-containerd.apparmor.d (complain)\n";
        let found = enforced_defaults(listed);
        assert_eq!(found, ["docker-default", "containers-default-0.57.4"]);
    }

    #[test]
    fn a_label_has_a_name_and_a_mode() {
        for (label, name) in [
            ("unconfined\n", None),
            ("", None),
            ("docker-default (enforce)\n", Some("docker-default")),
            ("/usr/bin/a (b) c (complain)\0", Some("/usr/bin/a (b) c")),
        ] {
            assert_eq!(profile_of(label).as_deref(), name, "{label:?}");
        }
    }

    #[test]
    fn every_limit_is_found() {
        assert_eq!(limits().len(), 16);
    }
}
