//! Host paths that are sensitive, and what in them is meant for containers.

/// From which access on a path is sensitive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Read,
    Write,
}

/// Trees of the host, with all below them; `*` is one name. What is above one of them is sensitive
/// likewise.
pub(super) const TREES: &[(&str, From)] = &[
    ("/boot", From::Read),
    ("/dev", From::Read),
    ("/proc", From::Read),
    ("/sys", From::Read),
    ("/etc/NetworkManager/system-connections", From::Read),
    // Kubeconfigs of network plug-ins, which may change every pod.
    ("/etc/cni", From::Read),
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
    // Keys and passwords of people: with them an attacker goes on to other machines.
    ("/home/*/.aws", From::Read),
    ("/home/*/.azure", From::Read),
    ("/home/*/.config/containers", From::Read),
    ("/home/*/.config/gcloud", From::Read),
    ("/home/*/.config/gh", From::Read),
    ("/home/*/.docker", From::Read),
    ("/home/*/.git-credentials", From::Read),
    ("/home/*/.gnupg", From::Read),
    ("/home/*/.kube", From::Read),
    ("/home/*/.netrc", From::Read),
    ("/home/*/.password-store", From::Read),
    ("/home/*/.ssh", From::Read),
    ("/root/.aws", From::Read),
    ("/root/.azure", From::Read),
    ("/root/.config/containers", From::Read),
    ("/root/.config/gcloud", From::Read),
    ("/root/.config/gh", From::Read),
    ("/root/.docker", From::Read),
    ("/root/.git-credentials", From::Read),
    ("/root/.gnupg", From::Read),
    ("/root/.kube", From::Read),
    ("/root/.netrc", From::Read),
    ("/root/.password-store", From::Read),
    ("/root/.ssh", From::Read),
    ("/run/buildkit", From::Read),
    ("/run/cofferdam", From::Read),
    ("/run/containerd", From::Read),
    ("/run/containers", From::Read),
    ("/run/crio", From::Read),
    ("/run/crun", From::Read),
    ("/run/dbus", From::Read),
    ("/run/docker", From::Read),
    ("/run/incus", From::Read),
    ("/run/initctl", From::Read),
    ("/run/k0s", From::Read),
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
    // The whole disk of a host made by ostree.
    ("/sysroot", From::Read),
    ("/var/cache/cofferdam", From::Read),
    ("/var/lib/cofferdam", From::Read),
    ("/var/lib/containerd", From::Read),
    ("/var/lib/containers", From::Read),
    ("/var/lib/docker", From::Read),
    ("/var/lib/etcd", From::Read),
    ("/var/lib/incus", From::Read),
    ("/var/lib/k0s", From::Read),
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
    // Every program of a host made by Nix.
    ("/nix", From::Write),
    // Programs that kubelets and engines run as root.
    ("/opt/cni", From::Write),
    ("/opt/containerd", From::Write),
    ("/opt/nri", From::Write),
    // What shells and desktops run.
    ("/home/*/.bash_login", From::Write),
    ("/home/*/.bash_profile", From::Write),
    ("/home/*/.bashrc", From::Write),
    ("/home/*/.config", From::Write),
    ("/home/*/.local", From::Write),
    ("/home/*/.profile", From::Write),
    ("/home/*/.zshrc", From::Write),
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
pub(super) const SOCKETS: &[&str] = &[
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
    "snapd.socket",
];

/// What lies in a sensitive tree and is meant to be mounted into containers. `*` is one name, a
/// final `**` any number of them, none included.
pub(super) const MEANT_FOR_CONTAINERS: &[(&str, From)] = &[
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
