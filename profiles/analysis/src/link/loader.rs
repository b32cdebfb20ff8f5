//! Which objects a program consists of: itself, the loader, what it needs, what those need.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cofferdam_profiles::generated::Media;

use crate::elf::ElfError;
use crate::error::AnalysisError;
use crate::rootfs::libraries::{Libraries, Search};
use crate::rootfs::{self, RootFs};
use crate::summary::{self, Summary, SummaryCache, summarise};

/// Why an object is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

const MAX_OBJECTS: usize = 2048;

type Read = Result<((u64, u64), Arc<Summary>), AnalysisError>;

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
        let mut level = wanted;
        while !level.is_empty() {
            let mut next = Vec::new();
            for ((path, role), read) in level.iter().zip(self.read_all(&level)) {
                let (identity, summary) = match read {
                    Ok(read) => read,
                    Err(_) if matches!(role, Role::Plugin | Role::PluginLibrary) => continue,
                    Err(error) => return Err(error),
                };
                if self.by_identity.contains_key(&identity) {
                    continue;
                }
                if self.objects.len() >= MAX_OBJECTS {
                    return Err(AnalysisError::TooManyObjects {
                        path: path.clone(),
                        limit: MAX_OBJECTS,
                    });
                }
                self.by_identity.insert(identity, self.objects.len());
                let loaded = Loaded {
                    path: path.clone(),
                    role: *role,
                    summary,
                };
                next.extend(self.needs(&loaded));
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

    fn needs(&mut self, object: &Loaded) -> Vec<(PathBuf, Role)> {
        let role = match object.role {
            Role::Plugin | Role::PluginLibrary => Role::PluginLibrary,
            _ => Role::Library,
        };
        let summary = &object.summary;
        let mut found = Vec::new();
        if let (Role::Program, Some(interpreter)) = (object.role, &summary.interpreter) {
            match self.root.canonical(Path::new(interpreter)) {
                Some(path) => found.push((path, Role::Interpreter)),
                None => self
                    .missing
                    .push((object.path.clone(), interpreter.clone())),
            }
        }
        let origin = object.path.parent().unwrap_or(Path::new("/"));
        // An object's RUNPATH switches every RPATH off; the program's RPATH holds for all objects.
        let mut paths: Vec<&str> = Vec::new();
        match &summary.runpath {
            Some(runpath) => paths.push(runpath),
            None => {
                paths.extend(summary.rpath.as_deref());
                let program = self.objects.first().map(|program| &program.summary);
                paths.extend(program.and_then(|program| program.rpath.as_deref()));
            }
        }
        let search = Search { origin, paths };
        for name in &summary.needed {
            let files = self.libraries.find(self.root, name, &search);
            if files.is_empty() && role == Role::Library {
                self.missing.push((object.path.clone(), name.clone()));
            }
            found.extend(files.into_iter().map(|path| (path, role)));
        }
        found
    }

    /// Summaries of one level, on two threads.
    fn read_all(&self, level: &[(PathBuf, Role)]) -> Vec<Read> {
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Read>>> = level.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let (Some((path, _)), Some(slot)) = (level.get(index), results.get(index)) else {
                    return;
                };
                let read = self.read(path);
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
            }
        };
        if level.len() > 1 {
            std::thread::scope(|scope| {
                scope.spawn(work);
                work();
            });
        } else {
            work();
        }
        let taken =
            |slot: Mutex<Option<Read>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.into_iter().filter_map(taken).collect()
    }

    fn read(&self, path: &Path) -> Read {
        let failed = |source| AnalysisError::Read {
            path: path.to_owned(),
            source,
        };
        let (file, metadata) = self.root.file(path).map_err(failed)?;
        let identity = (metadata.dev(), metadata.ino());
        if let Some(summary) = self.memory.get(&metadata) {
            return Ok((identity, summary));
        }
        let summary = Arc::new(self.summary(path, file, &metadata)?);
        self.memory.keep(&metadata, &summary);
        Ok((identity, summary))
    }

    fn summary(
        &self,
        path: &Path,
        file: File,
        metadata: &Metadata,
    ) -> Result<Summary, AnalysisError> {
        let cache = self.cache.as_ref();
        // Else the content alone tells.
        let told = cache.is_some() && self.media.tell(&file).unwrap_or(false);
        let known = cache.filter(|_| told);
        if let Some((_, summary)) = known.and_then(|cache| cache.by_identity(metadata)) {
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
            return Ok(summary);
        }
        let format = |source: ElfError| AnalysisError::Format {
            path: path.to_owned(),
            source,
        };
        let summary = summarise(&content).map_err(format)?;
        if let (Some(cache), Some(digest)) = (cache, &digest) {
            cache.keep(told.then_some(metadata), digest, &summary);
        }
        Ok(summary)
    }
}
