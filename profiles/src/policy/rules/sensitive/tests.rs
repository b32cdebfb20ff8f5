//! Which host paths are judged how.

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
        ("/root/.ssh/authorized_keys", rw, true),
        ("/root/.netrc", ro, true),
        ("/home/me/project", rw, false),
        ("/home/me/project/.ssh", rw, false),
        ("/home/me/.ssh", ro, true),
        ("/home/me/.ssh/id_ed25519", ro, true),
        ("/home/you/.kube/config", ro, true),
        ("/home/me/.config/gcloud", ro, true),
        ("/home/me/.config", ro, true),
        ("/home/me/.config/app", ro, false),
        ("/home/me/.config/app", rw, true),
        ("/home/me/.bashrc", ro, false),
        ("/home/me/.bashrc", rw, true),
        ("/home/me/.sshd", rw, false),
        ("/home/me", ro, true),
        ("/home", ro, true),
        ("/homestead", rw, false),
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
        ("/var/lib/kubelet/pods/uid", ro, true),
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
        ("/run/snapd.socket", rw, true),
        ("/run/buildkit", ro, true),
        ("/run/k0s/containerd", ro, true),
        ("/run/initctl", rw, true),
        ("/var/lib/incus", ro, true),
        ("/etc/cni/net.d/calico-kubeconfig", ro, true),
        ("/sysroot/ostree/deploy/os/deploy/0/etc/passwd", ro, true),
        ("/nix/store/hash-bash/bin", rw, true),
        ("/nix/store", ro, false),
        ("/var/home", ro, true),
        ("/var/home/me", ro, true),
        ("/var/home/me/.ssh/id_ed25519", ro, true),
        ("/var/home/me/.bashrc", rw, true),
        ("/var/home/me/project", rw, false),
        ("/var/roothome", ro, true),
        ("/var/roothome/.kube/config", ro, true),
        ("/var/roothome/project", rw, false),
        ("/procfs", rw, false),
        ("/etcetera", rw, false),
    ] {
        let why = why(Path::new(path), read_only, &baseline(), None);
        assert_eq!(
            why.is_some(),
            sensitive,
            "{path} read-only={read_only}: {why:?}"
        );
    }
}

#[test]
fn volumes_of_pods_are_for_their_own_pod() {
    let volume = "/var/lib/kubelet/pods/0a1b-2c/volumes/kubernetes.io~secret/token";
    for (path, pod, sensitive) in [
        (volume, Some("0a1b-2c"), false),
        (volume, Some("0a1b-2"), true),
        (volume, Some("0a1b-2c3"), true),
        (volume, Some(""), true),
        (volume, Some(".."), true),
        (volume, None, true),
        ("/var/lib/kubelet/pods/0a1b-2c", Some("0a1b-2c"), false),
        ("/var/lib/kubelet/pods", Some("0a1b-2c"), true),
        ("/var/lib/kubelet", Some("0a1b-2c"), true),
        ("/var/lib/kubelet/pki", Some("pki"), true),
        (
            "/var/lib/kubelet/pods/0a1b-2c/volumes/x/docker.sock",
            Some("0a1b-2c"),
            true,
        ),
    ] {
        for read_only in [true, false] {
            let why = why(Path::new(path), read_only, &baseline(), pod);
            assert_eq!(why.is_some(), sensitive, "{path} for {pod:?}: {why:?}");
        }
    }
    // The administrator's own word counts more.
    let mut rules = baseline();
    rules.allow = BTreeSet::from(["/var/lib/kubelet/pods".into()]);
    assert_eq!(why(Path::new(volume), false, &rules, None), None);
    let mut rules = baseline();
    rules.paths = BTreeSet::from(["/var/lib/kubelet/pods/0a1b-2c/volumes".into()]);
    assert!(why(Path::new(volume), true, &rules, Some("0a1b-2c")).is_some());
}

#[test]
fn a_policy_adds_and_allows() {
    let mut rules = baseline();
    rules.paths = BTreeSet::from(["/srv/keys".into()]);
    let allowed = ["/etc/app", "/run/docker.sock", "/home/me/.config/app"];
    rules.allow = allowed.map(PathBuf::from).into();
    for (path, sensitive) in [
        ("/srv/keys/a", true),
        ("/srv", true),
        ("/srv/other", false),
        ("/etc/app", false),
        ("/etc/application", true),
        ("/run/docker.sock", false),
        ("/home/me/.config/app", false),
        ("/var/home/me/.config/app", false),
        ("/var/home/me/.config/other", true),
    ] {
        assert_eq!(
            why(Path::new(path), false, &rules, None).is_some(),
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
        ("/var/home/me/.ssh", "/home/me/.ssh"),
        ("/var/roothome", "/root"),
        ("/var/homes", "/var/homes"),
        ("//etc/./app/", "/etc/app"),
    ] {
        assert_eq!(canonical(Path::new(path)), Path::new(expected));
    }
}

#[test]
fn the_hosts_own_trees_are_no_root_of_a_container() {
    for (path, refused) in [
        ("/", true),
        ("/var/home", true),
        ("/var/roothome", true),
        ("/sysroot/ostree/deploy/os/deploy/0", true),
        ("/var/run", true),
        ("/var/home/me/bundle/rootfs", false),
        ("/srv/rootfs", false),
    ] {
        assert_eq!(why_as_root(Path::new(path)).is_some(), refused, "{path}");
    }
}
