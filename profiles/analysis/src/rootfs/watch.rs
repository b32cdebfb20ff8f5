//! Which paths were looked at, so that a result can be kept until one of them changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cofferdam_profiles::generated::{Identity, Use};

/// A path that was looked at, and what was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// As it was asked for.
    pub path: PathBuf,
    /// What was learnt.
    pub used: Use,
    /// What it led to; nothing if it could not be opened.
    pub found: Option<Found>,
    /// It led to the same each time that it was looked at, as far as that was looked at.
    pub steady: bool,
}

/// What a path led to, by the very descriptor that was then listed or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where that is, as seen from outside.
    pub path: PathBuf,
    /// What it was.
    pub identity: Identity,
}

impl Found {
    fn by(descriptor: &impl AsFd) -> Option<Self> {
        let descriptor = descriptor.as_fd();
        let link = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
        let file = File::from(descriptor.try_clone_to_owned().ok()?);
        Some(Self {
            path: fs::read_link(link).ok()?,
            identity: Identity::of(&file.metadata().ok()?),
        })
    }
}

/// Whether what was learnt holds for what is there at another look, as far as either goes.
fn is_steady(known: &Touched, used: Use, seen: Option<&Found>) -> bool {
    match (&known.found, seen) {
        (None, None) => true,
        (Some(known_as), Some(seen)) => {
            let common = known.used.min(used);
            known_as.path == seen.path && known_as.identity.is_still(&seen.identity, common)
        }
        _ => false,
    }
}

/// The paths of a run.
#[derive(Debug, Default)]
pub(super) struct Watch {
    paths: Mutex<BTreeMap<PathBuf, Touched>>,
}

impl Watch {
    /// Notes a look at `path`, which gave `found`.
    pub(super) fn note(&self, path: &Path, used: Use, found: Option<&impl AsFd>) {
        let seen = found.and_then(Found::by);
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        match paths.entry(path.to_owned()) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.steady &= is_steady(known, used, seen.as_ref());
                if used > known.used {
                    known.used = used;
                    known.found = seen;
                }
            }
            Entry::Vacant(new) => {
                new.insert(Touched {
                    path: path.to_owned(),
                    used,
                    found: seen,
                    steady: true,
                });
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Touched> {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        paths.values().cloned().collect()
    }
}
