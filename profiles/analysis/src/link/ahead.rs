//! Objects read before it is their turn, on all processors: what an object needs is known long before its
//! code has been looked at. In what order they are read changes nothing: whoever loads them takes the
//! results in an order of its own.

use std::collections::{BinaryHeap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::loader::{Loader, MAX_OBJECTS, Needs, Read, Role};
use crate::parallel;

/// A file to read. The largest is read first: what takes longest is not to begin last.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    /// In bytes.
    size: u64,
    path: PathBuf,
    role: Role,
}

/// What there is to do, and what was done.
#[derive(Debug, Default)]
struct Work {
    open: BinaryHeap<Asked>,
    known: HashSet<PathBuf>,
    /// How many are being read, and may ask for more.
    reading: usize,
    done: HashMap<PathBuf, Read>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ahead(HashMap<PathBuf, Read>);

impl Ahead {
    /// Reads what is wanted and all that it needs.
    pub(super) fn read(loader: &Loader<'_>, wanted: &[(PathBuf, Role)]) -> Self {
        let reader = Reader {
            loader,
            work: Mutex::default(),
            changed: Condvar::new(),
        };
        for (path, role) in wanted {
            reader.ask(path, *role);
        }
        // A single program usually asks for more.
        parallel::crew(usize::MAX, || while reader.one() {});
        let work = reader.work.into_inner();
        Self(work.unwrap_or_else(PoisonError::into_inner).done)
    }

    /// What was read at a path, once.
    pub(super) fn take(&mut self, path: &Path) -> Option<Read> {
        self.0.remove(path)
    }
}

struct Reader<'a, 'b> {
    loader: &'a Loader<'b>,
    work: Mutex<Work>,
    changed: Condvar,
}

impl Reader<'_, '_> {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, path: &Path, role: Role) {
        let mut work = self.work();
        // Where there are too many, the loader says so when it gets there.
        if work.known.len() >= 2 * MAX_OBJECTS || !work.known.insert(path.to_owned()) {
            return;
        }
        drop(work);
        let size = self.loader.root.metadata(path).map_or(0, |m| m.len());
        let path = path.to_owned();
        self.work().open.push(Asked { size, path, role });
        self.changed.notify_one();
    }

    /// Reads the next one; says whether there was one.
    fn one(&self) -> bool {
        let mut work = self.work();
        let asked = loop {
            if let Some(asked) = work.open.pop() {
                break asked;
            }
            if work.reading == 0 {
                return false;
            }
            let woken = self.changed.wait(work);
            work = woken.unwrap_or_else(PoisonError::into_inner);
        };
        work.reading += 1;
        drop(work);
        // Also if reading fails in a way that nobody has thought of: others wait for it.
        let _reading = Reading(self);
        let Asked { path, role, .. } = asked;
        let needed = match role {
            Role::Plugin | Role::PluginLibrary => Role::PluginLibrary,
            _ => Role::Library,
        };
        let ask = |needs: &Needs| needs.files().for_each(|file| self.ask(file, needed));
        let read = self.loader.read(&path, role, ask);
        self.work().done.insert(path, read);
        true
    }
}

/// While an object is read.
struct Reading<'a, 'b, 'c>(&'a Reader<'b, 'c>);

impl Drop for Reading<'_, '_, '_> {
    fn drop(&mut self) {
        self.0.work().reading -= 1;
        self.0.changed.notify_all();
    }
}
