//! What follows from an OCI spec: its root, mounts and devices.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use oci_spec::runtime::{Mount, Spec};

use crate::access::{Access, AccessError, AccessPath, Confidence, Place, Right, Rights, Source};
use crate::capability::{Capability, Set};
use crate::policy::facts::{has_option, is_read_only};

/// Device files that the runtime makes in every container, and the directory of terminals.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/console",
    "/dev/ptmx",
];
const TERMINALS: &str = "/dev/pts";

/// What a spec gives its container: the root, writable unless it is read-only; each mount, likewise;
/// commands to the container's devices and to no others. A mount in a writable root can be no less
/// than the root, for rules only add: its own flags hold besides.
pub fn of_spec(spec: &Spec) -> Result<Access, AccessError> {
    let mut access = Access::new();
    access.confidence = Some(Confidence::High);
    let mut nodes = Rights::NONE;
    if bounding(spec).contains(Capability::Mknod) {
        nodes = Right::MakeDevice.into();
    }
    let read_only = spec
        .root()
        .as_ref()
        .is_some_and(|root| root.readonly() == Some(true));
    let rights = if read_only {
        Rights::RUN
    } else {
        Rights::CHANGE | nodes
    };
    access.allow(Place::subtree(AccessPath::root()), rights, Source::Mount)?;
    for mount in spec.mounts().iter().flatten() {
        let Some(path) = path(mount.destination()) else {
            // The policy refuses such a spec before.
            continue;
        };
        access.allow(Place::subtree(path), of_mount(mount, nodes), Source::Mount)?;
    }
    let used = Rights::of(&[Right::Read, Right::Write, Right::Ioctl]);
    let devices = spec
        .linux()
        .iter()
        .flat_map(|l| l.devices().iter().flatten());
    let devices = devices.filter_map(|device| path(device.path()));
    let built_in = DEVICES.iter().filter_map(|text| AccessPath::new(text).ok());
    for path in built_in.chain(devices) {
        access.allow(Place::exact(path), used, Source::Device)?;
    }
    if let Ok(path) = AccessPath::new(TERMINALS) {
        let rights = used | Right::List.into();
        access.allow(Place::subtree(path), rights, Source::Device)?;
    }
    Ok(access)
}

fn of_mount(mount: &Mount, nodes: Rights) -> Rights {
    let mut rights = if is_read_only(mount) {
        Rights::RUN
    } else if has_option(mount, &["nodev"]) {
        Rights::CHANGE
    } else {
        Rights::CHANGE | nodes
    };
    if has_option(mount, &["noexec"]) {
        rights = rights & !Rights::of(&[Right::Execute, Right::MapExecute]);
    }
    rights
}

fn path(path: &Path) -> Option<AccessPath> {
    AccessPath::new(path.as_os_str().as_bytes()).ok()
}

fn bounding(spec: &Spec) -> Set {
    let process = spec.process().as_ref();
    let sets = process.and_then(|p| p.capabilities().as_ref());
    Set::from_oci(sets.and_then(|sets| sets.bounding().as_ref()))
}
