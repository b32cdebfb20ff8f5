//! Reasons agree with the evaluator, and edits do what they say.

use cofferdam_profiles::capability::ENGINE_DEFAULT;
use cofferdam_profiles::seccomp::resolve;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;
use crate::dialect;

const USUAL: Target = Target {
    capabilities: ENGINE_DEFAULT,
    arch: Arch::X86_64,
    kernel: None,
};

fn document(value: &Value) -> Document {
    dialect::read(value.to_string().as_bytes()).unwrap()
}

fn sample() -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["read", "write", "mseal"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 0x7e02_0000, "valueTwo": 0}]},
            {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13,
             "args": [{"index": 1, "op": "SCMP_CMP_MASKED_EQ", "value": 0xffff_ffff_u64, "valueTwo": 0x5412}]},
            {"names": ["clone3", "bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        ],
    })
}

#[test]
fn reasons() {
    let document = document(&sample());
    let profile = Profile::new(&document, USUAL).unwrap();
    let rule = |index: usize| {
        move |reason: &Reason| {
            matches!(reason, Reason::Rule(at) if at.index == index
        && at.pointer == format!("/syscalls/{index}"))
        }
    };
    type Check = Box<dyn Fn(&Reason) -> bool>;
    let table: Vec<(&str, [u64; 2], Action, Check)> = vec![
        ("read", [0, 0], Action::Allow, Box::new(rule(0))),
        ("clone", [17, 0], Action::Allow, Box::new(rule(1))),
        (
            "clone",
            [0x1000_0000, 0],
            Action::Errno(1),
            Box::new(|reason| *reason == Reason::Default),
        ),
        ("ioctl", [0, 0x5401], Action::Allow, Box::new(rule(2))),
        ("ioctl", [0, 0x5412], Action::Errno(13), Box::new(rule(3))),
        ("clone3", [0, 0], Action::Errno(38), Box::new(rule(4))),
        (
            "mount",
            [0, 0],
            Action::Errno(1),
            Box::new(|reason| *reason == Reason::Default),
        ),
        (
            "setxattrat",
            [0, 0],
            Action::Errno(38),
            Box::new(|reason| *reason == Reason::Newer { newest: 462 }),
        ),
    ];
    for (name, [a, b], answer, check) in table {
        for one in profile.explain(name, &[a, b, 0, 0, 0, 0]) {
            if one.arch == Arch::X32 {
                assert_eq!(
                    (&one.reason, one.answer),
                    (&Reason::Foreign, Action::Errno(38)),
                    "{name}"
                );
            } else {
                assert_eq!(one.answer, answer, "{name} on {:?}", one.arch);
                assert!(
                    check(&one.reason),
                    "{name} on {:?}: {:?}",
                    one.arch,
                    one.reason
                );
            }
        }
    }
    assert_eq!(profile.explain("socketcall", &[0; 6]).len(), 1);
    assert!(profile.explain("no_such_call", &[0; 6]).is_empty());
}

/// What RFC 6902 says of the two operations.
fn apply(value: &mut Value, patch: &[Patch]) {
    for one in patch {
        let (path, value_to_add) = match one {
            Patch::Add { path, value } => (path, Some(value)),
            Patch::Remove { path } => (path, None),
        };
        let (parent, key) = path.rsplit_once('/').unwrap();
        match (value.pointer_mut(parent).unwrap(), value_to_add) {
            (Value::Array(list), Some(new)) if key == "-" => list.push(new.clone()),
            (Value::Array(list), None) => drop(list.remove(key.parse().unwrap())),
            (Value::Object(fields), Some(new)) => drop(fields.insert(key.to_owned(), new.clone())),
            (other, _) => panic!("{path} in {other}"),
        }
    }
}

#[test]
fn edits_turn_the_answer_around() {
    let table = [
        ("read", vec![]),
        ("clone", vec![0x1000_0011]),
        ("clone", vec![17]),
        ("ioctl", vec![0, 0x5412]),
        ("clone3", vec![]),
        ("bpf", vec![1]),
        ("mount", vec![]),
        ("setxattrat", vec![]),
        ("socket", vec![38, 5]),
    ];
    for (name, given) in table {
        let document = document(&sample());
        let profile = Profile::new(&document, USUAL).unwrap();
        let mut args = [0; 6];
        args[..given.len()].copy_from_slice(&given);
        let before = profile.explain(name, &args).remove(0);
        let edits = edits(&profile, name, &given, &before);
        assert!(!edits.is_empty(), "{name}");
        for edit in edits.iter().filter(|edit| !edit.patch.is_empty()) {
            let mut value = sample();
            apply(&mut value, &edit.patch);
            let document = dialect::read(value.to_string().as_bytes()).unwrap();
            let profile = Profile::new(&document, USUAL).unwrap();
            let after = profile.explain(name, &args).remove(0);
            assert_ne!(
                before.answer.allows(),
                after.answer.allows(),
                "{name}: {edit:?}"
            );
        }
        let by_container = edits.iter().any(|edit| edit.text.contains("CAP_SYS_ADMIN"));
        assert_eq!(by_container, name == "mount", "{edits:?}");
    }
    let document = document(&sample());
    let profile = Profile::new(&document, USUAL).unwrap();
    let x32 = profile.explain("read", &[0; 6]).pop().unwrap();
    assert_eq!(x32.arch, Arch::X32);
    let edit = edits(&profile, "read", &[], &x32).remove(0);
    let mut value = sample();
    apply(&mut value, &edit.patch);
    let document = dialect::read(value.to_string().as_bytes()).unwrap();
    let after = Profile::new(&document, USUAL)
        .unwrap()
        .explain("read", &[0; 6])
        .pop()
        .unwrap();
    assert!(after.answer.allows(), "{edit:?}");
}

#[test]
fn a_profile_at_a_glance() {
    let document = document(&sample());
    let profile = Profile::new(&document, USUAL).unwrap();
    let summary = summary(&profile);
    let native = summary.counts[0];
    assert_eq!((native.arch, native.listed), (Arch::X86_64, true));
    assert_eq!((native.allowed, native.conditional), (3, 2));
    let x32 = summary.counts[2];
    assert_eq!((x32.arch, x32.listed, x32.allowed), (Arch::X32, false, 0));
    let walls = &summary.dangerous[&crate::knowledge::Danger::Walls];
    assert_eq!(walls, &(vec![], vec!["clone".to_owned()]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// The rule that is named as the reason has the answer that the model gives.
    #[test]
    fn the_reason_has_the_evaluators_answer(
        default in select(vec![("SCMP_ACT_ERRNO", 1), ("SCMP_ACT_ERRNO", 38), ("SCMP_ACT_ALLOW", 0), ("SCMP_ACT_KILL", 0)]),
        rules in proptest::collection::vec((
            select(vec!["read", "ioctl", "mseal"]),
            select(vec![("SCMP_ACT_ERRNO", 1), ("SCMP_ACT_ERRNO", 13), ("SCMP_ACT_ALLOW", 0), ("SCMP_ACT_LOG", 0), ("SCMP_ACT_TRAP", 0)]),
            proptest::collection::vec((0u8..2, select(vec!["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_NE"]), 0u64..3), 0..3),
        ), 0..6),
        args in proptest::array::uniform2(0u64..4),
    ) {
        let errno = |action: &str, errno: u32| (action == "SCMP_ACT_ERRNO").then_some(errno);
        let syscalls: Vec<Value> = rules.iter().map(|(name, (action, number), tests)| {
            let tests: Vec<Value> = tests.iter()
                .map(|(index, op, value)| json!({"index": index, "op": op, "value": value})).collect();
            json!({"names": [name], "action": action, "errnoRet": errno(action, *number), "args": tests})
        }).collect();
        let document = document(&json!({"defaultAction": default.0, "defaultErrnoRet": errno(default.0, default.1),
            "syscalls": syscalls}));
        let profile = Profile::new(&document, USUAL).unwrap();
        let args = [args[0], args[1], 0, 0, 0, 0];
        for name in ["read", "ioctl", "mseal", "fchmodat2"] {
            for one in profile.explain(name, &args) {
                prop_assert_eq!(resolve(one.arch, name), Some(one.number));
                let expected = match &one.reason {
                    Reason::Rule(rule) => rule.action,
                    Reason::Default => profile.evaluator.default_answer(),
                    Reason::Newer { .. } => Action::Errno(38),
                    Reason::Foreign => profile.evaluator.foreign(),
                };
                prop_assert_eq!(one.answer, expected, "{}: {:?}", name, one);
            }
        }
    }
}
