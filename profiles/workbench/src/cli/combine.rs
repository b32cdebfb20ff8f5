//! `merge` and `intersect`: several profiles into one.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use super::container::{Abi, Container, abis};
use super::diff::called;
use super::{CliError, Format, files};
use crate::algebra::{self, Approximation, Operation};
use crate::words;

/// What both commands take.
#[derive(Debug, clap::Args)]
struct Inputs {
    /// The profiles, two or more; `-` is the standard input.
    #[arg(required = true, num_args = 2..)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    container: Container,
    /// Only calls of this kind matter: the result lists no other. Repeatable.
    #[arg(long, value_enum)]
    abi: Vec<Abi>,
    /// Take the nearest profile where none is exact, and tell where it is not.
    #[arg(long)]
    approximate: bool,
}

/// Write the profile that allows what any of several profiles allows
///
/// The result is the least one: every call gets the loosest of the profiles' answers. Where no
/// profile says exactly that, none is written, or with --approximate the nearest looser one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cofferdam profile merge startup.json serving.json > nginx.json
  cofferdam profile merge --abi x86_64 --approximate docker-default.json extra.json > both.json")]
pub(super) struct Merge {
    #[command(flatten)]
    inputs: Inputs,
}

/// Write the profile that allows what all of several profiles allow
///
/// The result is the loosest one: every call gets the strictest of the profiles' answers. Where no
/// profile says exactly that, none is written, or with --approximate the nearest stricter one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cofferdam profile intersect docker-default.json nginx.json > tight.json
  cofferdam profile intersect --approximate a.json b.json c.yaml > all.json")]
pub(super) struct Intersect {
    #[command(flatten)]
    inputs: Inputs,
}

pub(super) fn merge(arguments: &Merge, format: Format) -> Result<ExitCode, CliError> {
    run(Operation::Merge, &arguments.inputs, format)
}

pub(super) fn intersect(arguments: &Intersect, format: Format) -> Result<ExitCode, CliError> {
    run(Operation::Intersect, &arguments.inputs, format)
}

fn run(operation: Operation, inputs: &Inputs, format: Format) -> Result<ExitCode, CliError> {
    let native = inputs.container.target().arch;
    let only = abis(&inputs.abi);
    let mut told: Vec<Approximation> = Vec::new();
    let mut whole: Option<LinuxSeccomp> = None;
    for path in &inputs.files {
        let next = files::profile(path, &inputs.container)?;
        let Some(so_far) = whole else {
            whole = Some(next);
            continue;
        };
        let combined = algebra::combine(operation, &so_far, &next, native, &only)?;
        told.extend(combined.approximations);
        whole = Some(combined.profile);
    }
    let serious = told.iter().filter(|one| one.is_serious()).count();
    if serious > 0 && !inputs.approximate {
        return Err(CliError::Inexact {
            calls: serious,
            examples: list(told.iter().filter(|one| one.is_serious())),
        });
    }
    match format {
        Format::Json => {
            let told: Vec<Value> = told.iter().map(as_json).collect();
            files::print_json(&json!({ "profile": whole, "approximations": told }))?;
        }
        Format::Human => {
            files::print_json(&whole)?;
            if !told.is_empty() {
                files::note(&format!(
                    "not exact on {} calls: {}",
                    told.len(),
                    list(told.iter())
                ));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Calls that are told one by one.
const SHOWN: usize = 5;

fn list<'a>(told: impl Iterator<Item = &'a Approximation>) -> String {
    let mut out = String::new();
    let mut more = 0usize;
    for (at, one) in told.enumerate() {
        if at >= SHOWN {
            more += 1;
            continue;
        }
        let _ = write!(
            out,
            "{}{} on {} gets \"{}\" instead of \"{}\"",
            if at == 0 { "" } else { "; " },
            called(&one.calls),
            words::arch(one.arch),
            words::action(one.got),
            words::action(one.wanted),
        );
    }
    if more > 0 {
        let _ = write!(out, "; and {more} more");
    }
    out
}

fn as_json(one: &Approximation) -> Value {
    json!({
        "arch": words::arch(one.arch),
        "call": called(&one.calls),
        "wanted": words::action_json(one.wanted),
        "got": words::action_json(one.got),
        "serious": one.is_serious(),
    })
}
