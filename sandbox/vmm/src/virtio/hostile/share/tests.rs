//! Attacks on a shared directory by requests that no kernel makes.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// A directory's guest that has said hello.
struct Scene {
    dir: tempfile::TempDir,
    guest: Guest,
}

impl Scene {
    fn new(read_only: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let device = device(dir.path(), read_only).expect("a device");
        let mut guest = Guest::new(device).expect("a guest");
        let answer = guest.ask(&init(), 80).expect("memory").expect("goes on");
        assert_eq!(error(&answer), 0);
        Self { dir, guest }
    }

    fn ask(&mut self, opcode: u32, node: u64, arguments: &[u8]) -> Vec<u8> {
        let request = message(opcode, node, arguments);
        let answer = self.guest.ask(&request, 0x1_0000).expect("memory");
        answer.expect("the device goes on")
    }

    /// A node's number by its name in the root.
    fn node(&mut self, name: &str) -> u64 {
        let answer = self.ask(1, ROOT, &named(&[], &[name.as_bytes()]));
        assert_eq!(error(&answer), 0, "{name}");
        u64::from_le_bytes(answer[16..24].try_into().expect("eight bytes"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// All below the directory: names, kinds, modes and contents.
    fn all(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut places = vec![self.dir.path().to_owned()];
        while let Some(place) = places.pop() {
            let meta = fs::symlink_metadata(&place).expect("look");
            let text = if meta.is_file() {
                fs::read(&place).expect("read")
            } else {
                Vec::new()
            };
            found.push(format!("{} {:o} {text:?}", place.display(), meta.mode()));
            if meta.is_dir() {
                let entries = fs::read_dir(&place).expect("list");
                places.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
        }
        found.sort();
        found
    }
}

const ROOT: u64 = 1;

fn error(answer: &[u8]) -> i32 {
    assert!(answer.len() >= 16, "no answer");
    -i32::from_le_bytes(answer[4..8].try_into().expect("four bytes"))
}

/// Arguments, then names that end in zero.
fn named(arguments: &[u8], names: &[&[u8]]) -> Vec<u8> {
    let mut bytes = arguments.to_vec();
    for name in names {
        bytes.extend(*name);
        bytes.push(0);
    }
    bytes
}

/// Every request that names a file, with the name in each place.
fn attacks(name: &[u8], file: u64) -> Vec<(&'static str, u32, u64, Vec<u8>)> {
    let mode = 0o644_u32.to_le_bytes();
    let at =
        |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let made = [mode, [0; 4], [0; 4], [0; 4]].concat();
    let created = [[0x42, 0, 0, 0], mode, [0; 4], [0; 4]].concat();
    vec![
        ("lookup", 1, ROOT, named(&[], &[name])),
        ("symlink", 6, ROOT, named(&[], &[name, b"target"])),
        ("mknod", 8, ROOT, named(&made, &[name])),
        ("mkdir", 9, ROOT, named(&at(&[0o755]), &[name])),
        ("unlink", 10, ROOT, named(&[], &[name])),
        ("rmdir", 11, ROOT, named(&[], &[name])),
        (
            "rename from",
            12,
            ROOT,
            named(&at(&[ROOT]), &[name, b"new"]),
        ),
        ("rename to", 12, ROOT, named(&at(&[ROOT]), &[b"file", name])),
        ("link", 13, ROOT, named(&at(&[file]), &[name])),
        ("create", 35, ROOT, named(&created, &[name])),
        (
            "rename2 from",
            45,
            ROOT,
            named(&at(&[ROOT, 0]), &[name, b"new"]),
        ),
        (
            "rename2 to",
            45,
            ROOT,
            named(&at(&[ROOT, 0]), &[b"file", name]),
        ),
    ]
}

#[test]
fn names_that_are_paths_are_refused() {
    let mut scene = Scene::new(false);
    let file = scene.node("file");
    let before = scene.all();
    let absolute = scene.path("outside/secret");
    let names: [&[u8]; 10] = [
        b"..",
        b".",
        b"",
        b"/",
        b"../outside/secret",
        b"../outside/new",
        b"sub/../../outside/secret",
        b"link/secret",
        b"sub/deep",
        absolute.as_os_str().as_encoded_bytes(),
    ];
    for name in names {
        for (what, opcode, node, arguments) in attacks(name, file) {
            let answer = scene.ask(opcode, node, &arguments);
            let name = String::from_utf8_lossy(name);
            assert_eq!(error(&answer), libc::EINVAL, "{what} {name:?}");
            assert_eq!(scene.all(), before, "{what} {name:?}");
        }
    }
    // A name that does not end, and one that ends early.
    for (what, opcode, node, mut arguments) in attacks(b"file", file) {
        arguments.pop();
        let answer = scene.ask(opcode, node, &arguments);
        assert_eq!(error(&answer), libc::EINVAL, "{what}");
    }
    let two = named(&[], &[b"file", b"more"]);
    assert_eq!(error(&scene.ask(1, ROOT, &two)), libc::EINVAL);
    assert_eq!(scene.all(), before);
}

/// The same requests, past the look at their names: the server alone is led out of the directory by some.
#[test]
fn the_server_alone_would_be_led_out() {
    let mut led_out = Vec::new();
    for name in [&b"../outside/secret"[..], b"../outside/new", b"link/secret"] {
        for (what, opcode, node, arguments) in attacks(name, ROOT) {
            let mut scene = Scene::new(false);
            let count = |scene: &Scene| fs::read_dir(scene.path("outside")).expect("list").count();
            let before = count(&scene);
            let request = message(opcode, node, &arguments);
            let Guest { device, memory, .. } = &mut scene.guest;
            let outcome = device.serve_unchecked(&request, memory);
            if count(&scene) != before {
                led_out.push((what, String::from_utf8_lossy(name).into_owned(), outcome));
            }
        }
    }
    let unlinked = |entry: &(&str, String, _)| entry.0 == "unlink" && entry.1.starts_with("..");
    assert!(led_out.iter().any(unlinked), "{led_out:?}");
}

#[test]
fn links_and_pipes_are_not_opened_and_nothing_is_reached_by_guessing() {
    let mut scene = Scene::new(false);
    let made = nix::unistd::mkfifo(&scene.path("share/pipe"), nix::sys::stat::Mode::S_IRWXU);
    made.expect("a pipe");
    let listener = std::os::unix::net::UnixListener::bind(scene.path("share/socket"));
    let _listener = listener.expect("a socket");
    let nodes = ["link", "up", "pipe", "socket"].map(|name| scene.node(name));
    // A pipe without a writer would hold whoever opens it.
    for node in nodes.into_iter().chain([77, 0, u64::MAX]) {
        for opcode in [14, 27] {
            let opened = error(&scene.ask(opcode, node, &[0; 8]));
            assert_eq!(opened, libc::EBADF, "{opcode} {node}");
        }
        let below = error(&scene.ask(1, node, &named(&[], &[b"secret"])));
        assert!(
            below == libc::ENOTDIR || below == libc::EBADF,
            "{node}: {below}"
        );
    }
    // Read, write, release, synchronise, flush, list, seek, allocate: by handles that nobody gave.
    let file = scene.node("file");
    let requests = [
        (15, 40),
        (16, 40),
        (18, 24),
        (20, 16),
        (25, 24),
        (28, 40),
        (44, 40),
        (46, 24),
        (43, 32),
    ];
    for handle in [0_u64, 1, u64::MAX] {
        for (opcode, size) in requests {
            let mut arguments = vec![0; size];
            arguments[..8].copy_from_slice(&handle.to_le_bytes());
            // A size: else there would be nothing to list.
            if size == 40 {
                arguments[16..20].copy_from_slice(&64_u32.to_le_bytes());
            }
            let answer = scene.ask(opcode, file, &arguments);
            assert_eq!(error(&answer), libc::EBADF, "{opcode}");
        }
    }
}

#[test]
fn sizes_that_lie_are_refused_or_bounded() {
    let mut scene = Scene::new(false);
    let file = scene.node("file");
    let opened = scene.ask(14, file, &2_u64.to_le_bytes());
    let handle: [u8; 8] = opened[16..24].try_into().expect("eight bytes");
    let moved = |size: u32, data: &[u8]| {
        let mut arguments = [&handle[..], &[0; 8], &size.to_le_bytes(), &[0; 20]].concat();
        arguments.extend(data);
        arguments
    };
    // More than there is room for, or than was sent: what there is.
    let read = scene.ask(15, file, &moved(u32::MAX, &[]));
    assert_eq!(read[16..], *b"inside");
    let answer = scene.ask(16, file, &moved(u32::MAX, b"new"));
    assert_eq!((error(&answer), answer[16]), (0, 3));
    let text = fs::read(scene.path("share/file")).expect("read");
    assert_eq!(text, b"newide");

    // Where no file reaches.
    for offset in [1_u64 << 63, (1 << 63) - 1, u64::MAX] {
        for opcode in [15, 16] {
            let mut arguments = moved(3, b"new");
            arguments[8..16].copy_from_slice(&offset.to_le_bytes());
            let answer = scene.ask(opcode, file, &arguments);
            assert_eq!(error(&answer), libc::EINVAL, "{opcode} at {offset}");
        }
    }

    // An attribute's value, a list of attributes, a list to forget: of as many bytes as there are numbers.
    for (opcode, arguments) in [
        (22, named(&[0xff; 8], &[b"user.a"])),
        (21, named(&[0xff; 8], &[b"user.a"])),
        (23, vec![0xff; 8]),
        (42, vec![0xff; 8]),
    ] {
        let answer = scene.ask(opcode, file, &arguments);
        assert_ne!(error(&answer), 0, "{opcode}");
    }
    // The header says more than there is, and less than itself.
    for size in [0_u32, 39, 1000, u32::MAX] {
        let mut request = message(1, ROOT, b"file\0");
        request[..4].copy_from_slice(&size.to_le_bytes());
        let answer = scene.guest.ask(&request, 200).expect("memory");
        assert_ne!(error(&answer.expect("goes on")), 0, "{size}");
    }
}

#[test]
fn what_is_no_request_stops_the_device_and_no_more() {
    let cases = [
        ("no header", vec![1; 39], 100),
        ("no room for an answer", message(15, ROOT, &[0; 40]), 15),
        ("no answer wanted", message(28, ROOT, &[0; 40]), 0),
        ("too long an answer", message(1, ROOT, b"file\0"), 0x20_0000),
    ];
    for (what, request, room) in cases {
        let mut scene = Scene::new(false);
        let outcome = scene.guest.ask(&request, room).expect("memory");
        assert!(outcome.is_err(), "{what}: {outcome:?}");
    }
    // All that was opened is closed by a reset, and it can be set up again after that.
    let mut scene = Scene::new(false);
    let file = scene.node("file");
    scene.guest.device.reset();
    assert_eq!(error(&scene.ask(14, file, &[0; 8])), libc::EBADF);
    let answer = scene.guest.ask(&init(), 80).expect("memory");
    assert_eq!(error(&answer.expect("goes on")), 0);
    let _ = scene.node("file");
}

/// The place where requests are copied to has an address of its own, which the guest does not have.
#[test]
fn the_guest_cannot_name_the_place_of_copies() {
    for at in [1_u64 << 60, (1 << 60) + 0x1_0000] {
        let mut scene = Scene::new(false);
        let request = message(17, ROOT, &[]);
        let outcome = scene.guest.ask_for(&request, at, 64).expect("memory");
        assert!(outcome.is_err(), "{outcome:?}");
    }
}

#[test]
fn a_share_that_is_only_read_is_not_changed() {
    let mut scene = Scene::new(true);
    let file = scene.node("file");
    let before = scene.all();
    for (what, opcode, node, arguments) in attacks(b"new", file) {
        let answer = error(&scene.ask(opcode, node, &arguments));
        assert!(
            matches!(answer, libc::EROFS | libc::ENOENT),
            "{what}: {answer}"
        );
    }
    // To write, to read and write, and to cut off.
    for flags in [1_u64, 2, 0o1000, 0o1002] {
        let answer = error(&scene.ask(14, file, &flags.to_le_bytes()));
        assert!(
            matches!(answer, libc::EROFS | libc::EINVAL),
            "{flags:o}: {answer}"
        );
    }
    // Mode, owner, size and times; an attribute.
    let changed = [&0xff_u32.to_le_bytes()[..], &[0; 84]].concat();
    assert_eq!(error(&scene.ask(4, file, &changed)), libc::EROFS);
    let mut attribute = named(&1_u128.to_le_bytes(), &[b"user.a"]);
    attribute.push(b'v');
    assert_eq!(error(&scene.ask(21, file, &attribute)), libc::EROFS);
    assert_eq!(scene.all(), before);
}

proptest! {
    #[test]
    fn whatever_is_asked_nothing_outside_changes(
        asked in proptest::collection::vec(
            (0_u32..52, 0_u64..6, proptest::collection::vec(any::<u8>(), 0..100)),
            1..20,
        ),
    ) {
        let mut bytes = Vec::new();
        for (opcode, node, arguments) in asked {
            let request = message(opcode, node, &arguments);
            bytes.extend(u16::try_from(request.len()).expect("short").to_le_bytes());
            bytes.extend(request);
        }
        requests(&bytes).expect("a device");
    }
}
