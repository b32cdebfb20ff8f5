//! `generate`: a profile from a program's files, without running them.

/// The files that the analysis saw are used.
mod access;
/// Where summaries of files are kept between runs.
mod cache;
/// The root file system, and what its container starts with.
mod place;
/// What was made, for people and for programs.
mod summary;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cofferdam_analysis::{Confidence, Entry, EntryError, Generated, Options, generate_or_recall};
use indicatif::ProgressBar;

use super::convert::To;
use super::{CliError, Format, bounds, files};
use crate::dialect::{self, Output};
use crate::image::ImageError;
use crate::recording::{self, Recording};
use cofferdam_profiles::access::{Access, AccessError};
use cofferdam_profiles::seccomp::Arch;
use place::Place;
use summary::{Hole, Summary};

/// Make a profile for a program from its files, without running it
///
/// The program and everything that it may start is searched for reachable system calls; what is not
/// certain widens the profile and is said. With --image the command is the image's: its entry point and
/// arguments, its PATH, its working directory. An image is unpacked into a private directory below
/// TMPDIR that is removed again; it is never run. Without --output the profile is printed and the
/// summary told on the standard error.
///
/// Exit status: 0 made, 1 made but it needs a look (the confidence is low, or a recording has calls that
/// the analysis did not find), 2 not made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cofferdam profile generate --rootfs ./rootfs --output nginx.json -- nginx -g 'daemon off;'
  cofferdam profile generate --image nginx.tar --output nginx.json --evidence nginx.evidence.json
  docker save redis | cofferdam profile generate --image - --to spo --name redis > redis.yaml
  cofferdam profile generate --image app.tar --recording run1.json --format json")]
pub(super) struct Arguments {
    /// The root file system that the program is in.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "image",
        conflicts_with = "image"
    )]
    rootfs: Option<PathBuf>,
    /// The image that the program is in: an OCI archive or layout, or what `docker save` writes; `-` is
    /// the standard input.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Which of several images in the file.
    #[arg(long, requires = "image", value_name = "TAG")]
    tag: Option<String>,
    /// The entry point in place of the image's; the image's own arguments then do not count.
    #[arg(long, num_args = 1.., value_name = "WORD")]
    entrypoint: Option<Vec<String>>,
    /// Where programs are looked for, in place of the image's PATH or the usual directories.
    #[arg(long, value_name = "DIR:DIR")]
    path: Option<String>,
    /// The working directory, in place of the image's or `/`.
    #[arg(long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// The program and its arguments; with an entry point only the arguments.
    #[arg(last = true)]
    args: Vec<String>,
    /// Write the profile here.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write here why each call is allowed; `report` shows it.
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// Write here which files the programs use, as far as their files tell: an access document for
    /// Landlock and AppArmor. Its confidence is low; see `record --emit access`.
    #[arg(long, value_name = "FILE")]
    access: Option<PathBuf>,
    /// The dialect to write.
    #[arg(long, value_enum, default_value = "oci")]
    to: To,
    /// The name of a SeccompProfile.
    #[arg(long, default_value = "profile")]
    name: String,
    /// A recording of `cofferdam profile record`: what it has is allowed too. Repeatable.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    recording: Vec<PathBuf>,
    /// Where summaries of files are kept between runs; `cofferdam/summaries` below XDG_CACHE_HOME or
    /// ~/.cache if not given.
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Keep nothing between runs, and use nothing that was kept.
    #[arg(long)]
    no_cache: bool,
    /// How many MiB an image may have, unpacked.
    #[arg(long, default_value_t = 16 * 1024, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    max_unpacked: u64,
    /// How many files an image may have.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    max_entries: u64,
}

/// What can go wrong with an analysis only.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// This process.
    #[error("cannot bound the memory that the analysis may take; see `ulimit -a`")]
    Bounds(#[source] std::io::Error),
    /// The root file system.
    #[error("cannot open the root file system {}", path.display())]
    Root {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The temporary directory.
    #[error("cannot make a directory below {}; TMPDIR names another place", path.display())]
    Scratch {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The command.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The access document.
    #[error("cannot make an access document")]
    Access(#[from] AccessError),
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, CliError> {
    let started = Instant::now();
    // Before any file of the image is looked at: it may be made to take much.
    bounds::memory().map_err(GenerateError::Bounds)?;
    let recordings = recordings(&arguments.recording)?;
    let cache = cache::directory(arguments.cache.as_deref(), arguments.no_cache);
    let signals = arguments.image.is_some().then(place::hold_back).flatten();
    // Draws on a terminal only, by a thread of its own.
    let progress = match format {
        Format::Human => ProgressBar::new_spinner(),
        Format::Json => ProgressBar::hidden(),
    };
    progress.enable_steady_tick(Duration::from_millis(120));
    let place = Place::of(arguments, signals, &progress)?;
    let args = place.command(arguments);
    progress.set_message(format!("analysing {}", args.join(" ")));
    let entry = Entry {
        args: &args,
        path: arguments.path.as_deref().or(place.path.as_deref()),
        cwd: arguments.workdir.as_deref().unwrap_or(&place.cwd),
    };
    let made = generate_or_recall(&place.root, &entry, &Options { cache });
    let mut made = made.map_err(GenerateError::from)?;
    progress.finish_and_clear();
    let holes = merge(&mut made, &recordings);
    let summary = Summary::new(&args, &made, holes, place.image.as_ref(), started.elapsed());
    // The directory of an image is no longer needed, whatever becomes of the output.
    drop(place);
    let text = written(arguments, &made)?;
    if let Some(path) = &arguments.evidence {
        files::save_json(path, &made)?;
    }
    if let Some(path) = &arguments.access {
        files::save_json(path, &with_files(&made, &recordings)?)?;
    }
    if let Some(path) = &arguments.output {
        files::save(path, text.as_bytes())?;
    }
    match (format, &arguments.output) {
        (Format::Json, _) => files::print_json(&summary.json(&made, &text, arguments.to))?,
        (Format::Human, Some(_)) => files::print(&summary.text())?,
        (Format::Human, None) => {
            files::tell(&summary.text());
            files::print(&text)?;
        }
    }
    let needs_a_look = made.confidence == Confidence::Low || !summary.holes.is_empty();
    Ok(ExitCode::from(u8::from(needs_a_look)))
}

/// The files of the analysis and of the recordings that have some.
fn with_files(
    made: &Generated,
    recordings: &[(PathBuf, Recording)],
) -> Result<Access, GenerateError> {
    let mut all = access::document(made)?;
    for (_, recording) in recordings {
        if let Some(recorded) = &recording.access {
            // The analysis says nothing of ports.
            let network = recorded.network.clone();
            all = all.union(recorded)?;
            all.network = network;
        }
    }
    Ok(all)
}

/// The profile in the dialect that was asked for.
fn written(arguments: &Arguments, made: &Generated) -> Result<String, CliError> {
    let name = PathBuf::from("the profile");
    let refused = |source| files::refused(&name, source);
    let json = serde_json::to_vec(&made.profile).map_err(|error| CliError::Print(error.into()))?;
    let document = dialect::read(&json).map_err(refused)?;
    let usual = dialect::Target {
        capabilities: cofferdam_profiles::capability::ENGINE_DEFAULT,
        arch: Arch::X86_64,
        kernel: None,
    };
    let output = Output {
        dialect: arguments.to.dialect(),
        target: None,
        usual: &usual,
        name: &arguments.name,
    };
    dialect::write(&document, &output).map_err(refused)
}

fn recordings(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Recording)>, CliError> {
    let read = |path: &PathBuf| {
        let failed = |source| CliError::Recording {
            path: path.clone(),
            source,
        };
        let bytes = files::read(path, recording::MAX_BYTES)?;
        let recording = recording::read(&bytes).map_err(failed)?;
        let recording = recording.complete().map_err(failed)?;
        Ok((path.clone(), recording))
    };
    paths.iter().map(read).collect()
}

/// Adds what was recorded, and says what the analysis had not found.
fn merge(made: &mut Generated, recordings: &[(PathBuf, Recording)]) -> Vec<Hole> {
    let mut holes = Vec::new();
    for (path, recording) in recordings {
        // The runtime's own calls come before the payload's filter.
        let phases = [&recording.phases.startup, &recording.phases.serving];
        let names = phases.into_iter().flat_map(|calls| calls.keys());
        let foreign = names.clone().filter(|name| {
            let (arch, _) = recording::split_arch(name);
            arch != Arch::X86_64 || name.starts_with('#')
        });
        let foreign: Vec<String> = foreign.cloned().collect();
        let source = format!("the recording {}", path.display());
        let calls = made.observe(names.map(String::as_str), &source);
        if !calls.is_empty() || !foreign.is_empty() {
            holes.push(Hole {
                recording: path.clone(),
                calls,
                foreign,
            });
        }
    }
    holes
}
