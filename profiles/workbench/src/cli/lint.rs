//! `lint`: what is wrong with profiles.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::container::Container;
use super::{CliError, Output, error, files};
use crate::dialect::MAX_BYTES;
use crate::lint::sarif::{self, Linted};
use crate::lint::{self, Options, Report, Rule, Severity};

/// Find what is wrong with profiles
///
/// Reads every dialect; rules of Docker's and Podman's are judged for the container described. Exit
/// status: 0 if there is nothing worse than a note, 1 if there are warnings, 3 if there are errors, 2 if a
/// file could not be read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cofferdam profile lint docker-default.json
  cofferdam profile lint --cap SYS_ADMIN --kernel 6.1 --format sarif *.json > lint.sarif
  cofferdam profile lint --fix --ignore no-log web.json
  cofferdam profile lint --list")]
pub(super) struct Arguments {
    /// The profiles; `-` is the standard input.
    #[arg(required_unless_present = "list")]
    files: Vec<PathBuf>,
    /// Print the rules, with why they matter and what to do about them.
    #[arg(long)]
    list: bool,
    /// Write repairs that leave the profile's meaning as it is into the files (see --list for the rules).
    #[arg(long)]
    fix: bool,
    /// Look for this rule only, by id or name; repeatable.
    #[arg(long = "rule", value_name = "ID", value_parser = known)]
    only: Vec<&'static Rule>,
    /// Do not look for this rule; repeatable.
    #[arg(long, value_name = "ID", value_parser = known)]
    ignore: Vec<&'static Rule>,
    #[command(flatten)]
    container: Container,
}

fn known(text: &str) -> Result<&'static Rule, String> {
    lint::rule(text)
        .ok_or_else(|| "no such rule; `cofferdam profile lint --list` has them".to_owned())
}

pub(super) fn run(arguments: &Arguments, output: Output) -> Result<ExitCode, CliError> {
    if arguments.list {
        return list(output);
    }
    let ids = |rules: &[&Rule]| rules.iter().map(|rule| rule.id.to_owned()).collect();
    let options = Options {
        target: arguments.container.target(),
        only: ids(&arguments.only),
        ignore: ids(&arguments.ignore),
    };
    let mut done = Vec::new();
    let mut unread = false;
    for path in &arguments.files {
        match one(path, arguments.fix, &options) {
            Ok(found) => done.push(found),
            Err(wrong) => {
                unread = true;
                error::tell(&wrong, output.format());
            }
        }
    }
    print(&done, output)?;
    let worst = done.iter().filter_map(|file| file.report.worst()).max();
    Ok(ExitCode::from(match worst {
        _ if unread => 2,
        None | Some(Severity::Note) => 0,
        Some(Severity::Warning) => 1,
        Some(Severity::Error) => 3,
    }))
}

/// A file that was looked through.
struct File {
    path: String,
    report: Report,
    repaired: usize,
    /// Findings of a kind that repairs exist for, and that `--fix` left.
    not_repaired: usize,
}

fn one(path: &Path, fix: bool, options: &Options) -> Result<File, CliError> {
    let mut bytes = files::read(path, MAX_BYTES)?;
    let mut repaired = 0;
    if fix && let Some(fixed) = lint::fix(&bytes, options) {
        if path == Path::new("-") {
            // The repaired text has nowhere to go but where the findings go.
            return Err(CliError::FixStdin);
        }
        write(path, &fixed.text)?;
        repaired = fixed.repaired;
        bytes = fixed.text.into_bytes();
    }
    let report = lint::lint(&bytes, options);
    let left = report.findings.iter().filter(|one| one.repair.is_some());
    Ok(File {
        path: path.display().to_string(),
        not_repaired: if fix { left.count() } else { 0 },
        report,
        repaired,
    })
}

/// Replaces a file in one step, so that nobody reads half of it; its mode is kept.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |source| CliError::Write {
        path: path.to_owned(),
        source,
    };
    // A link stays one.
    let real = std::fs::canonicalize(path).map_err(failed)?;
    let mode = std::fs::metadata(&real).map_err(failed)?.permissions();
    let mut name = real.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = real.with_file_name(name);
    let replace = || {
        let mut file = std::fs::File::create_new(&beside)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(mode.clone())?;
        file.sync_all()?;
        std::fs::rename(&beside, &real)
    };
    replace().map_err(|source| {
        let _ = std::fs::remove_file(&beside);
        failed(source)
    })
}

fn print(files: &[File], output: Output) -> Result<(), CliError> {
    match output {
        Output::Sarif => {
            let linted: Vec<Linted> = files
                .iter()
                .map(|file| Linted {
                    path: &file.path,
                    report: &file.report,
                })
                .collect();
            files::print_json(&sarif::log(&linted))
        }
        Output::Json => {
            let list: Vec<_> = files
                .iter()
                .map(|file| {
                    json!({
                        "file": file.path,
                        "findings": file.report.findings,
                        "not_shown": file.report.not_shown,
                        "repaired": file.repaired,
                        "not_repaired": file.not_repaired,
                    })
                })
                .collect();
            files::print_json(&list)
        }
        Output::Human => files::print(&text(files)),
    }
}

// Writing to a String cannot fail.
fn text(files: &[File]) -> String {
    let mut text = String::new();
    let mut count = [0usize; 3];
    let mut fixable = 0;
    for file in files {
        for finding in &file.report.findings {
            let rule = finding.rule;
            let _ = writeln!(
                text,
                "{}:{}:{}: {}: {} [{} {}]\n    why: {}\n    fix: {}",
                file.path,
                finding.at.line,
                finding.at.column,
                rule.severity.name(),
                finding.message,
                rule.id,
                rule.name,
                rule.why,
                rule.fix
            );
            if let Some(count) = count.get_mut(rule.severity as usize) {
                *count += 1;
            }
            fixable += usize::from(finding.repair.is_some());
        }
        fixable -= file.not_repaired;
        if file.report.not_shown > 0 {
            let _ = writeln!(
                text,
                "{}: {} more findings",
                file.path, file.report.not_shown
            );
        }
        if file.repaired > 0 {
            let _ = writeln!(text, "{}: {} findings repaired", file.path, file.repaired);
        }
        if file.not_repaired > 0 {
            let _ = writeln!(
                text,
                "{}: {} findings not repaired: only JSON is, and only where the meaning stays the same; \
                 see each finding's fix",
                file.path, file.not_repaired
            );
        }
    }
    let [notes, warnings, errors] = count;
    let _ = write!(text, "{errors} errors, {warnings} warnings, {notes} notes");
    if fixable > 0 {
        let _ = write!(text, "; --fix repairs up to {fixable} of them");
    }
    text.push('\n');
    text
}

fn list(output: Output) -> Result<ExitCode, CliError> {
    let rules: Vec<&Rule> = lint::rules().collect();
    match output {
        Output::Human => {
            let mut text = String::new();
            for rule in rules {
                let safe = if rule.fixable {
                    ", repaired by --fix"
                } else {
                    ""
                };
                let _ = writeln!(
                    text,
                    "{} {} ({}{safe})\n    why: {}\n    fix: {}",
                    rule.id,
                    rule.name,
                    rule.severity.name(),
                    rule.why,
                    rule.fix
                );
            }
            files::print(&text)?;
        }
        Output::Json => files::print_json(&rules)?,
        Output::Sarif => files::print_json(&sarif::log(&[]))?,
    }
    Ok(ExitCode::SUCCESS)
}
