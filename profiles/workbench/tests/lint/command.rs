use std::process::{Command, Output};

use serde_json::Value;

use super::fixture;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cofferdam-profile"))
        .arg("lint")
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn the_status_tells_the_worst_finding() {
    let path = |name: &str| fixture(name).to_str().unwrap().to_owned();
    let (clean, note, warning, error) = (
        path("CD302.pass.json"),
        path("CD902.fail.json"),
        path("CD302.fail.json"),
        path("CD101.fail.json"),
    );
    let table: [(&[&str], i32); 10] = [
        (&[&clean], 0),
        (&[&note], 0),
        (&[&clean, &warning], 1),
        (&[&error, &warning], 3),
        (&[&error, "/no/such/file"], 2),
        (&["--ignore", "CD101", &error], 0),
        (&["--rule", "duplicate", &error, &warning], 1),
        (&["--rule", "no-such-rule", &clean], 2),
        (&["--list"], 0),
        (&[], 2),
    ];
    for (arguments, status) in table {
        assert_eq!(run(arguments).status.code(), Some(status), "{arguments:?}");
    }
}

#[test]
fn findings_are_printed_for_people_and_for_programs() {
    let path = fixture("CD101.fail.json");
    let path = path.to_str().unwrap();
    let text = String::from_utf8(run(&[path]).stdout).unwrap();
    let first = format!(
        "{path}:19:17: error: there is no system call \"flokc\"; did you mean flock? [CD101 unknown-name]\n"
    );
    assert!(text.starts_with(&first), "{text}");
    let json =
        |arguments: &[&str]| -> Value { serde_json::from_slice(&run(arguments).stdout).unwrap() };
    let found = json(&["--format", "json", path]);
    assert_eq!(found[0]["findings"][0]["id"], "CD101");
    assert_eq!(found[0]["findings"][0]["line"], 19);
    assert_eq!(found[0]["findings"][0]["pointer"], "/syscalls/1/names/0");
    let found = json(&["--format", "sarif", path]);
    assert_eq!(found["runs"][0]["results"][0]["ruleId"], "CD101");
    assert_eq!(json(&["--list", "--format", "json"])[0]["id"], "CD001");
}

#[test]
fn a_file_is_repaired_in_place_and_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("profile.json");
    let text = std::fs::read_to_string(fixture("CD302.fail.json")).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let done = run(&["--fix", path.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let after = std::fs::read_to_string(&path).unwrap();
    assert_eq!(after.matches("\"read\"").count(), 1);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn profiles_of_the_operator_are_looked_through() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("profile.yaml");
    let text = "kind: Pod\n---\napiVersion: security-profiles-operator.x-k8s.io/v1beta1\nkind: SeccompProfile\n\
                metadata:\n  name: web\nspec:\n  defaultAction: SCMP_ACT_ERRNO\n  syscalls:\n  - action: \
                SCMP_ACT_ALLOW\n    names: [read, reed]\n";
    std::fs::write(&path, text).unwrap();
    let done = run(&["--rule", "CD101", path.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(3));
    let out = String::from_utf8(done.stdout).unwrap();
    assert!(out.contains("profile.yaml:11:19: error: "), "{out}");
}
