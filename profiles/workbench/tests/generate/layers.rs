//! Layers that change each other, in every format an image comes in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cofferdam_workbench::image::{Image, ImageError, Limits, Scratch, unpack, unpack_bytes};
use tar::EntryType;

use crate::archive::{Parts, Tar, config, gzip, zstd};

/// Every path below a directory, with `=` and its content, `>` and its target, or `/`.
fn listing(root: &Path) -> Vec<String> {
    fn walk(path: &Path, name: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{name}{}", entry.file_name().to_str().unwrap());
            let kind = entry.file_type().unwrap();
            if kind.is_symlink() {
                let target = fs::read_link(entry.path()).unwrap();
                found.push(format!("{name}>{}", target.display()));
            } else if kind.is_dir() {
                found.push(format!("{name}/"));
                walk(&entry.path(), &format!("{name}/"), found);
            } else {
                let content = fs::read_to_string(entry.path()).unwrap();
                found.push(format!("{name}={content}"));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, "", &mut found);
    found.sort();
    found
}

fn unpacked(layers: Vec<Tar>) -> (Result<Image, ImageError>, Vec<String>) {
    let layers: Vec<Vec<u8>> = layers.into_iter().map(Tar::end).collect();
    let image = Parts::oci(&layers, &config(&[], &[])).tar();
    let parent = tempfile::tempdir().unwrap();
    let scratch = Scratch::below(parent.path()).unwrap();
    let image = unpack_bytes(&image, &Limits::default(), &scratch);
    (image, listing(scratch.root()))
}

#[test]
fn layers_change_what_is_below_them() {
    let lower = || {
        Tar::new()
            .directory("./")
            .directory("a/")
            .file("a/x", b"1")
            .file("a/y", b"2")
            .directory("a/b")
            .file("a/b/z", b"3")
            .symlink("link", "a/b")
            .file("f", b"4")
    };
    let all = ["a/", "a/b/", "a/b/z=3", "a/x=1", "a/y=2", "f=4", "link>a/b"];
    let table: &[(Tar, &[&str])] = &[
        (Tar::new(), &all),
        (
            Tar::new().file("f", b"5"),
            &["a/", "a/b/", "a/b/z=3", "a/x=1", "a/y=2", "f=5", "link>a/b"],
        ),
        // Whiteouts: of a file, a directory, a link, what is not there, and below a link.
        (
            Tar::new().file(".wh.f", b""),
            &["a/", "a/b/", "a/b/z=3", "a/x=1", "a/y=2", "link>a/b"],
        ),
        (Tar::new().file(".wh.a", b""), &["f=4", "link>a/b"]),
        (
            Tar::new().file("a/.wh.none", b"").file("q/.wh.none", b""),
            &all,
        ),
        (
            Tar::new().file("link/.wh.z", b""),
            &["a/", "a/b/", "a/x=1", "a/y=2", "f=4", "link>a/b"],
        ),
        // They are for lower layers, whatever their order.
        (
            Tar::new().file("f", b"5").file(".wh.f", b""),
            &["a/", "a/b/", "a/b/z=3", "a/x=1", "a/y=2", "f=5", "link>a/b"],
        ),
        // Opaque: only what this layer has stays, before and after.
        (
            Tar::new()
                .file("a/b/new", b"6")
                .file("a/.wh..wh..opq", b"")
                .file("a/after", b"7"),
            &["a/", "a/after=7", "a/b/", "a/b/new=6", "f=4", "link>a/b"],
        ),
        (
            Tar::new()
                .file("none/.wh..wh..opq", b"")
                .file(".wh..wh.plnk", b""),
            &all,
        ),
        // One kind in the place of another; a directory stays what it was.
        (Tar::new().directory("a"), &all),
        (Tar::new().file("a", b"8"), &["a=8", "f=4", "link>a/b"]),
        (
            Tar::new().directory("f").file("f/g", b"9"),
            &[
                "a/", "a/b/", "a/b/z=3", "a/x=1", "a/y=2", "f/", "f/g=9", "link>a/b",
            ],
        ),
        (
            Tar::new().symlink("f", "/etc/passwd"),
            &[
                "a/",
                "a/b/",
                "a/b/z=3",
                "a/x=1",
                "a/y=2",
                "f>/etc/passwd",
                "link>a/b",
            ],
        ),
        (
            Tar::new().entry(EntryType::Char, "f", "", b""),
            &["a/", "a/b/", "a/b/z=3", "a/x=1", "a/y=2", "link>a/b"],
        ),
        // Through a link, inside.
        (
            Tar::new().file("link/new", b"0"),
            &[
                "a/",
                "a/b/",
                "a/b/new=0",
                "a/b/z=3",
                "a/x=1",
                "a/y=2",
                "f=4",
                "link>a/b",
            ],
        ),
        (
            Tar::new().hardlink("h", "a/x"),
            &[
                "a/", "a/b/", "a/b/z=3", "a/x=1", "a/y=2", "f=4", "h=1", "link>a/b",
            ],
        ),
        (Tar::new().hardlink("f", "f"), &all),
    ];
    for (index, (upper, expected)) in table.iter().enumerate() {
        let upper = Tar::new().raw_bytes(upper);
        let (image, found) = unpacked(vec![lower(), upper]);
        assert_eq!(found, *expected, "case {index}");
        assert_eq!(image.unwrap().layers, 2);
    }
}

#[test]
fn every_format_says_the_same() {
    let lower = Tar::new().file("a", b"1").file("b", b"2").end();
    let upper = Tar::new().file(".wh.a", b"").file("srv/c", b"3").end();
    let usual = config(&["/b"], &["-x"]);
    let plain = Parts::oci(&[lower.clone(), upper.clone()], &usual);
    let parent = tempfile::tempdir().unwrap();
    let layout = parent.path().join("layout");
    for (name, content) in &plain.files {
        let path = layout.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let mixed = Parts::oci(&[gzip(&lower), zstd(&upper)], &usual).tar();
    let docker = Parts::docker(&[lower, upper], &usual).tar();
    let files = [
        ("plain.tar", plain.tar()),
        ("mixed.tar", mixed.clone()),
        ("mixed.tar.gz", gzip(&mixed)),
        ("mixed.tar.zst", zstd(&mixed)),
        ("docker.tar", docker.clone()),
        ("docker.tar.gz", gzip(&docker)),
    ];
    let mut sources = vec![layout];
    for (name, content) in files {
        sources.push(parent.path().join(name));
        fs::write(parent.path().join(name), content).unwrap();
    }
    for source in sources {
        let scratch = Scratch::below(parent.path()).unwrap();
        let image = unpack(&source, None, &Limits::default(), &scratch, &|_| ()).unwrap();
        assert_eq!(
            listing(scratch.root()),
            ["b=2", "srv/", "srv/c=3"],
            "{source:?}"
        );
        let command = image.command;
        assert_eq!(
            (command.entrypoint, command.cmd),
            (vec!["/b".to_owned()], vec!["-x".to_owned()])
        );
        assert_eq!(command.path.as_deref(), Some("/opt/bin:/usr/bin"));
        assert_eq!(command.cwd, "/srv");
        let mode = fs::metadata(scratch.root().join("b"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o711);
    }
}

#[test]
fn what_no_analysis_reads_keeps_its_size_only() {
    let text = vec![b'x'; 2 << 20];
    let program = [b"\x7fELF", vec![1; 2 << 20].as_slice()].concat();
    let layer = Tar::new()
        .file("data", &text)
        .file("program", &program)
        .end();
    let image = Parts::oci(&[layer], &config(&[], &[])).tar();
    let parent = tempfile::tempdir().unwrap();
    let scratch = Scratch::below(parent.path()).unwrap();
    unpack_bytes(&image, &Limits::default(), &scratch).unwrap();
    let data = fs::read(scratch.root().join("data")).unwrap();
    assert_eq!(
        (data.len(), data.iter().any(|byte| *byte != 0)),
        (2 << 20, false)
    );
    assert_eq!(fs::read(scratch.root().join("program")).unwrap(), program);
}

#[test]
fn one_of_several_is_chosen_by_tag_and_machine() {
    let web = Parts::oci(
        &[Tar::new().file("web", b"").end()],
        &config(&["/web"], &[]),
    );
    let mut db_config = config(&["/db"], &[]);
    let db = Parts::oci(&[Tar::new().file("db", b"").end()], &db_config);
    db_config["architecture"] = "arm64".into();
    let arm = Parts::oci(&[Tar::new().file("db", b"").end()], &db_config);
    let manifest_of = |parts: &Parts| {
        let index: serde_json::Value =
            serde_json::from_slice(&parts.files.last().unwrap().1).unwrap();
        index["manifests"][0].clone()
    };
    let named = |parts: &Parts, name: &str, machine: &str| {
        let mut descriptor = manifest_of(parts);
        descriptor["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
        descriptor["platform"] = serde_json::json!({"os": "linux", "architecture": machine});
        descriptor
    };
    let open = |manifests: serde_json::Value, tag: Option<&str>| {
        let index = serde_json::json!({ "manifests": manifests })
            .to_string()
            .into_bytes();
        let mut files = vec![("index.json".to_owned(), index)];
        for parts in [&web, &db, &arm] {
            files.extend(
                parts
                    .files
                    .iter()
                    .filter(|(name, _)| name != "index.json")
                    .cloned(),
            );
        }
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("image.tar");
        fs::write(&path, Parts { files }.tar()).unwrap();
        let scratch = Scratch::below(parent.path()).unwrap();
        let image = unpack(&path, tag, &Limits::default(), &scratch, &|_| ());
        image.map(|image| image.command.entrypoint[0].clone())
    };
    let both = serde_json::json!([named(&web, "web", "amd64"), named(&db, "db", "amd64")]);
    assert_eq!(open(both.clone(), Some("db")).unwrap(), "/db");
    assert!(matches!(
        open(both.clone(), None),
        Err(ImageError::Several { .. })
    ));
    assert!(matches!(
        open(both, Some("x")),
        Err(ImageError::NoTag { .. })
    ));
    let machines = serde_json::json!([named(&arm, "db", "arm64"), named(&db, "db", "amd64")]);
    assert_eq!(open(machines, Some("db")).unwrap(), "/db");
    let other = serde_json::json!([named(&arm, "db", "arm64")]);
    assert!(matches!(
        open(other, None),
        Err(ImageError::Platform { .. })
    ));
    // Only the configuration says so.
    let untold = serde_json::json!([manifest_of(&arm)]);
    assert!(matches!(
        open(untold, None),
        Err(ImageError::Platform { .. })
    ));
}
