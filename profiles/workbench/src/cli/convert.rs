//! `convert`: a profile from one dialect to another.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;

use super::container::Container;
use super::{CliError, Format, files};
use crate::dialect::{self, Dialect, Output};

/// Write a profile in another dialect
///
/// The dialect of the input is told by its content: OCI (also inside a config.json), Docker's,
/// Podman's, or a SeccompProfile of the Security Profiles Operator.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cofferdam profile convert docker-default.json > oci.json
  cofferdam profile convert --to spo --name web --cap NET_ADMIN docker-default.json > web.yaml
  cofferdam profile convert --base runc.yaml nginx.yaml > nginx.json")]
pub(super) struct Arguments {
    /// The profile; `-` is the standard input.
    file: PathBuf,
    /// The dialect to write.
    #[arg(long, value_enum, default_value = "oci")]
    to: To,
    /// The profile that the one in FILE names as its base.
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// The name of a SeccompProfile.
    #[arg(long, default_value = "profile")]
    name: String,
    #[command(flatten)]
    container: Container,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum To {
    /// The OCI runtime specification's linux.seccomp.
    Oci,
    /// Docker's; conditions stay as they are unless a container is described.
    Docker,
    /// Podman's; conditions stay as they are unless a container is described.
    Podman,
    /// The Security Profiles Operator's SeccompProfile.
    Spo,
}

impl To {
    pub(super) fn dialect(self) -> Dialect {
        match self {
            Self::Oci => Dialect::Oci,
            Self::Docker => Dialect::Docker,
            Self::Podman => Dialect::Podman,
            Self::Spo => Dialect::Spo,
        }
    }
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<ExitCode, CliError> {
    let mut document = files::document(&arguments.file)?;
    if let Some(path) = &arguments.base {
        let base = files::document(path)?;
        document = document
            .with_base(&base)
            .map_err(|source| files::refused(&arguments.file, source))?;
    }
    let usual = arguments.container.target();
    let output = Output {
        dialect: arguments.to.dialect(),
        target: arguments.container.is_described().then_some(&usual),
        usual: &usual,
        name: &arguments.name,
    };
    let text = dialect::write(&document, &output)
        .map_err(|source| files::refused(&arguments.file, source))?;
    match format {
        // YAML inside JSON, so that programs get JSON from every command.
        Format::Json if arguments.to == To::Spo => {
            files::print_json(&serde_json::json!({ "yaml": text }))?;
        }
        _ => files::print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}
