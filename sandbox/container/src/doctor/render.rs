//! The table of `doctor`.

use std::fmt::Write;

use super::{Check, Doctor, Status};

pub(super) fn render(doctor: &Doctor) -> String {
    let mut out = format!("Linux {} on {}\n", doctor.kernel, doctor.architecture);
    section(&mut out, "kernel", &doctor.features);
    section(&mut out, "cgroups", &doctor.cgroups);
    section(&mut out, "host", &doctor.host);
    out.push_str("\nengines\n");
    for engine in &doctor.engines {
        let version = engine.version.as_deref().unwrap_or("?");
        let word = if engine.usable { "ok" } else { "NO" };
        line(&mut out, word, &engine.name, version, &engine.how);
    }
    if doctor.engines.is_empty() {
        out.push_str("  none of containerd, dockerd, podman, crio is on PATH\n");
    }
    let verdict = match doctor.worst() {
        Status::Ok => "everything a policy may ask for can be enforced here",
        Status::Degraded => {
            "containers can be run; what is marked \"less\" is refused when asked for, never skipped"
        }
        Status::Missing => "containers cannot be run safely here: see what is marked MISSING",
    };
    out.push('\n');
    out.push_str(verdict);
    out.push('\n');
    out
}

fn section(out: &mut String, title: &str, checks: &[Check]) {
    let _ = writeln!(out, "\n{title}");
    for check in checks {
        let word = match check.status {
            Status::Ok => "ok",
            Status::Degraded => "less",
            Status::Missing => "MISSING",
        };
        line(out, word, &check.name, &check.found, &check.means);
    }
}

fn line(out: &mut String, word: &str, name: &str, found: &str, means: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "  {word:<8}{name:<21}{found}");
    for row in wrap(means, 68) {
        let _ = writeln!(out, "{:31}{row}", "");
    }
}

/// Breaks a text between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match rows.last_mut() {
            Some(row) if row.len() + 1 + word.len() <= width => {
                row.push(' ');
                row.push_str(word);
            }
            _ => rows.push(word.to_owned()),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_broken_between_words() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("longword x", 3), ["longword", "x"]);
        assert!(wrap("", 3).is_empty());
    }
}
