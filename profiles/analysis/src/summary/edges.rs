//! Edges in the order in which they are kept.

use super::Edge;

/// Pairs as the lists of their nodes, one after the other, each in order and without doubles; and where
/// each starts.
pub(super) fn sorted(nodes: usize, pairs: Vec<(u32, Edge)>) -> (Vec<u32>, Vec<Edge>) {
    let slot = |from: u32| usize::try_from(from).ok().filter(|from| *from < nodes);
    let mut next = vec![0_usize; nodes];
    for from in pairs.iter().filter_map(|(from, _)| slot(*from)) {
        next[from] += 1;
    }
    let mut total = 0;
    for next in &mut next {
        total += std::mem::replace(next, total);
    }
    let mut edges = vec![Edge::node(0); total];
    for (from, edge) in pairs {
        if let Some(from) = slot(from) {
            edges[next[from]] = edge;
            next[from] += 1;
        }
    }
    // Now each entry of `next` is where its node ends.
    let mut offsets = Vec::with_capacity(nodes + 1);
    let (mut start, mut kept) = (0, 0);
    for end in next {
        offsets.push(u32::try_from(kept).unwrap_or(u32::MAX));
        edges[start..end].sort_unstable();
        let first = kept;
        for at in start..end {
            if kept == first || edges[kept - 1] != edges[at] {
                edges[kept] = edges[at];
                kept += 1;
            }
        }
        start = end;
    }
    offsets.push(u32::try_from(kept).unwrap_or(u32::MAX));
    edges.truncate(kept);
    edges.shrink_to_fit();
    (offsets, edges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_sorting_gives(pairs in proptest::collection::vec((0..7_u32, 0..9_u32), 0..60)) {
            let pairs: Vec<_> = pairs.iter().map(|(from, to)| (*from, Edge::node(*to))).collect();
            // The last one has no place.
            let nodes = 6;
            let mut expected = pairs.clone();
            expected.retain(|(from, _)| *from < 6);
            expected.sort_unstable();
            expected.dedup();
            let (offsets, edges) = sorted(nodes, pairs);
            let before = |node: u32| expected.partition_point(|(from, _)| *from < node);
            let starts: Vec<_> = (0..=6).map(|node| u32::try_from(before(node)).unwrap()).collect();
            prop_assert_eq!(offsets, starts);
            prop_assert_eq!(edges, expected.iter().map(|(_, edge)| *edge).collect::<Vec<_>>());
        }
    }
}
