//! A profile's file in JSON: the parser against `serde_json`, and what is read against what is
//! written of it.
#![no_main]

use cofferdam_profiles::capability::{self, Set};
use cofferdam_profiles::seccomp::{Arch, Evaluator};
use cofferdam_workbench::dialect::node::{Node, Value};
use cofferdam_workbench::dialect::{Dialect, DialectError, Output, Target, json, read, write};
use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::LinuxSeccomp;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        parser(text);
    }
    let Ok(document) = read(data) else { return };
    let usual = Target {
        capabilities: capability::ENGINE_DEFAULT,
        arch: Arch::X86_64,
        kernel: None,
    };
    let every = Target {
        capabilities: Set::of(capability::ALL),
        ..usual
    };
    for target in [&usual, &every] {
        let Ok(profile) = document.oci(target) else {
            return;
        };
        let _ = Evaluator::on(&profile, target.arch);
        let profile = usual_errno(profile);
        for dialect in [Dialect::Oci, Dialect::Docker, Dialect::Podman, Dialect::Spo] {
            let output = Output {
                dialect,
                target: Some(target),
                usual: target,
                name: "fuzz",
            };
            // The operator has no default errno.
            let Ok(text) = write(&document, &output) else {
                continue;
            };
            let again = read(text.as_bytes()).unwrap();
            let again = usual_errno(again.oci(target).unwrap());
            assert_eq!(again, profile, "{dialect:?}\n{text}");
        }
    }
});

/// EPERM as the default's errno is the same as none, which is how the operator says it.
fn usual_errno(mut profile: LinuxSeccomp) -> LinuxSeccomp {
    let errno = profile.default_errno_ret().filter(|errno| *errno != 1);
    profile.set_default_errno_ret(errno);
    profile
}

/// Accepts what `serde_json` does, but for the bounds and for keys that stand twice.
fn parser(text: &str) {
    let theirs = serde_json::from_str::<serde_json::Value>(text);
    match (json::parse(text), theirs) {
        (Ok(ours), Ok(theirs)) => same(&ours, &theirs),
        (Err(error), Ok(_)) => assert!(
            matches!(
                error,
                DialectError::DuplicateKey { .. }
                    | DialectError::TooDeep { .. }
                    | DialectError::TooMany { .. }
            ),
            "{error}"
        ),
        (Ok(_), Err(error)) => assert!(error.to_string().contains("out of range"), "{error}"),
        (Err(_), Err(_)) => {}
    }
}

fn same(ours: &Node, theirs: &serde_json::Value) {
    match (&ours.value, theirs) {
        (Value::Null, serde_json::Value::Null) => {}
        (Value::Bool(a), serde_json::Value::Bool(b)) => assert_eq!(a, b),
        (Value::Text(a), serde_json::Value::String(b)) => assert_eq!(a, b),
        (Value::Number(a), serde_json::Value::Number(b)) => {
            if let Some(b) = b.as_u64() {
                assert_eq!(a.parse(), Ok(b));
            }
        }
        (Value::List(a), serde_json::Value::Array(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| same(a, b));
        }
        (Value::Map(a), serde_json::Value::Object(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().for_each(|(key, a)| same(a, &b[&key.name]));
        }
        (ours, theirs) => panic!("{ours:?} and {theirs}"),
    }
}
