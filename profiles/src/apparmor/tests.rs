//! The text of profiles.

use std::path::PathBuf;

use super::*;
use crate::access::{AccessPath, Family, Network, Place, Right, Rights, Source};
use oci_spec::runtime::Capability;

fn place(path: &str) -> Place {
    Place::exact(AccessPath::new(path).expect("a path"))
}

fn tree(path: &str) -> Place {
    Place::subtree(AccessPath::new(path).expect("a path"))
}

fn profile(shape: &Shape<'_>) -> Profile {
    generate(shape).expect("a profile")
}

fn has(profile: &Profile, line: &str) -> bool {
    profile.text.lines().any(|l| l.trim() == line)
}

#[test]
fn the_name_is_of_the_content() {
    let plain = profile(&Shape::default());
    assert!(is_ours(&plain.name), "{}", plain.name);
    assert!(plain.text.contains(&format!("profile {} ", plain.name)));
    assert_eq!(plain, profile(&Shape::default()));
    let other = [
        Shape {
            capabilities: Set::of(&[Capability::Chown]),
            ..Shape::default()
        },
        Shape {
            mode: Mode::Complain,
            ..Shape::default()
        },
        Shape {
            owner: Some("a"),
            ..Shape::default()
        },
        Shape {
            owner: Some("b\n}"),
            ..Shape::default()
        },
        Shape {
            runtime: Some("/usr/sbin/engine"),
            ..Shape::default()
        },
    ];
    let mut names: Vec<String> = other.iter().map(|shape| profile(shape).name).collect();
    names.push(plain.name);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), other.len() + 1);
    for no in [
        "cofferdam-",
        "docker-default",
        "cofferdam-00112233445566778899AABBCCDDEEFF",
    ] {
        assert!(!is_ours(no), "{no}");
    }
}

#[test]
fn capabilities_are_those_of_the_container_and_mounts_need_one() {
    let few = profile(&Shape {
        capabilities: Set::of(&[Capability::Chown, Capability::NetBindService]),
        ..Shape::default()
    });
    assert!(has(&few, "capability chown,") && has(&few, "capability net_bind_service,"));
    assert!(!few.text.contains("sys_admin") && !has(&few, "mount,"));
    let admin = profile(&Shape {
        capabilities: Set::of(&[Capability::SysAdmin]),
        ..Shape::default()
    });
    assert!(has(&admin, "mount,") && has(&admin, "pivot_root,"));
}

#[test]
fn signals_stay_inside_and_the_runtime_may_end_it() {
    let own = Shape {
        runtime: Some("engine"),
        ..Shape::default()
    };
    let made = profile(&own);
    for peer in ["unconfined", "runc", "engine"] {
        assert!(has(&made, &format!("signal (receive) peer={peer},")));
    }
    assert!(has(
        &made,
        &format!("signal (send, receive) peer={},", made.name)
    ));
    let bad = Shape {
        runtime: Some("a b"),
        ..Shape::default()
    };
    assert!(matches!(generate(&bad), Err(ProfileError::Runtime { .. })));
}

#[test]
fn files_follow_the_model() {
    let mut access = Access::new();
    let mut allow = |place, rights| access.allow(place, rights, Source::Policy).expect("room");
    allow(tree("/usr"), Rights::RUN);
    allow(place("/etc/passwd"), Right::Read.into());
    allow(tree("/var/lib/x"), Rights::CHANGE);
    allow(place("/tmp"), Right::Create.into());
    allow(place("/dev/x"), Right::Ioctl.into());
    let made = profile(&Shape {
        access: Some(&access),
        streams: &[
            Stream {
                path: PathBuf::from("/run/containerd/fifo/123/c1-stdout"),
                fifo: true,
            },
            Stream {
                path: PathBuf::from("pipe:[17]"),
                fifo: true,
            },
            Stream {
                path: PathBuf::from("/tmp/a log"),
                fifo: false,
            },
        ],
        ..Shape::default()
    });
    for line in [
        "\"/usr{,/**?}\" rkmix,",
        "\"/usr/{,**/}\" rk,",
        "\"/etc/passwd\" r,",
        "\"/var/lib/x{,/**?}\" rwlkmix,",
        "\"/var/lib/x/{,**/}\" rwk,",
        "\"/tmp\" wl,",
        "\"/tmp/\" w,",
        "\"/run/containerd/fifo/*/*\" rw,",
        "\"/tmp/a\\040log\" rw,",
    ] {
        assert!(has(&made, line), "{line}\n{}", made.text);
    }
    assert!(!has(&made, "file,"));
    assert!(!made.text.contains("/dev/x"));
    assert!(!made.text.contains("pipe"));
    assert!(made.left_out.iter().any(|what| what.starts_with("ioctl")));
    assert!(made.left_out.iter().any(|what| what.starts_with("write")));
}

#[test]
fn sockets_follow_the_model() {
    let mut access = Access::new();
    access.network = Some(Network {
        raw: Some(false),
        families: Some([Family::Unix, Family::Inet].into()),
        ..Network::default()
    });
    let made = profile(&Shape {
        access: Some(&access),
        ..Shape::default()
    });
    for line in ["network unix,", "network inet,", "deny network inet raw,"] {
        assert!(has(&made, line), "{line}");
    }
    assert!(!has(&made, "network,") && !has(&made, "network inet6,"));
    assert!(has(&profile(&Shape::default()), "network,"));
}

#[test]
fn messages_of_what_is_denied_by_name_are_wanted_by_owners_only() {
    let shared = profile(&Shape::default());
    let owned = profile(&Shape {
        owner: Some("web-1"),
        ..Shape::default()
    });
    assert!(!shared.text.contains("audit deny") && shared.text.contains("  deny /proc/kcore"));
    assert!(owned.text.contains("  audit deny /proc/kcore"));
}
