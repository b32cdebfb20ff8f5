//! Making the directories, and handing v2 controllers down to them.

use std::fs::{DirBuilder, create_dir, remove_dir};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::host::Mode;
use super::location::{Dir, Location};
use super::{Error, file, freeze, procs};

/// How often a directory is tried when another container's removal takes its parent away.
const ATTEMPTS: u32 = 8;

/// Makes every directory; on failure those already made are removed again.
pub(super) fn make(location: &Location) -> Result<(), Error> {
    for (index, dir) in location.dirs.iter().enumerate() {
        if let Err(error) = make_one(dir, location.mode) {
            // A directory that somebody else made meanwhile is not ours to remove.
            let theirs = matches!(&error, Error::Create { source, .. }
                if source.kind() == io::ErrorKind::AlreadyExists);
            let made = if theirs { index } else { index + 1 };
            for dir in location.dirs.iter().take(made) {
                for level in dir.ours() {
                    // Only what is empty goes, and the first error is the one to report.
                    let _ = remove_dir(level);
                }
            }
            return Err(error);
        }
    }
    Ok(())
}

fn make_one(dir: &Dir, mode: Mode) -> Result<(), Error> {
    if dir.created_from.is_none() {
        refuse_foreign(dir)?;
    }
    make_dir(dir, mode)?;
    if dir.controllers.iter().any(|c| c == "cpuset") {
        inherit_cpuset(dir)?;
    }
    Ok(())
}

/// A directory that was there before us is used only when it is empty and running.
fn refuse_foreign(dir: &Dir) -> Result<(), Error> {
    if freeze::dir_frozen(&dir.path)? {
        return Err(Error::Frozen {
            path: dir.path.clone(),
        });
    }
    if !procs::is_empty(&dir.path)? {
        return Err(Error::NotEmpty {
            path: dir.path.clone(),
        });
    }
    Ok(())
}

fn make_dir(dir: &Dir, mode: Mode) -> Result<(), Error> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match try_make(dir, mode) {
            // Parents are shared: another container's removal may just have taken them.
            Err(Error::Create { source, .. })
                if source.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {}
            other => return other,
        }
    }
}

fn try_make(dir: &Dir, mode: Mode) -> Result<(), Error> {
    let parent = dir.path.parent().unwrap_or(&dir.mount);
    let failed = |source| Error::Create {
        path: dir.path.clone(),
        source,
    };
    if !parent.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(failed)?;
    }
    if mode == Mode::V2 {
        enable_controllers(&dir.mount, parent)?;
    }
    match create_dir(&dir.path) {
        Ok(()) => Ok(()),
        // Planned as ours, but somebody was quicker: it is theirs.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.created_from.is_some() => {
            Err(failed(e))
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(failed(e)),
    }
}

/// Hands every controller of the root down to `parent`'s children. A level that refuses (it has
/// processes of its own, or is delegated) is left as it is: a limit that would need the
/// controller then fails by name, because its file is missing.
fn enable_controllers(mount: &Path, parent: &Path) -> Result<(), Error> {
    let below = parent.strip_prefix(mount).unwrap_or(Path::new(""));
    let mut level = mount.to_owned();
    let mut names = below.iter();
    loop {
        let available = file::read_optional(&level.join("cgroup.controllers"))?.unwrap_or_default();
        let control = level.join("cgroup.subtree_control");
        let enabled = file::read_optional(&control)?.unwrap_or_default();
        let missing: Vec<String> = available
            .split_whitespace()
            .filter(|name| !enabled.split_whitespace().any(|e| e == *name))
            .map(|name| format!("+{name}"))
            .collect();
        // All at once, else one by one: one that is refused must not cost the others.
        if !missing.is_empty() && file::write_raw(&control, &missing.join(" ")).is_err() {
            for name in &missing {
                if file::write_raw(&control, name).is_err() {
                    tracing::debug!(controller = %name, level = %level.display(),
                        "the controller cannot be handed down");
                }
            }
        }
        match names.next() {
            Some(name) => level.push(name),
            None => return Ok(()),
        }
    }
}

/// A new v1 cpuset is empty and takes no process: fill each one we made from its parent.
fn inherit_cpuset(dir: &Dir) -> Result<(), Error> {
    let levels: Vec<&Path> = dir.ours().collect();
    for level in levels.into_iter().rev() {
        let Some(parent) = level.parent() else {
            continue;
        };
        for name in ["cpuset.cpus", "cpuset.mems"] {
            let target = level.join(name);
            let current = file::read(&target)?;
            if current.trim().is_empty() {
                let inherited = file::read(&parent.join(name))?;
                file::write(&target, inherited.trim())?;
            }
        }
    }
    Ok(())
}
