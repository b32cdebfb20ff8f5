//! A profile as one HTML page: what it allows, what was seen, what can be reached, what is dangerous.
//!
//! The page is a single file without scripts, images or links to elsewhere, so that it can be attached to
//! a ticket and opened anywhere. Function names, paths and recordings come from images that nobody
//! trusts: every text is escaped, and a content security policy forbids whatever is not the page's own
//! style.

/// Tags and escaping.
mod html;
/// From a profile, recordings and analyses to the rows.
mod rows;

pub use rows::{Analysed, Decided, Observed, Page, Reached, Row, Sources, Way};

use std::fmt::Write as _;

use html::escape;

/// Steps of a call path that are shown; longer ones are cut in the middle.
const MAX_STEPS: usize = 24;

/// A table of the page.
struct Part {
    id: &'static str,
    heading: &'static str,
    note: &'static str,
    /// It says nothing where nothing is known of the workload.
    needs_sources: bool,
    which: fn(&Row) -> bool,
}

const PARTS: [Part; 4] = [
    Part {
        id: "missing",
        heading: "Seen or reachable, but denied",
        note: "The workload made or may make these calls; under this profile they do not run.",
        needs_sources: true,
        which: Row::is_missing,
    },
    Part {
        id: "dangerous",
        heading: "Allowed and dangerous",
        note: "Calls that open large or privileged parts of the kernel.",
        needs_sources: false,
        which: |row| row.danger.is_some() && row.decided.allows(),
    },
    Part {
        id: "unused",
        heading: "Allowed, but neither seen nor reachable",
        note: "Candidates for removal, as far as the recordings and analyses given cover the workload.",
        needs_sources: true,
        which: Row::is_unused,
    },
    Part {
        id: "all",
        heading: "Every call",
        note: "By name, of this architecture.",
        needs_sources: false,
        which: |_| true,
    },
];

impl Page {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let mut text = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}: seccomp profile</title>\n<style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n"
        );
        self.summary(&mut text);
        for part in &PARTS {
            if part.needs_sources && self.sources.is_empty() {
                continue;
            }
            let rows: Vec<&Row> = self.rows.iter().filter(|row| (part.which)(row)).collect();
            section(&mut text, part, &rows);
        }
        text.push_str("</body></html>\n");
        text
    }

    fn summary(&self, text: &mut String) {
        let count = |which: fn(&Row) -> bool| self.rows.iter().filter(|row| which(row)).count();
        let facts = [
            (
                "allowed",
                count(|row| matches!(row.decided, Decided::Allowed)),
            ),
            (
                "with some arguments",
                count(|row| matches!(row.decided, Decided::Conditional(_))),
            ),
            ("denied", count(|row| !row.decided.allows())),
            ("seen", count(|row| row.observed.is_some())),
            ("reachable", count(|row| row.reached.is_some())),
            ("of", self.rows.len()),
        ];
        text.push_str("<dl class=\"facts\">");
        for (word, number) in facts {
            let _ = write!(text, "<div><dt>{word}</dt><dd>{number}</dd></div>");
        }
        text.push_str("</dl>\n");
        for source in &self.sources.lines {
            let _ = writeln!(text, "<p class=\"source\">{}</p>", escape(source));
        }
        if self.sources.is_empty() {
            text.push_str(
                "<p class=\"source\">No recording and no analysis was given: nothing is known of what the \
                 workload needs.</p>\n",
            );
        }
    }
}

fn section(text: &mut String, part: &Part, rows: &[&Row]) {
    let Part {
        id, heading, note, ..
    } = part;
    // Writing to a String cannot fail; so below.
    let _ = writeln!(
        text,
        "<section id=\"{id}\"><h2>{heading} <span class=\"count\">{}</span></h2><p>{note}</p>",
        rows.len()
    );
    if rows.is_empty() {
        text.push_str("<p>None.</p></section>\n");
        return;
    }
    text.push_str(
        "<table><thead><tr><th>call</th><th>under this profile</th><th>seen</th><th>reachable</th><th>danger</th>\
         </tr></thead><tbody>\n",
    );
    for row in rows {
        line(text, row);
    }
    text.push_str("</tbody></table></section>\n");
}

fn line(text: &mut String, row: &Row) {
    let (class, decided) = match &row.decided {
        Decided::Allowed => ("allowed", "allowed".to_owned()),
        Decided::Conditional(when) => ("conditional", escape(when)),
        Decided::Denied(effect) => ("denied", escape(effect)),
    };
    let _ = write!(
        text,
        "<tr class=\"{class}\"><th scope=\"row\">{}</th><td>{decided}</td><td>{}</td><td>",
        escape(&row.name),
        row.observed.as_ref().map(observed).unwrap_or_default()
    );
    if let Some(reached) = &row.reached {
        reach(text, reached);
    }
    text.push_str("</td><td>");
    if let Some((class, why)) = &row.danger {
        let _ = write!(text, "<b>{}</b> {}", escape(class), escape(why));
    }
    text.push_str("</td></tr>\n");
}

fn observed(seen: &Observed) -> String {
    let times = if seen.count == 1 { "once" } else { "times" };
    let number = if seen.count == 1 {
        String::new()
    } else {
        format!("{} ", seen.count)
    };
    escape(&format!("{number}{times}, {}", seen.phases.join(" and ")))
}

fn reach(text: &mut String, reached: &Reached) {
    if reached.path.is_empty() {
        text.push_str(&escape(&reached.certainty));
        return;
    }
    let _ = write!(
        text,
        "<details><summary>{}</summary><ol>",
        escape(&reached.certainty)
    );
    let (head, tail) = cut(&reached.path);
    for step in head {
        let _ = write!(text, "<li>{}</li>", escape(step));
    }
    if let Some(tail) = tail {
        text.push_str("<li>&#8230;</li>");
        for step in tail {
            let _ = write!(text, "<li>{}</li>", escape(step));
        }
    }
    text.push_str("</ol></details>");
}

/// A path, or the two ends of a long one.
fn cut(path: &[String]) -> (&[String], Option<&[String]>) {
    if path.len() <= MAX_STEPS {
        return (path, None);
    }
    let half = MAX_STEPS / 2;
    (&path[..half], Some(&path[path.len() - half..]))
}

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--bad:#c0392b;--some:#b8860b;--good:#2e7d32}\
body{font:15px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}\
h1{margin-bottom:.3rem}.source{margin:.1rem 0;opacity:.75}.count{opacity:.6;font-weight:normal}\
.facts{display:flex;flex-wrap:wrap;gap:1.5rem;margin:1rem 0}.facts dt{opacity:.75}\
.facts dd{margin:0;font-size:1.6rem;font-variant-numeric:tabular-nums}\
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.25rem .6rem;\
border-bottom:1px solid var(--line);overflow-wrap:anywhere}tbody th{font-family:ui-monospace,monospace;\
font-weight:600}ol{margin:.3rem 0;font-family:ui-monospace,monospace;font-size:.85em}\
tr.denied>td:nth-child(2){color:var(--bad)}tr.conditional>td:nth-child(2){color:var(--some)}\
tr.allowed>td:nth-child(2){color:var(--good)}";

#[cfg(test)]
mod tests;
