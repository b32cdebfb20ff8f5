//! Memory policy and CPU lists: the number lists of the spec.

use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType, MemoryPolicyModeType};

use crate::process::Unacceptable;

/// A NUMA memory policy, ready for `set_mempolicy`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MemoryPolicy {
    pub(crate) mode: u32,
    pub(crate) nodes: Vec<u64>,
}

/// The largest node or CPU number taken from a list.
const LARGEST: usize = 8191;

/// Checks a memory policy.
pub(crate) fn memory_policy(policy: &LinuxMemoryPolicy) -> Result<MemoryPolicy, Unacceptable> {
    // linux/mempolicy.h
    let mode = match policy.mode() {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    };
    let mut flags = 0u32;
    for flag in policy.flags().iter().flatten() {
        flags |= match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        };
    }
    let nodes = match policy.nodes().as_deref() {
        None | Some("") => Vec::new(),
        Some(list) => bitmap(list).ok_or_else(|| {
            Unacceptable::new(
                "linux.memoryPolicy.nodes",
                format!("{list:?} is not a list such as 0-3,7"),
            )
        })?,
    };
    Ok(MemoryPolicy {
        mode: mode | flags,
        nodes,
    })
}

/// `0-3,7` as a bit per number, lowest first.
pub(crate) fn bitmap(list: &str) -> Option<Vec<u64>> {
    let mut words = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().ok()?;
        let last: usize = last.trim().parse().ok()?;
        if first > last || last > LARGEST {
            return None;
        }
        for number in first..=last {
            if words.len() <= number / 64 {
                words.resize(number / 64 + 1, 0u64);
            }
            words[number / 64] |= 1 << (number % 64);
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(bitmap("0-3,7"), Some(vec![0x8f]));
        assert_eq!(bitmap("64"), Some(vec![0, 1]));
        for bad in ["", "3-1", "a", "1,,2", "-1", "9000", "1-", "0-99999999999"] {
            assert_eq!(bitmap(bad), None, "{bad:?}");
        }
    }
}
