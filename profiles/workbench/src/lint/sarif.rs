//! Findings as SARIF 2.1.0 (OASIS), which code-scanning services read: the part of it that is needed.

use serde::Serialize;

use super::finding::{Finding, Report};
use super::rule::{Rule, Severity};

/// A file and what was found in it.
#[derive(Debug, Clone, Copy)]
pub struct Linted<'a> {
    /// The file, as a path relative to where the linter ran, or absolute.
    pub path: &'a str,
    /// What was found.
    pub report: &'a Report,
}

/// A whole log.
pub fn log(files: &[Linted]) -> impl Serialize {
    let rules: Vec<&'static Rule> = super::rules().collect();
    let results = files
        .iter()
        .flat_map(|file| {
            file.report
                .findings
                .iter()
                .map(|finding| (file.path, finding))
        })
        .map(|(path, finding)| result(path, finding, &rules))
        .collect();
    Log {
        schema: "https://json.schemastore.org/sarif-2.1.0.json",
        version: "2.1.0",
        runs: [Run {
            tool: Tool {
                driver: Driver {
                    name: "cofferdam profile lint",
                    version: env!("CARGO_PKG_VERSION"),
                    information_uri: env!("CARGO_PKG_REPOSITORY"),
                    rules: rules.iter().map(|rule| descriptor(rule)).collect(),
                },
            },
            column_kind: "unicodeCodePoints",
            results,
        }],
    }
}

fn descriptor(rule: &'static Rule) -> Descriptor {
    Descriptor {
        id: rule.id,
        name: rule.name,
        short_description: Text::new(rule.name),
        full_description: Text::new(rule.why),
        help: Text::new(rule.fix),
        default_configuration: Configuration {
            level: level(rule.severity),
        },
    }
}

fn result(path: &str, finding: &Finding, rules: &[&'static Rule]) -> Outcome {
    let region = Region {
        start_line: finding.at.line,
        start_column: finding.at.column,
    };
    Outcome {
        rule_id: finding.rule.id,
        rule_index: rules.iter().position(|rule| *rule == finding.rule),
        level: level(finding.rule.severity),
        message: Text::new(&finding.message),
        locations: [Location {
            physical_location: Physical {
                artifact_location: Artifact { uri: uri(path) },
                region,
            },
            logical_locations: [Logical {
                fully_qualified_name: finding.pointer.clone(),
            }],
        }],
    }
}

/// The names are SARIF's own.
fn level(severity: Severity) -> &'static str {
    severity.name()
}

/// A path as a URI reference (RFC 3986): what it cannot hold is percent-encoded.
fn uri(path: &str) -> String {
    let mut out = String::new();
    if path.starts_with('/') {
        out.push_str("file://");
    }
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[derive(Serialize)]
struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    column_kind: &'static str,
    results: Vec<Outcome>,
}

#[derive(Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    version: &'static str,
    information_uri: &'static str,
    rules: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    id: &'static str,
    name: &'static str,
    short_description: Text,
    full_description: Text,
    help: Text,
    default_configuration: Configuration,
}

#[derive(Serialize)]
struct Configuration {
    level: &'static str,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

impl Text {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    rule_id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_index: Option<usize>,
    level: &'static str,
    message: Text,
    locations: [Location; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: Physical,
    logical_locations: [Logical; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical {
    artifact_location: Artifact,
    region: Region,
}

#[derive(Serialize)]
struct Artifact {
    uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
    start_column: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Logical {
    fully_qualified_name: String,
}
