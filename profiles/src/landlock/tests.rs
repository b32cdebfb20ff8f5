use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::access::{Network, Scope};

fn path(text: &str) -> AccessPath {
    AccessPath::new(text).expect("a path")
}

fn access(rules: &[(&str, bool, &[Right], Source)]) -> Access {
    let mut access = Access::new();
    for (text, subtree, rights, from) in rules {
        let place = Place {
            path: path(text),
            subtree: *subtree,
        };
        access
            .allow(place, Rights::of(rights), *from)
            .expect("room");
    }
    access
}

fn files(access: &Access) -> Request<'_> {
    Request {
        access,
        files: true,
        log: false,
    }
}

/// The rights at `path` by the kernel's rule: those of the path and of every directory above.
fn granted(ruleset: &Ruleset, path: &AccessPath) -> u64 {
    let above = |rule: &&PathRule| rule.path == *path || path.is_below(&rule.path);
    let rules = ruleset.paths.iter().filter(above);
    rules.fold(0, |all, rule| all | rule.access)
}

#[test]
fn each_abi_says_what_it_lacks() {
    let mut all = access(&[("/", true, &[Right::Read], Source::Policy)]);
    all.network = Some(Network {
        tcp_bind: Ports::Only(BTreeSet::from([80])),
        tcp_connect: Ports::Only(BTreeSet::from([80, 443])),
        raw: Some(false),
        families: None,
    });
    all.scope = Scope {
        signals: true,
        abstract_sockets: true,
    };
    use Gap::{AbstractSockets, DeviceIoctl, Everything, RawSockets, Signals, Truncate};
    for (abi, gaps, fs, net, scoped) in [
        (0, vec![Everything], 0, 0, 0),
        (
            1,
            vec![
                Truncate,
                DeviceIoctl,
                Gap::Ports,
                Signals,
                AbstractSockets,
                RawSockets,
            ],
            0x1fff,
            0,
            0,
        ),
        (
            2,
            vec![
                Truncate,
                DeviceIoctl,
                Gap::Ports,
                Signals,
                AbstractSockets,
                RawSockets,
            ],
            0x3fff,
            0,
            0,
        ),
        (
            3,
            vec![
                DeviceIoctl,
                Gap::Ports,
                Signals,
                AbstractSockets,
                RawSockets,
            ],
            0x7fff,
            0,
            0,
        ),
        (
            4,
            vec![DeviceIoctl, Signals, AbstractSockets, RawSockets],
            0x7fff,
            3,
            0,
        ),
        (5, vec![Signals, AbstractSockets, RawSockets], 0xffff, 3, 0),
        (6, vec![RawSockets], 0xffff, 3, 3),
        (7, vec![RawSockets], 0xffff, 3, 3),
        (9, vec![RawSockets], 0xffff, 3, 3),
    ] {
        let found = Ruleset::new(files(&all), Some(abi));
        assert_eq!(found.gaps, gaps, "ABI {abi}");
        assert_eq!(found.handled_fs, fs, "ABI {abi}");
        assert_eq!(found.handled_net, net, "ABI {abi}");
        assert_eq!(found.scoped, scoped, "ABI {abi}");
        assert_eq!(found.is_empty(), abi == 0, "ABI {abi}");
        assert!(found.paths.iter().all(|rule| rule.access & !fs == 0));
    }
    assert_eq!(Ruleset::new(files(&all), None).gaps, [Everything]);
    let logged = Request {
        log: true,
        ..files(&all)
    };
    assert_eq!(Ruleset::new(logged, Some(6)).flags, 0);
    assert_eq!(Ruleset::new(logged, Some(7)).flags, LOG_NEW_EXEC_ON);
}

#[test]
fn ports_have_the_rights_that_were_asked_for() {
    let mut only = Access::new();
    only.network = Some(Network {
        tcp_bind: Ports::Only(BTreeSet::from([80])),
        tcp_connect: Ports::Only(BTreeSet::from([80, 443])),
        ..Network::default()
    });
    let request = Request {
        files: false,
        ..files(&only)
    };
    let found = Ruleset::new(request, Some(4));
    assert_eq!(found.handled_fs, 0);
    let rules: Vec<_> = found.ports.iter().map(|r| (r.port, r.access)).collect();
    assert_eq!(rules, [(80, 3), (443, 2)]);
    assert_eq!(found.lines(), ["bind TCP: 80", "connect TCP: 80, 443"]);
}

#[test]
fn names_that_are_made_get_their_directory() {
    let found = Ruleset::new(
        files(&access(&[
            (
                "/run/x.pid",
                false,
                &[Right::Create, Right::Write],
                Source::Recording,
            ),
            ("/etc/passwd", false, &[Right::Read], Source::Recording),
            ("/data/old", false, &[Right::Remove], Source::Recording),
            (
                "/vol",
                true,
                &[Right::Create, Right::Write],
                Source::Recording,
            ),
        ])),
        Some(7),
    );
    let rules: Vec<_> = found
        .paths
        .iter()
        .map(|r| (r.path.to_string(), r.access, r.up))
        .collect();
    let write = WRITE_FILE | TRUNCATE;
    assert_eq!(
        rules,
        [
            ("/data".to_owned(), REMOVE, 0),
            ("/etc/passwd".to_owned(), READ_FILE, 0),
            ("/run".to_owned(), MAKE | write, 0),
            // Its directory is the root.
            ("/vol".to_owned(), MAKE | write, 0),
        ]
    );
}

/// What will be made is bounded by the directory that is there; how far up that may be is what the model
/// lets be made.
#[test]
fn a_rule_climbs_as_far_as_its_way_can_be_made() {
    let change = [Right::Create, Right::Write];
    let model = access(&[
        ("/usr/local/app", true, &change, Source::Policy),
        ("/usr/local/app/data", true, &change, Source::Policy),
        ("/var/lib", false, &change, Source::Recording),
        ("/var/lib/a", false, &change, Source::Recording),
        ("/var/lib/a/b", false, &change, Source::Recording),
        ("/var/lib/a/b", true, &change, Source::Recording),
        ("/run/x/pid", false, &change, Source::Recording),
    ]);
    let found = Ruleset::new(files(&model), Some(7));
    let rules = found
        .paths
        .iter()
        .map(|rule| (rule.path.to_string(), rule.up));
    let rules: Vec<_> = rules.collect();
    let expected = [
        ("/run/x", 0),
        ("/usr/local/app", 0),
        ("/usr/local/app/data", 1),
        ("/var", 0),
        ("/var/lib", 1),
        ("/var/lib/a", 2),
        ("/var/lib/a/b", 3),
    ];
    assert_eq!(rules, expected.map(|(path, up)| (path.to_owned(), up)));
    // Four names that are made, and two directories that may be.
    assert_eq!(widened(&model), 6);
    let lines = found.lines().join("\n");
    for part in [
        "app/data write, create; or above, at /usr/local/app\n",
        "b write, create; or above, as far up as /var",
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
}

/// An image that leaves out the directory of a rule does not get the one above.
#[test]
fn a_directory_that_is_left_out_widens_nothing() {
    let change = [Right::Create, Right::Write];
    let model = |name: bool| {
        let mut model = access(&[("/etc/app", true, &change, Source::Policy)]);
        if name {
            let rights = Rights::of(&[Right::Create]);
            let place = Place::exact(path("/etc/app"));
            model.allow(place, rights, Source::Policy).expect("room");
        }
        let root = access(&[("/", true, &change, Source::Mount)]);
        root.intersection(&model).expect("room")
    };
    let only = model(false);
    let found = Ruleset::new(files(&only), Some(7));
    assert!(found.paths.iter().all(|rule| rule.up == 0), "{found:?}");
    assert_eq!(granted(&found, &path("/etc/passwd")), 0);
    assert_eq!(
        (widened(&only), found.lines()),
        (0, vec!["/etc/app write, create".to_owned()])
    );
    // Where the document lets it be made its rights are needed above, and that is told.
    let named = model(true);
    let found = Ruleset::new(files(&named), Some(7));
    assert_eq!(widened(&named), 2);
    let told = "/etc/app write, create; or above, at /etc".to_owned();
    assert!(found.lines().contains(&told), "{:?}", found.lines());
}

/// A rule for the root holds for every file there is.
#[test]
fn a_name_in_the_root_gives_nothing_else() {
    let change = [Right::Create, Right::Write, Right::Read];
    let model = access(&[
        ("/made", false, &change, Source::Recording),
        ("/gone", false, &[Right::Remove], Source::Policy),
        ("/data", true, &change, Source::Policy),
    ]);
    let found = Ruleset::new(files(&model), Some(7));
    let rules = found
        .paths
        .iter()
        .map(|rule| (rule.path.to_string(), rule.alone));
    let rules: Vec<_> = rules.collect();
    assert_eq!(
        rules,
        [("/data".to_owned(), false), ("/made".to_owned(), true)]
    );
    assert_eq!(granted(&found, &path("/etc/shadow")), 0);
    assert_eq!(
        granted(&found, &path("/made")),
        READ_FILE | WRITE_FILE | TRUNCATE
    );
    let left: Vec<_> = left_out(&model).iter().map(ToString::to_string).collect();
    assert_eq!(left, ["/gone", "/made"]);
    assert_eq!(widened(&model), 0);
    // Who asks for the root gets it.
    let all = access(&[("/", true, &change, Source::Policy)]);
    let found = Ruleset::new(files(&all), Some(7));
    assert_ne!(granted(&found, &path("/etc/shadow")) & MAKE, 0);
    assert!(left_out(&all).is_empty());
}

#[test]
fn links_are_followed_only_where_the_runtime_followed_them() {
    let mounts = access(&[
        ("/", true, &[Right::Read], Source::Mount),
        ("/var/run/secrets", true, &[Right::Read], Source::Mount),
    ]);
    let alone = Ruleset::new(files(&mounts), Some(7));
    assert!(alone.paths.iter().all(|rule| rule.follow));
    let recorded = access(&[("/data", true, &[Right::Read], Source::Recording)]);
    let both = mounts.intersection(&recorded).expect("room");
    let both = Ruleset::new(files(&both), Some(7));
    assert!(!both.paths.is_empty() && both.paths.iter().all(|rule| !rule.follow));
}

fn spec(read_only: bool, capabilities: &[&str]) -> oci_spec::runtime::Spec {
    serde_json::from_value(json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": read_only},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/",
            "capabilities": {"bounding": capabilities}},
        "mounts": [
            {"destination": "/ro", "type": "bind", "source": "/a", "options": ["rbind", "ro"]},
            {"destination": "/rw", "type": "bind", "source": "/b", "options": ["rbind"]},
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["noexec"]},
        ],
        "linux": {"devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]},
    }))
    .expect("a spec")
}

#[test]
fn a_spec_gives_its_root_mounts_and_devices() {
    let access = of_spec(&spec(true, &["CAP_MKNOD"])).expect("room");
    let has = |text: &str| access.rights_at(&path(text));
    assert_eq!(has("/etc/passwd"), Rights::RUN);
    assert_eq!(has("/ro/x"), Rights::RUN);
    assert_eq!(has("/rw/x"), Rights::CHANGE | Right::MakeDevice.into());
    assert!(has("/dev/fuse").has(Right::Ioctl) && has("/dev/pts/0").has(Right::Ioctl));
    assert!(!has("/dev/sda").has(Right::Ioctl) && !has("/rw/sda").has(Right::Ioctl));
    assert!(has("/proc/self/attr/current").has(Right::Write));
    let writable = of_spec(&spec(false, &[])).expect("room");
    assert_eq!(writable.rights_at(&path("/etc/x")), Rights::CHANGE);
}

proptest! {
    /// A ruleset allows what the model allows: a load that was recorded runs.
    #[test]
    fn a_ruleset_never_takes_what_the_model_gives(
        rules in prop::collection::vec(
            (prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..4), any::<bool>(), 0u16..1 << 10),
            0..8,
        ),
        asked in prop::collection::vec(prop::sample::select(vec!["a", "b"]), 1..4),
    ) {
        let mut access = Access::new();
        for (names, subtree, bits) in rules {
            let all: Vec<Right> = Rights::ALL.iter().enumerate()
                .filter(|(index, _)| bits & 1 << index != 0).map(|(_, right)| right).collect();
            let place = Place { path: path(&format!("/{}", names.join("/"))), subtree };
            access.allow(place, Rights::of(&all), Source::Recording).expect("room");
        }
        let found = Ruleset::new(files(&access), Some(7));
        let asked = path(&format!("/{}", asked.join("/")));
        let rights = access.rights_at(&asked);
        let allowed = granted(&found, &asked);
        prop_assert_eq!(on_files(rights) & !allowed, 0);
        // Beneath a subtree the directory is covered by the rule of the subtree, too.
        let exact = access.files().filter(|(place, _)| place.path == asked && !place.subtree);
        let exact = exact.fold(Rights::NONE, |all, (_, grant)| all | grant.rights);
        let parent = asked.parent().expect("not the root");
        if parent.is_root() {
            prop_assert!(on_entries(exact) == 0 || left_out(&access).contains(&&asked));
            return Ok(());
        }
        prop_assert_eq!(on_entries(exact) & !granted(&found, &parent), 0);
    }
}
