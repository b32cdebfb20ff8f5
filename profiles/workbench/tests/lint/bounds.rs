use std::time::Duration;

use cofferdam_workbench::lint::{fix, lint};
use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::options;

/// Of processor time; generous for a debug build. What is not bounded takes minutes.
const LONG: Duration = Duration::from_secs(60);

/// What this thread has run for, however busy the machine is.
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

/// Any JSON, in which the fields that are looked for occur.
fn anything() -> impl Strategy<Value = Value> {
    let word = proptest::sample::select(vec![
        "defaultAction",
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_NOTIFY",
        "syscalls",
        "names",
        "action",
        "args",
        "index",
        "value",
        "valueTwo",
        "op",
        "SCMP_CMP_MASKED_EQ",
        "SCMP_CMP_EQ",
        "architectures",
        "SCMP_ARCH_X86",
        "archMap",
        "includes",
        "excludes",
        "caps",
        "CAP_SYS_ADMIN",
        "minKernel",
        "4.8",
        "errnoRet",
        "errno",
        "linux",
        "seccomp",
        "read",
        "clone",
        "flags",
        "name",
        "",
        "\u{1f980}",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        let key = prop_oneof![9 => word.clone().prop_map(str::to_owned), 1 => ".{0,4}"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A profile of which some parts are anything.
fn nearly() -> impl Strategy<Value = Value> {
    let odd = || prop_oneof![2 => Just(None), 1 => anything().prop_map(Some)];
    (odd(), odd(), odd(), odd(), odd()).prop_map(|(default, names, action, args, more)| {
        let mut rule = json!({"names": ["read", "write"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]});
        for (field, value) in [
            ("names", names),
            ("action", action),
            ("args", args),
            ("includes", more),
        ] {
            if let Some(value) = value {
                rule[field] = value;
            }
        }
        json!({"defaultAction": default.unwrap_or(json!("SCMP_ACT_ERRNO")), "syscalls": [rule]})
    })
}

fn survive(text: &[u8]) {
    let start = now();
    let _ = lint(text, &options());
    // Repairing takes many times as long, and is tried on texts that are no bombs.
    if text.len() < 1 << 16 {
        let _ = fix(text, &options());
    }
    let took = now() - start;
    assert!(took < LONG, "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn any_value_is_looked_through(value in prop_oneof![anything(), nearly()]) {
        survive(value.to_string().as_bytes());
    }

    #[test]
    fn any_bytes_are_looked_through(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        survive(&bytes);
    }
}

#[test]
fn bombs_are_looked_through_in_time() {
    let rules = |rule: &str, count: usize| {
        format!(
            "{{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{}]}}",
            vec![rule; count].join(",")
        )
    };
    let allow = |names: &str, args: &str| {
        format!("{{\"names\":[{names}],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{args}]}}")
    };
    let arg = "{\"index\":1,\"op\":\"SCMP_CMP_NE\",\"value\":7}";
    let different: Vec<String> = (0..16_000).map(|n| format!("\"call_{n}\"")).collect();
    let values: Vec<String> = (0..2_000)
        .map(|n| {
            allow(
                "\"socket\"",
                &format!(
                    "{{\"index\":{},\"op\":\"SCMP_CMP_NE\",\"value\":{n}}}",
                    n % 6
                ),
            )
        })
        .collect();
    let table = [
        "[".repeat(3_000_000),
        "{\"a\":".repeat(500_000),
        format!("{{\"defaultAction\":\"{}\"}}", "x".repeat(3_000_000)),
        rules(&allow("\"read\"", ""), 16_000),
        rules(&allow("\"read\"", arg), 16_000),
        rules(
            &allow(
                &vec!["\"socket\""; 127].join(","),
                &vec![arg; 127].join(","),
            ),
            1,
        ),
        rules(&allow("\"read\"", &vec![arg; 16_000].join(",")), 1),
        rules(&allow(&different.join(","), ""), 1),
        rules(&values.join(","), 1),
        rules("{}", 60_000),
        rules("{\"names\":[],\"action\":\"SCMP_ACT_ALLOW\"}", 16_000),
    ];
    for (at, text) in table.iter().enumerate() {
        let start = now();
        survive(text.as_bytes());
        eprintln!("bomb {at}: {:?}", now() - start);
    }
}
