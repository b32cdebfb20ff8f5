//! What the guest sees of the host's files: each is mounted below the directory that the monitor serves, with the owners
//! that the monitor's ids stand for.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

use cofferdam_container::rootfs::{
    Layers, Owners, RootfsOptions, attach_at, mapping, open_root, open_sources,
};
use cofferdam_profiles::policy::Hardened;
use cofferdam_profiles::policy::microvm::Plan;
use nix::sys::stat::{SFlag, fstat};
use oci_spec::runtime::Spec;

use super::MachineError;
use super::error::at;
use super::machine::{Machine, detach, device};

/// The link, in a container's state directory, to what was made for it in the engine's storage; `delete` removes both.
const WORK: &str = "work";

/// Mounts a container's root and volumes. `state` is its state directory, `bundle` what relative paths start from.
pub(super) fn fill(
    machine: &Machine,
    name: &str,
    (hardened, plan): (&Hardened<Spec>, &Plan),
    (state, bundle): (&Path, &Path),
) -> Result<(), MachineError> {
    let Some(lease) = &machine.record.lease else {
        return Err(MachineError::Start("it has no ids".to_owned()));
    };
    let own = machine.share().join(name);
    for dir in [own.clone(), own.join("mounts"), own.join("rootfs")] {
        match fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(at("make", &dir)(error));
            }
            _ => {}
        }
    }
    let user = mapping(lease.first, lease.size)?;
    let mut spec = hardened.get().clone();
    let root = spec.root().as_ref().map(|root| bundle.join(root.path()));
    let root = root.unwrap_or_default();
    let tree = open_root(
        &root,
        user.as_fd(),
        lease.first,
        Layers::All,
        &state.join(WORK),
    )?;
    attach_at(tree.as_fd(), &own.join("rootfs"))?;
    if let Some(linux) = spec.linux_mut() {
        // Nodes are made in the guest.
        linux.set_devices(None);
    }
    let options = RootfsOptions {
        has_userns: true,
        bundle: bundle.to_owned(),
        rootfs: root,
        ..RootfsOptions::default()
    };
    let owners = Owners {
        user: user.as_fd(),
        first: Some(lease.first),
        may_be_unmapped: hardened.policy().may_mount_unmapped(),
        network: None,
    };
    let sources = open_sources(&spec, &options, Some(owners))?;
    for shared in &plan.shared {
        let index = shared.place.strip_prefix("mounts/");
        let Some(index) = index.and_then(|index| index.parse::<usize>().ok()) else {
            continue;
        };
        if let Some(tree) = sources.mounts.get(&index) {
            mount_one(tree.as_fd(), &own.join(&shared.place))?;
        }
    }
    Ok(())
}

fn mount_one(tree: BorrowedFd<'_>, place: &Path) -> Result<(), MachineError> {
    let status = fstat(tree).map_err(|errno| at("look at", place)(errno.into()))?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFDIR {
        fs::create_dir(place).map_err(at("make", place))?;
    } else {
        File::create_new(place).map_err(at("make", place))?;
    }
    Ok(attach_at(tree, place)?)
}

/// Unmounts and removes a container's directory of the share.
pub(super) fn remove(own: &Path) -> Result<(), MachineError> {
    let mounts = own.join("mounts");
    let places = match fs::read_dir(&mounts) {
        Ok(places) => places.flatten().map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    for place in places.iter().chain([&own.join("rootfs")]) {
        detach(place)?;
    }
    remove_empty(own)
}

/// Removes directories that hold nothing but empty files and such directories, all on one file system: what is mounted
/// there is not ours to remove.
pub(super) fn remove_empty(dir: &Path) -> Result<(), MachineError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("list", dir)(error)),
    };
    let here = device(dir).map_err(at("look at", dir))?;
    for entry in entries {
        let path = entry.map_err(at("list", dir))?.path();
        let found = fs::symlink_metadata(&path).map_err(at("look at", &path))?;
        let mounted = device(&path).map_err(at("look at", &path))? != here;
        if found.is_dir() && !mounted {
            remove_empty(&path)?;
        } else if found.is_file() && found.len() == 0 && !mounted {
            fs::remove_file(&path).map_err(at("remove", &path))?;
        } else {
            let left = io::Error::other("it is not an empty file of the machine's");
            return Err(at("remove", &path)(left));
        }
    }
    fs::remove_dir(dir).map_err(at("remove", dir))
}
