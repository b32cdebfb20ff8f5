//! The `delete` verb: containerd executes it when the daemon died before the container was deleted.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cofferdam_container::{self as container, ContainerId};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;

use super::args::Args;
use super::{BootstrapError, ROOT_FILE, place};
use crate::events::{timestamp, wire_pid};
use crate::helper::Target;
use crate::host;

/// The status of a container that was killed: 128 + SIGKILL.
const KILLED: u32 = 137;

/// Removes what the container left; returns the encoded answer.
pub(super) fn delete(args: &Args) -> Result<Vec<u8>, BootstrapError> {
    let bundle = match &args.bundle {
        Some(bundle) => bundle.clone(),
        None => env::current_dir().map_err(|source| BootstrapError::File {
            action: "find the bundle in",
            path: ".".into(),
            source,
        })?,
    };
    let chosen = fs::read(bundle.join(ROOT_FILE)).ok();
    let root = match chosen {
        Some(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        None => host::state_root(&args.namespace, None),
    };
    let pid = ContainerId::parse(&args.id)
        .ok()
        .and_then(|id| container::load(&root, &id).ok())
        .and_then(|state| state.pid);
    host::sweep(
        &Target {
            root,
            id: args.id.clone(),
        },
        &bundle,
    )?;
    remove_stale_socket(args, &bundle);
    let mut answer = DeleteResponse::new();
    answer.pid = wire_pid(pid.unwrap_or(0));
    answer.exit_status = KILLED;
    answer.exited_at = timestamp(SystemTime::now());
    Ok(answer.write_to_bytes()?)
}

/// Removes the dead daemon's socket. A pod's daemon that still serves its other containers keeps it.
fn remove_stale_socket(args: &Args, bundle: &Path) {
    let address = fs::read_to_string(bundle.join("address")).unwrap_or_default();
    let path = match address.trim().strip_prefix("unix://") {
        Some(path) => PathBuf::from(path),
        // containerd may have removed the bundle already: it does so, at the same time as it executes
        // this, when Create fails. The daemon of a pod has the name of its first container.
        None => place::socket_path(&args.address, &args.namespace, &args.id),
    };
    // A socket that stays is swept away by the next daemon; it is not worth failing for.
    place::remove_stale(&path).unwrap_or_default();
}
