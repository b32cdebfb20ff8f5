//! The same commands given to runc and to us: the same exit statuses, states and kinds of answer.
//!
//! runc is looked for in PATH; where it is not, `COFFERDAM_REQUIRE_ROOT=1` makes that an error.

use std::path::PathBuf;

use serde_json::Value;

use super::harness::{Bench, Outcome, needs_root};

fn runc() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|dir| dir.join("runc"))
        .find(|program| program.exists());
    let required = std::env::var_os("COFFERDAM_REQUIRE_ROOT").is_some_and(|value| value == "1");
    assert!(
        found.is_some() || !required,
        "this test needs runc to compare with"
    );
    if found.is_none() {
        eprintln!("SKIPPED: needs runc to compare with");
    }
    found
}

/// What callers look at: the exit status, and the names and kinds of the fields of an answer.
fn shape(outcome: &Outcome) -> (i32, String) {
    let answer: Value = serde_json::from_str(&outcome.stdout).unwrap_or(Value::Null);
    let answer = match &answer {
        Value::Array(list) => list.first().cloned().unwrap_or(Value::Null),
        other => other.clone(),
    };
    let fields = match &answer {
        Value::Object(fields) => {
            let name = |(name, value): (&String, &Value)| match value {
                Value::String(_) => format!("{name}: text"),
                Value::Number(_) => format!("{name}: number"),
                _ => name.clone(),
            };
            fields.iter().map(name).collect::<Vec<_>>().join(", ")
        }
        _ => String::new(),
    };
    let status = answer
        .get("status")
        .map(ToString::to_string)
        .unwrap_or_default();
    (outcome.code(), format!("{fields} {status}"))
}

#[test]
fn runc_and_we_answer_alike() {
    let Some(runc) = runc().filter(|_| needs_root()) else {
        return;
    };
    let args = ["/bin/sleep", "1000"];
    let (ours, theirs) = (Bench::new(&args), Bench::with_program(runc, &args));
    for bench in [&ours, &theirs] {
        // runc 1.1 does not know the version that our spec names.
        bench.configure(|spec| spec["ociVersion"] = "1.0.2".into());
    }
    let steps: &[&[&str]] = &[
        &["state", "c"],
        &["start", "c"],
        &["kill", "c"],
        &["delete", "c"],
        &["delete", "--force", "c"],
        &["pause", "c"],
        &["resume", "c"],
        &["ps", "c"],
        &["events", "--stats", "c"],
        &["update", "--pids-limit", "9", "c"],
        &["exec", "c", "true"],
        &["list"],
        &["list", "-q"],
        &["create", "c"],
        &["state", "c"],
        &["list", "--format", "json"],
        &["create", "c"],
        &["exec", "c", "true"],
        &["start", "c"],
        &["start", "c"],
        &["state", "c"],
        &["exec", "c", "sh", "-c", "exit 9"],
        &["exec", "c", "nosuch"],
        &["exec", "c", "/bin"],
        &["exec", "--cwd", "/nosuch", "c", "true"],
        &["exec", "--user", "bob", "c", "true"],
        &["delete", "c"],
        &["pause", "c"],
        &["state", "c"],
        &["pause", "c"],
        &["exec", "c", "true"],
        &["resume", "c"],
        &["resume", "c"],
        &["update", "--pids-limit", "50", "c"],
        &["kill", "c", "BOGUS"],
        &["kill", "c", "0"],
        &["kill", "--all", "c", "CONT"],
        &["ps", "--format", "json", "c"],
        &["delete", "--force", "c"],
        &["state", "c"],
        &["run", "--bundle", "/nonexistent", "c"],
        &["nosuchverb"],
        &["state"],
        &["state", "a", "b"],
        &["create", "--nosuch", "c"],
        &["list", "--format", "xml"],
        &["checkpoint", "nosuch"],
    ];
    let mut different = Vec::new();
    for step in steps {
        let (us, them) = (ours.run(step), theirs.run(step));
        if shape(&us) != shape(&them) {
            different.push(format!("{step:?}\n  we: {us:?}\n  runc: {them:?}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}
