//! `state`: what a container is, as the OCI runtime specification wants it printed.

use std::collections::BTreeMap;
use std::path::Path;

use cofferdam_container::{State, Status, load};
use serde::Serialize;

use super::{PLAIN, Verb, pretty};
use crate::cli::flags::Words;
use crate::cli::process::container_id;
use crate::cli::{CliError, Context, print};

pub(super) const VERB: Verb = Verb {
    name: "state",
    summary: "print the state of a container",
    description: "Prints the container's state as JSON. The status is what the kernel says now.",
    example: "cofferdam state web-1",
    run,
    ..PLAIN
};

fn run(context: &Context, words: &Words) -> Result<u8, CliError> {
    let state = load(&context.root, &container_id(words)?)?;
    print(&pretty(&Shown::of(&state))?)
}

/// The fields that runc prints, in its order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: Status,
    bundle: &'a Path,
    rootfs: &'a Path,
    created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    owner: &'a str,
}

impl<'a> Shown<'a> {
    pub(super) fn of(state: &'a State) -> Self {
        let status = state.status();
        // runc says 0 for a process that is gone: its number may be another's by now.
        let pid = match status {
            Status::Stopped => 0,
            _ => state.pid.unwrap_or(0),
        };
        Self {
            oci_version: &state.oci_version,
            id: &state.id,
            pid,
            status,
            bundle: &state.bundle,
            rootfs: &state.rootfs,
            created: &state.created,
            annotations: &state.annotations,
            owner: &state.owner,
        }
    }

    pub(super) fn row(&self) -> [String; 6] {
        [
            self.id.to_owned(),
            self.pid.to_string(),
            self.status.to_string(),
            self.bundle.display().to_string(),
            self.created.to_owned(),
            self.owner.to_owned(),
        ]
    }
}
