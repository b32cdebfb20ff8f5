//! SARIF 2.1.0: what sections 3.13 to 3.30 of the specification require, and what code-scanning services ask
//! for beyond that.

use cofferdam_workbench::lint::sarif::{Linted, log};
use cofferdam_workbench::lint::{lint, rules};
use serde_json::Value;

use super::{fixture, options};

#[test]
fn the_log_has_what_the_specification_requires() {
    let text = std::fs::read(fixture("CD303.fail.json")).unwrap();
    let report = lint(&text, &options());
    let files = [
        Linted {
            path: "a dir/web.json",
            report: &report,
        },
        Linted {
            path: "/etc/p\u{e4}.json",
            report: &report,
        },
    ];
    let log = serde_json::to_value(log(&files)).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert!(
        log["$schema"]
            .as_str()
            .unwrap()
            .ends_with("sarif-2.1.0.json")
    );
    assert_eq!(log["runs"].as_array().unwrap().len(), 1);
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert!(!driver["name"].as_str().unwrap().is_empty());
    assert_eq!(run["columnKind"], "unicodeCodePoints");
    let listed = driver["rules"].as_array().unwrap();
    assert_eq!(listed.len(), rules().count());
    for rule in listed {
        for field in ["shortDescription", "fullDescription", "help"] {
            assert!(!rule[field]["text"].as_str().unwrap().is_empty(), "{rule}");
        }
        check_level(&rule["defaultConfiguration"]["level"]);
    }
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 2 * report.findings.len());
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(listed[index]["id"], result["ruleId"]);
        check_level(&result["level"]);
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let place = &result["locations"][0]["physicalLocation"];
        assert!(place["region"]["startLine"].as_u64().unwrap() >= 1);
        assert!(place["region"]["startColumn"].as_u64().unwrap() >= 1);
    }
    let uri =
        |at: usize| &results[at]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(uri(0), "a%20dir/web.json");
    assert_eq!(uri(results.len() - 1), "file:///etc/p%C3%A4.json");
}

fn check_level(level: &Value) {
    let level = level.as_str().unwrap();
    assert!(
        ["none", "note", "warning", "error"].contains(&level),
        "{level}"
    );
}
