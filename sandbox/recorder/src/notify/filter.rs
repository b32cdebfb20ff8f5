//! The filter that asks: everything but the native calls that were predicted.
//!
//! Instructions are those of linux/filter.h; the kernel finds out by itself which numbers are allowed
//! whatever their arguments, and does not run the filter for them.

use std::collections::BTreeSet;

/// `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Insn {
    code: u16,
    yes: u8,
    no: u8,
    value: u32,
}

/// BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_JMP | BPF_JGT | BPF_K, BPF_JMP | BPF_JGE | BPF_K,
/// BPF_RET | BPF_K
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// `AUDIT_ARCH_X86_64`
pub(super) const NATIVE: u32 = 0xc000_003e;
const ALLOW: u32 = 0x7fff_0000;
const ASK: u32 = 0x7fc0_0000;

const fn insn(code: u16, yes: u8, no: u8, value: u32) -> Insn {
    Insn {
        code,
        yes,
        no,
        value,
    }
}

/// The filter that lets `predicted` through.
pub(super) fn asking(predicted: &BTreeSet<u32>) -> Vec<Insn> {
    let mut code = vec![
        insn(LOAD, 0, 0, ARCH),
        insn(EQUAL, 1, 0, NATIVE),
        insn(RETURN, 0, 0, ASK),
        insn(LOAD, 0, 0, NUMBER),
    ];
    for (first, last) in ranges(predicted) {
        // Not before the first and not behind the last: allowed.
        code.push(insn(AT_LEAST, 0, 2, first));
        code.push(insn(GREATER, 1, 0, last));
        code.push(insn(RETURN, 0, 0, ALLOW));
    }
    code.push(insn(RETURN, 0, 0, ASK));
    code
}

fn ranges(numbers: &BTreeSet<u32>) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would make of the filter.
    fn answer(code: &[Insn], arch: u32, number: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let insn = code[at];
            at += 1;
            let test = match insn.code {
                LOAD => {
                    accumulator = [number, arch][insn.value as usize / 4];
                    continue;
                }
                RETURN => return insn.value,
                EQUAL => accumulator == insn.value,
                GREATER => accumulator > insn.value,
                AT_LEAST => accumulator >= insn.value,
                other => panic!("{other:#x}"),
            };
            at += usize::from(if test { insn.yes } else { insn.no });
        }
    }

    #[test]
    fn what_was_predicted_passes_and_all_else_asks() {
        let sets: [&[u32]; 4] = [&[], &[0], &[0, 1, 2, 5, 7, 8, 300], &[334, 336, 999]];
        for set in sets {
            let predicted: BTreeSet<u32> = set.iter().copied().collect();
            let code = asking(&predicted);
            for number in 0..1100 {
                let passes = answer(&code, NATIVE, number) == ALLOW;
                assert_eq!(passes, predicted.contains(&number), "{number} of {set:?}");
                // A 32-bit call, and one of x32.
                assert_eq!(answer(&code, 0x4000_0003, number), ASK);
                assert_eq!(answer(&code, NATIVE, number | 0x4000_0000), ASK);
            }
        }
    }
}
