//! Everything in an enclave that outlives a container if someone forgets to clear it away. A snapshot
//! before and one after, compared, tell what was forgotten.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cases::Engine,
    command::eventually,
    enclave::Enclave,
    error::{At, Error, Result},
};

/// A snapshot of an enclave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Residue {
    items: BTreeSet<String>,
}

impl Residue {
    /// Takes a snapshot: processes, mounts, cgroups, everything in the enclave's `/run`, and sockets
    /// and FIFOs in its directory.
    ///
    /// # Errors
    /// If the enclave is gone.
    pub fn of(enclave: &Enclave) -> Result<Self> {
        let mut items = BTreeSet::new();
        for process in enclave.processes()? {
            // Counted instead of told apart by id: a daemon that was started again is no residue.
            let name = |count| format!("process {} ({count})", process.command);
            let count = (1..).find(|count| !items.contains(&name(*count)));
            items.insert(name(count.unwrap_or(0)));
        }
        items.extend(enclave.mounts()?.into_iter().map(|m| format!("mount {m}")));
        for path in cgroups(enclave.tag())? {
            items.insert(format!("cgroup {}", path.display()));
        }
        walk(&enclave.path("/run"), &mut |path, _| {
            items.insert(format!("file {}", inside(path, enclave)));
        });
        walk(enclave.dir(), &mut |path, kind| {
            if kind.is_socket() || kind.is_fifo() {
                items.insert(format!("file {}", path.display()));
            }
        });
        Ok(Self { items })
    }

    /// What `self` has and `before` has not.
    #[must_use]
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        self.items.difference(&before.items).cloned().collect()
    }

    /// Waits until the engine's enclave holds nothing beyond this snapshot.
    ///
    /// # Errors
    /// [`Error::Timeout`] naming what is left.
    pub fn regained(&self, engine: &impl Engine, within: Duration) -> Result<()> {
        let beyond = || -> Result<Vec<String>> {
            let mut left = Self::of(engine.enclave())?.beyond(self);
            left.retain(|item| !engine.is_own(item));
            Ok(left)
        };
        let mut broken: Option<Error> = None;
        eventually("nothing is left behind", within, || match beyond() {
            Ok(left) if left.is_empty() => Ok(()),
            Ok(left) => Err(left.join("; ")),
            Err(error) => {
                let text = error.to_string();
                broken = Some(error);
                Err(text)
            }
        })
        .map_err(|late| broken.unwrap_or(late))
    }
}

fn inside(path: &Path, enclave: &Enclave) -> String {
    let root = enclave.path("");
    let path = path.strip_prefix(&root).unwrap_or(path);
    format!("/{}", path.display())
}

/// Cgroups, in any hierarchy, with the tag in their path.
///
/// # Errors
/// If there is no cgroup file system.
pub fn cgroups(tag: &str) -> Result<Vec<PathBuf>> {
    let top = Path::new("/sys/fs/cgroup");
    let mut found = Vec::new();
    for entry in fs::read_dir(top).at("list", top)? {
        let path = entry.at("list", top)?.path();
        if path.is_symlink() {
            continue;
        }
        walk(&path, &mut |path, kind| {
            if kind.is_dir() && path.to_string_lossy().contains(tag) {
                found.push(path.to_owned());
            }
        });
    }
    Ok(found)
}

/// Visits every entry below a directory; what vanishes meanwhile is passed over. Stays out of nested
/// mounts' contents only where they cannot be read.
fn walk(top: &Path, visit: &mut dyn FnMut(&Path, &fs::FileType)) {
    let Ok(entries) = fs::read_dir(top) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        let path = entry.path();
        visit(&path, &kind);
        if kind.is_dir() && !is_rootfs(&path) {
            walk(&path, visit);
        }
    }
}

/// A container's root file system is big and not residue itself (its mount is).
fn is_rootfs(path: &Path) -> bool {
    path.ends_with("rootfs") || path.ends_with("merged") || path.ends_with("fs")
}
