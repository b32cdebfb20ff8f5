use std::{fs, io::Read as _, path::Path};

use cofferdam_integration::{
    error::{At, Result},
    loads::{generated::Generated, stage::rootfs},
};

/// How many calls the programs of Debian's base system are allowed, each by itself.
#[derive(Debug)]
pub(crate) struct Tools {
    /// Of each program, in order of size.
    allowed: Vec<usize>,
}

impl Tools {
    /// Analyses every executable of the root file system that has nothing but the base system.
    ///
    /// # Errors
    /// If it is not there, or a program cannot be analysed.
    pub(crate) fn measure() -> Result<Self> {
        let root = rootfs("bash")?;
        let cache = tempfile::tempdir().at("make a directory in", std::env::temp_dir())?;
        let mut allowed = Vec::new();
        for directory in ["usr/bin", "usr/sbin"] {
            let path = root.join(directory);
            for file in fs::read_dir(&path).at("list", &path)? {
                let file = file.at("list", &path)?.path();
                if !is_program(&file) {
                    continue;
                }
                let inside = Path::new("/").join(file.strip_prefix(&root).unwrap_or(&file));
                let inside = inside.display().to_string();
                let made = Generated::of(&root, &inside, Some(cache.path().to_owned()))?;
                allowed.push(made.allowed.len());
            }
        }
        allowed.sort_unstable();
        Ok(Self { allowed })
    }

    /// A sentence.
    pub(crate) fn text(&self) -> String {
        let median = self.allowed.get(self.allowed.len() / 2);
        format!(
            "{} programs of Debian's base system (the executables in `/usr/bin` and `/usr/sbin`), each by \
             itself: a mean of {:.0} calls allowed, a median of {}, at most {}.",
            self.allowed.len(),
            mean(self.allowed.iter().copied()),
            median.copied().unwrap_or_default(),
            self.allowed.last().copied().unwrap_or_default(),
        )
    }
}

/// An ELF file that is not a link to one.
fn is_program(path: &Path) -> bool {
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let mut magic = [0; 4];
    let mut read = || fs::File::open(path)?.read_exact(&mut magic);
    is_file && read().is_ok() && magic == *b"\x7fELF"
}

/// The mean of some numbers; 0 of none.
#[expect(clippy::cast_precision_loss, reason = "counts of system calls")]
pub(crate) fn mean(numbers: impl Iterator<Item = usize>) -> f64 {
    let (sum, count) = numbers.fold((0, 0), |(sum, count), number| (sum + number, count + 1));
    if count == 0 {
        return 0.0;
    }
    sum as f64 / f64::from(count)
}
