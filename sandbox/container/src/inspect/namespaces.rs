//! Which namespaces are the container's own, and how its ids look from the host.

use serde::Serialize;

use super::InspectError;
use super::process::ProcDir;

/// The links of /proc/PID/ns and the words of the OCI spec for them.
const KINDS: [(&str, &str); 8] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("mnt", "mount"),
    ("net", "network"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

/// One namespace of init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Namespace {
    /// What it separates, in the OCI spec's words.
    pub kind: String,
    /// It is not the one that we are in.
    pub own: bool,
    /// Its identity, such as `net:[4026531840]`: containers of a pod share some.
    pub identity: String,
}

/// A range of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IdRange {
    /// The first id inside.
    pub container: u32,
    /// The first id outside.
    pub host: u32,
    /// How many.
    pub size: u32,
}

pub(super) fn read(proc: &ProcDir) -> Result<Vec<Namespace>, InspectError> {
    let mut found = Vec::with_capacity(KINDS.len());
    for (link, kind) in KINDS {
        // Time namespaces came with Linux 5.6; a kernel can lack others.
        let Ok(ours) = std::fs::read_link(format!("/proc/self/ns/{link}")) else {
            continue;
        };
        let theirs = proc.link(&format!("ns/{link}"))?;
        found.push(Namespace {
            kind: kind.to_owned(),
            own: ours != theirs,
            identity: theirs.to_string_lossy().into_owned(),
        });
    }
    Ok(found)
}

pub(super) fn id_map(proc: &ProcDir, file: &str) -> Result<Vec<IdRange>, InspectError> {
    Ok(parse_map(&proc.text(file)?))
}

fn parse_map(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace().map(str::parse);
            match (fields.next()?, fields.next()?, fields.next()?) {
                (Ok(container), Ok(host), Ok(size)) => Some(IdRange {
                    container,
                    host,
                    size,
                }),
                _ => None,
            }
        })
        .collect()
}

/// An id of the host as the container knows it.
pub(super) fn inside(map: &[IdRange], host: u32) -> Option<u32> {
    map.iter().find_map(|range| {
        let offset = host.checked_sub(range.host)?;
        (offset < range.size).then(|| range.container.checked_add(offset))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_back() {
        let map = parse_map("         0     100000      65536\n     70000       5          1\n");
        for (host, container) in [
            (100_000, Some(0)),
            (165_535, Some(65_535)),
            (165_536, None),
            (5, Some(70_000)),
            (0, None),
        ] {
            assert_eq!(inside(&map, host), container, "{host}");
        }
        let identity = parse_map("0 0 4294967295\n");
        assert_eq!(inside(&identity, 1000), Some(1000));
    }
}
