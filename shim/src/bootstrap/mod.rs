//! How containerd starts the shim, and how it cleans up after one that died.
//!
//! containerd executes the shim three times: `start` binds a socket, executes the daemon with it and
//! prints the address; the daemon serves until its last container is gone; `delete` removes what is
//! left when the daemon was killed.

/// The command line.
pub mod args;
/// The daemon.
mod daemon;
/// The `delete` verb.
mod delete;
/// What the daemon inherits from `start`: its socket, its cgroup, its out-of-memory score.
mod place;
/// The `start` verb.
mod start;

use std::io::{self, Write};
use std::path::PathBuf;

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{self, Message, MessageField};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};

use args::{Args, ArgsError, Verb};

use crate::backend::BackendError;
use crate::cli::verbs::features::features;
use crate::options::OptionsError;

/// A file in the bundle that names the state root if it is not the default one.
pub const ROOT_FILE: &str = "cofferdam-root";

/// Why the shim could not do what containerd executed it for.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The command line is wrong.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// The options on standard input are not usable.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A file of the bundle cannot be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bundle's config.json has no readable annotations.
    #[error("cannot read the annotations in {}", path.display())]
    Annotations {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The shim's cgroup does not exist or cannot be joined.
    #[error("cannot move the shim into the cgroup {cgroup:?}")]
    Cgroup {
        /// Which.
        cgroup: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The daemon could not be executed.
    #[error("cannot execute the shim daemon")]
    Spawn(#[source] io::Error),
    /// The daemon could not be set up.
    #[error("cannot set up the shim daemon")]
    Daemon(#[source] io::Error),
    /// The clean-up failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The answer could not be given to containerd.
    #[error("cannot answer containerd")]
    Answer(#[source] io::Error),
    /// The answer could not be encoded.
    #[error("cannot encode the answer to containerd")]
    Encode(#[from] protobuf::Error),
}

/// Does what the command line asks for.
pub fn run(arguments: impl Iterator<Item = String>) -> Result<(), BootstrapError> {
    let args = Args::parse(arguments)?;
    match args.verb {
        Verb::Version => answer(version().as_bytes()),
        Verb::Info => answer(&info()?),
        Verb::Start => answer(start::start(&args)?.as_bytes()),
        Verb::Delete => answer(&delete::delete(&args)?),
        Verb::Serve => daemon::serve(&args),
    }
}

fn answer(bytes: &[u8]) -> Result<(), BootstrapError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(BootstrapError::Answer)
}

fn version() -> String {
    format!(
        "containerd-shim-cofferdam-v2:\n  Version: {}\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// The name under which containerd knows the features structure of the OCI runtime specification, as JSON
/// (core/runtime/v2/task_manager.go).
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// What containerd 2.x asks for with `-info`.
fn info() -> Result<Vec<u8>, BootstrapError> {
    let mut info = RuntimeInfo::new();
    info.name = "io.containerd.cofferdam.v2".to_owned();
    let mut version = RuntimeVersion::new();
    version.version = env!("CARGO_PKG_VERSION").to_owned();
    info.version = MessageField::some(version);
    // Without it containerd refuses containers with mapped volumes, which `hostUsers: false` gives a pod.
    info.features = MessageField::some(Any {
        type_url: FEATURES.to_owned(),
        value: features().to_string().into_bytes(),
        ..Any::default()
    });
    Ok(info.write_to_bytes()?)
}
