//! What `linux.cgroupsPath` means: runc's rules, minus the ways out of the tree.

use std::path::{Component, Path, PathBuf};

use super::Error;
use super::host::{Hierarchy, Mode, join};

/// A container's place, the same in every hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Below each hierarchy's mount point.
    Absolute(PathBuf),
    /// Below the runtime's own cgroup.
    Relative(PathBuf),
}

impl Place {
    /// Reads `linux.cgroupsPath`; without one the container gets `id` below the runtime's cgroup.
    pub(super) fn parse(cgroups_path: Option<&Path>, id: &str) -> Result<Self, Error> {
        let given = match cgroups_path {
            Some(path) if !path.as_os_str().is_empty() => path,
            _ => Path::new(id),
        };
        let bad = |reason| Error::BadPath {
            path: given.to_string_lossy().into_owned(),
            reason,
        };
        let text = given.to_str().ok_or_else(|| bad("is not UTF-8"))?;
        if text.chars().any(char::is_control) {
            return Err(bad("holds a control character"));
        }
        if text.len() > 4000 {
            return Err(bad("is too long"));
        }
        let clean = clean(given);
        if clean.as_os_str().is_empty() {
            return Err(bad("names the root cgroup; it must name a cgroup below it"));
        }
        Ok(if given.is_absolute() {
            Self::Absolute(clean)
        } else {
            Self::Relative(clean)
        })
    }

    /// The container's directory in one hierarchy.
    pub(super) fn in_hierarchy(&self, hierarchy: &Hierarchy, mode: Mode) -> Result<PathBuf, Error> {
        Ok(match self {
            Self::Absolute(path) => join(&hierarchy.mount, path),
            Self::Relative(path) => {
                let own = hierarchy.own_dir()?;
                // In v2 a cgroup with processes cannot hand controllers to its children, and
                // the runtime's own has processes: go beside it. So does runc.
                let base = match mode {
                    Mode::V2 if own != hierarchy.mount => own.parent().unwrap_or(&own),
                    _ => &own,
                };
                base.join(path)
            }
        })
    }
}

/// Resolves `.` and `..` by text, as if `path` stood below a root; the result is relative.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_paths_stay_in_the_tree() {
        let absolute = |p: &str| Some(Place::Absolute(p.into()));
        let relative = |p: &str| Some(Place::Relative(p.into()));
        for (given, expected) in [
            (None, relative("id")),
            (Some(""), relative("id")),
            (Some("/a/b"), absolute("a/b")),
            (Some("/a/../../b/./c"), absolute("b/c")),
            (Some("../../x"), relative("x")),
            (Some("x/y"), relative("x/y")),
            (Some("/"), None),
            (Some("/a/.."), None),
            (Some(".."), None),
            (Some("/a\nb"), None),
            (Some("/a\0b"), None),
        ] {
            let place = Place::parse(given.map(Path::new), "id").ok();
            assert_eq!(place, expected, "{given:?}");
        }
        assert!(Place::parse(Some(Path::new(&"/x".repeat(3000))), "id").is_err());
    }

    #[test]
    fn relative_is_below_us_in_v1_and_beside_us_in_v2() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("service/run")).unwrap();
        let hierarchy = |own: &str| Hierarchy {
            controllers: vec![],
            mount: tree.path().to_owned(),
            own: own.into(),
            mount_root: None,
        };
        let place = Place::Relative("c".into());
        for (own, mode, expected) in [
            ("/service/run", Mode::V1, "service/run/c"),
            ("/service/run", Mode::V2, "service/c"),
            ("/", Mode::V1, "c"),
            ("/", Mode::V2, "c"),
        ] {
            assert_eq!(
                place.in_hierarchy(&hierarchy(own), mode).unwrap(),
                tree.path().join(expected),
                "{own} {mode:?}"
            );
        }
    }
}
