//! What is printed without any container: help, version, features, spec, policies.

use std::fs;

use serde_json::json;

use super::harness::Bench;

const VERBS: &[&str] = &[
    "create",
    "start",
    "run",
    "exec",
    "state",
    "kill",
    "delete",
    "list",
    "ps",
    "pause",
    "resume",
    "update",
    "events",
    "inspect",
    "doctor",
    "policy",
    "spec",
    "features",
    "checkpoint",
    "restore",
];

#[test]
fn every_verb_has_help_with_an_example() {
    let bench = Bench::new(&["/bin/true"]);
    let general = bench.run(&["--help"]).ok();
    for verb in VERBS {
        assert!(general.contains(&format!("\n   {verb} ")), "{verb}");
        for words in [&[*verb, "--help"][..], &[*verb, "-h"], &["help", verb]] {
            let help = bench.run(words).ok();
            assert!(help.contains("EXAMPLE:"), "{words:?}");
            assert!(help.contains(&format!("cofferdam {verb}")), "{words:?}");
        }
    }
    assert!(!general.contains("shim-helper"));
    assert_eq!(bench.run(&[]).ok(), general);
}

#[test]
fn the_version_has_the_form_that_engines_parse() {
    let bench = Bench::new(&["/bin/true"]);
    for flag in ["--version", "-v", "-version"] {
        let text = bench.run(&[flag]).ok();
        let mut lines = text.lines();
        let first = lines.next().unwrap();
        assert_eq!(
            first,
            concat!("cofferdam version ", env!("CARGO_PKG_VERSION"))
        );
        assert!(lines.any(|line| line.starts_with("spec: 1.")), "{text}");
    }
}

#[test]
fn features_are_those_of_the_specification() {
    let bench = Bench::new(&["/bin/true"]);
    let features = bench.run(&["features"]).json();
    assert_eq!(features["ociVersionMin"], "1.0.0");
    for (pointer, member) in [
        ("/hooks", "createRuntime"),
        ("/mountOptions", "rbind"),
        ("/linux/namespaces", "cgroup"),
        ("/linux/capabilities", "CAP_NET_ADMIN"),
        ("/linux/seccomp/actions", "SCMP_ACT_ERRNO"),
        ("/linux/seccomp/archs", "SCMP_ARCH_X86_64"),
    ] {
        let list = features.pointer(pointer).unwrap().as_array().unwrap();
        assert!(list.contains(&json!(member)), "{pointer}");
    }
}

#[test]
fn spec_is_written_once() {
    let bench = Bench::new(&["/bin/true"]);
    let path = bench.bundle().join("config.json");
    fs::remove_file(&path).unwrap();
    bench.run(&["spec"]).ok();
    let spec: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(spec["process"]["args"], json!(["sh"]));
    assert_eq!(bench.run(&["spec"]).code(), 1);
    fs::remove_file(&path).unwrap();
    bench.run(&["spec", "--rootless"]).ok();
    let spec: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(spec["linux"]["uidMappings"][0]["size"], 1);
}

#[test]
fn a_policy_is_explained_without_starting_anything() {
    let bench = Bench::new(&["/bin/true"]);
    bench.configure(|spec| {
        spec["process"]["capabilities"]["bounding"] = json!(["CAP_MKNOD", "CAP_KILL"]);
        spec["process"]["noNewPrivileges"] = json!(false);
    });
    let report = bench.run(&["policy", "explain", "--format", "json"]).json();
    assert!(
        report["policy"].as_str().unwrap().contains("baseline"),
        "{report}"
    );
    let rules: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["rule"])
        .collect();
    assert!(rules.contains(&&json!("no-new-privileges")), "{report}");
    let text = bench.run(&["policy", "explain"]).ok();
    assert!(text.contains("MKNOD"), "{text}");
    bench.assert_nothing_left("explain");
}

#[test]
fn policies_are_listed_and_checked() {
    let bench = Bench::new(&["/bin/true"]);
    let names = bench.run(&["policy", "show", "--format", "json"]).json();
    assert!(
        names.as_array().unwrap().contains(&json!("restricted")),
        "{names}"
    );
    let one = bench.run(&["policy", "show", "restricted"]).json();
    assert_eq!(one["name"], "restricted");
    let file = bench.path("policy.toml");
    fs::write(&file, bench.run(&["policy", "example"]).ok()).unwrap();
    let fine = bench.run(&["policy", "check", file.to_str().unwrap()]).ok();
    assert!(fine.contains("valid"), "{fine}");
    fs::write(&file, "nonsense = true\n").unwrap();
    let wrong = bench.run(&["policy", "check", file.to_str().unwrap()]);
    assert_eq!(wrong.code(), 1, "{wrong:?}");
    assert!(wrong.stderr.contains("policy.toml:1:1"), "{}", wrong.stderr);
}
