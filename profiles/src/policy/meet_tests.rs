//! The algebra of `meet`, and that it is never looser than either side.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::generated_tests::made;
use super::harden_tests::{host, plain, spec, with};
use super::model::{ApparmorChoice, BestEffort, Denials, ReadOnlyRootfs, SeccompChoice, Verdict};
use super::*;
use crate::apparmor::Mode;
use crate::capability::{self, Set};
use crate::seccomp::Compat32;

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Deny),
        Just(Verdict::Strip),
        Just(Verdict::Allow)
    ]
}

fn subset<T: Ord + Clone + std::fmt::Debug + 'static>(
    of: Vec<T>,
) -> impl Strategy<Value = BTreeSet<T>> {
    let most = of.len();
    proptest::sample::subsequence(of, 0..=most).prop_map(|list| list.into_iter().collect())
}

fn strings(of: &[&str]) -> impl Strategy<Value = BTreeSet<String>> {
    subset(of.iter().map(ToString::to_string).collect())
}

fn policy() -> impl Strategy<Value = Policy> {
    let verdicts = proptest::collection::vec(verdict(), 16);
    let seccomp = prop_oneof![
        Just(SeccompChoice::Generate),
        Just(SeccompChoice::Intersect),
        Just(SeccompChoice::Default),
        Just(SeccompChoice::Engine),
    ];
    let lists = (
        strings(&["/proc/a", "/proc/b"]),
        strings(&["/proc/c"]),
        subset(vec!["/srv".into(), "/mnt".into()]),
        subset(vec!["/etc".into(), "/run/docker.sock".into()]),
        subset(vec!["c 10:229".parse().unwrap(), "b 8:*".parse().unwrap()]),
        strings(&["net.core.somaxconn", "net.*"]),
        subset(vec![
            BestEffort::Apparmor,
            BestEffort::GeneratedSeccomp,
            BestEffort::Selinux,
        ]),
        strings(&["my_app_t", "other_t"]),
    );
    let compat32 = prop_oneof![
        Just(Compat32::Refused),
        Just(Compat32::Filtered),
        Just(Compat32::Socketcall),
    ];
    let limit = proptest::option::of(0..4096u64);
    (
        verdicts,
        any::<(u64, bool, bool, bool)>(),
        (seccomp, compat32, verdict()),
        lists,
        limit,
        0..3usize,
    )
        .prop_map(
            |(
                v,
                (bits, nnp, read_only, explain),
                (seccomp, compat32, selinux),
                lists,
                limit,
                name,
            )| {
                let base = builtin::baseline();
                let all: Set = capability::ALL.iter().copied().collect();
                let two = |v: Verdict| v.min(Verdict::Strip);
                let mut policy = Policy {
                    name: ["a", "b", "c"][name].to_owned(),
                    privileged: v[0],
                    run_as_root: v[1],
                    no_new_privileges: nnp,
                    seccomp,
                    seccomp_compat32: compat32,
                    selinux_unconfined: selinux,
                    selinux_types: lists.7,
                    denials: if explain {
                        Denials::Explain
                    } else {
                        Denials::Silent
                    },
                    read_only_rootfs: if read_only {
                        ReadOnlyRootfs::Required
                    } else {
                        ReadOnlyRootfs::Asked
                    },
                    masked_paths: lists.0,
                    readonly_paths: lists.1,
                    best_effort: lists.6,
                    apparmor: match bits & 1 {
                        0 => ApparmorChoice::Engine,
                        _ => ApparmorChoice::Generate,
                    },
                    apparmor_mode: match bits & 2 {
                        0 => Mode::Enforce,
                        _ => Mode::Complain,
                    },
                    apparmor_documents: [("/a", 4), ("/b", 8)]
                        .into_iter()
                        .filter(|(_, bit)| bits & bit != 0)
                        .map(|(path, _)| path.into())
                        .collect(),
                    apparmor_unconfined: v[2],
                    hooks: v[3],
                    rlimits: limit
                        .map(|l| ("nofile".to_owned(), l))
                        .into_iter()
                        .collect::<BTreeMap<_, _>>(),
                    ..base
                };
                policy.capabilities.bounding = Set::from_bits(bits) & all;
                policy.capabilities.beyond = two(v[4]);
                policy.host_namespaces.pid = v[5];
                policy.host_namespaces.network = v[6];
                policy.host_namespaces.ipc = v[7];
                policy.host_namespaces.uts = v[8];
                policy.host_namespaces.cgroup = v[9];
                policy.mounts.sensitive = v[10];
                policy.mounts.paths = lists.2;
                policy.mounts.allow = lists.3;
                policy.mounts.shared_propagation = v[11];
                policy.mounts.kernel_write = v[12];
                policy.mounts.other_types = v[13];
                policy.devices.beyond = v[14];
                policy.devices.allow = lists.4;
                policy.sysctls.beyond = v[15];
                policy.sysctls.allow = lists.5;
                policy
            },
        )
}

/// Specs that ask for something of every rule.
fn greedy() -> Vec<serde_json::Value> {
    let mut no_namespaces = plain();
    no_namespaces["linux"]["namespaces"] = json!([{"type": "mount"}]);
    let bind = |source: &str| {
        json!({"destination": "/x", "type": "bind", "source": source,
               "options": ["rbind", "rshared"]})
    };
    vec![
        plain(),
        no_namespaces,
        with(
            "/process/capabilities/bounding",
            json!(["SYS_ADMIN", "CHOWN", "NET_RAW"]),
        ),
        with("/mounts/-", bind("/etc/x")),
        with("/mounts/-", bind("/srv/x")),
        with(
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "b", "major": 8, "minor": 1}]),
        ),
        with(
            "/linux/resources/devices/-",
            json!({"allow": true, "type": "b", "major": 8, "access": "rw"}),
        ),
        with("/linux/sysctl", json!({"net.core.somaxconn": "1"})),
        with("/hooks", json!({"poststop": [{"path": "/bin/true"}]})),
        with("/process/noNewPrivileges", json!(false)),
    ]
}

fn harden_under(
    policy: &Policy,
    json: &serde_json::Value,
) -> Option<Hardened<oci_spec::runtime::Spec>> {
    let spec = spec(json);
    let host = HostFacts {
        generated: Some(made(&["read", "unlink"])),
        ..host(&spec)
    };
    let mut file = PolicyFile::builtin();
    file.insert(policy.clone());
    let selection = Selection {
        command_line: Some(policy.name.clone()),
        ..Selection::default()
    };
    harden(spec, &file, &selection, &host).ok()
}

/// What a hardened container can do, in figures that can be compared.
fn reach(hardened: &Hardened<oci_spec::runtime::Spec>) -> Vec<BTreeSet<String>> {
    let spec = hardened.get();
    let linux = spec.linux().clone().unwrap();
    let json = serde_json::to_value(spec).unwrap();
    let texts = |value: &serde_json::Value| -> BTreeSet<String> {
        let list = value.as_array().into_iter().flatten();
        list.map(ToString::to_string).collect()
    };
    let namespaces = linux.namespaces().clone().unwrap();
    let kinds = ["pid", "network", "ipc", "uts", "cgroup"];
    let own: BTreeSet<String> = namespaces
        .iter()
        .map(|n| format!("{:?}", n.typ()).to_lowercase())
        .collect();
    let shared = kinds
        .iter()
        .filter(|k| !own.contains(**k))
        .map(ToString::to_string)
        .collect();
    let sources = spec
        .mounts()
        .iter()
        .flatten()
        .map(|m| format!("{:?}", m.source()))
        .collect();
    let sysctls = linux
        .sysctl()
        .iter()
        .flatten()
        .map(|(k, _)| k.clone())
        .collect();
    vec![
        texts(&json["process"]["capabilities"]["bounding"]),
        texts(&json["linux"]["resources"]["devices"]),
        texts(&json["linux"]["devices"]),
        shared,
        sources,
        sysctls,
        spec.hooks().iter().map(|_| "hooks".to_owned()).collect(),
        renames(hardened),
    ]
}

/// Whether it may rename files: the built-in default allows that, the made profile does not.
fn renames(hardened: &Hardened<oci_spec::runtime::Spec>) -> BTreeSet<String> {
    let linux = hardened.get().linux().as_ref();
    let Some(profile) = linux.and_then(|linux| linux.seccomp().as_ref()) else {
        return BTreeSet::from(["rename".to_owned()]);
    };
    let mut rules = profile.syscalls().iter().flatten();
    let allows = rules.any(|rule| {
        rule.action() == oci_spec::runtime::LinuxSeccompAction::ScmpActAllow
            && rule.names().iter().any(|name| name == "rename")
    });
    allows.then(|| "rename".to_owned()).into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn meet_is_a_semilattice(a in policy(), b in policy(), c in policy()) {
        prop_assert_eq!(a.meet(&a), a.clone());
        prop_assert_eq!(a.meet(&b), b.meet(&a));
        prop_assert_eq!(a.meet(&b).meet(&c), a.meet(&b.meet(&c)));
    }

    #[test]
    fn meet_is_never_looser(a in policy(), b in policy()) {
        let met = a.meet(&b);
        for json in greedy() {
            let Some(hardened) = harden_under(&met, &json) else {
                continue;
            };
            for side in [&a, &b] {
                let looser = harden_under(side, &json);
                prop_assert!(looser.is_some(), "{} refuses, the meet does not: {}", side.name, json);
                let looser = looser.unwrap();
                for (tight, loose) in reach(&hardened).iter().zip(&reach(&looser)) {
                    prop_assert!(tight.is_subset(loose), "{tight:?} is more than {loose:?}: {json}");
                }
                let nnp = |h: &Hardened<oci_spec::runtime::Spec>| h.report().summary.no_new_privileges;
                prop_assert!(nnp(&hardened) || !nnp(&looser));
            }
        }
    }

    #[test]
    fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse_spec(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = PolicyFile::parse(&text, std::path::Path::new("x"));
    }

    /// Valid texts with a few bytes changed reach further into the parsers.
    #[test]
    fn damaged_texts_do_not_make_the_parsers_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut json = greedy().swap_remove(1).to_string().into_bytes();
        let mut toml = PolicyFile::example().as_bytes().to_vec();
        for (index, byte) in &damage {
            for text in [&mut json, &mut toml] {
                let at = index.index(text.len());
                text[at] = *byte;
            }
        }
        if let Ok(spec) = parse_spec(&json) {
            let host = host(&spec);
            let _ = harden(spec, &PolicyFile::builtin(), &Selection::default(), &host);
        }
        let text = String::from_utf8_lossy(&toml);
        let _ = PolicyFile::parse(&text, std::path::Path::new("x"));
    }
}
