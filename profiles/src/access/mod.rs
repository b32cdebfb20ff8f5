//! What a container may do with files, ports and its neighbours: one model, of which Landlock rules
//! and AppArmor profiles are made.
//!
//! Rules only allow. What holds for a path is the union of the rules that cover it, so a narrower rule
//! takes nothing away from a wider one; what must be less is said by intersecting two models.
//!
//! Paths are those of the container with every symbolic link resolved, as the kernel's security
//! modules see them.

/// The JSON form, its bounds and its reader.
mod document;
/// Ports, socket families, and what may cross the container's edge.
mod network;
/// Paths of a container in their one normal form.
mod path;
/// What may be done with a file.
mod rights;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use document::{AccessError, MAX_DOCUMENT_BYTES, MAX_NOTES, VERSION};
pub use network::{Family, Network, Ports, Scope};
pub use path::{AccessPath, MAX_PATH_BYTES, PathError};
pub use rights::{Right, Rights};

/// The most rules of a model.
pub const MAX_RULES: usize = 8192;

/// Where a rule came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The administrator's policy or hand.
    Policy,
    /// A mount of the spec, or its root.
    Mount,
    /// A device of the spec.
    Device,
    /// It was seen while the workload ran.
    Recording,
    /// It follows from the container's files, which were not run.
    Analysis,
}

/// Which files a rule covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file or directory.
    pub path: AccessPath,
    /// Whether all that is below it is covered too.
    pub subtree: bool,
}

impl Place {
    /// The path alone.
    pub fn exact(path: AccessPath) -> Self {
        let subtree = false;
        Self { path, subtree }
    }

    /// The path and all below it.
    pub fn subtree(path: AccessPath) -> Self {
        let subtree = true;
        Self { path, subtree }
    }

    /// Whether `path` is covered.
    pub fn covers(&self, path: &AccessPath) -> bool {
        self.path == *path || (self.subtree && path.is_below(&self.path))
    }
}

/// What is allowed at a place, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// What is allowed.
    pub rights: Rights,
    /// Where that came from.
    pub from: BTreeSet<Source>,
}

/// How far a model can be relied on to hold all that a workload needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Things are known to be missing.
    Low,
    /// It holds what was found or seen; what the workload does at other times is not known.
    Medium,
    /// It follows from what the container was given.
    High,
}

/// What a container may do with files, ports and its neighbours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Access {
    files: BTreeMap<Place, Grant>,
    /// What may be done with sockets; `None` leaves them alone.
    pub network: Option<Network>,
    /// What may cross the container's edge by other means.
    pub scope: Scope,
    /// How far it can be relied on; `None` where nobody said.
    pub confidence: Option<Confidence>,
    /// What a reader should know, for people; in order, so that it does not matter whose came first.
    notes: Vec<String>,
}

impl Access {
    /// Nothing allowed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows `rights` at `place` besides what is allowed there; no rights are no rule.
    pub fn allow(&mut self, place: Place, rights: Rights, from: Source) -> Result<(), AccessError> {
        self.grant(place, rights, &BTreeSet::from([from]))
    }

    fn grant(
        &mut self,
        place: Place,
        rights: Rights,
        from: &BTreeSet<Source>,
    ) -> Result<(), AccessError> {
        if rights.is_empty() {
            return Ok(());
        }
        if self.files.len() >= MAX_RULES && !self.files.contains_key(&place) {
            return Err(AccessError::TooManyRules);
        }
        let grant = self.files.entry(place).or_default();
        grant.rights |= rights;
        grant.from.extend(from);
        Ok(())
    }

    /// Every rule, ordered by path, the path alone before its subtree.
    pub fn files(&self) -> impl Iterator<Item = (&Place, &Grant)> {
        self.files.iter()
    }

    /// What a reader should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether no file may be touched.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What may be done with the file at `path`.
    pub fn rights_at(&self, path: &AccessPath) -> Rights {
        self.cover(&Place::exact(path.clone())).rights
    }

    /// What may be done with the name `path` in its directory: as [`Self::rights_at`], without what a rule for
    /// all below `path` says.
    pub fn rights_of_name(&self, path: &AccessPath) -> Rights {
        let exact = self.files.get(&Place::exact(path.clone()));
        let above = path.parents().map(Place::subtree);
        let above = above.filter_map(|place| self.files.get(&place));
        exact
            .into_iter()
            .chain(above)
            .fold(Rights::NONE, |all, grant| all | grant.rights)
    }

    /// What is allowed at the whole of `place`: for a subtree, by rules that cover all of it.
    fn cover(&self, place: &Place) -> Grant {
        let mut all = Grant::default();
        let mut add = |place: Place| {
            if let Some(grant) = self.files.get(&place) {
                all.rights |= grant.rights;
                all.from.extend(&grant.from);
            }
        };
        if !place.subtree {
            add(place.clone());
        }
        add(Place::subtree(place.path.clone()));
        for parent in place.path.parents() {
            add(Place::subtree(parent));
        }
        all
    }

    /// All that either allows. Notes are joined; the lower confidence holds.
    pub fn union(&self, other: &Self) -> Result<Self, AccessError> {
        let mut union = self.clone();
        for (place, grant) in &other.files {
            union.grant(place.clone(), grant.rights, &grant.from)?;
        }
        union.network = match (&self.network, &other.network) {
            (Some(a), Some(b)) => Some(a.union(b)),
            _ => None,
        };
        union.scope = self.scope.union(other.scope);
        union.add_words(other);
        Ok(union)
    }

    /// What both allow; the rules say where each side's part came from.
    pub fn intersection(&self, other: &Self) -> Result<Self, AccessError> {
        let mut both = Self {
            confidence: self.confidence,
            notes: self.notes.clone(),
            ..Self::default()
        };
        for (one, another) in [(self, other), (other, self)] {
            for (place, grant) in &one.files {
                // The smaller of two places that meet is the place of their intersection, and of
                // each pair one is covered by the other or they have nothing in common.
                let cover = another.cover(place);
                let from = &grant.from | &cover.from;
                both.grant(place.clone(), grant.rights & cover.rights, &from)?;
            }
        }
        // A path and the subtree at it meet in the path alone.
        both.network = match (&self.network, &other.network) {
            (Some(a), Some(b)) => Some(a.intersection(b)),
            (one, another) => one.clone().or_else(|| another.clone()),
        };
        both.scope = self.scope.intersection(other.scope);
        both.add_words(other);
        Ok(both)
    }

    fn add_words(&mut self, other: &Self) {
        self.confidence = match (self.confidence, other.confidence) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        for note in &other.notes {
            self.note(note.clone());
        }
    }

    /// Adds a note in its place, unless it is there or there are [`MAX_NOTES`].
    pub fn note(&mut self, note: String) {
        let note = document::bounded(note);
        if let Err(at) = self.notes.binary_search(&note)
            && self.notes.len() < MAX_NOTES
        {
            self.notes.insert(at, note);
        }
    }
}
