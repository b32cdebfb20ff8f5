//! Where a container's cgroups are: stored with the container, enough to find them again.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::host::{Layout, Mode};
use super::path::Place;
use super::{Driver, Error};

/// The container's cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dir {
    /// Controllers of the hierarchy (`cpu`, `name=systemd`); empty for the unified hierarchy.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The container's cgroup.
    pub path: PathBuf,
    /// The topmost directory on the way to `path` that did not exist before us. What is above
    /// it is not ours to remove; `None` means that not even `path` is.
    pub created_from: Option<PathBuf>,
}

impl Dir {
    /// The unified hierarchy, alone or beside v1 ones.
    pub fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Our directories, the container's own first, then upwards.
    pub(super) fn ours(&self) -> impl Iterator<Item = &Path> {
        let top = self.created_from.as_deref();
        self.path
            .ancestors()
            .take_while(move |dir| top.is_some_and(|top| dir.starts_with(top)))
    }
}

/// A container's cgroups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Who made the directories.
    pub driver: Driver,
    /// The generation in force.
    pub mode: Mode,
    /// One directory per hierarchy.
    pub dirs: Vec<Dir>,
    /// The systemd unit, with `Driver::Systemd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

/// A scope that systemd made for a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The `slice:prefix:name` that was asked for.
    pub path: String,
    /// The container's id, which stands in the unit's description.
    pub container: String,
}

impl Location {
    /// Plans the directories; touches nothing.
    pub(super) fn plan(spec: &Spec, id: &str) -> Result<Self, Error> {
        let path = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.cgroups_path().as_deref());
        refuse_systemd_form(path)?;
        let place = Place::parse(path, id)?;
        let layout = Layout::probe()?;
        let mut dirs = Vec::with_capacity(layout.hierarchies.len());
        for hierarchy in &layout.hierarchies {
            let path = place.in_hierarchy(hierarchy, layout.mode)?;
            dirs.push(Dir {
                controllers: hierarchy.controllers.clone(),
                mount: hierarchy.mount.clone(),
                created_from: first_missing(&path),
                path,
            });
        }
        Ok(Self {
            driver: Driver::Fs,
            mode: layout.mode,
            dirs,
            unit: None,
        })
    }

    /// The directory where a controller's files are, if the hierarchy is there. In v2 that is
    /// always the one directory; whether the controller is enabled shows by its files.
    pub fn controller(&self, name: &str) -> Option<&Path> {
        match self.mode {
            Mode::V1 => self
                .dirs
                .iter()
                .find(|d| d.controllers.iter().any(|c| c == name))
                .map(|d| d.path.as_path()),
            Mode::V2 => self.unified(),
        }
    }

    /// The directory in the unified hierarchy.
    pub fn unified(&self) -> Option<&Path> {
        self.dirs
            .iter()
            .find(|d| d.is_unified())
            .map(|d| d.path.as_path())
    }

    /// The hierarchy that is asked which processes belong to the container.
    pub(super) fn membership(&self) -> Option<&Path> {
        ["devices", "freezer", "pids", "memory"]
            .iter()
            .find_map(|c| self.controller(c))
            .or_else(|| self.dirs.first().map(|d| d.path.as_path()))
    }
}

/// The topmost directory of `path` that does not exist.
fn first_missing(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .take_while(|dir| !dir.exists())
        .last()
        .map(Path::to_owned)
}

/// `slice:prefix:name` is a unit, not a directory: do not make a directory of that name.
fn refuse_systemd_form(path: Option<&Path>) -> Result<(), Error> {
    match path.and_then(Path::to_str) {
        Some(text) if !text.contains('/') && text.matches(':').count() == 2 => {
            Err(Error::BadPath {
                path: text.to_owned(),
                reason: "has systemd's form slice:prefix:name; use --systemd-cgroup",
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_missing_is_ours() {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        std::fs::create_dir(root.join("old")).unwrap();
        let dir = |path: &str| {
            let path = root.join(path);
            Dir {
                controllers: vec![],
                mount: root.to_owned(),
                created_from: first_missing(&path),
                path,
            }
        };
        for (path, ours) in [
            ("old", &[][..]),
            ("old/a", &["old/a"]),
            ("new/a/b", &["new/a/b", "new/a", "new"]),
        ] {
            let dir = dir(path);
            let expected: Vec<_> = ours.iter().map(|p| root.join(p)).collect();
            assert_eq!(dir.ours().collect::<Vec<_>>(), expected, "{path}");
        }
    }

    #[test]
    fn a_unit_is_not_a_directory() {
        for (path, ok) in [
            ("system.slice:docker:id", false),
            ("/a:b:c", true),
            ("a:b", true),
        ] {
            assert_eq!(
                refuse_systemd_form(Some(Path::new(path))).is_ok(),
                ok,
                "{path}"
            );
        }
    }
}
