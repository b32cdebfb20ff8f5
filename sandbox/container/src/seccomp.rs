//! The seccomp programs of a container, kept so that every later process gets the same bytes.
//!
//! `seccomp-N.bpf` holds the filter flags (four bytes, little endian) and then the program as
//! `struct sock_filter` records. Programs are attached in the order of N.

use std::fs;
use std::path::{Path, PathBuf};

use cofferdam_profiles::policy::Hardened;
use cofferdam_profiles::seccomp::{CompileError, Filter, FilterCache, compile};
use oci_spec::runtime::Spec;

use crate::error::StateError;
use crate::state;

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) flags: u32,
    pub(crate) program: Vec<u8>,
    /// What it was compiled to, as its compiler names it.
    pub(crate) id: String,
}

impl Program {
    /// What a filter compiles to.
    pub(crate) fn of(filter: Filter) -> Self {
        Self {
            flags: filter.flags,
            program: filter.program,
            id: filter.id,
        }
    }

    /// The filter it was made of.
    pub(crate) fn filter(&self) -> Filter {
        Filter {
            flags: self.flags,
            program: self.program.clone(),
            id: self.id.clone(),
        }
    }
}

/// The programs of a hardened spec: the stacked one first, so that it lies beneath the spec's own.
pub(crate) fn programs(
    spec: &Hardened<Spec>,
    cache: Option<&Path>,
) -> Result<Vec<Program>, CompileError> {
    let own = spec
        .get()
        .linux()
        .as_ref()
        .and_then(|l| l.seccomp().as_ref());
    let cache = cache.map(FilterCache::at);
    spec.stacked_seccomp()
        .into_iter()
        .chain(own)
        .map(|profile| {
            let filter = match &cache {
                Some(cache) => cache.get_or_compile(profile)?,
                None => compile(profile)?,
            };
            Ok(Program::of(filter))
        })
        .collect()
}

fn path(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("seccomp-{number}.bpf"))
}

/// Keeps the programs in a state directory.
pub(crate) fn store(directory: &Path, programs: &[Program]) -> Result<(), StateError> {
    for (number, program) in programs.iter().enumerate() {
        let bytes = [&program.flags.to_le_bytes()[..], &program.program].concat();
        state::write_new(&path(directory, number), &bytes)?;
    }
    Ok(())
}

/// Reads back the programs with these ids; one that is missing is an error, since a process without
/// it would be less confined than init.
pub(crate) fn load(directory: &Path, ids: &[String]) -> Result<Vec<Program>, StateError> {
    ids.iter()
        .enumerate()
        .map(|(number, id)| {
            let path = path(directory, number);
            let failed = |source| StateError::Io {
                action: "read",
                path: path.clone(),
                source,
            };
            let bytes = fs::read(&path).map_err(failed)?;
            let Some((flags, program)) = bytes.split_first_chunk() else {
                return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
            };
            Ok(Program {
                flags: u32::from_le_bytes(*flags),
                program: program.to_vec(),
                id: id.clone(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_come_back_and_a_missing_one_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let programs: Vec<Program> = (0..2u8)
            .map(|n| Program {
                flags: n.into(),
                program: vec![n; 16],
                id: n.to_string(),
            })
            .collect();
        store(directory.path(), &programs).expect("stored");
        let mut ids: Vec<String> = programs.iter().map(|p| p.id.clone()).collect();
        assert_eq!(load(directory.path(), &ids).expect("loaded"), programs);
        ids.push("2".to_owned());
        assert!(load(directory.path(), &ids).is_err());
    }
}
