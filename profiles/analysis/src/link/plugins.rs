//! Objects that are loaded by name while the program runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Loader, Node, Reach};
use crate::rootfs::RootFs;
use crate::rootfs::libraries::{Search, matches};

const MAX_FILES: usize = 1024;
const MAX_CONFIGURATION: u64 = 1024 * 1024;

/// Names that load objects.
const OPENERS: &[&str] = &["dlopen", "dlmopen", "__libc_dlopen_mode"];

/// What was found since the last look: files to load, and what there is to say about it.
#[derive(Debug, Default)]
pub(crate) struct Plugins {
    pub(crate) files: BTreeSet<PathBuf>,
    pub(crate) notes: BTreeSet<String>,
}

/// Everything that reachable code may load by name and that is not loaded yet.
pub(crate) fn find(loader: &Loader<'_>, reach: &Reach) -> Plugins {
    let mut plugins = Plugins::default();
    let objects = &loader.objects;
    let opens = (0..objects.len())
        .any(|object| OPENERS.iter().any(|name| reach.uses(objects, object, name)));
    for (object, index) in objects.iter().zip(0_u32..) {
        // The C library opens objects for itself, without going through an import.
        let is_libc = object
            .summary
            .exports
            .iter()
            .any(|export| OPENERS.contains(&&*export.name));
        if !(opens || is_libc) {
            continue;
        }
        let origin = object.path.parent().unwrap_or(Path::new("/"));
        for (node, name) in &object.summary.strings {
            let node = Node {
                object: index,
                node: *node,
            };
            if reach.is_reached(node) {
                plugins.string(loader, name, origin);
            }
        }
    }
    if opens && let Some(program) = objects.first() {
        plugins.configured(loader, &program.path);
    }
    plugins.files.retain(|file| !loader.is_loaded(file));
    plugins
}

impl Plugins {
    fn string(&mut self, loader: &Loader<'_>, name: &str, origin: &Path) {
        let root = loader.root;
        let search = Search {
            origin,
            paths: Vec::new(),
        };
        if name.contains('%') {
            if name.contains(".so") {
                self.pattern(loader, name);
            }
        } else if name.contains(".so") {
            self.files
                .extend(loader.libraries.find(root, name, &search));
        } else if name.starts_with('/') {
            self.directory(loader, Path::new(name));
        }
    }

    /// `libnss_%s.so.2` and the like.
    fn pattern(&mut self, loader: &Loader<'_>, format: &str) {
        let mut pattern = String::new();
        let mut characters = format.chars();
        while let Some(c) = characters.next() {
            if c == '%' {
                characters.find(char::is_ascii_alphabetic);
                pattern.push('*');
            } else {
                pattern.push(c);
            }
        }
        let is_nss = pattern.starts_with("libnss_");
        let services = if is_nss {
            nss_services(loader.root)
        } else {
            Vec::new()
        };
        let (fixed, name) = match pattern.rsplit_once('/') {
            Some((directory, name)) => (Some(PathBuf::from(directory)), name),
            None => (None, &*pattern),
        };
        // `lib%s.so` says no more than a call to dlopen does: what stands for it is named elsewhere.
        let stem = name.split(".so").next().unwrap_or("");
        if stem
            .trim_start_matches("lib")
            .trim_matches(['*', '-', '_', '.'])
            .is_empty()
        {
            return;
        }
        let directories = match &fixed {
            Some(directory) if directory.to_string_lossy().contains('*') => return,
            Some(directory) => std::slice::from_ref(directory),
            None => loader.libraries.directories(),
        };
        for directory in directories {
            for file in loader.root.list(directory, 65_536) {
                let fits = matches(name, &file)
                    && (!is_nss
                        || services
                            .iter()
                            .any(|s| file.starts_with(&format!("libnss_{s}.so"))));
                if fits {
                    self.files
                        .extend(loader.root.canonical(&directory.join(file)));
                }
            }
        }
    }

    /// A directory of objects that the program names.
    fn directory(&mut self, loader: &Loader<'_>, path: &Path) {
        let root = loader.root;
        let Some(directory) = root.canonical(path) else {
            return;
        };
        if loader.libraries.directories().contains(&directory) || directory == Path::new("/") {
            return;
        }
        let files: Vec<String> = root
            .list(&directory, MAX_FILES)
            .into_iter()
            .filter(|file| file.ends_with(".so"))
            .collect();
        if files.is_empty() {
            return;
        }
        let name = directory
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let wanted = match name.as_deref() {
            // Character set conversions compute; what loads them is the C library's own code.
            Some("gconv") => return,
            Some("security") => Some(words(root, &["/etc/pam.d", "/etc/pam.conf"])),
            Some("ossl-modules" | "engines-3" | "engines-1.1") => Some(words(
                root,
                &["/etc/ssl/openssl.cnf", "/usr/lib/ssl/openssl.cnf"],
            )),
            _ => None,
        };
        let mut left_out = 0;
        for file in files {
            let stem = file.trim_end_matches(".so");
            let named = wanted
                .as_ref()
                .is_none_or(|words| words.contains(&file) || words.contains(stem));
            if named {
                self.files.extend(root.canonical(&directory.join(file)));
            } else {
                left_out += 1;
            }
        }
        if left_out > 0 {
            self.notes.insert(format!(
                "{left_out} modules in {} are not named by the configuration and were left out",
                directory.display()
            ));
        }
    }

    /// Modules that the program's configuration names, or all in its directory if it names none.
    fn configured(&mut self, loader: &Loader<'_>, program: &Path) {
        let Some(name) = program.file_name().and_then(|name| name.to_str()) else {
            return;
        };
        let root = loader.root;
        let homes = [
            format!("/usr/lib/{name}/modules"),
            format!("/usr/lib/{name}"),
            format!("/usr/lib/x86_64-linux-gnu/{name}"),
            format!("/usr/share/{name}/modules"),
        ];
        let etc = format!("/etc/{name}");
        let words = words(root, &[&etc, &format!("/etc/{name}.conf")]);
        for home in homes {
            let Some(home) = root.canonical(Path::new(&home)) else {
                continue;
            };
            let modules: Vec<String> = root
                .list(&home, MAX_FILES)
                .into_iter()
                .filter(|file| file.ends_with(".so"))
                .collect();
            let named = |file: &String| {
                words.contains(file) || words.contains(file.trim_end_matches(".so"))
            };
            let any = modules.iter().any(named);
            for file in modules.iter().filter(|file| !any || named(file)) {
                self.files.extend(root.canonical(&home.join(file)));
            }
        }
    }
}

/// Services that `/etc/nsswitch.conf` names; without the file, the C library's default.
fn nss_services(root: &RootFs) -> Vec<String> {
    let text = root.text(Path::new("/etc/nsswitch.conf"), MAX_CONFIGURATION);
    let text = text.unwrap_or_else(|| "passwd: files\nhosts: dns files\n".to_owned());
    let lines = text
        .lines()
        .filter_map(|line| line.split('#').next()?.split_once(':'));
    let mut services: Vec<String> = lines
        .flat_map(|(_, services)| services.split_whitespace())
        .filter(|word| word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .map(str::to_owned)
        .collect();
    services.sort_unstable();
    services.dedup();
    services
}

/// The words of configuration files, without directories before names; files below a directory
/// that are only on offer (`*-available`) do not count where chosen ones (`*-enabled`) are.
fn words(root: &RootFs, paths: &[&str]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut open: Vec<(PathBuf, usize)> = paths.iter().map(|p| (PathBuf::from(p), 0)).collect();
    let mut files = 0;
    while let Some((path, depth)) = open.pop() {
        let Some(metadata) = root.metadata(&path) else {
            continue;
        };
        if metadata.is_dir() {
            let names = root.list(&path, MAX_FILES);
            if depth < 4 {
                let chosen = |name: &str| {
                    name.strip_suffix("-available").is_none_or(|stem| {
                        root.list(&path.join(format!("{stem}-enabled")), 1)
                            .is_empty()
                    })
                };
                let kept = names.iter().filter(|name| chosen(name));
                open.extend(kept.map(|name| (path.join(name), depth + 1)));
            }
            continue;
        }
        files += 1;
        if files > MAX_FILES {
            break;
        }
        let text = root.text(&path, MAX_CONFIGURATION).unwrap_or_default();
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
        {
            let parts = line.split(|c: char| !(c.is_ascii_alphanumeric() || "_.+-".contains(c)));
            words.extend(parts.filter(|part| part.len() > 2).map(str::to_owned));
        }
    }
    words
}
