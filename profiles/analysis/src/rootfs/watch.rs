//! Which paths were looked at, so that a result can be kept until one of them changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cofferdam_profiles::generated::Use;

/// A path that was looked at, and what was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// As it was asked for.
    pub path: PathBuf,
    /// What was learnt.
    pub used: Use,
    /// Where it leads, as seen from outside; nothing if it could not be opened.
    pub found: Option<PathBuf>,
}

/// The paths of a run.
#[derive(Debug, Default)]
pub(super) struct Watch {
    paths: Mutex<BTreeMap<PathBuf, Touched>>,
}

impl Watch {
    /// Notes a look at `path`, which gave `found`.
    pub(super) fn note(&self, path: &Path, used: Use, found: Option<&impl AsFd>) {
        let seen = found.and_then(|found| {
            let link = format!("/proc/self/fd/{}", found.as_fd().as_raw_fd());
            fs::read_link(link).ok()
        });
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        match paths.entry(path.to_owned()) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.used = known.used.max(used);
            }
            Entry::Vacant(new) => {
                new.insert(Touched {
                    path: path.to_owned(),
                    used,
                    found: seen,
                });
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Touched> {
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        paths.values().cloned().collect()
    }
}
