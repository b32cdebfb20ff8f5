//! `apparmor`: an AppArmor profile of an access document.

use std::path::PathBuf;
use std::process::ExitCode;

use cofferdam_profiles::access::{Access, MAX_DOCUMENT_BYTES};
use cofferdam_profiles::apparmor::{Mode, Shape, Stream, generate};

use super::container::Container;
use super::{CliError, Format, files};

/// Where containerd, and Docker with it, keep the FIFOs that are a container's standard streams: a
/// directory for each container, in it a FIFO for each stream.
const ENGINES: &[&str] = &[
    "/run/containerd/fifo/container/stream",
    "/run/docker/containerd/container/stream",
];

/// Write an AppArmor profile of an access document
///
/// The text is for apparmor_parser. Under a policy with apparmor = "generate" and the document in
/// apparmor_documents, Cofferdam makes and loads the same by itself; this is for those who load
/// profiles their own way and name them to the engine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cofferdam profile apparmor --name web web.access.json > /etc/apparmor.d/web
  cofferdam profile apparmor --name web --complain --cap-drop ALL web.access.json | apparmor_parser -r
  docker run --security-opt apparmor=web IMAGE")]
pub(super) struct Arguments {
    /// The access document; `-` is the standard input.
    file: PathBuf,
    /// The profile's name; one made of its content if not given.
    #[arg(long)]
    name: Option<String>,
    /// What is not allowed is written to the kernel's log only.
    #[arg(long)]
    complain: bool,
    #[command(flatten)]
    container: Container,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, CliError> {
    let file = &arguments.file;
    let text = files::read(file, MAX_DOCUMENT_BYTES as u64)?;
    let access = Access::from_json(&text).map_err(|source| CliError::Access {
        path: file.clone(),
        source,
    })?;
    let streams: Vec<Stream> = ENGINES
        .iter()
        .map(|path| Stream {
            path: path.into(),
            fifo: true,
        })
        .collect();
    let shape = Shape {
        capabilities: arguments.container.target().capabilities,
        access: Some(&access),
        streams: &streams,
        mode: if arguments.complain {
            Mode::Complain
        } else {
            Mode::Enforce
        },
        ..Shape::default()
    };
    let mut profile = generate(&shape).map_err(CliError::Apparmor)?;
    if let Some(name) = &arguments.name {
        profile = profile.named(name).map_err(CliError::Apparmor)?;
    }
    match format {
        Format::Json => files::print_json(&profile)?,
        Format::Human => {
            for what in &profile.left_out {
                files::note(&format!("not in the profile: {what}"));
            }
            files::print(&profile.text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
