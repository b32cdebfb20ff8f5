//! Bundles whose files are not what they should be.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use super::super::harness::Bench;
use super::check;

#[test]
fn files_that_are_no_config_are_refused() {
    let garbage: Vec<u8> = (0..4096_u32).map(|i| (i * 167 % 251) as u8).collect();
    let mut large = b"{\"ociVersion\":\"1.0.0\",\"annotations\":{\"a\":\"".to_vec();
    large.resize(10 << 20, b'x');
    large.extend(b"\"}}");
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "config.json"),
        ("no JSON", b"hello", "config.json"),
        ("cut off", b"{\"ociVersion\": \"1.0", "config.json"),
        ("binary garbage", &garbage, "config.json"),
        ("10 MB", &large, "the most that is read"),
        ("100000 brackets", &deep, "config.json"),
        ("two documents", b"{}{}", "config.json"),
        (
            "not UTF-8",
            b"{\"ociVersion\": \"\xff\xfe\"}",
            "config.json",
        ),
        ("null", b"null", "config.json"),
    ];
    for (what, bytes, expected) in cases {
        let bench = Bench::new(&["/bin/true"]);
        fs::write(bench.bundle().join("config.json"), bytes).unwrap();
        check(&bench, what, &bench.run(&["create", "broken"]), expected);
    }
}

#[test]
fn a_config_that_is_not_there_is_said_so() {
    let bench = Bench::new(&["/bin/true"]);
    let config = bench.bundle().join("config.json");
    fs::remove_file(&config).unwrap();
    check(
        &bench,
        "missing",
        &bench.run(&["create", "broken"]),
        "config.json not found",
    );
    fs::create_dir(&config).unwrap();
    check(
        &bench,
        "a directory",
        &bench.run(&["create", "broken"]),
        "is not a regular file",
    );
    fs::remove_dir(&config).unwrap();
    nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRWXU).unwrap();
    check(
        &bench,
        "a FIFO",
        &bench.run(&["create", "broken"]),
        "is not a regular file",
    );
    let got = bench.run(&["create", "--bundle", "/no/such/bundle", "broken"]);
    check(&bench, "no bundle", &got, "/no/such/bundle");
}

/// A symlink as rootfs: CVE-2021-30465 began with paths that were checked and then exchanged.
#[test]
fn a_rootfs_behind_a_symlink_is_refused() {
    let bench = Bench::new(&["/bin/true"]);
    fs::rename(bench.bundle().join("rootfs"), bench.path("elsewhere")).unwrap();
    symlink(bench.path("elsewhere"), bench.bundle().join("rootfs")).unwrap();
    check(
        &bench,
        "symlink",
        &bench.run(&["create", "broken"]),
        "symlink",
    );
    symlink("/nowhere/at/all", bench.path("dangling")).unwrap();
    bench.configure(|spec| spec["root"]["path"] = json!("../dangling"));
    check(
        &bench,
        "dangling",
        &bench.run(&["create", "broken"]),
        "dangling",
    );
}
