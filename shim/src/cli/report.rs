//! The creation report as text: the figures first, then what was asked, what was given, and why.

use std::fmt::Write as _;

use cofferdam_profiles::policy::Report;

/// The report for people.
pub(crate) fn render(report: &Report) -> String {
    let mut text = format!("Policy           {}\n", report.policy);
    if !report.findings.is_empty() {
        text.push_str("\nWhat was asked for, what it got, and why:\n");
    }
    for finding in &report.findings {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\n  {} ({}), {}\n    asked  {}\n    got    {}\n    why    {}",
            finding.field, finding.rule, finding.action, finding.asked, finding.got, finding.reason
        );
    }
    text
}
