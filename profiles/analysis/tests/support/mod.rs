//! An object small enough to break in every place.

/// A shared object of a few hundred bytes: header, two segments, a dynamic section, a symbol, a
/// relocation, and a function that calls `exit_group`.
pub(crate) fn small_object() -> Vec<u8> {
    let mut file = vec![0_u8; 0x400];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &3_u16.to_le_bytes());
    put(18, &62_u16.to_le_bytes());
    put(24, &0x200_u64.to_le_bytes());
    put(32, &64_u64.to_le_bytes());
    put(54, &56_u16.to_le_bytes());
    put(56, &3_u16.to_le_bytes());
    // PT_LOAD r-x, PT_LOAD rw- at 0x1000, PT_DYNAMIC in the first.
    let segments: [(u32, u32, u64, u64, u64); 3] = [
        (1, 5, 0, 0, 0x300),
        (1, 6, 0x300, 0x1300, 0x100),
        (2, 4, 0x110, 0x110, 0x90),
    ];
    for (index, (kind, flags, offset, address, size)) in segments.into_iter().enumerate() {
        let at = 64 + index * 56;
        put(at, &kind.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        put(at + 8, &offset.to_le_bytes());
        put(at + 16, &address.to_le_bytes());
        put(at + 32, &size.to_le_bytes());
        put(at + 40, &size.to_le_bytes());
    }
    let dynamic: [(u64, u64); 8] = [
        (5, 0x280),
        (10, 0x20),
        (6, 0x230),
        (4, 0x2a0),
        (7, 0x2c0),
        (8, 24),
        (25, 0x1300),
        (27, 8),
    ];
    for (index, (tag, value)) in dynamic.into_iter().enumerate() {
        put(0x110 + index * 16, &tag.to_le_bytes());
        put(0x118 + index * 16, &value.to_le_bytes());
    }
    // mov eax, 231; syscall; hlt
    put(0x200, b"\xb8\xe7\x00\x00\x00\x0f\x05\xf4");
    // Symbol 1: `f`, a global function at 0x200.
    put(0x248, &1_u32.to_le_bytes());
    put(0x24c, &[0x12, 0, 1, 0]);
    put(0x250, &0x200_u64.to_le_bytes());
    put(0x258, &8_u64.to_le_bytes());
    put(0x280, b"\0f\0");
    put(0x2a4, &2_u32.to_le_bytes());
    // R_X86_64_RELATIVE at the initialisers' array.
    put(0x2c0, &0x1300_u64.to_le_bytes());
    put(0x2c8, &8_u64.to_le_bytes());
    put(0x2d0, &0x200_u64.to_le_bytes());
    file
}
