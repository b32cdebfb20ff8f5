//! The user namespace of a pod: whose it is, and which range goes with it.

use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::stat::fstat;

use super::give_back;
use crate::error::CreateError;
use crate::ids::{self, Lease};
use crate::namespaces::Namespaces;
use crate::process::Unacceptable;
use crate::state;
use crate::sys::namespace;

/// Why ids that containers of ours have, or will have, are for nobody else.
const OURS: &str = "its ids are among those that cofferdam gives its containers; give the engine others \
                    in /etc/subuid and /etc/subgid, or join a container that runs";

/// Whether two descriptors are of one namespace.
pub(super) fn same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    match (fstat(one), fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

/// The user namespaces, other than the host's, that own what is joined.
pub(super) fn owners(namespaces: &Namespaces) -> Vec<OwnedFd> {
    let Ok(own) = fs::File::open("/proc/self/ns/user") else {
        return Vec::new();
    };
    let mut found: Vec<OwnedFd> = Vec::new();
    for join in &namespaces.joins {
        // The kernel shows none that is outside of the caller's own.
        let Ok(owner) = namespace::owner(&join.file) else {
            continue;
        };
        let mut known = found.iter().map(|f| f.as_fd()).chain([own.as_fd()]);
        let is_known = known.any(|known| same(known, owner.as_fd()));
        drop(known);
        if !is_known {
            found.push(owner);
        }
    }
    found
}

/// Holds the range of a pod, if `user` is the user namespace of a container of ours that lives.
pub(super) fn hold(
    directory: &Path,
    user: BorrowedFd<'_>,
    container: &Path,
    token: &str,
) -> Result<Option<Lease>, CreateError> {
    let Some(first) = holder_of(directory, user) else {
        return Ok(None);
    };
    let Some(lease) = ids::share(directory, first, container, token)? else {
        return Ok(None);
    };
    // It may have been given back, and taken by another, between the look and the hold.
    if holder_of(directory, user) == Some(first) {
        return Ok(Some(lease));
    }
    lease.release(container).map_err(give_back)?;
    Ok(None)
}

/// The range whose living holder is in this user namespace.
fn holder_of(directory: &Path, user: BorrowedFd<'_>) -> Option<u32> {
    // A user namespace that a container made in its own can show the same ids.
    if !is_childs(user) {
        return None;
    }
    let first = namespace::id_maps(user).ok()?.root()?;
    ids::holders(directory, first)
        .any(|container| is_in(&container, user))
        .then_some(first)
}

/// Whether a user namespace was made in this process's own, not in one below it.
fn is_childs(user: BorrowedFd<'_>) -> bool {
    let own = fs::File::open("/proc/self/ns/user").ok();
    let parent = namespace::parent(user).ok();
    matches!((own, parent), (Some(own), Some(parent)) if same(own.as_fd(), parent.as_fd()))
}

fn is_in(container: &Path, user: BorrowedFd<'_>) -> bool {
    let state = state::of_directory(container).and_then(|(root, id)| state::load(root, &id).ok());
    let Some(pid) = state.and_then(|state| state.live_pid()) else {
        return false;
    };
    let theirs = fs::metadata(format!("/proc/{pid}/ns/user"));
    match (theirs, fstat(user)) {
        (Ok(theirs), Ok(user)) => (theirs.dev(), theirs.ino()) == (user.st_dev, user.st_ino),
        _ => false,
    }
}

/// For a container whose user namespace is of the engine's choice: holds the range of the container that
/// it joins, if that is one of ours. Any other ids must be none of ours: nobody would hold them, and a
/// later container could get them while this one runs.
pub(super) fn of_engine(
    directory: &Path,
    namespaces: &Namespaces,
    container: &Path,
    token: &str,
) -> Result<Option<Lease>, CreateError> {
    let refused = |field| CreateError::from(Unacceptable::new(field, OURS));
    if let Some((uids, gids)) = &namespaces.id_maps {
        return match are_ours(directory, &[uids, gids])? {
            true => Err(refused("linux.uidMappings")),
            false => Ok(None),
        };
    }
    let Some(user) = namespaces.user() else {
        return Ok(None);
    };
    let own = fs::File::open("/proc/self/ns/user").map_err(failed("open this process's own"))?;
    if same(own.as_fd(), user) {
        return Ok(None);
    }
    if let Some(lease) = hold(directory, user, container, token)? {
        return Ok(Some(lease));
    }
    let maps = namespace::id_maps(user).map_err(failed("read the id maps of the joined"))?;
    match are_ours(directory, &[&maps.uids, &maps.gids])? {
        true => Err(refused("linux.namespaces")),
        false => Ok(None),
    }
}

fn failed(action: &'static str) -> impl Fn(std::io::Error) -> CreateError {
    move |source| CreateError::Namespace {
        kind: "user",
        path: action.into(),
        source,
    }
}

fn are_ours(directory: &Path, maps: &[&String]) -> Result<bool, CreateError> {
    for line in maps.iter().flat_map(|map| map.lines()) {
        let numbers: Vec<u32> = line
            .split_ascii_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        if let [_, first, count] = numbers[..]
            && ids::are_containers(directory, first, count)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}
