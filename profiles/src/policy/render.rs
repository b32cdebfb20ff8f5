//! The report as text for people: the figures first, then what was asked, what it got, and why.

use std::fmt::Write as _;

use super::report::{Finding, Report, Summary};
use crate::generated::{Provenance, Source};

/// The narrowest table that is drawn, in characters.
const NARROWEST: usize = 60;

const HEADINGS: [&str; 4] = ["RULE", "ASKED", "GOT", "WHY"];

impl Report {
    /// The report as a table at most `width` characters wide, or 60 if that is less.
    pub fn render(&self, width: usize) -> String {
        let width = width.max(NARROWEST);
        let mut text = String::new();
        figures(&mut text, &self.policy, &self.summary, width);
        if !self.findings.is_empty() {
            text.push('\n');
            findings(&mut text, &self.findings, width);
        }
        text
    }
}

fn figures(text: &mut String, policy: &str, summary: &Summary, width: usize) {
    let on = |flag: bool, yes: &str, no: &str| if flag { yes.to_owned() } else { no.to_owned() };
    let seccomp = match summary.seccomp_allowed {
        None => "off".to_owned(),
        Some(allowed) => format!(
            "on, {} system calls allowed, {} of them with conditions; {}",
            allowed.always + allowed.conditional,
            allowed.conditional,
            summary.seccomp
        ),
    };
    let kept = summary.capabilities_kept;
    let dropped = summary.capabilities_dropped;
    for (name, value) in [
        ("policy", policy.to_owned()),
        ("user", summary.user.clone()),
        ("seccomp", seccomp),
        ("capabilities kept", format!("{kept} ({})", kept.len())),
        (
            "capabilities dropped",
            format!("{dropped} ({})", dropped.len()),
        ),
        (
            "no new privileges",
            on(summary.no_new_privileges, "on", "off"),
        ),
        ("masked paths", summary.masked_paths.to_string()),
        ("read-only paths", summary.readonly_paths.to_string()),
        (
            "root file system",
            on(summary.read_only_rootfs, "read-only", "writable"),
        ),
    ]
    .into_iter()
    .chain(summary.generated.as_ref().map(made))
    {
        let indent = 22;
        for (index, line) in wrap(&value, width - indent).iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<indent$}{line}");
        }
    }
}

/// Where the calls of a made profile come from.
fn made(from: &Provenance) -> (&'static str, String) {
    let mut text = format!(
        "confidence {}; {} calls from files, {} always needed, {} from recordings",
        from.confidence.word(),
        from.count(Source::Analysis),
        from.count(Source::Always),
        from.count(Source::Recording),
    );
    if from.unresolved > 0 {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            ", {} for {} calls whose number is not known",
            from.count(Source::Unresolved),
            from.unresolved
        );
    }
    ("seccomp from files", text)
}

fn findings(text: &mut String, findings: &[Finding], width: usize) {
    let first = 26;
    let cell = (width - first - 3) / 3;
    let widths = [first, cell, cell, cell];
    row(text, &HEADINGS.map(str::to_owned), widths);
    for finding in findings {
        let cells = [
            format!("{}: {}", finding.rule, finding.action),
            finding.asked.clone(),
            finding.got.clone(),
            finding.reason.clone(),
        ];
        row(text, &cells, widths);
    }
}

fn row(text: &mut String, cells: &[String; 4], widths: [usize; 4]) {
    let columns: Vec<Vec<String>> = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| wrap(cell, width))
        .collect();
    let height = columns.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let mut out = String::new();
        for (column, width) in columns.iter().zip(widths) {
            let part = column.get(line).map_or("", String::as_str);
            let _ = write!(out, "{part:<width$} ");
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
}

/// Lines of at most `width` characters, broken at spaces where there are any.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let line = lines.last_mut().map_or(0, |line| line.chars().count());
            let space = usize::from(line > 0);
            if line + space + word.len() <= width {
                push(&mut lines, space, &word);
                break;
            }
            if line > 0 {
                lines.push(String::new());
                continue;
            }
            let rest = word.split_off(width);
            push(&mut lines, 0, &word);
            lines.push(String::new());
            word = rest;
        }
    }
    lines
}

fn push(lines: &mut [String], space: usize, word: &[char]) {
    if let Some(line) = lines.last_mut() {
        line.extend(std::iter::repeat_n(' ', space));
        line.extend(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::report::{Action, Rule};

    #[test]
    fn lines_are_broken_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrap("abcdefgh i", 4), ["abcd", "efgh", "i"]);
        assert_eq!(wrap("éé éé", 2), ["éé", "éé"]);
    }

    #[test]
    fn no_line_is_wider_than_asked() {
        let finding = Finding {
            rule: Rule::HostNamespaces,
            field: "linux.namespaces".to_owned(),
            action: Action::Unenforced,
            asked: "a".repeat(300),
            got: "nothing at all of what was asked".to_owned(),
            reason: "because ".repeat(20),
        };
        let report = Report {
            policy: "baseline".to_owned(),
            findings: vec![finding],
            ..Report::default()
        };
        for width in [0, 60, 80, 200] {
            let text = report.render(width);
            assert!(text.contains("host-namespaces:"), "{text}");
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest.unwrap() <= width.max(NARROWEST), "{width}\n{text}");
        }
    }
}
