//! The creation report as text: the figures first, then what was asked, what was given, and why.

use std::fmt::Write as _;

use cofferdam_profiles::policy::{Report, Summary};

/// The report for people.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    for (name, value) in figures(&report.policy, &report.summary) {
        // Writing to a String cannot fail; so below.
        let _ = writeln!(text, "{name:<22}{value}");
    }
    if !report.findings.is_empty() {
        text.push_str("\nWhat was asked for, what it got, and why:\n");
    }
    for finding in &report.findings {
        let _ = writeln!(
            text,
            "\n  {} ({}), {}\n    asked  {}\n    got    {}\n    why    {}",
            finding.field, finding.rule, finding.action, finding.asked, finding.got, finding.reason
        );
    }
    text
}

fn figures(policy: &str, summary: &Summary) -> Vec<(&'static str, String)> {
    let seccomp = match &summary.seccomp_allowed {
        None => "off".to_owned(),
        Some(allowed) => format!(
            "on, {}: {} system calls allowed, {} more with some arguments",
            summary.seccomp, allowed.always, allowed.conditional
        ),
    };
    let on = |flag| if flag { "on" } else { "off" }.to_owned();
    vec![
        ("Policy", policy.to_owned()),
        ("User", summary.user.clone()),
        ("Seccomp", seccomp),
        ("Capabilities kept", summary.capabilities_kept.to_string()),
        (
            "Capabilities dropped",
            summary.capabilities_dropped.to_string(),
        ),
        ("No new privileges", on(summary.no_new_privileges)),
        ("Read-only root", on(summary.read_only_rootfs)),
        ("Masked paths", summary.masked_paths.to_string()),
        ("Read-only paths", summary.readonly_paths.to_string()),
    ]
}
