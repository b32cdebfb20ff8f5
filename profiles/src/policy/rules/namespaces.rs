//! Namespaces: what a container may share with the host.

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Spec};

use crate::policy::facts::{HostFacts, NamespaceOwner, named};
use crate::policy::judge::{Judge, Request};
use crate::policy::model::{HostNamespaces, Policy, UserNamespace, Verdict};
use crate::policy::report::{Action, Rule};

use super::privileged;
use crate::userns::SIZE;

const FIELD: &str = "linux.namespaces";

/// What the policy and the errors say about one kind of namespace.
struct Kind {
    typ: LinuxNamespaceType,
    key: &'static str,
    verdict: fn(&HostNamespaces) -> Verdict,
    asked: &'static str,
    stripped: &'static str,
    why: &'static str,
    instead: &'static str,
}

const KINDS: &[Kind] = &[
    Kind {
        typ: LinuxNamespaceType::Pid,
        key: "host_namespaces.pid",
        verdict: |n| n.pid,
        asked: "the host's pid namespace",
        stripped: "a pid namespace of its own",
        why: "the container would see, signal and look into the host's processes",
        instead: "leave out --pid=host (hostPID)",
    },
    Kind {
        typ: LinuxNamespaceType::Network,
        key: "host_namespaces.network",
        verdict: |n| n.network,
        asked: "the host's network namespace",
        stripped: "a network namespace of its own, with loopback only",
        why: "the container would reach services on the host's loopback and its abstract sockets",
        instead: "leave out --network=host (hostNetwork) and publish ports",
    },
    Kind {
        typ: LinuxNamespaceType::Ipc,
        key: "host_namespaces.ipc",
        verdict: |n| n.ipc,
        asked: "the host's ipc namespace",
        stripped: "an ipc namespace of its own",
        why: "the container would read and write the host's shared memory",
        instead: "leave out --ipc=host (hostIPC)",
    },
    Kind {
        typ: LinuxNamespaceType::Uts,
        key: "host_namespaces.uts",
        verdict: |n| n.uts,
        asked: "the host's uts namespace",
        stripped: "a uts namespace of its own",
        why: "the container would share the host's name",
        instead: "leave out --uts=host",
    },
    Kind {
        typ: LinuxNamespaceType::Cgroup,
        key: "host_namespaces.cgroup",
        verdict: |n| n.cgroup,
        asked: "the host's cgroup namespace",
        stripped: "a cgroup namespace of its own",
        why: "the container would see the host's cgroup hierarchy",
        instead: "use --cgroupns=private",
    },
    Kind {
        typ: LinuxNamespaceType::User,
        key: "host_namespaces.user",
        verdict: |n| n.user,
        asked: "the host's user ids",
        stripped: "",
        why: "root in the container would be root's user id on the host, or another user there",
        instead: "select a policy with user_namespace = \"own\", or turn on user namespaces in the \
                  engine (userns-remap, --userns, hostUsers: false)",
    },
];

/// Judges every namespace the container would share with the host. The answer: whether it is to have
/// a user namespace with ids of its own, which the spec then lists without mappings.
pub(crate) fn harden(spec: &mut Spec, host: &HostFacts, judge: &mut Judge<'_>) -> bool {
    let privileged = privileged::is_privileged(spec);
    let Some(linux) = spec.linux_mut() else {
        return false;
    };
    let user_in_name_only = maps_hosts_users(linux);
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    for namespace in &mut namespaces {
        if named(namespace.path().as_deref()).is_none() {
            namespace.set_path(None);
        }
    }
    mount_namespace(&namespaces, judge);
    refuse_unknown_paths(&namespaces, host, judge);
    // What is root on the host by the administrator's leave is not made nobody.
    let stays = privileged && judge.policy.privileged == Verdict::Allow;
    let own_ids = !user_in_name_only && !stays && own_ids(&mut namespaces, host, judge);
    for kind in KINDS {
        let hollow = kind.typ == LinuxNamespaceType::User && user_in_name_only;
        if !hollow && !shares_host(&namespaces, kind.typ, host) {
            continue;
        }
        let verdict = (kind.verdict)(&judge.policy.host_namespaces);
        let allow = format!("{} = \"allow\"", kind.key);
        let request = Request {
            rule: Rule::HostNamespaces,
            field: FIELD,
            asked: kind.asked.to_owned(),
            stripped: kind.stripped,
            why: kind.why,
            allow: &allow,
            instead: kind.instead,
        };
        // A mapping that the engine chose is not ours to change: deny, never strip.
        if kind.typ == LinuxNamespaceType::User && verdict != Verdict::Allow {
            judge.deny(request);
        } else if !judge.keeps(verdict, request) {
            namespaces.retain(|n| n.typ() != kind.typ);
            let mut own = LinuxNamespace::default();
            own.set_typ(kind.typ);
            namespaces.push(own);
        }
    }
    linux.set_namespaces(Some(namespaces));
    if own_ids {
        // Without a user namespace they meant nothing.
        linux.set_uid_mappings(None).set_gid_mappings(None);
    }
    own_ids
}

/// Puts in a user namespace where the policy wants one and the engine asks for none.
fn own_ids(namespaces: &mut Vec<LinuxNamespace>, host: &HostFacts, judge: &mut Judge<'_>) -> bool {
    let wanted = judge.policy.user_namespace == UserNamespace::Own;
    if !wanted || !shares_host(namespaces, LinuxNamespaceType::User, host) {
        return false;
    }
    namespaces.retain(|n| n.typ() != LinuxNamespaceType::User);
    let mut own = LinuxNamespace::default();
    own.set_typ(LinuxNamespaceType::User);
    namespaces.push(own);
    judge.note(
        Rule::UserNamespace,
        FIELD,
        Action::Added,
        "the host's user ids",
        "a user namespace with ids of its own",
        "root in the container is nobody on the host",
    );
    true
}

/// Whether the container is in the host's namespace of this type.
pub(crate) fn shares_host(
    namespaces: &[LinuxNamespace],
    typ: LinuxNamespaceType,
    host: &HostFacts,
) -> bool {
    let Some(namespace) = namespaces.iter().find(|n| n.typ() == typ) else {
        return true;
    };
    namespace
        .path()
        .as_ref()
        .is_some_and(|path| host.namespaces.get(path) == Some(&NamespaceOwner::Host))
}

/// Whether a mapping hands out ids of the host's own users and groups: root, and all that a 16-bit id can
/// name, where services and people have theirs. Nothing that hands out ids for containers gives those: the
/// kubelet refuses them, and userns-remap and Podman take what /etc/subuid gives, which begins above.
fn maps_hosts_users(linux: &Linux) -> bool {
    let lists = [linux.uid_mappings(), linux.gid_mappings()];
    let mut mappings = lists.into_iter().flatten().flatten();
    mappings.any(|mapping| mapping.host_id() < SIZE && mapping.size() > 0)
}

impl Policy {
    /// Whether a container may be in the host's namespace of this type: for whoever opens a path
    /// that was judged before, and may by now lead elsewhere.
    pub fn may_share_hosts(&self, typ: LinuxNamespaceType) -> bool {
        let kind = KINDS.iter().find(|kind| kind.typ == typ);
        kind.is_none_or(|kind| (kind.verdict)(&self.host_namespaces) == Verdict::Allow)
    }
}

/// Nothing of ours works without a mount namespace of the container's own.
fn mount_namespace(namespaces: &[LinuxNamespace], judge: &mut Judge<'_>) {
    let own = namespaces
        .iter()
        .any(|n| n.typ() == LinuxNamespaceType::Mount && n.path().is_none());
    if !own {
        judge.deny(Request {
            rule: Rule::HostNamespaces,
            field: FIELD,
            asked: "to do without a mount namespace of its own".to_owned(),
            stripped: "",
            why: "its mounts would be the host's",
            allow: "",
            instead: "add {\"type\": \"mount\"} to linux.namespaces",
        });
    }
}

fn refuse_unknown_paths(namespaces: &[LinuxNamespace], host: &HostFacts, judge: &mut Judge<'_>) {
    for path in namespaces.iter().filter_map(|n| n.path().as_ref()) {
        if host.namespaces.contains_key(path) {
            continue;
        }
        judge.deny(Request {
            rule: Rule::HostNamespaces,
            field: FIELD,
            asked: format!("to join the namespace {}", path.display()),
            stripped: "",
            why: "there is no namespace at that path, so it cannot be told from the host's",
            allow: "",
            instead: "correct the path, or start the container or pod that it belongs to",
        });
    }
}
