//! Where the dynamic loader looks for a shared object: `ld.so(8)`.

use std::path::{Path, PathBuf};

use super::RootFs;

/// The directories of a root file system that hold libraries, in the loader's order.
#[derive(Debug)]
pub(crate) struct Libraries {
    directories: Vec<PathBuf>,
}

/// What Debian's, Fedora's and musl's loaders look in without being told.
const DEFAULT: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
];
const MAX_CONFIGURATION: u64 = 64 * 1024;
const MAX_FILES: usize = 256;
const MAX_DIRECTORIES: usize = 256;
/// Variants for newer processors; which one is loaded depends on the machine, so all are.
const VARIANTS: &[&str] = &["x86-64-v2", "x86-64-v3", "x86-64-v4"];

impl Libraries {
    pub(crate) fn of(root: &RootFs) -> Self {
        let mut found = Self {
            directories: Vec::new(),
        };
        found.configuration(root, Path::new("/etc/ld.so.conf"), 0);
        if let Some(path) = root.text(Path::new("/etc/ld-musl-x86_64.path"), MAX_CONFIGURATION) {
            let names = path.split([':', '\n']).filter(|name| name.starts_with('/'));
            found.directories.extend(names.map(PathBuf::from));
        }
        found.directories.extend(DEFAULT.iter().map(PathBuf::from));
        let mut unique = Vec::new();
        for directory in found.directories {
            if let Some(directory) = root.canonical(&directory)
                && !unique.contains(&directory)
                && unique.len() < MAX_DIRECTORIES
            {
                unique.push(directory);
            }
        }
        Self {
            directories: unique,
        }
    }

    fn configuration(&mut self, root: &RootFs, path: &Path, depth: usize) {
        let Some(text) = root.text(path, MAX_CONFIGURATION) else {
            return;
        };
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or("").trim();
            if let Some(pattern) = line.strip_prefix("include") {
                if depth < 4 {
                    self.include(root, pattern.trim(), depth);
                }
            } else if line.starts_with('/') {
                self.directories.push(PathBuf::from(line));
            }
        }
    }

    fn include(&mut self, root: &RootFs, pattern: &str, depth: usize) {
        let (directory, name) = pattern.rsplit_once('/').unwrap_or(("/etc", pattern));
        let directory = Path::new("/etc").join(directory);
        for file in root.list(&directory, MAX_FILES) {
            if matches(name, &file) {
                self.configuration(root, &directory.join(file), depth + 1);
            }
        }
    }

    pub(crate) fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Every file that can be meant by `name`, asked for by an object in `origin` with these search
    /// paths: the one the loader takes, and its variants for newer processors.
    pub(crate) fn find(&self, root: &RootFs, name: &str, search: &Search<'_>) -> Vec<PathBuf> {
        if name.contains('/') {
            let path = PathBuf::from(expand(name, search.origin));
            return root.canonical(&path).into_iter().collect();
        }
        let asked = search
            .paths
            .iter()
            .flat_map(|path| path.split(':'))
            .filter(|path| !path.is_empty())
            .map(|path| PathBuf::from(expand(path, search.origin)));
        for directory in asked.chain(self.directories.iter().cloned()) {
            let mut found: Vec<PathBuf> = VARIANTS
                .iter()
                .map(|variant| directory.join("glibc-hwcaps").join(variant).join(name))
                .filter_map(|path| root.canonical(&path))
                .collect();
            let plain = root.canonical(&directory.join(name));
            if let Some(plain) = plain.filter(|path| root.is_file(path)) {
                found.insert(0, plain);
                return found;
            }
        }
        Vec::new()
    }
}

/// Where to look before the system's directories.
pub(crate) struct Search<'a> {
    /// The directory of the object that asks.
    pub(crate) origin: &'a Path,
    /// `DT_RUNPATH` or `DT_RPATH`, also of those that loaded it.
    pub(crate) paths: Vec<&'a str>,
}

fn expand(path: &str, origin: &Path) -> String {
    let origin = origin.to_string_lossy();
    path.replace("${ORIGIN}", &origin)
        .replace("$ORIGIN", &origin)
        .replace("${LIB}", "lib/x86_64-linux-gnu")
        .replace("$LIB", "lib/x86_64-linux-gnu")
        .replace("${PLATFORM}", "x86_64")
        .replace("$PLATFORM", "x86_64")
}

/// Whether a name fits a pattern of literal parts and `*`.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        let table = [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.d", false),
            ("libnss_*.so*", "libnss_dns.so.2", true),
            ("libnss_*.so*", "libnss.so", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*a", "a", false),
            ("*", "", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
