//! The table that tells the kernel its processors and interrupt controller (Intel MultiProcessor
//! Specification 1.4, chapter 4): without ACPI there is no other way.

use vm_memory::{Address as _, Bytes as _, GuestAddress};

use super::layout::{IO_APIC, LAST_INTERRUPT, LOCAL_APIC, MP_TABLE};
use crate::error::{VmError, VmResult};
use crate::memory::Memory;

/// The version of the specification, 1.4.
const SPECIFICATION: u8 = 4;
/// Of the local controllers: integrated ones.
const APIC_VERSION: u8 = 0x14;
/// The floating pointer, before the table.
const POINTER_SIZE: u64 = 16;
/// The table's header.
const HEADER_SIZE: usize = 44;

/// Kinds of entries.
const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC_ENTRY: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

/// Kinds of interrupts.
const INTERRUPT: u8 = 0;
const NON_MASKABLE: u8 = 1;
const EXTERNAL: u8 = 3;

/// Writes pointer and table.
pub(super) fn write(memory: &Memory, vcpus: u8) -> VmResult {
    let at = MP_TABLE;
    let table_at = at.unchecked_add(POINTER_SIZE);
    let mut bytes = pointer(table_at);
    bytes.extend(table(vcpus));
    memory
        .write_slice(&bytes, at)
        .map_err(|source| VmError::Place {
            what: "the table of processors",
            at,
            source,
        })
}

fn pointer(table: GuestAddress) -> Vec<u8> {
    let mut pointer = b"_MP_".to_vec();
    let address = u32::try_from(table.raw_value()).unwrap_or(u32::MAX);
    pointer.extend(address.to_le_bytes());
    // Its length in units of 16 bytes, the version, the sum, and five bytes of features: a table follows.
    pointer.extend([1, SPECIFICATION, 0, 0, 0, 0, 0, 0]);
    seal(&mut pointer, 10);
    pointer
}

fn table(vcpus: u8) -> Vec<u8> {
    let controller = vcpus;
    let mut entries = Vec::new();
    let mut count = 0_u16;
    let mut push = |entry: &[u8]| {
        entries.extend_from_slice(entry);
        count += 1;
    };
    for number in 0..vcpus {
        // Usable, and the first of them boots.
        let flags = if number == 0 { 0b11 } else { 0b01 };
        // Family and features are the processor's own affair: kernels ask CPUID.
        let mut entry = vec![PROCESSOR, number, APIC_VERSION, flags];
        entry.extend([0; 16]);
        push(&entry);
    }
    push(&[&[BUS, 0][..], b"ISA   "].concat());
    let address = IO_APIC.to_le_bytes();
    push(&[&[IO_APIC_ENTRY, controller, 0x11, 1][..], &address].concat());
    // Each input of the controller is the old interrupt of that number: so KVM connects them, the timer's too, which
    // a PC has at input 2.
    for input in (0..=LAST_INTERRUPT).filter_map(|input| u8::try_from(input).ok()) {
        push(&[IO_INTERRUPT, INTERRUPT, 0, 0, 0, input, controller, input]);
    }
    push(&[LOCAL_INTERRUPT, EXTERNAL, 0, 0, 0, 0, 0, 0]);
    // Of every processor.
    push(&[LOCAL_INTERRUPT, NON_MASKABLE, 0, 0, 0, 0, 0xff, 1]);

    let mut table = b"PCMP".to_vec();
    let size = u16::try_from(HEADER_SIZE + entries.len()).unwrap_or(u16::MAX);
    table.extend(size.to_le_bytes());
    table.extend([SPECIFICATION, 0]);
    table.extend(b"COFFERDMMICROVM     ");
    table.extend([0; 6]);
    table.extend(count.to_le_bytes());
    table.extend(LOCAL_APIC.to_le_bytes());
    table.extend([0; 4]);
    table.extend(entries);
    seal(&mut table, 7);
    table
}

/// Sets the byte at `sum` so that all bytes add up to nothing.
fn seal(bytes: &mut [u8], sum: usize) {
    let total = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(byte) = bytes.get_mut(sum) {
        *byte = byte.wrapping_sub(total);
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::BASE_MEMORY_END;
    use super::*;
    use crate::config::MAX_VCPUS;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn sums_are_zero_and_lengths_are_true() {
        for vcpus in [1, 2, MAX_VCPUS] {
            let pointer = pointer(GuestAddress(0x9_fc10));
            assert_eq!((pointer.len(), sum(&pointer)), (16, 0));
            let table = table(vcpus);
            assert_eq!(sum(&table), 0);
            assert_eq!(
                usize::from(u16::from_le_bytes([table[4], table[5]])),
                table.len()
            );
            let entries = u16::from_le_bytes([table[34], table[35]]);
            assert_eq!(entries, u16::from(vcpus) + 1 + 1 + 24 + 2);
            let mut at = HEADER_SIZE;
            for _ in 0..entries {
                at += if table[at] == PROCESSOR { 20 } else { 8 };
            }
            assert_eq!(at, table.len());
            // A KiB is reserved for it.
            assert!(16 + table.len() <= 1024 && MP_TABLE.0 >= BASE_MEMORY_END);
        }
    }
}
