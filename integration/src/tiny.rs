//! Programs of a few instructions, so that a test knows every system call they make.

/// A static x86-64 program with this code and no data; it starts at the first instruction.
fn elf(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for x86-64, version 1.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    // Entry, program headers, no section headers, no flags.
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // One segment to load, readable and executable.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}

/// `mov eax, number; xor edi, edi; xor esi, esi; syscall`.
fn call(number: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(number.to_le_bytes());
    code.extend([0x31, 0xff, 0x31, 0xf6, 0x0f, 0x05]);
    code
}

/// Makes one call with nothing as its arguments and exits with its errno, 0 if there was none.
#[must_use]
pub fn caller(number: u32) -> Vec<u8> {
    let mut code = call(number);
    // mov edi, eax; neg edi; jns +2; xor edi, edi; mov eax, 60; syscall
    code.extend([0x89, 0xc7, 0xf7, 0xdf, 0x79, 0x02, 0x31, 0xff]);
    code.extend([0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
    elf(&code)
}

/// Waits for signals for ever.
#[must_use]
pub fn sleeper() -> Vec<u8> {
    let mut code = call(34);
    let back = u8::try_from(code.len() + 2).map_or(0, u8::wrapping_neg);
    code.extend([0xeb, back]);
    elf(&code)
}
