//! Where an address lies among many sorted ones, by a table in place of a search over all.

/// For about every second start there is an entry of the table.
#[derive(Debug, Default)]
pub(crate) struct Index {
    first: u64,
    shift: u32,
    /// How many of the starts lie before each stretch of `1 << shift` bytes from `first` on, and at the
    /// end how many there are.
    before: Vec<u32>,
}

impl Index {
    /// Of starts in order; `at` gives each of the `count`. More than `u32::MAX` are not told apart.
    pub(crate) fn new(count: usize, at: impl Fn(usize) -> u64) -> Self {
        let Some(last) = count.checked_sub(1) else {
            return Self::default();
        };
        let first = at(0);
        let span = at(last) - first;
        let wanted = count as u64 * 2;
        let mut shift = 0;
        while span >> shift > wanted {
            shift += 1;
        }
        let stretches = usize::try_from(span >> shift).unwrap_or(usize::MAX - 1) + 1;
        let mut before = Vec::with_capacity(stretches + 1);
        for index in 0..count {
            let stretch = usize::try_from((at(index) - first) >> shift).unwrap_or(usize::MAX);
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            while before.len() <= stretch {
                before.push(number);
            }
        }
        before.push(u32::try_from(count).unwrap_or(u32::MAX));
        Self {
            first,
            shift,
            before,
        }
    }

    /// How many of the starts are at most `address`; `at` as it was when this was made.
    pub(crate) fn up_to(&self, address: u64, at: impl Fn(usize) -> u64) -> usize {
        let Some(offset) = address.checked_sub(self.first) else {
            return 0;
        };
        let size = |number: &u32| usize::try_from(*number).unwrap_or(usize::MAX);
        let all = self.before.last().map_or(0, size);
        let stretch = usize::try_from(offset >> self.shift).unwrap_or(usize::MAX);
        let next = stretch
            .checked_add(1)
            .and_then(|next| self.before.get(next));
        let (Some(low), Some(high)) = (self.before.get(stretch), next) else {
            return all;
        };
        let (mut low, mut high) = (size(low), size(high));
        while low < high {
            let middle = low + (high - low) / 2;
            if at(middle) <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_finds_what_a_search_finds(
            mut starts in proptest::collection::vec(
                prop_oneof![0..300_u64, any::<u64>(), u64::MAX - 9..=u64::MAX], 0..60),
            mut asked in proptest::collection::vec(any::<u64>(), 20),
        ) {
            starts.sort_unstable();
            asked.extend(0..300);
            for start in &starts {
                asked.extend([*start, start.wrapping_add(1), start.wrapping_sub(1)]);
            }
            let index = Index::new(starts.len(), |at| starts[at]);
            for address in asked {
                let expected = starts.partition_point(|start| *start <= address);
                prop_assert_eq!(index.up_to(address, |at| starts[at]), expected);
            }
        }
    }
}
