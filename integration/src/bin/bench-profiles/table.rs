use cofferdam_integration::{command::Cmd, error::Result, loads::stage::rootfs};

use crate::{
    docker::Default,
    row::Row,
    tools::{Tools, mean},
};

/// Column headings.
pub(crate) const HEADINGS: &[&str] = &[
    "program",
    "allowed",
    "in its container",
    "serving",
    "observed",
    "recall",
    "F1",
    "unresolved",
    "dangerous",
    "cold s",
    "warm s",
    "MB",
    "confidence",
];

/// A row's cells.
pub(crate) fn cells(row: &Row) -> Vec<String> {
    vec![
        row.name.to_owned(),
        row.generated.allowed.len().to_string(),
        row.allowed_in_container.to_string(),
        row.generated
            .serving
            .as_ref()
            .map_or("-".to_owned(), |(_, calls)| calls.to_string()),
        row.observed.len().to_string(),
        format!("{:.1} %", row.recall() * 100.0),
        format!("{:.2}", row.f1()),
        row.generated.unresolved.to_string(),
        row.dangerous.len().to_string(),
        format!("{:.2}", row.seconds.0),
        format!("{:.3}", row.seconds.1),
        row.megabytes.to_string(),
        format!("{} ({})", row.generated.confidence, row.generated.kind),
    ]
}

/// The page for the documentation.
///
/// # Errors
/// If the versions cannot be read.
pub(crate) fn markdown(rows: &[Row], default: &Default, tools: Option<&Tools>) -> Result<String> {
    let mut text = String::from(INTRODUCTION);
    let date = Cmd::new("date").args(["-u", "+%Y-%m-%d"]).ok()?.stdout;
    let kernel = Cmd::new("uname").arg("-r").ok()?.stdout;
    text.push_str(&format!(
        "Measured on {} with Linux {}.\n\n",
        date.trim(),
        // Without what a builder adds.
        kernel.trim().split('-').next().unwrap_or_default()
    ));
    text.push_str(&format!("| {} |\n", HEADINGS.join(" | ")));
    text.push_str(&"|---".repeat(HEADINGS.len()));
    text.push_str("|\n");
    for row in rows {
        text.push_str(&format!("| {} |\n", cells(row).join(" | ")));
    }
    text.push_str(&format!(
        "\nDocker {}'s default profile names {} calls, {} of them native to x86-64.\n",
        default.version,
        default.names.len(),
        default.native.len()
    ));
    let c: Vec<&Row> = rows
        .iter()
        .filter(|row| !OTHERS.contains(&row.name))
        .collect();
    text.push_str(&format!(
        "\nThe {} servers and tools written in C and C++: a mean of {:.1} calls allowed, {:.1} observed.\n",
        c.len(),
        mean(c.iter().map(|row| row.generated.allowed.len())),
        mean(c.iter().map(|row| row.observed.len())),
    ));
    if let Some(tools) = tools {
        text.push_str(&format!("\n{}\n", tools.text()));
    }
    text.push_str("\n## Main loops\n\n");
    for row in rows {
        if let Some((main_loop, calls)) = &row.generated.serving {
            let all = row.generated.found.len();
            text.push_str(&format!(
                "- {}: `{main_loop}`, {calls} of {all} found\n",
                row.name
            ));
        }
    }
    text.push_str("\n## Dangerous calls left\n\n");
    for row in rows.iter().filter(|row| !row.dangerous.is_empty()) {
        text.push_str(&format!("- {}: {}\n", row.name, row.dangerous.join(", ")));
    }
    let missed: Vec<_> = rows.iter().filter(|row| !row.missed.is_empty()).collect();
    if !missed.is_empty() {
        text.push_str("\n## Missed\n\nObserved, and not found by the analysis:\n\n");
        for row in missed {
            text.push_str(&format!("- {}: {}\n", row.name, row.missed.join(", ")));
        }
    }
    text.push_str("\n## Versions\n\n");
    for row in rows {
        text.push_str(&format!("- {}: {}\n", row.name, versions(row.name)?));
    }
    Ok(text)
}

/// The packages that a root file system was asked for, with their versions.
fn versions(name: &str) -> Result<String> {
    let path = rootfs(name)?.join(".versions");
    Ok(std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .collect::<Vec<_>>()
        .join(", "))
}

/// Interpreters, JITs and Go, whose calls are not their own.
const OTHERS: &[&str] = &["python", "perl", "node", "containerd"];

const INTRODUCTION: &str = "\
# Generated profiles, measured

Written by `make bench-profiles`; do not edit. Each program comes from Debian 12 packages and runs two
loads, one of which no profile is ever recorded from (`integration/loads`). *Allowed* are native calls
that the profile generated from the program's files lets through, *in its container* the same for
everything that runs there, *serving* those it can still make once its main loop runs (no filter is made
of them), *observed* those that strace saw the program make under both loads, *recall*
the share of these that the analysis found, *unresolved* reachable system calls whose number is not
known, each of which widens the profile. *Cold* is without anything kept, *warm* with what a first run kept.

";
