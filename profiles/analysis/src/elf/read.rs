//! Little-endian numbers at offsets of a byte slice, `None` beyond its end.

/// The bytes `offset..offset + len`, if all are there.
pub(crate) fn bytes(data: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    data.get(start..end)
}

fn array<const N: usize>(data: &[u8], offset: u64) -> Option<[u8; N]> {
    bytes(data, offset, N as u64)?.try_into().ok()
}

pub(crate) fn u16_at(data: &[u8], offset: u64) -> Option<u16> {
    array(data, offset).map(u16::from_le_bytes)
}

pub(crate) fn u32_at(data: &[u8], offset: u64) -> Option<u32> {
    array(data, offset).map(u32::from_le_bytes)
}

pub(crate) fn u64_at(data: &[u8], offset: u64) -> Option<u64> {
    array(data, offset).map(u64::from_le_bytes)
}

/// The bytes from `offset` to the next NUL, at most `max` of them; `None` without a NUL in reach.
pub(crate) fn cstr_at(data: &[u8], offset: u64, max: usize) -> Option<&[u8]> {
    let rest = data.get(usize::try_from(offset).ok()?..)?;
    let rest = rest.get(..rest.len().min(max))?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    rest.get(..end)
}
