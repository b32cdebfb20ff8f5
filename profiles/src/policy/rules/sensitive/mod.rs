//! Which host paths are sensitive: who can read or write them can become the host's root, another
//! container, or learn their secrets.

/// The lists.
mod lists;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use self::lists::{From, MEANT_FOR_CONTAINERS, SOCKETS, TREES};
use crate::policy::model::MountRules;

/// Where the kubelet keeps the volumes of pods, each pod's below its UID.
const KUBELET_PODS: &str = "/var/lib/kubelet/pods";

/// Why `path`, a canonical one, is sensitive; `None` when it is not. `pod` is the UID of the pod
/// that the container belongs to.
pub(crate) fn why(
    path: &Path,
    read_only: bool,
    rules: &MountRules,
    pod: Option<&str>,
) -> Option<String> {
    let path = canonical(path);
    let path = path.as_path();
    if rules.allow.iter().any(|allowed| path.starts_with(allowed)) {
        return None;
    }
    if path.file_name().is_some_and(is_socket_name) {
        return Some("who can talk to that socket is root on the host".to_owned());
    }
    if path == Path::new("/") {
        return Some("it is the host's whole file system".to_owned());
    }
    for tree in &rules.paths {
        if path.starts_with(tree) {
            return Some("the policy lists it".to_owned());
        }
        if tree.starts_with(path) {
            return Some(format!("{} lies below it", tree.display()));
        }
    }
    if let Some(owner) = owning_pod(path) {
        return match pod {
            Some(pod) if owner == pod => None,
            Some(_) => Some("it belongs to another pod".to_owned()),
            None => {
                Some("it belongs to a pod, and nothing says that the container does".to_owned())
            }
        };
    }
    let enough = |from: From| from == From::Read || !read_only;
    for (tree, from) in TREES.iter().filter(|(_, from)| enough(*from)) {
        let tree = Path::new(tree);
        if is_above(path, tree) {
            return Some(format!("{} lies below it", tree.display()));
        }
        if is_below(tree, path) && !is_meant(path, read_only) {
            return Some(match from {
                From::Read => "it gives away or controls the host".to_owned(),
                From::Write => "who can write there controls the host".to_owned(),
            });
        }
    }
    None
}

/// The UID below which a path lies among the volumes of pods.
fn owning_pod(path: &Path) -> Option<&OsStr> {
    let mut rest = path.strip_prefix(KUBELET_PODS).ok()?.components();
    Some(rest.next()?.as_os_str())
}

/// Whether `path` is the tree of the pattern or lies in it.
fn is_below(pattern: &Path, path: &Path) -> bool {
    let mut names = path.components();
    let mut pattern = pattern.components();
    pattern.all(|part| names.next().is_some_and(|name| stands_for(part, name)))
}

/// Whether a tree of the pattern can lie in `path`.
fn is_above(path: &Path, pattern: &Path) -> bool {
    let mut parts = pattern.components();
    let mut names = path.components();
    names.all(|name| parts.next().is_some_and(|part| stands_for(part, name)))
        && parts.next().is_some()
}

fn stands_for(part: Component<'_>, name: Component<'_>) -> bool {
    part.as_os_str() == "*" || part == name
}

fn is_socket_name(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| SOCKETS.contains(&name))
}

fn is_meant(path: &Path, read_only: bool) -> bool {
    MEANT_FOR_CONTAINERS
        .iter()
        .filter(|(_, up_to)| read_only || *up_to == From::Write)
        .any(|(pattern, _)| matches(Path::new(pattern), path))
}

fn matches(pattern: &Path, path: &Path) -> bool {
    let mut names = path.components();
    for component in pattern.components() {
        if component.as_os_str() == "**" {
            return true;
        }
        match names.next() {
            Some(_) if component.as_os_str() == "*" => {}
            Some(name) if name == component => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Why `path` cannot be a container's root file system: it is the host's own, or a part of it.
///
/// Trees of engines are fine here, that is where they keep images.
pub(crate) fn why_as_root(path: &Path) -> Option<&'static str> {
    const TREES: &[&str] = &["/boot", "/dev", "/etc", "/proc", "/sys", "/sysroot"];
    const EXACT: &[&str] = &[
        "/bin", "/home", "/lib", "/opt", "/root", "/run", "/sbin", "/usr", "/var", "/var/lib",
    ];
    let path = canonical(path);
    let path = path.as_path();
    if path == Path::new("/") {
        return Some("it is the host's whole file system");
    }
    let is_host = TREES.iter().any(|tree| path.starts_with(tree))
        || EXACT.iter().any(|exact| path == Path::new(exact));
    is_host.then_some("it is a part of the host's own file system")
}

/// A path without `.`, doubled and trailing slashes.
pub(crate) fn plain(path: &Path) -> PathBuf {
    join("/", path)
}

/// A path as policies name it: with the links resolved that every distribution has, and with homes
/// where all but ostree's distributions have them.
pub(crate) fn canonical(path: &Path) -> PathBuf {
    const LINKS: &[(&str, &str)] = &[
        ("/var/run", "/run"),
        ("/var/lock", "/run/lock"),
        ("/var/home", "/home"),
        ("/var/roothome", "/root"),
    ];
    for (link, target) in LINKS {
        if let Ok(rest) = path.strip_prefix(link) {
            return join(target, rest);
        }
    }
    join("/", path)
}

/// `base` and the plain names of `rest`.
fn join(base: &str, rest: &Path) -> PathBuf {
    let names = rest
        .components()
        .filter(|c| matches!(c, Component::Normal(_)));
    Path::new(base).components().chain(names).collect()
}
