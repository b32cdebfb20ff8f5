use super::{run::Confinement, scripts_dir};
use crate::error::{At, Result};

/// An image with one thing that is done with it.
#[derive(Debug)]
pub struct Subject {
    /// What it is called.
    pub name: &'static str,
    /// The image, and its script.
    pub image: &'static str,
    /// The function of the script that is the load.
    pub step: &'static str,
    /// Flags to `ctr run`; `{volume}` is a directory of the host's.
    pub flags: &'static [&'static str],
    /// Flags to `ctr tasks exec`.
    pub exec: &'static [&'static str],
    /// What runs the load.
    pub shell: &'static [&'static str],
    /// Where `baseline` intends another outcome.
    pub otherwise: Option<Otherwise>,
}

/// An outcome under `baseline` that is not runc's, on purpose.
#[derive(Debug, Clone, Copy)]
pub struct Otherwise {
    /// The function of the script that says what happens instead, and must succeed.
    pub step: &'static str,
    /// A policy under which the load itself must succeed.
    pub policy: &'static str,
    /// The cause.
    pub why: &'static str,
}

impl Subject {
    /// What it runs under, the control first.
    pub(super) fn confinements(&self) -> impl Iterator<Item = Confinement> {
        let looser = self
            .otherwise
            .map(|other| Confinement::Policy(other.policy));
        [Confinement::Runc, Confinement::Baseline]
            .into_iter()
            .chain(looser)
    }

    /// The function that is its load under a confinement.
    pub(super) fn step_under(&self, under: Confinement) -> &'static str {
        match (under, self.otherwise) {
            (Confinement::Baseline, Some(other)) => other.step,
            _ => self.step,
        }
    }

    pub(super) fn matches(&self, wanted: &str) -> bool {
        self.name.contains(wanted) || self.image == wanted
    }

    /// Whether its image is left out of [`super::Extent::Light`].
    pub(super) fn is_heavy(&self) -> Result<bool> {
        Ok(self.script()?.contains("\nheavy=yes\n"))
    }

    /// Its script.
    pub(super) fn script(&self) -> Result<String> {
        let path = scripts_dir().join(format!("{}.sh", self.image));
        std::fs::read_to_string(&path).at("read", path)
    }
}

const fn image(name: &'static str) -> Subject {
    Subject {
        name,
        image: name,
        step: "load",
        flags: &[],
        exec: &[],
        shell: &["sh"],
        otherwise: None,
    }
}

const fn case(name: &'static str, step: &'static str) -> Subject {
    Subject {
        name,
        step,
        ..image("tools")
    }
}

/// Privileges that a program would gain from its file.
const GAINS: &str = "`baseline` sets no_new_privs, as Kubernetes' restricted pods do: a file's set-id bits and \
    capabilities give nothing to who executes it. What root gives up itself (su, sudo, cron, sshd) works. A \
    workload that needs them gets a policy with `no_new_privileges = false`.";

/// A volume that the container may write to.
const VOLUME: &[&str] = &[
    "--mount",
    "type=bind,src={volume},dst=/volume,options=rbind:rw",
];

/// Every subject, those that take longest first.
pub const SUBJECTS: &[Subject] = &[
    image("python"),
    Subject {
        image: "tools",
        ..case("owners of an image's files", "owners_in_image")
    },
    Subject {
        exec: &["--user", "1000"],
        ..case("exec --user 1000", "other_user")
    },
    image("user"),
    Subject {
        otherwise: Some(Otherwise {
            step: "setuid_ignored",
            policy: "gains",
            why: GAINS,
        }),
        ..case("set-user-id programs", "setuid")
    },
    Subject {
        otherwise: Some(Otherwise {
            step: "capabilities_ignored",
            policy: "gains",
            why: GAINS,
        }),
        ..case("file capabilities", "capabilities")
    },
    Subject {
        otherwise: Some(Otherwise {
            step: "ping_refused",
            policy: "raw",
            why: "`baseline` drops NET_RAW, as Podman does. Debian's ping carries it as a file capability and \
                cannot be executed without it. A policy can have NET_RAW among its `capabilities.bounding`, or the image \
                a ping without the file capability: it needs none where net.ipv4.ping_group_range is open, as Docker sets it.",
        }),
        ..case("ping", "ping_loopback")
    },
    Subject {
        flags: VOLUME,
        ..case("volume with files of many owners", "volume")
    },
    Subject {
        flags: &[
            "--mount",
            "type=bind,src={volume},dst=/volume,options=rbind:ro",
        ],
        ..case("host path, read-only", "host_path")
    },
    Subject {
        flags: &[
            "--read-only",
            "--mount",
            "type=tmpfs,src=tmpfs,dst=/tmp,options=nosuid:nodev:mode=1777",
        ],
        ..case("read-only root file system", "read_only")
    },
    Subject {
        flags: &[
            "--mount",
            "type=tmpfs,src=tmpfs,dst=/scratch,options=nosuid:nodev:noexec:mode=1777:size=10m",
        ],
        ..case("tmpfs", "memory")
    },
    case("/dev/shm and System V memory", "shared_memory"),
    case("message queues", "queues"),
    Subject {
        otherwise: Some(Otherwise {
            step: "ids_bounded",
            policy: "shared-ids",
            why: "`baseline` gives every container a user namespace of its own with ids 0 to 65535, as Kubernetes and \
                userns-remap do: there is no owner beyond. Python's own tests of chown to 2^31 fail for it and are left out of its load. \
                A workload with such ids gets a policy with `user_namespace = \"engine\"`.",
        }),
        ..case("ids beyond 65535", "ids")
    },
    case("/proc, /dev and terminals", "hosts"),
    image("apt"),
    image("java"),
    image("mariadb"),
    image("postgres"),
    image("gcc"),
    image("make"),
    image("tar"),
    image("git"),
    image("postfix"),
    image("node"),
    image("varnish"),
    image("nginx"),
    image("apache"),
    image("lighttpd"),
    image("haproxy"),
    image("squid"),
    image("caddy"),
    image("php"),
    image("redis"),
    image("memcached"),
    image("sqlite"),
    image("slapd"),
    image("mosquitto"),
    image("named"),
    image("dnsmasq"),
    image("unbound"),
    image("sshd"),
    image("rsync"),
    image("perl"),
    image("ruby"),
    image("lua"),
    image("cron"),
    image("dbus"),
    image("tini"),
    image("dumb-init"),
    image("runit"),
    image("s6"),
    image("supervisor"),
    image("sysvinit"),
    image("busybox"),
    Subject {
        // There is nothing in the image that a shell could run by name.
        shell: &[
            "/busybox",
            "sh",
            "-euc",
            "/busybox mkdir /bin && /busybox --install -s /bin && exec /bin/sh \"$0\" \"$@\"",
        ],
        ..image("scratch")
    },
];
