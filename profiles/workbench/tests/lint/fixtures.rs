use std::collections::BTreeSet;

use cofferdam_workbench::lint::rules;

use super::{broken, fixture};

#[test]
fn each_rule_is_broken_by_its_fixture_alone() {
    for rule in rules() {
        let read = |kind: &str| {
            let path = fixture(&format!("{}.{kind}.json", rule.id));
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
        };
        assert_eq!(
            broken(&read("fail")),
            BTreeSet::from([rule.id]),
            "{}",
            rule.name
        );
        assert_eq!(broken(&read("pass")), BTreeSet::new(), "{}", rule.name);
    }
}

#[test]
fn there_is_no_fixture_without_a_rule() {
    for entry in std::fs::read_dir(fixture("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(rules().any(|rule| name.starts_with(rule.id)), "{name}");
    }
}

#[test]
fn ids_and_names_are_told_apart() {
    let mut seen = BTreeSet::new();
    for rule in rules() {
        assert!(
            seen.insert(rule.id) && seen.insert(rule.name),
            "{} {}",
            rule.id,
            rule.name
        );
        assert!(
            rule.id.len() == 5 && rule.id.starts_with("CD"),
            "{}",
            rule.id
        );
    }
}
