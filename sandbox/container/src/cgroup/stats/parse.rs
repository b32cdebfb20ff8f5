//! The forms in which the kernel writes figures.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{BlkioEntry, Rdma};
use crate::cgroup::location::Location;
use crate::cgroup::{Error, file};

/// A number, 0 where the file is missing.
pub(super) fn number(dir: &Path, name: &str) -> Result<u64, Error> {
    Ok(file::read_number(&dir.join(name))?.unwrap_or(0))
}

/// A file of `key value` lines, empty where it is missing.
pub(super) fn keyed(dir: &Path, name: &str) -> Result<BTreeMap<String, u64>, Error> {
    let text = file::read_optional(&dir.join(name))?.unwrap_or_default();
    Ok(file::parse_flat_keyed(&text)
        .map(|(key, value)| (key.to_owned(), value))
        .collect())
}

/// A list such as `0-2,7`, as cpuset files have it.
pub(super) fn list(text: &str) -> Vec<u16> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            numbers.extend(first..=last);
        }
    }
    numbers
}

/// `major:minor [operation] value` lines of v1's blkio files; the totals over all devices at the
/// end have no device and are left out.
pub(super) fn blkio(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (major, minor) = fields.next()?.split_once(':')?;
            let second = fields.next()?;
            let (op, value) = match fields.next() {
                Some(value) => (second, value),
                None => ("", second),
            };
            Some(BlkioEntry {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
                op: op.to_owned(),
                value: value.parse().ok()?,
            })
        })
        .collect()
}

/// The names `X` of the files `hugetlb.X.SUFFIX` in a directory.
pub(super) fn hugepage_sizes(dir: &Path, suffix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return vec![];
    };
    let mut sizes: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let size = name
                .to_str()?
                .strip_prefix("hugetlb.")?
                .strip_suffix(suffix)?
                .strip_suffix('.')?;
            // `hugetlb.2MB.rsvd.max` counts reservations, not pages.
            (!size.contains('.')).then(|| size.to_owned())
        })
        .collect();
    sizes.sort();
    sizes
}

/// `rdma.current` and `rdma.max`.
pub(super) fn rdma(location: &Location) -> Result<Vec<Rdma>, Error> {
    let Some(dir) = location.controller("rdma") else {
        return Ok(vec![]);
    };
    let read = |name: &str| file::read_optional(&dir.join(name));
    let (Some(current), Some(max)) = (read("rdma.current")?, read("rdma.max")?) else {
        return Ok(vec![]);
    };
    Ok(join_rdma(&current, &max))
}

fn join_rdma(current: &str, max: &str) -> Vec<Rdma> {
    let line = |text: &str| -> Vec<(String, u32, u32)> {
        text.lines()
            .filter_map(|line| {
                let mut fields = line.split_whitespace();
                let device = fields.next()?.to_owned();
                let (mut handles, mut objects) = (0, 0);
                for field in fields {
                    let (key, value) = field.split_once('=')?;
                    let value = if value == "max" {
                        u32::MAX
                    } else {
                        value.parse().ok()?
                    };
                    match key {
                        "hca_handle" => handles = value,
                        "hca_object" => objects = value,
                        _ => {}
                    }
                }
                Some((device, handles, objects))
            })
            .collect()
    };
    let limits = line(max);
    line(current)
        .into_iter()
        .map(|(device, handles, objects)| {
            let limit = limits.iter().find(|l| l.0 == device);
            Rdma {
                hca_handles: (handles, limit.map_or(u32::MAX, |l| l.1)),
                hca_objects: (objects, limit.map_or(u32::MAX, |l| l.2)),
                device,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        for (text, expected) in [
            ("0-2,7\n", &[0, 1, 2, 7][..]),
            ("3", &[3]),
            ("", &[]),
            ("x,1,4-", &[1]),
            ("5-3", &[]),
        ] {
            assert_eq!(list(text), expected, "{text:?}");
        }
    }

    #[test]
    fn blkio_lines_with_and_without_operation() {
        let text = "8:0 Read 10\n8:0 Total 10\n8:16 77\nTotal 10\nbroken\n8 Read 1\n";
        let entry = |major, minor, op: &str, value| BlkioEntry {
            major,
            minor,
            op: op.to_owned(),
            value,
        };
        assert_eq!(
            blkio(text),
            [
                entry(8, 0, "Read", 10),
                entry(8, 0, "Total", 10),
                entry(8, 16, "", 77)
            ]
        );
    }

    #[test]
    fn hugepage_sizes_come_from_file_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "hugetlb.2MB.max",
            "hugetlb.1GB.max",
            "hugetlb.2MB.rsvd.max",
            "hugetlb.2MB.current",
            "memory.max",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(hugepage_sizes(dir.path(), "max"), ["1GB", "2MB"]);
    }

    #[test]
    fn rdma_use_and_limit() {
        let joined = join_rdma(
            "mlx4_0 hca_handle=2 hca_object=2000\n",
            "ocrdma1 hca_handle=3 hca_object=max\nmlx4_0 hca_handle=5 hca_object=max\n",
        );
        assert_eq!(
            joined,
            [Rdma {
                device: "mlx4_0".into(),
                hca_handles: (2, 5),
                hca_objects: (2000, u32::MAX),
            }]
        );
    }
}
