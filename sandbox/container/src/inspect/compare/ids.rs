//! The ids that the kernel maps, and those that the container holds.

use super::Findings;
use crate::inspect::Inspection;
use crate::inspect::namespaces::IdRange;

/// Whether the ids are the `size` ones from `first` on, and no others.
pub(super) fn compare(out: &mut Findings, found: &Inspection, first: u32, size: u32) {
    map(out, "user id map", &found.uid_map, first, size);
    map(out, "group id map", &found.gid_map, first, size);
}

fn map(out: &mut Findings, what: &str, found: &[IdRange], first: u32, size: u32) {
    let held = [IdRange {
        container: 0,
        host: first,
        size,
    }];
    if found != held {
        out.weaker(what, text(&held), text(found));
    }
}

fn text(map: &[IdRange]) -> String {
    let range = |range: &IdRange| format!("{} {} {}", range.container, range.host, range.size);
    let ranges: Vec<_> = map.iter().map(range).collect();
    ranges.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::Severity;

    #[test]
    fn ids_that_are_not_held_are_found() {
        let range = |container, host, size| IdRange {
            container,
            host,
            size,
        };
        for (found, as_held) in [
            (vec![range(0, 1_000_000, 65_536)], true),
            (vec![range(0, 1_065_536, 65_536)], false),
            (vec![range(0, 1_000_000, 65_537)], false),
            (vec![range(0, 0, u32::MAX)], false),
            (
                vec![range(0, 1_000_000, 65_536), range(70_000, 0, 1)],
                false,
            ),
            (vec![], false),
        ] {
            let mut out = Findings::default();
            map(&mut out, "user id map", &found, 1_000_000, 65_536);
            let weaker = out.0.iter().filter(|d| d.severity == Severity::Weaker);
            assert_eq!(weaker.count(), usize::from(!as_held), "{found:?}");
        }
    }
}
