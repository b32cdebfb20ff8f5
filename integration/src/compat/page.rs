use super::{Confinement, Outcome, SUBJECTS, Subject};
use crate::{
    binaries::{Runtime, cache_dir},
    command::Cmd,
    error::Result,
};

/// `docs/compatibility.md`.
///
/// # Errors
/// If the versions cannot be read.
pub fn markdown(outcomes: &[Outcome]) -> Result<String> {
    let mut text = String::from(INTRODUCTION);
    let date = Cmd::new("date").args(["-u", "+%Y-%m-%d"]).ok()?.stdout;
    let kernel = Cmd::new("uname").arg("-r").ok()?.stdout;
    let runc = Cmd::new(Runtime::Runc.oci()?).arg("--version").ok()?.stdout;
    let containerd = Cmd::new("containerd").arg("--version").ok()?.stdout;
    let images: std::collections::BTreeSet<_> = SUBJECTS.iter().map(|s| s.image).collect();
    text.push_str(&format!(
        "Run on {} with Linux {}, containerd {} (overlayfs) and {}: {} images, {} loads.\n\n",
        date.trim(),
        // Without what a builder adds.
        kernel.trim().split('-').next().unwrap_or_default(),
        containerd.split_whitespace().nth(2).unwrap_or_default(),
        runc.lines()
            .next()
            .unwrap_or_default()
            .replace(" version", ""),
        images.len(),
        SUBJECTS.len(),
    ));
    text.push_str("| image | what it does | runc | `baseline` |\n|---|---|---|---|\n");
    for subject in SUBJECTS.iter().filter(|s| s.image != "tools") {
        row(&mut text, subject, &what(subject)?, outcomes);
    }
    text.push_str("\n## Single cases\n\nAll in one image, of Debian's tools.\n\n");
    text.push_str("| case | | runc | `baseline` |\n|---|---|---|---|\n");
    for subject in SUBJECTS.iter().filter(|s| s.image == "tools") {
        row(&mut text, subject, &what(subject)?, outcomes);
    }
    text.push_str(EXCEPTIONS);
    for subject in SUBJECTS {
        if let Some(other) = subject.otherwise {
            text.push_str(&format!(
                "- **{}**: {} Under a policy that allows it the same load {}.\n",
                subject.name,
                other.why,
                result(subject, Confinement::Policy(other.policy), outcomes)
            ));
        }
    }
    text.push_str("\n## Versions\n\n");
    for image in images {
        let path = cache_dir()
            .join("compatibility")
            .join(image)
            .join("versions");
        let versions = std::fs::read_to_string(path).unwrap_or_default();
        let versions: Vec<_> = versions.lines().collect();
        text.push_str(&format!("- {image}: {}\n", versions.join(", ")));
    }
    Ok(text)
}

fn row(text: &mut String, subject: &Subject, what: &str, outcomes: &[Outcome]) {
    let baseline = result(subject, Confinement::Baseline, outcomes);
    let note = match subject.otherwise {
        Some(_) if baseline.starts_with("passes") => "an exception, see below".to_owned(),
        _ => baseline,
    };
    text.push_str(&format!(
        "| {} | {what} | {} | {note} |\n",
        subject.name,
        result(subject, Confinement::Runc, outcomes),
    ));
}

/// What its script's first line says, or the comment above the function of a case.
fn what(subject: &Subject) -> Result<String> {
    let script = subject.script()?;
    let function = format!("{}() ", subject.step);
    let mut lines: Vec<&str> = script.lines().collect();
    if subject.image == "tools" {
        let place = lines.iter().position(|line| line.starts_with(&function));
        lines.drain(..place.unwrap_or(1).saturating_sub(1));
    }
    let said = lines.first().and_then(|line| line.strip_prefix("# "));
    Ok(said.unwrap_or_default().trim_end_matches('.').to_owned())
}

fn result(subject: &Subject, under: Confinement, outcomes: &[Outcome]) -> String {
    let found = outcomes
        .iter()
        .find(|outcome| outcome.subject.name == subject.name && outcome.under == under);
    match found {
        None => "not run".to_owned(),
        Some(Outcome {
            failed: Some(_), ..
        }) => "**fails**".to_owned(),
        Some(_) => "passes".to_owned(),
    }
}

const EXCEPTIONS: &str = "
## Exceptions

Where `baseline` intends another outcome than runc. What happens instead is run and checked too.

";

const INTRODUCTION: &str = "\
# Compatibility, by running it

Written by `make compat`; do not edit. Images are built from Debian 12 packages, installed with their
scripts, and imported into a containerd of the suite's own. Each is started as its config says, put under the
load of its script in `integration/compat`, and stopped; the same image and load run under runc, with what Docker
asks of every container, as the control. A server must also end with the same exit status under both. What it
costs is not measured here but by `make bench`.

`baseline` gives every container a user namespace of its own, so all of this holds for images, volumes and mounts
with mapped owners. `make test` runs all but the heaviest images; `compat NAME` runs one.

";
