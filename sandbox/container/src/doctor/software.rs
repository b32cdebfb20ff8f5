//! What the host has besides the kernel: the policy, the ids, our own executables.

use std::fs;
use std::path::{Path, PathBuf};

use cofferdam_profiles::policy::PolicyFile;
use cofferdam_profiles::userns::Ranges;

use super::Check;

/// The user in /etc/subuid whose ranges containers would get.
const USER: &str = "cofferdam";

pub(super) fn checks(policy_file: &Path) -> Vec<Check> {
    vec![
        privileges(),
        policy(policy_file),
        shim(),
        ranges(),
        accounts(),
    ]
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

/// Sources of users and groups (nsswitch.conf(5)) that hold this host's own and list them all.
const LOCAL: [&str; 6] = ["files", "compat", "systemd", "altfiles", "extrausers", "db"];

/// Whether a user or group of the host has one of the ids that containers get: its files would be open
/// to a container's processes, and theirs to it.
fn accounts() -> Check {
    const NAME: &str = "accounts among the ids of containers";
    let Ok(ranges) = crate::ids::ranges() else {
        return Check::ok(NAME, "not looked for", "containers get no ids");
    };
    let mut found = Vec::new();
    for database in ["passwd", "group"] {
        let listed = std::process::Command::new("getent").arg(database).output();
        match listed {
            Ok(listed) => found.extend(among(&ranges, &String::from_utf8_lossy(&listed.stdout))),
            Err(error) => {
                let found = format!("getent {database} cannot be run: {error}");
                return Check::degraded(
                    NAME,
                    found,
                    "install getent (libc-bin) to have them looked for",
                );
            }
        }
    }
    if !found.is_empty() {
        return Check::degraded(
            NAME,
            found.join(", "),
            "a container's process is that user on the host; give the user cofferdam other ids in \
             /etc/subuid and /etc/subgid",
        );
    }
    let switch = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let others = others(&switch);
    if others.is_empty() {
        return Check::ok(NAME, "none", "no user of the host is a container's");
    }
    Check::degraded(
        NAME,
        format!(
            "none are listed, but {} need not list all",
            others.join(", ")
        ),
        "see that the directory's ids (SSSD: ldap_idmap_range_min and _max; systemd-homed: 60001 to \
         60513) are not among those of the user cofferdam; `getent passwd ID` asks for one",
    )
}

/// The names of those in a list of passwd(5) or group(5) that have one of the ids.
fn among(ranges: &Ranges, listing: &str) -> Vec<String> {
    let lines = listing.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.trim().parse().ok()?;
        ranges.meet(id, 1).then(|| format!("{name} ({id})"))
    });
    lines.take(16).collect()
}

/// The sources of users and groups that are not local.
fn others(switch: &str) -> Vec<&str> {
    let lines = switch.lines().filter_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let (database, sources) = line.split_once(':')?;
        matches!(database.trim(), "passwd" | "group").then_some(sources)
    });
    let sources = lines.flat_map(str::split_ascii_whitespace);
    let mut others: Vec<&str> = sources
        .filter(|source| !source.starts_with('[') && !source.ends_with(']'))
        .filter(|source| !LOCAL.contains(source))
        .collect();
    others.sort_unstable();
    others.dedup();
    others
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
    fn accounts_with_ids_of_containers_are_found() {
        let text = "cofferdam:200000:65536";
        let ranges = Ranges::of(text, text).expect("ranges");
        let passwd = "root:x:0:0::/root:/bin/sh\nann:*:200000:100::/:\nbob:*:265536:200001::/:\n\
                      joe:*:265535:1::/:\nbroken\nx:y:z\n";
        assert_eq!(among(&ranges, passwd), ["ann (200000)", "joe (265535)"]);
        let switch = "# passwd: ldap\npasswd:   files systemd sss # or nis\nshadow: nis\n\
                      group: files [SUCCESS=merge] winbind sss\nhosts: files dns\n";
        assert_eq!(others(switch), ["sss", "winbind"]);
        assert!(others("passwd: files systemd\ngroup: compat\n").is_empty());
    }

    #[test]
    fn ranges_of_one_user_are_added() {
        let text = "other:1:5\ncofferdam:100000:65536\ncofferdam:300000:10\nbroken\ncofferdam:x\n";
        assert_eq!(ids(text, USER), 65_546);
        assert_eq!(ids("", USER), 0);
    }
}
