use cofferdam_profiles::capability::{self, Set};
use cofferdam_profiles::seccomp::{Arch, Evaluator};
use cofferdam_workbench::dialect::{Target, read};
use cofferdam_workbench::lint::{fix, lint, rules};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{broken, engine_profiles, fixture, options};

#[test]
fn what_is_fixable_is_fixed_and_stays_so() {
    for rule in rules() {
        let text = std::fs::read_to_string(fixture(&format!("{}.fail.json", rule.id))).unwrap();
        let fixed = fix(text.as_bytes(), &options());
        assert_eq!(fixed.is_some(), rule.fixable, "{}", rule.name);
        let Some(fixed) = fixed else { continue };
        assert!(
            broken(&fixed.text).is_empty(),
            "{}: {}",
            rule.name,
            fixed.text
        );
        assert_eq!(
            fix(fixed.text.as_bytes(), &options()),
            None,
            "{}",
            rule.name
        );
    }
}

#[test]
fn the_form_of_the_rest_is_kept() {
    let head = "{\n\t\"defaultAction\" : \"SCMP_ACT_ERRNO\",\n\t\"syscalls\":[\n";
    let table = [
        (
            "\t\t{ \"names\": [\"read\",  \"write\", \"read\"], \"action\": \"SCMP_ACT_ALLOW\" }\n",
            "\t\t{ \"names\": [\"read\",  \"write\"], \"action\": \"SCMP_ACT_ALLOW\" }\n",
        ),
        (
            "{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"},\n  {\"names\":[],\"action\":\"SCMP_ACT_ALLOW\"}\n",
            "{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}\n",
        ),
        (
            "  {\"names\":[],\"action\":\"SCMP_ACT_ALLOW\"},\n  {\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}\n",
            "  {\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"}\n",
        ),
        (
            "{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":1,\"op\":\
             \"SCMP_CMP_MASKED_EQ\",\"value\":1, \"valueTwo\" :3}]}",
            "{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":1,\"op\":\
             \"SCMP_CMP_MASKED_EQ\",\"value\":1, \"valueTwo\" :1}]}",
        ),
    ];
    for (before, after) in table {
        let fixed = fix(format!("{head}{before}]}}").as_bytes(), &options()).expect(before);
        assert_eq!(fixed.text, format!("{head}{after}]}}"));
    }
}

#[test]
fn the_profiles_of_engines_mean_the_same_afterwards() {
    for (name, text) in engine_profiles() {
        let Some(fixed) = fix(text.as_bytes(), &options()) else {
            continue;
        };
        assert_same(&text, &fixed.text);
        let left = lint(fixed.text.as_bytes(), &options());
        assert!(
            left.findings.iter().all(|finding| finding.repair.is_none()),
            "{name}"
        );
        let changed = text.lines().count() - fixed.text.lines().count();
        assert!(changed < 60, "{name}: {changed} lines fewer");
    }
}

/// A defect: of one call 256 uses were compared in each of 16 rounds, so of more than 4,096 copies some stayed,
/// and nobody was told.
#[test]
fn thousands_of_copies_are_taken_out() {
    let file = |rules: &str| {
        format!("{{\"defaultAction\": \"SCMP_ACT_ERRNO\", \"syscalls\": [\n{rules}\n]}}\n")
    };
    let plain = "{\"names\": [\"read\"], \"action\": \"SCMP_ACT_ALLOW\"}";
    let masked = "{\"names\": [\"clone\"], \"action\": \"SCMP_ACT_ALLOW\", \"args\": [{\"index\": 0, \
                  \"op\": \"SCMP_CMP_MASKED_EQ\", \"value\": 2114060288, \"valueTwo\": 0}]}";
    let names = |count: usize| {
        let list = vec!["\"read\""; count].join(", ");
        format!("{{\"names\": [{list}], \"action\": \"SCMP_ACT_ALLOW\"}}")
    };
    let table = [
        (vec![plain; 5_000].join(",\n"), plain.to_owned()),
        (vec![masked; 5_000].join(",\n"), masked.to_owned()),
        (names(5_000), names(1)),
        (names(16_000), names(1)),
        (
            [plain, masked].repeat(4_000).join(",\n"),
            format!("{plain},\n{masked}"),
        ),
    ];
    for (before, after) in table {
        let fixed = fix(file(&before).as_bytes(), &options()).unwrap();
        assert_eq!(fixed.text, file(&after));
        // More conditions than these are taken only after their repetitions are gone.
        if before.matches("index").count() <= 4096 {
            assert_same(&file(&before), &fixed.text);
        }
    }
}

/// A defect, found by fuzzing: of two faults of a condition only the first was told, so that a repair left as
/// much to find as before.
#[test]
fn a_repair_leaves_less_to_find() {
    let arg = json!({"index": 1, "value": 1, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"});
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["epoll_pwait"], "action": "SCMP_ACT_ALLOW", "args": [arg]}]});
    let before = profile.to_string();
    let after = fix(before.as_bytes(), &options()).unwrap().text;
    assert_eq!(&broken(&before) - &broken(&after), ["CD204"].into());
    assert!(broken(&after).contains("CD205") && broken(&after).is_subset(&broken(&before)));
}

/// What is too large for any filter even without its repetitions cannot be compared, and so is not repaired: that
/// takes no time, and an error says why.
#[test]
fn what_is_too_large_is_left_alone_and_told() {
    let rules: Vec<Value> = (0..4_500)
        .map(|value| {
            json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
        })
        .collect();
    let twice = [rules.clone(), rules].concat();
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": twice});
    let text = profile.to_string();
    assert_eq!(fix(text.as_bytes(), &options()), None);
    let report = lint(text.as_bytes(), &options());
    let said = |id: &str| {
        report
            .findings
            .iter()
            .filter(|one| one.rule.id == id)
            .count()
    };
    assert_eq!((said("CD003"), said("CD004"), said("CD302")), (1, 1, 4_500));
}

fn assert_same(before: &str, after: &str) {
    for capabilities in [
        capability::ENGINE_DEFAULT,
        Set::EMPTY,
        Set::of(capability::ALL),
    ] {
        let target = Target {
            capabilities,
            arch: Arch::X86_64,
            kernel: None,
        };
        let mean = |text: &str| {
            let profile = read(text.as_bytes()).unwrap().oci(&target).unwrap();
            Evaluator::on(&profile, Arch::X86_64).unwrap()
        };
        assert!(mean(before).same_meaning(&mean(after)));
    }
}

fn profile() -> impl Strategy<Value = Value> {
    let name = proptest::sample::select(vec!["read", "flock", "openat", "mseal", "clone3"]);
    let action = proptest::sample::select(vec!["ALLOW", "ERRNO", "LOG", "KILL_PROCESS"]);
    let op = proptest::sample::select(vec!["EQ", "NE", "LT", "GT", "MASKED_EQ"]);
    let arg = (0u8..3, op, 0u64..4, 0u64..8).prop_map(|(index, op, value, two)| {
        json!({"index": index, "op": format!("SCMP_CMP_{op}"), "value": value, "valueTwo": two})
    });
    let args = proptest::collection::vec(arg, 0..2);
    let cap = proptest::sample::select(vec![
        json!({}),
        json!({"caps": ["CAP_SYS_ADMIN"]}),
        json!({"minKernel": "4.8"}),
    ]);
    let rule = (
        proptest::collection::vec(name, 1..4),
        action,
        args,
        cap.clone(),
        cap,
    )
        .prop_map(|(names, action, args, includes, excludes)| {
            json!({"names": names, "action": format!("SCMP_ACT_{action}"), "args": args,
                "includes": includes, "excludes": excludes})
        });
    let rules = proptest::collection::vec(rule, 0..8);
    (rules, proptest::sample::select(vec![1, 38])).prop_map(|(rules, errno)| {
        json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": errno, "syscalls": rules})
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn repairs_never_change_the_meaning(profile in profile()) {
        let text = serde_json::to_string_pretty(&profile).unwrap();
        if let Some(fixed) = fix(text.as_bytes(), &options()) {
            assert_same(&text, &fixed.text);
            prop_assert_eq!(fix(fixed.text.as_bytes(), &options()), None);
        }
    }
}
