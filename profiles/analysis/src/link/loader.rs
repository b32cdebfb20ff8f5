//! Which objects a program consists of: itself, the loader, what it needs, what those need.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cofferdam_profiles::generated::Media;

use super::ahead::Ahead;
use crate::elf::{ElfError, Image};
use crate::error::AnalysisError;
use crate::rootfs::libraries::{Libraries, Search};
use crate::rootfs::{self, RootFs};
use crate::summary::{self, Asks, Summary, SummaryCache, summarise};

/// Why an object is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The program itself.
    Program,
    /// The dynamic loader.
    Interpreter,
    /// A library found at start: its symbols are everybody's.
    Library,
    /// Loaded by name while the program runs: whatever it exports can be looked up.
    Plugin,
    /// What a plugin needs.
    PluginLibrary,
}

/// An object in memory.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) path: PathBuf,
    pub(crate) role: Role,
    pub(crate) summary: Arc<Summary>,
}

/// Summaries made in this run: the programs of a container share most of their objects.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    by_file: Mutex<HashMap<FileState, Arc<Summary>>>,
}

/// Device, inode, size and time of the last change: what a file is known by during a run.
type FileState = (u64, u64, u64, i64, i64);

impl Memory {
    fn state(metadata: &Metadata) -> FileState {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let size = metadata.size();
        (metadata.dev(), metadata.ino(), size, changed.0, changed.1)
    }

    fn get(&self, metadata: &Metadata) -> Option<Arc<Summary>> {
        let known = self.by_file.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&Self::state(metadata)).cloned()
    }

    fn keep(&self, metadata: &Metadata, summary: &Arc<Summary>) {
        let mut known = self.by_file.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(Self::state(metadata), Arc::clone(summary));
    }
}

/// See the module.
pub(crate) struct Loader<'a> {
    pub(crate) root: &'a RootFs,
    pub(crate) libraries: Libraries,
    cache: Option<SummaryCache>,
    media: Media,
    memory: &'a Memory,
    pub(crate) objects: Vec<Loaded>,
    by_identity: HashMap<(u64, u64), usize>,
    pub(crate) missing: Vec<(PathBuf, String)>,
    /// The program's, which holds for all objects.
    rpath: OnceLock<Option<String>>,
}

pub(super) const MAX_OBJECTS: usize = 2048;

/// An object that was read, and the files it asks for.
#[derive(Debug)]
pub(super) struct Object {
    identity: (u64, u64),
    summary: Arc<Summary>,
    pub(super) needs: Needs,
}

/// The files that an object asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    /// Of a program that asks for one: its path if it is there.
    interpreter: Option<Option<PathBuf>>,
    /// For each name, in their order: none if there is no such file.
    libraries: Vec<Vec<PathBuf>>,
}

impl Needs {
    /// All of them.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let interpreter = self.interpreter.iter().flatten();
        interpreter.chain(self.libraries.iter().flatten())
    }
}

pub(super) type Read = Result<Object, AnalysisError>;

impl<'a> Loader<'a> {
    pub(crate) fn new(root: &'a RootFs, cache: Option<&Path>, memory: &'a Memory) -> Self {
        Self {
            libraries: Libraries::of(root),
            root,
            cache: cache.map(SummaryCache::new),
            media: Media::default(),
            memory,
            objects: Vec::new(),
            by_identity: HashMap::new(),
            missing: Vec::new(),
            rpath: OnceLock::new(),
        }
    }

    /// Loads a program with all that it needs at start.
    pub(crate) fn program(&mut self, path: &Path) -> Result<(), AnalysisError> {
        self.load(vec![(path.to_owned(), Role::Program)])?;
        if let Some((object, library)) = self.missing.first() {
            return Err(AnalysisError::Missing {
                object: object.clone(),
                library: library.clone(),
            });
        }
        Ok(())
    }

    /// Loads objects and, level by level, what they need. A plugin that cannot be read is left out:
    /// the program could not load it either.
    pub(crate) fn load(&mut self, wanted: Vec<(PathBuf, Role)>) -> Result<(), AnalysisError> {
        let mut ahead = Ahead::read(self, &wanted);
        let mut level = wanted;
        while !level.is_empty() {
            let mut next = Vec::new();
            for (path, role) in level {
                // One that was read under a role of its own is known by now.
                let read = ahead.take(&path);
                let read = read.unwrap_or_else(|| self.read(&path, role, |_| {}));
                let object = match read {
                    Ok(object) => object,
                    Err(_) if matches!(role, Role::Plugin | Role::PluginLibrary) => continue,
                    Err(error) => return Err(error),
                };
                if self.by_identity.contains_key(&object.identity) {
                    continue;
                }
                if self.objects.len() >= MAX_OBJECTS {
                    return Err(AnalysisError::TooManyObjects {
                        path,
                        limit: MAX_OBJECTS,
                    });
                }
                self.by_identity.insert(object.identity, self.objects.len());
                let loaded = Loaded {
                    path,
                    role,
                    summary: object.summary,
                };
                next.extend(self.needs(&loaded, object.needs));
                self.objects.push(loaded);
            }
            next.retain(|(path, _)| {
                let identity = self.root.metadata(path).map(|m| (m.dev(), m.ino()));
                identity.is_none_or(|identity| !self.by_identity.contains_key(&identity))
            });
            next.dedup_by(|a, b| a.0 == b.0);
            level = next;
        }
        Ok(())
    }

    /// Whether a file is among the objects.
    pub(crate) fn is_loaded(&self, path: &Path) -> bool {
        self.objects.iter().any(|object| object.path == path)
    }

    /// What an object needs, and why each of it is loaded; notes what is missing.
    fn needs(&mut self, object: &Loaded, needs: Needs) -> Vec<(PathBuf, Role)> {
        let role = match object.role {
            Role::Plugin | Role::PluginLibrary => Role::PluginLibrary,
            _ => Role::Library,
        };
        let asks = &object.summary.asks;
        let mut found = Vec::new();
        if let (Some(interpreter), Some(file)) = (&asks.interpreter, needs.interpreter) {
            match file {
                Some(path) => found.push((path, Role::Interpreter)),
                None => self
                    .missing
                    .push((object.path.clone(), interpreter.clone())),
            }
        }
        for (name, files) in asks.needed.iter().zip(needs.libraries) {
            if files.is_empty() && role == Role::Library {
                self.missing.push((object.path.clone(), name.clone()));
            }
            found.extend(files.into_iter().map(|path| (path, role)));
        }
        found
    }

    /// The files that an object at `path` asks for.
    fn look_for(&self, path: &Path, role: Role, asks: &Asks) -> Needs {
        let mut needs = Needs::default();
        if role == Role::Program {
            let interpreter = asks.interpreter.as_deref();
            needs.interpreter = interpreter.map(|path| self.root.canonical(Path::new(path)));
            // Before anything that the program needs is looked for.
            let _ = self.rpath.set(asks.rpath.clone());
        }
        let origin = path.parent().unwrap_or(Path::new("/"));
        // An object's RUNPATH switches every RPATH off; the program's RPATH holds for all objects.
        let mut paths: Vec<&str> = Vec::new();
        match &asks.runpath {
            Some(runpath) => paths.push(runpath),
            None => {
                paths.extend(asks.rpath.as_deref());
                let program = self.rpath.get().filter(|_| role != Role::Program);
                paths.extend(program.and_then(|rpath| rpath.as_deref()));
            }
        }
        let search = Search { origin, paths };
        let find = |name: &String| self.libraries.find(self.root, name, &search);
        needs.libraries = asks.needed.iter().map(find).collect();
        needs
    }

    /// Reads the object at `path`; says what it needs to `told` as soon as that is known.
    pub(super) fn read(&self, path: &Path, role: Role, told: impl FnOnce(&Needs)) -> Read {
        let failed = |source| AnalysisError::Read {
            path: path.to_owned(),
            source,
        };
        let (file, metadata) = self.root.file(path).map_err(failed)?;
        let identity = (metadata.dev(), metadata.ino());
        let mut needs = Needs::default();
        let look = |asks: &Asks| {
            // Another name of what is loaded already needs nothing more.
            if !self.by_identity.contains_key(&identity) {
                needs = self.look_for(path, role, asks);
                told(&needs);
            }
        };
        let summary = match self.memory.get(&metadata) {
            Some(summary) => {
                look(&summary.asks);
                summary
            }
            None => {
                let summary = Arc::new(self.summary(path, file, &metadata, look)?);
                self.memory.keep(&metadata, &summary);
                summary
            }
        };
        Ok(Object {
            identity,
            summary,
            needs,
        })
    }

    fn summary(
        &self,
        path: &Path,
        file: File,
        metadata: &Metadata,
        look: impl FnOnce(&Asks),
    ) -> Result<Summary, AnalysisError> {
        let cache = self.cache.as_ref();
        // Else the content alone tells.
        let told = cache.is_some() && self.media.tell(&file).unwrap_or(false);
        let known = cache.filter(|_| told);
        if let Some((_, summary)) = known.and_then(|cache| cache.by_identity(metadata)) {
            look(&summary.asks);
            return Ok(summary);
        }
        let failed = |source| AnalysisError::Read {
            path: path.to_owned(),
            source,
        };
        let content = rootfs::read(file, metadata).map_err(failed)?;
        let digest = cache.map(|_| summary::digest(&content));
        if let (Some(cache), Some(digest)) = (cache, &digest)
            && let Some(summary) = cache.by_digest(digest)
        {
            if told {
                cache.remember(metadata, digest);
            }
            look(&summary.asks);
            return Ok(summary);
        }
        let format = |source: ElfError| AnalysisError::Format {
            path: path.to_owned(),
            source,
        };
        let image = Image::parse(&content).map_err(format)?;
        look(&Asks::of(&image));
        let summary = summarise(&image);
        if let (Some(cache), Some(digest)) = (cache, &digest) {
            cache.keep(told.then_some(metadata), digest, &summary);
        }
        Ok(summary)
    }
}
