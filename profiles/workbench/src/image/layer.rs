//! A layer applied to what the layers below it left: OCI image specification, "Applying Changesets".

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::budget::Budget;
use super::error::{Ignored, ImageError, Refusal};
use super::tarball::{self, Kind, Member};
use super::tree::{Tree, TreeError, inside};

/// A layer on its way into a tree.
pub(super) struct Layer<'a> {
    /// What it is called in errors.
    pub(super) name: &'a str,
    pub(super) tree: &'a mut Tree,
    pub(super) budget: &'a Budget<'a>,
    pub(super) ignored: &'a mut Ignored,
    /// Where the tree is.
    pub(super) place: &'a Path,
    /// What this layer has made: whiteouts are for what lies below it.
    pub(super) made: BTreeSet<PathBuf>,
    /// Bytes of their names.
    pub(super) names: u64,
    /// Nothing lies below it.
    pub(super) is_first: bool,
}

const WHITEOUT: &[u8] = b".wh.";
/// Notes of a file system of old (`.wh..wh.aufs`); one of them says that a directory hides what is
/// below it.
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

impl Layer<'_> {
    /// Applies all of an archive.
    pub(super) fn apply(&mut self, content: &mut dyn Read) -> Result<(), ImageError> {
        let mut archive = tar::Archive::new(content);
        let (name, budget) = (self.name, self.budget);
        let failed = |source| match budget.check() {
            Err(limit) => limit,
            Ok(()) => ImageError::Layer {
                layer: name.to_owned(),
                source,
            },
        };
        let entries = archive.entries().map_err(failed)?;
        tarball::each(entries, failed, |member, content| {
            self.entry(member, content)
        })
    }

    fn entry(&mut self, member: &Member, content: &mut dyn Read) -> Result<(), ImageError> {
        self.budget.entry()?;
        let done = self.make(member, content);
        self.budget.names(self.names)?;
        match done {
            Ok(()) => Ok(()),
            Err(TreeError::Unreachable) => {
                self.ignored.unreachable += 1;
                self.ignored.example = Some(member.name.clone());
                Ok(())
            }
            Err(TreeError::Refused(why)) => Err(ImageError::Refused {
                layer: self.name.to_owned(),
                entry: PathBuf::from(&member.name),
                why,
            }),
            // The archive's end, or too much of it, comes as an error of the copy.
            Err(TreeError::Io(source)) => Err(match (self.budget.check(), source.raw_os_error()) {
                (Err(limit), _) => limit,
                (Ok(()), None) => ImageError::Layer {
                    layer: self.name.to_owned(),
                    source,
                },
                (Ok(()), Some(_)) => ImageError::Write {
                    entry: PathBuf::from(&member.name),
                    place: self.place.to_owned(),
                    source,
                },
            }),
        }
    }

    fn make(&mut self, member: &Member, content: &mut dyn Read) -> Result<(), TreeError> {
        if let Some(why) = member.refused {
            return Err(TreeError::Refused(why));
        }
        let path = inside(&member.name).map_err(TreeError::Refused)?;
        let Some(name) = path.file_name() else {
            // The root itself.
            return Ok(());
        };
        if name.as_bytes().starts_with(WHITEOUT) {
            let name = name.to_owned();
            return self.whiteout(&path, &name);
        }
        if !self.is_first {
            let length = path.as_os_str().len() as u64;
            if self.made.insert(path.clone()) {
                self.names += length;
            }
        }
        let is_directory = member.name.as_bytes().ends_with(b"/");
        match member.kind {
            // As the oldest archives have it.
            Kind::File if is_directory => self.tree.make_directory(&path),
            Kind::Directory => self.tree.make_directory(&path),
            Kind::File => {
                let (size, mode) = (member.size, member.mode);
                self.tree.make_file(&path, size, mode, content)
            }
            Kind::Symlink => self.tree.make_symlink(&path, &member.link),
            Kind::Hardlink => {
                let target = inside(&member.link).map_err(|why| {
                    TreeError::Refused(match why {
                        Refusal::Upwards => Refusal::LinkUpwards,
                        other => other,
                    })
                })?;
                self.tree.make_hardlink(&path, &target)
            }
            Kind::Device => self.leave_out(&path, |ignored| &mut ignored.devices),
            Kind::Pipe => self.leave_out(&path, |ignored| &mut ignored.pipes),
            Kind::Other => self.leave_out(&path, |ignored| &mut ignored.others),
        }
    }

    /// Nothing is made, but what was there below is gone all the same.
    fn leave_out(
        &mut self,
        path: &Path,
        count: impl Fn(&mut Ignored) -> &mut u64,
    ) -> Result<(), TreeError> {
        *count(self.ignored) += 1;
        self.tree.remove(path)
    }

    fn whiteout(&mut self, path: &Path, name: &OsStr) -> Result<(), TreeError> {
        let above = path.parent().unwrap_or(Path::new(""));
        let name = name.as_bytes();
        if name.starts_with(META) {
            let hides = name == OPAQUE && !self.is_first;
            return if hides { self.hide(above, 0) } else { Ok(()) };
        }
        let hidden = name.strip_prefix(WHITEOUT).unwrap_or(name);
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(TreeError::Refused(Refusal::Whiteout));
        }
        let hidden = above.join(OsStr::from_bytes(hidden));
        if self.is_first || self.is_made(&hidden) {
            return Ok(());
        }
        self.tree.remove(&hidden)
    }

    /// Removes what the layers below have in a directory.
    fn hide(&mut self, directory: &Path, depth: usize) -> Result<(), TreeError> {
        if depth > 128 {
            return Err(TreeError::Refused(Refusal::Deep));
        }
        for name in self.tree.list(directory)? {
            let path = directory.join(name);
            if !self.is_made(&path) {
                self.tree.remove(&path)?;
            } else if self.is_made_below(&path) {
                self.hide(&path, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Whether this layer has made it, or something below it.
    fn is_made(&self, path: &Path) -> bool {
        let mut from = self.made.range(path.to_owned()..);
        from.next().is_some_and(|next| next.starts_with(path))
    }

    fn is_made_below(&self, path: &Path) -> bool {
        let mut from = self.made.range(path.to_owned()..);
        let next = from.find(|next| *next != path);
        next.is_some_and(|next| next.starts_with(path))
    }
}
