//! Which host paths are sensitive: who can read or write them can become the host's root, another
//! container, or learn their secrets.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use crate::policy::model::MountRules;

/// From which access on a path is sensitive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Read,
    Write,
}

/// Trees of the host, with all below them. What is above one of them is sensitive likewise.
const TREES: &[(&str, From)] = &[
    ("/boot", From::Read),
    ("/dev", From::Read),
    ("/proc", From::Read),
    ("/sys", From::Read),
    ("/etc/NetworkManager/system-connections", From::Read),
    ("/etc/cofferdam", From::Read),
    ("/etc/containerd", From::Read),
    ("/etc/containers", From::Read),
    ("/etc/crio", From::Read),
    ("/etc/docker", From::Read),
    ("/etc/gshadow", From::Read),
    ("/etc/gshadow-", From::Read),
    ("/etc/kubernetes", From::Read),
    ("/etc/rancher", From::Read),
    ("/etc/shadow", From::Read),
    ("/etc/shadow-", From::Read),
    ("/etc/ssh", From::Read),
    ("/etc/ssl/private", From::Read),
    ("/etc/sudoers", From::Read),
    ("/etc/sudoers.d", From::Read),
    ("/etc/wireguard", From::Read),
    ("/root/.aws", From::Read),
    ("/root/.docker", From::Read),
    ("/root/.gnupg", From::Read),
    ("/root/.kube", From::Read),
    ("/root/.ssh", From::Read),
    ("/run/cofferdam", From::Read),
    ("/run/containerd", From::Read),
    ("/run/containers", From::Read),
    ("/run/crio", From::Read),
    ("/run/crun", From::Read),
    ("/run/dbus", From::Read),
    ("/run/docker", From::Read),
    ("/run/k3s", From::Read),
    ("/run/libvirt", From::Read),
    ("/run/lxd", From::Read),
    ("/run/netns", From::Read),
    // Sockets by which a plug-in changes every container's spec.
    ("/run/nri", From::Read),
    ("/run/podman", From::Read),
    ("/run/runc", From::Read),
    ("/run/systemd", From::Read),
    ("/run/udev", From::Read),
    // Session buses, agents, the sockets of rootless engines.
    ("/run/user", From::Read),
    ("/var/cache/cofferdam", From::Read),
    ("/var/lib/cofferdam", From::Read),
    ("/var/lib/containerd", From::Read),
    ("/var/lib/containers", From::Read),
    ("/var/lib/docker", From::Read),
    ("/var/lib/etcd", From::Read),
    ("/var/lib/kubelet", From::Read),
    ("/var/lib/libvirt", From::Read),
    ("/var/lib/lxd", From::Read),
    ("/var/lib/rancher", From::Read),
    ("/var/snap", From::Read),
    ("/bin", From::Write),
    ("/etc", From::Write),
    ("/lib", From::Write),
    ("/lib32", From::Write),
    ("/lib64", From::Write),
    ("/libx32", From::Write),
    // Programs that kubelets and engines run as root.
    ("/opt/cni", From::Write),
    ("/opt/containerd", From::Write),
    ("/opt/nri", From::Write),
    // What root's shells run.
    ("/root/.bash_login", From::Write),
    ("/root/.bash_profile", From::Write),
    ("/root/.bashrc", From::Write),
    ("/root/.config", From::Write),
    ("/root/.local", From::Write),
    ("/root/.profile", From::Write),
    // Read by root, some at once and some at the next boot or shutdown.
    ("/run/initramfs", From::Write),
    ("/run/modprobe.d", From::Write),
    ("/run/sysctl.d", From::Write),
    ("/run/tmpfiles.d", From::Write),
    ("/sbin", From::Write),
    ("/usr", From::Write),
    ("/var/lib/cloud", From::Write),
    ("/var/lib/cni", From::Write),
    ("/var/lib/dpkg", From::Write),
    ("/var/lib/rpm", From::Write),
    ("/var/lib/systemd", From::Write),
    // The kubelet follows links there as root and shows what they lead to (kubectl logs).
    ("/var/log/containers", From::Write),
    ("/var/log/pods", From::Write),
    ("/var/spool/at", From::Write),
    ("/var/spool/cron", From::Write),
];

/// Sockets that hand out the host's root, wherever they are: engines and kubelets with data roots
/// of their own have them elsewhere.
const SOCKETS: &[&str] = &[
    "buildkitd.sock",
    "containerd.sock",
    "containerd.sock.ttrpc",
    "cri-dockerd.sock",
    "crio.sock",
    "docker.sock",
    "dockershim.sock",
    "kubelet.sock",
    "libvirt-sock",
    "nri.sock",
    "podman.sock",
];

/// What lies in a sensitive tree and is meant to be mounted into containers. `*` is one name, a
/// final `**` any number of them, none included.
const MEANT_FOR_CONTAINERS: &[(&str, From)] = &[
    // Docker: the container's own files, shared memory and secrets, and volumes.
    ("/var/lib/docker/containers/*/hostname", From::Write),
    ("/var/lib/docker/containers/*/hosts", From::Write),
    ("/var/lib/docker/containers/*/resolv.conf", From::Write),
    ("/var/lib/docker/containers/*/mounts/**", From::Write),
    ("/var/lib/docker/volumes/*/_data/**", From::Write),
    // Podman and CRI-O: overlay-containers/ID/userdata, volumes/NAME/_data.
    ("/run/containers/storage/*/*/userdata/**", From::Write),
    ("/run/user/*/containers/*/*/userdata/**", From::Write),
    ("/var/lib/containers/storage/*/*/userdata/**", From::Write),
    (
        "/var/lib/containers/storage/volumes/*/_data/**",
        From::Write,
    ),
    // containerd's CRI plugin: a pod's files and shared memory, image volumes.
    (
        "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/*/**",
        From::Write,
    ),
    (
        "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/*/**",
        From::Write,
    ),
    (
        "/var/lib/containerd/io.containerd.grpc.v1.cri/containers/*/volumes/**",
        From::Write,
    ),
    // Kubernetes: a pod's volumes.
    ("/var/lib/kubelet/pods/*/**", From::Write),
    // What /etc/resolv.conf is a link to under systemd-resolved.
    ("/run/systemd/resolve/resolv.conf", From::Read),
    ("/run/systemd/resolve/stub-resolv.conf", From::Read),
    ("/sys/fs/cgroup/**", From::Read),
    // Devices without state.
    ("/dev/full", From::Write),
    ("/dev/null", From::Write),
    ("/dev/random", From::Write),
    ("/dev/urandom", From::Write),
    ("/dev/zero", From::Write),
];

/// Why `path`, a canonical one, is sensitive; `None` when it is not.
pub(crate) fn why(path: &Path, read_only: bool, rules: &MountRules) -> Option<String> {
    if rules.allow.iter().any(|allowed| path.starts_with(allowed)) {
        return None;
    }
    if path.file_name().is_some_and(is_socket_name) {
        return Some("who can talk to that socket is root on the host".to_owned());
    }
    if path == Path::new("/") {
        return Some("it is the host's whole file system".to_owned());
    }
    let enough = |from: From| from == From::Read || !read_only;
    let own = rules.paths.iter().map(|path| (path.as_path(), From::Read));
    let builtin = TREES.iter().map(|(tree, from)| (Path::new(*tree), *from));
    for (tree, from) in own.chain(builtin) {
        if !enough(from) {
            continue;
        }
        if tree.starts_with(path) && tree != path {
            return Some(format!("{} lies below it", tree.display()));
        }
        if path.starts_with(tree) && !is_meant(path, read_only) {
            return Some(match from {
                From::Read => "it gives away or controls the host".to_owned(),
                From::Write => "who can write there controls the host".to_owned(),
            });
        }
    }
    None
}

fn is_socket_name(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| SOCKETS.contains(&name))
}

fn is_meant(path: &Path, read_only: bool) -> bool {
    MEANT_FOR_CONTAINERS
        .iter()
        .filter(|(_, up_to)| read_only || *up_to == From::Write)
        .any(|(pattern, _)| matches(Path::new(pattern), path))
}

fn matches(pattern: &Path, path: &Path) -> bool {
    let mut names = path.components();
    for component in pattern.components() {
        if component.as_os_str() == "**" {
            return true;
        }
        match names.next() {
            Some(_) if component.as_os_str() == "*" => {}
            Some(name) if name == component => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Why `path` cannot be a container's root file system: it is the host's own, or a part of it.
///
/// Trees of engines are fine here, that is where they keep images.
pub(crate) fn why_as_root(path: &Path) -> Option<&'static str> {
    const TREES: &[&str] = &["/boot", "/dev", "/etc", "/proc", "/sys"];
    const EXACT: &[&str] = &[
        "/bin", "/home", "/lib", "/opt", "/root", "/run", "/sbin", "/usr", "/var", "/var/lib",
    ];
    if path == Path::new("/") {
        return Some("it is the host's whole file system");
    }
    let is_host = TREES.iter().any(|tree| path.starts_with(tree))
        || EXACT.iter().any(|exact| path == Path::new(exact));
    is_host.then_some("it is a part of the host's own file system")
}

/// A path without `.`, doubled and trailing slashes.
pub(crate) fn plain(path: &Path) -> PathBuf {
    join("/", path)
}

/// A path as policies name it, with the links that every distribution has resolved.
pub(crate) fn canonical(path: &Path) -> PathBuf {
    for (link, target) in [("/var/run", "/run"), ("/var/lock", "/run/lock")] {
        if let Ok(rest) = path.strip_prefix(link) {
            return join(target, rest);
        }
    }
    join("/", path)
}

/// `base` and the plain names of `rest`.
fn join(base: &str, rest: &Path) -> PathBuf {
    let names = rest
        .components()
        .filter(|c| matches!(c, Component::Normal(_)));
    Path::new(base).components().chain(names).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::builtin;

    fn baseline() -> MountRules {
        builtin::baseline().mounts
    }

    #[test]
    fn host_paths_are_judged() {
        let ro = true;
        let rw = false;
        for (path, read_only, sensitive) in [
            ("/", ro, true),
            ("/var", ro, true),
            ("/run", ro, true),
            ("/var/lib", ro, true),
            ("/root", ro, true),
            ("/root/project", rw, false),
            ("/home/me/project", rw, false),
            ("/srv/data", rw, false),
            ("/tmp", rw, false),
            ("/proc", ro, true),
            ("/proc/1/root", ro, true),
            ("/sys/kernel/debug", ro, true),
            ("/sys/fs/cgroup", ro, false),
            ("/sys/fs/cgroup", rw, true),
            ("/etc", ro, true),
            ("/etc/nginx/nginx.conf", ro, false),
            ("/etc/nginx/nginx.conf", rw, true),
            ("/etc/ssl/certs", ro, false),
            ("/etc/ssl", ro, true),
            ("/etc/shadow", ro, true),
            ("/etc/kubernetes/pki", ro, true),
            ("/usr/share/zoneinfo/UTC", ro, false),
            ("/usr/share/zoneinfo", rw, true),
            ("/usr", ro, false),
            ("/run/systemd/resolve/stub-resolv.conf", ro, false),
            ("/run/systemd/resolve/stub-resolv.conf", rw, true),
            ("/run/docker.sock", ro, true),
            ("/tmp/private/docker.sock", rw, true),
            ("/run/containerd/containerd.sock", ro, true),
            ("/run/netns/cni-1", ro, true),
            ("/dev/sda", ro, true),
            ("/dev/null", rw, false),
            ("/dev/shm", rw, true),
            ("/var/lib/kubelet", ro, true),
            ("/var/lib/kubelet/pods", ro, true),
            ("/var/lib/kubelet/pods/uid", ro, false),
            (
                "/var/lib/kubelet/pods/uid/volumes/kubernetes.io~secret/a",
                ro,
                false,
            ),
            ("/var/lib/kubelet/pki", ro, true),
            ("/var/lib/docker", ro, true),
            ("/var/lib/docker/volumes/v/_data", rw, false),
            ("/var/lib/docker/volumes/v/_data/sub/dir", rw, false),
            ("/var/lib/docker/volumes/v", rw, true),
            ("/var/lib/docker/containers/id/hosts", rw, false),
            ("/var/lib/docker/containers/id/config.v2.json", ro, true),
            ("/var/lib/containers/storage/volumes/v/_data", rw, false),
            (
                "/run/containers/storage/overlay-containers/id/userdata/hosts",
                rw,
                false,
            ),
            (
                "/run/containerd/io.containerd.grpc.v1.cri/sandboxes/id/shm",
                rw,
                false,
            ),
            (
                "/run/containerd/io.containerd.runtime.v2.task/k8s.io/id",
                ro,
                true,
            ),
            // Ways to the host's root that the list did not have at first.
            ("/run/nri/nri.sock", ro, true),
            ("/run/user/1000", ro, true),
            ("/run/udev/rules.d", rw, true),
            ("/root/.bashrc", rw, true),
            ("/root", rw, true),
            ("/opt/cni/bin", rw, true),
            ("/opt/app", rw, false),
            ("/var/log", rw, true),
            ("/var/log", ro, false),
            ("/var/log/pods", ro, false),
            ("/var/log/nginx", rw, false),
            ("/var/spool/at/x", rw, true),
            ("/procfs", rw, false),
            ("/etcetera", rw, false),
        ] {
            let why = why(Path::new(path), read_only, &baseline());
            assert_eq!(
                why.is_some(),
                sensitive,
                "{path} read-only={read_only}: {why:?}"
            );
        }
    }

    #[test]
    fn a_policy_adds_and_allows() {
        let mut rules = baseline();
        rules.paths = BTreeSet::from(["/srv/keys".into()]);
        rules.allow = BTreeSet::from(["/etc/app".into(), "/run/docker.sock".into()]);
        for (path, sensitive) in [
            ("/srv/keys/a", true),
            ("/srv", true),
            ("/srv/other", false),
            ("/etc/app", false),
            ("/etc/application", true),
            ("/run/docker.sock", false),
        ] {
            assert_eq!(
                why(Path::new(path), false, &rules).is_some(),
                sensitive,
                "{path}"
            );
        }
    }

    #[test]
    fn the_usual_links_are_resolved() {
        for (path, expected) in [
            ("/var/run/docker.sock", "/run/docker.sock"),
            ("/var/run", "/run"),
            ("/var/running", "/var/running"),
            ("//etc/./app/", "/etc/app"),
        ] {
            assert_eq!(canonical(Path::new(path)), Path::new(expected));
        }
    }
}
