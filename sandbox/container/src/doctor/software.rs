//! What the host has besides the kernel: the policy, the ids, our own executables.

use std::fs;
use std::path::{Path, PathBuf};

use cofferdam_profiles::policy::PolicyFile;

use super::Check;

/// The user in /etc/subuid whose ranges containers would get.
const USER: &str = "cofferdam";

pub(super) fn checks(policy_file: &Path) -> Vec<Check> {
    vec![privileges(), policy(policy_file), shim(), ranges()]
}

fn privileges() -> Check {
    if nix::unistd::geteuid().is_root() {
        Check::ok("root", "yes", "containers can be made")
    } else {
        Check::missing("root", "no", "run as root; most probes above need it too")
    }
}

fn policy(path: &Path) -> Check {
    let name = "policy file";
    if !path.exists() {
        return Check::ok(
            name,
            format!("none at {}", path.display()),
            "the built-in policies hold",
        );
    }
    match PolicyFile::load(path) {
        Ok(_) => Check::ok(name, path.display().to_string(), "its policies hold"),
        Err(e) => Check::missing(
            name,
            chain(&e),
            "every container is refused until the file is right",
        ),
    }
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn shim() -> Check {
    let name = "containerd shim";
    match on_path("containerd-shim-cofferdam-v2") {
        Some(path) => Check::ok(
            name,
            path.display().to_string(),
            "containerd, Docker >= 23 and Kubernetes can use io.containerd.cofferdam.v2",
        ),
        None => Check::degraded(
            name,
            "containerd-shim-cofferdam-v2 is not on PATH",
            "put it where containerd looks: a directory of its PATH, such as /usr/local/bin",
        ),
    }
}

fn ranges() -> Check {
    let name = "subordinate ids";
    let count = |file: &str| ids(&fs::read_to_string(file).unwrap_or_default(), USER);
    let (users, groups) = (count("/etc/subuid"), count("/etc/subgid"));
    let found = format!("{users} uids, {groups} gids for the user {USER}");
    if users.min(groups) >= 65_536 {
        Check::ok(name, found, "user namespaces can be handed out")
    } else {
        Check::degraded(
            name,
            found,
            "ids for user namespaces must come from the engine; \
             useradd --system cofferdam, usermod -v 100000-165535 -w 100000-165535 cofferdam",
        )
    }
}

/// How many ids `user:first:count` lines give a user.
fn ids(text: &str, user: &str) -> u64 {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == user).then_some(())?;
            fields.nth(1)?.trim().parse::<u64>().ok()
        })
        .sum()
}

/// An executable on PATH.
pub(super) fn on_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| {
            fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_one_user_are_added() {
        let text = "other:1:5\ncofferdam:100000:65536\ncofferdam:300000:10\nbroken\ncofferdam:x\n";
        assert_eq!(ids(text, USER), 65_546);
        assert_eq!(ids("", USER), 0);
    }
}
