//! Images made to do harm: refused with a reason, or harmless; nothing outside is touched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cofferdam_workbench::image::{
    Image, ImageError, Limits, Refusal, Scratch, unpack, unpack_bytes,
};
use serde_json::json;
use tar::{EntryType, Header};

use crate::archive::{Parts, Tar, config, gzip, image_of};

/// Unpacks in a directory that has a neighbour, and checks that the neighbour stays as it is and that
/// nothing is left.
fn attack(image: &[u8], limits: &Limits) -> Result<Image, ImageError> {
    attack_and(image, limits, |_| ())
}

fn attack_and(image: &[u8], limits: &Limits, look: impl Fn(&Path)) -> Result<Image, ImageError> {
    let parent = tempfile::tempdir().unwrap();
    let victim = parent.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("secret"), "secret").unwrap();
    let scratch = Scratch::below(parent.path()).unwrap();
    let image = unpack_bytes(image, limits, &scratch);
    look(scratch.root());
    drop(scratch);
    let names = fs::read_dir(parent.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["victim"]);
    let inside = fs::read_dir(&victim).unwrap();
    let inside: Vec<_> = inside.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(inside, ["secret"]);
    assert_eq!(fs::read_to_string(victim.join("secret")).unwrap(), "secret");
    image
}

#[test]
fn entries_that_lead_out_are_refused() {
    let long = format!("{}/", "d".repeat(90));
    // Each goes on where the last one ended, by a link.
    let deep = "d/".repeat(40);
    let chain = Tar::new()
        .file(&format!("{deep}x"), b"")
        .symlink("s0", &deep);
    let chain = (0..4).fold(chain, |layer, index| {
        let here = format!("s{index}/{deep}");
        let layer = layer.file(&format!("{here}x"), b"");
        layer.symlink(&format!("s{}", index + 1), &here)
    });
    let extended = |kind: u8, name: &[u8]| {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
        header.as_old_mut().linkflag[0] = kind;
        header.set_size(name.len() as u64);
        header.set_cksum();
        Tar::new().raw(&header, name)
    };
    let table: Vec<(&str, Tar, Refusal)> = vec![
        (
            "upwards",
            Tar::new().file("../victim/new", b""),
            Refusal::Upwards,
        ),
        (
            "upwards below",
            Tar::new().file("a/../../victim/new", b""),
            Refusal::Upwards,
        ),
        (
            "upwards directory",
            Tar::new().directory("a/.."),
            Refusal::Upwards,
        ),
        (
            "upwards whiteout",
            Tar::new().file("../.wh.victim", b""),
            Refusal::Upwards,
        ),
        (
            "whiteout of nothing",
            Tar::new().file("a/.wh.", b""),
            Refusal::Whiteout,
        ),
        (
            "whiteout of ..",
            Tar::new().file("a/.wh...", b""),
            Refusal::Whiteout,
        ),
        (
            "whiteout of .",
            Tar::new().file("a/.wh..", b""),
            Refusal::Whiteout,
        ),
        (
            "hard link out",
            Tar::new().hardlink("h", "../victim/secret"),
            Refusal::LinkUpwards,
        ),
        (
            "long name",
            extended(b'L', &[b'x'; 300]).file("a", b""),
            Refusal::Long,
        ),
        (
            "long path",
            extended(b'L', long.repeat(60).as_bytes()).file("a", b""),
            Refusal::Long,
        ),
        (
            "longest path",
            extended(b'L', &vec![b'x'; 100_000]).file("a", b""),
            Refusal::Long,
        ),
        (
            "long upwards",
            extended(b'L', b"../victim/new").file("a", b""),
            Refusal::Upwards,
        ),
        (
            "pax upwards",
            extended(b'x', b"22 path=../victim/new\n").file("a", b""),
            Refusal::Upwards,
        ),
        (
            "pax size",
            extended(b'x', b"11 size=99\n").file("a", b"12"),
            Refusal::Ambiguous,
        ),
        (
            "pax sparse",
            extended(b'x', b"22 GNU.sparse.major=1\n").file("a", b""),
            Refusal::Ambiguous,
        ),
        (
            "pax damaged",
            extended(b'x', b"999 path=x\n").file("a", b""),
            Refusal::Ambiguous,
        ),
        (
            "sparse",
            Tar::new().entry(EntryType::GNUSparse, "a", "", b""),
            Refusal::Ambiguous,
        ),
        (
            "deep",
            extended(b'L', "d/".repeat(200).as_bytes()).file("a", b""),
            Refusal::Deep,
        ),
        ("deep by links", chain, Refusal::Deep),
    ];
    for (name, layer, expected) in table {
        match attack(&image_of(layer), &Limits::default()) {
            Err(ImageError::Refused { why, .. }) => assert_eq!(why, expected, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn links_do_not_lead_out() {
    let table: Vec<(&str, Tar)> = vec![
        ("absolute name", Tar::new().file("/victim/new", b"")),
        (
            "through an absolute link",
            Tar::new().symlink("l", "/").file("l/victim/new", b""),
        ),
        (
            "through a link upwards",
            Tar::new().symlink("l", "../..").file("l/victim/new", b""),
        ),
        (
            "through /proc",
            Tar::new().symlink("l", "/proc/self/cwd").file("l/new", b""),
        ),
        (
            "over a link",
            Tar::new()
                .symlink("l", "../../victim/secret")
                .file("l", b"mine"),
        ),
        (
            "directory over a link",
            Tar::new()
                .symlink("l", "../../victim")
                .directory("l")
                .file("l/new", b""),
        ),
        (
            "hard link to a link",
            Tar::new()
                .symlink("l", "../../victim/secret")
                .hardlink("h", "l")
                .file("h", b"mine"),
        ),
        (
            "hard link through a link",
            Tar::new()
                .symlink("l", "../..")
                .hardlink("h", "l/victim/secret"),
        ),
        (
            "absolute hard link",
            Tar::new().hardlink("h", "/victim/secret"),
        ),
        (
            "whiteout through a link",
            Tar::new().symlink("l", "../..").file("l/.wh.victim", b""),
        ),
        (
            "opaque through a link",
            Tar::new()
                .symlink("l", "../../victim")
                .file("l/.wh..wh..opq", b""),
        ),
        (
            "circle",
            Tar::new()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/x", b""),
        ),
        ("below a file", Tar::new().file("f", b"").file("f/x", b"")),
        (
            "link into itself",
            Tar::new().file("d/f", b"").hardlink("d", "d/f"),
        ),
    ];
    for (name, layer) in table {
        // As the only layer, and over one that has something to hide.
        let layers = [
            Tar::new().file("victim/secret", b"inside").end(),
            layer.end(),
        ];
        let image = Parts::oci(&layers, &config(&[], &[])).tar();
        let done = attack_and(&image, &Limits::default(), |root| {
            assert!(root.read_dir().unwrap().count() > 0);
        });
        assert!(done.is_ok(), "{name}: {done:?}");
    }
}

#[test]
fn nodes_are_not_made() {
    let layer = Tar::new()
        .entry(EntryType::Char, "dev/mem", "", b"")
        .entry(EntryType::Block, "dev/sda", "", b"")
        .entry(EntryType::Fifo, "pipe", "", b"")
        .entry(EntryType::new(b'Z'), "what", "", b"")
        .file("server", b"");
    let done = attack_and(&image_of(layer), &Limits::default(), |root| {
        let names: Vec<_> = root
            .read_dir()
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["server"]);
    });
    let ignored = done.unwrap().ignored;
    assert_eq!((ignored.devices, ignored.pipes, ignored.others), (2, 1, 1));
    assert_eq!(
        ignored.notes()[0],
        "2 device nodes of the image were not made"
    );
}

#[test]
fn bombs_end_at_the_limits() {
    let limits = Limits {
        bytes: 8 << 20,
        entries: 1000,
        ..Limits::default()
    };
    let zeros = vec![0; 16 << 20];
    let bomb = gzip(&Tar::new().file("zeros", &zeros).end());
    assert!(bomb.len() < 1 << 20);
    let nested = gzip(&gzip(&zeros));
    let many = (0..2000).fold(Tar::new(), |layer, index| {
        layer.directory(&format!("d{index}"))
    });
    let mut claim = Header::new_gnu();
    claim.as_old_mut().name[..5].copy_from_slice(b"claim");
    claim.as_old_mut().linkflag[0] = b'L';
    claim.set_size(1 << 40);
    claim.set_cksum();
    // A description that says it is a terabyte long is not read into memory.
    let claim = gzip(&Tar::new().raw(&claim, &zeros).end());
    let usual = config(&[], &[]);
    let table = [
        (
            "gzip",
            Parts::oci(std::slice::from_ref(&bomb), &usual).tar(),
        ),
        (
            "many layers",
            Parts::oci(
                &vec![gzip(&Tar::new().file("a", &zeros[..1 << 20]).end()); 20],
                &usual,
            )
            .tar(),
        ),
        ("entries", Parts::oci(&[many.end()], &usual).tar()),
        ("description", Parts::oci(&[claim], &usual).tar()),
        (
            "after the end",
            Parts::oci(&[gzip(&[Tar::new().end(), zeros.clone()].concat())], &usual).tar(),
        ),
    ];
    for (name, image) in table {
        let done = attack(&image, &limits);
        // What follows the end of a layer is part of its digest, and not of its content.
        let is_bounded = match name {
            "after the end" => done.is_ok(),
            _ => matches!(done, Err(ImageError::Limit { .. })),
        };
        assert!(is_bounded, "{name}: {done:?}");
    }
    let parent = tempfile::tempdir().unwrap();
    let outer = parent.path().join("outer.tar.gz");
    fs::write(&outer, gzip(&zeros)).unwrap();
    let scratch = Scratch::below(parent.path()).unwrap();
    let done = unpack(&outer, None, &limits, &scratch, &|_| ());
    assert!(matches!(done, Err(ImageError::Limit { .. })), "{done:?}");
    // Compressed twice is no image.
    fs::write(&outer, nested).unwrap();
    let done = unpack(&outer, None, &limits, &scratch, &|_| ());
    assert!(
        matches!(done, Err(ImageError::Layer { .. } | ImageError::Format)),
        "{done:?}"
    );
}

#[test]
fn names_that_are_remembered_are_bounded() {
    let limits = Limits {
        names: 10_000,
        ..Limits::default()
    };
    let name = |index: usize| format!("{}{index:010}", "n".repeat(80));
    let many = |count: usize| {
        let names = (0..count).map(name);
        names.fold(Tar::new(), |layer, name| {
            layer.entry(EntryType::Char, &name, "", b"")
        })
    };
    let image = |second: Tar| {
        let first = Tar::new().file("server", b"").end();
        Parts::oci(&[first, second.end()], &config(&[], &[])).tar()
    };
    assert!(attack(&image(many(110)), &limits).is_ok());
    // Names that come again are remembered once.
    let again = (0..500).fold(Tar::new(), |layer, _| layer.file(&name(0), b""));
    assert!(attack(&image(again), &limits).is_ok());
    let is_bounded = |done: Result<Image, ImageError>| {
        let names = "bytes in the names of one layer";
        assert!(
            matches!(done, Err(ImageError::Limit { what, .. }) if what == names),
            "{done:?}"
        );
    };
    is_bounded(attack(&image(many(120)), &limits));
    // The archive itself: files and links that no manifest names.
    let files = (0..120).fold(Tar::new(), |all, index| all.file(&name(index), b""));
    is_bounded(attack(&files.end(), &limits));
    let links = (0..60).fold(Tar::new(), |all, index| all.symlink(&name(index), &name(0)));
    is_bounded(attack(&links.end(), &limits));
}

#[test]
fn descriptions_are_bounded_too() {
    let usual = config(&[], &[]);
    let layers = vec![Tar::new().end(); 1100];
    let done = attack(&Parts::oci(&layers, &usual).tar(), &Limits::default());
    assert!(
        matches!(done, Err(ImageError::Limit { what: "layers", .. })),
        "{done:?}"
    );
    let index = |content: Vec<u8>| {
        Parts {
            files: vec![("index.json".to_owned(), content)],
        }
        .tar()
    };
    let done = attack(&index(vec![b' '; 9 << 20]), &Limits::default());
    assert!(matches!(done, Err(ImageError::Limit { .. })), "{done:?}");
    let done = attack(&index(b"[".repeat(1 << 20)), &Limits::default());
    assert!(matches!(done, Err(ImageError::Json { .. })), "{done:?}");
    for digest in [
        "sha256:../../../../etc/passwd",
        "sha512:00",
        "",
        "sha256:ABCD",
    ] {
        let text = json!({ "manifests": [{ "digest": digest, "size": 1 }] }).to_string();
        let done = attack(&index(text.into_bytes()), &Limits::default());
        assert!(
            matches!(done, Err(ImageError::Algorithm { .. })),
            "{done:?}"
        );
    }
    // An index that leads to itself cannot have its own digest; a long chain can be made.
    let mut parts = Parts::oci(&[], &usual);
    for _ in 0..8 {
        let (_, inner) = parts.files.pop().unwrap();
        let mut descriptor = Parts::oci(std::slice::from_ref(&inner), &usual);
        let (name, _) = descriptor.files.remove(0);
        let digest = name.replace("blobs/sha256/", "sha256:");
        parts.files.push((name, inner));
        let media = "application/vnd.oci.image.index.v1+json";
        let outer = json!({ "manifests": [{ "digest": digest, "mediaType": media }] });
        parts
            .files
            .push(("index.json".to_owned(), outer.to_string().into_bytes()));
    }
    let done = attack(&parts.tar(), &Limits::default());
    assert!(matches!(done, Err(ImageError::Limit { .. })), "{done:?}");
}

#[test]
fn every_part_has_its_digest() {
    let layer = Tar::new().file("server", b"honest").end();
    let usual = config(&["/server"], &[]);
    for parts in [
        Parts::oci(std::slice::from_ref(&layer), &usual),
        Parts::oci(&[gzip(&layer)], &usual),
        Parts::docker(&[layer], &usual),
    ] {
        assert!(attack(&parts.tar(), &Limits::default()).is_ok());
        for index in 0..parts.files.len() {
            let (name, content) = &parts.files[index];
            if name.ends_with("index.json") || name == "manifest.json" {
                continue;
            }
            // Another content, and none.
            let mut other = content.clone();
            let middle = other.len() / 2;
            other[middle] ^= 1;
            let mut changed = Parts {
                files: parts.files.clone(),
            };
            changed.files[index].1 = other;
            let done = attack(&changed.tar(), &Limits::default());
            assert!(
                matches!(done, Err(ImageError::Digest { .. })),
                "{name}: {done:?}"
            );
            changed.files.remove(index);
            let done = attack(&changed.tar(), &Limits::default());
            assert!(
                matches!(done, Err(ImageError::Missing { .. })),
                "{name}: {done:?}"
            );
        }
    }
}

#[test]
fn no_image_and_damaged_ones() {
    let whole = image_of(Tar::new().file("server", b"content"));
    for bytes in [
        &b""[..],
        b"junk",
        &[0; 2048],
        &Tar::new().file("a", b"").end(),
    ] {
        let done = attack(bytes, &Limits::default());
        assert!(
            matches!(done, Err(ImageError::Format | ImageError::Layer { .. })),
            "{done:?}"
        );
    }
    let mut good = 0;
    for length in (0..whole.len()).step_by(97) {
        // An error that says so, or all of it was there.
        match attack(&whole[..length], &Limits::default()) {
            Ok(_) => good += 1,
            Err(ImageError::Write { .. }) => panic!("{length}: blames the disk"),
            Err(_) => {}
        }
    }
    // The zeros at the end do not matter.
    assert!(good <= 12, "{good} truncated images were taken for whole");
}

#[test]
fn a_directory_with_a_pipe_or_a_link_for_a_blob() {
    let parts = Parts::oci(&[Tar::new().file("server", b"").end()], &config(&[], &[]));
    let parent = tempfile::tempdir().unwrap();
    let layout = parent.path().join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    for (name, content) in &parts.files {
        fs::write(layout.join(name), content).unwrap();
    }
    let layer = layout.join(&parts.files[0].0);
    let scratch = Scratch::below(parent.path()).unwrap();
    let open = || unpack(&layout, None, &Limits::default(), &scratch, &|_| ());
    assert!(open().is_ok());
    fs::remove_file(&layer).unwrap();
    nix::unistd::mkfifo(&layer, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(matches!(open(), Err(ImageError::Missing { .. })));
    fs::remove_file(&layer).unwrap();
    symlink("/etc/passwd", &layer).unwrap();
    assert!(matches!(
        open(),
        Err(ImageError::Digest { .. } | ImageError::Layer { .. })
    ));
}

#[test]
fn it_ends_when_it_is_told_to() {
    let limits = Limits {
        interrupted: Arc::new(AtomicBool::new(true)),
        ..Limits::default()
    };
    let done = attack(&image_of(Tar::new().file("server", b"")), &limits);
    assert!(matches!(done, Err(ImageError::Interrupted)), "{done:?}");
}
