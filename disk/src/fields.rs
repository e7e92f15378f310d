//! Fixed-width numbers at fixed offsets, read with the bounds checked.
//!
//! Readers of untrusted structures use these instead of slicing, so that a short buffer is a `None`
//! for the caller to report and never a panic.

/// The `N` bytes at `offset`.
pub(crate) fn bytes<const N: usize>(buffer: &[u8], offset: usize) -> Option<[u8; N]> {
    buffer.get(offset..)?.first_chunk::<N>().copied()
}

/// A big-endian 16-bit number.
pub(crate) fn be16(buffer: &[u8], offset: usize) -> Option<u16> {
    bytes(buffer, offset).map(u16::from_be_bytes)
}

/// A big-endian 32-bit number.
pub(crate) fn be32(buffer: &[u8], offset: usize) -> Option<u32> {
    bytes(buffer, offset).map(u32::from_be_bytes)
}

/// A big-endian 64-bit number.
pub(crate) fn be64(buffer: &[u8], offset: usize) -> Option<u64> {
    bytes(buffer, offset).map(u64::from_be_bytes)
}

/// A little-endian 16-bit number.
pub(crate) fn le16(buffer: &[u8], offset: usize) -> Option<u16> {
    bytes(buffer, offset).map(u16::from_le_bytes)
}

/// A little-endian 32-bit number.
pub(crate) fn le32(buffer: &[u8], offset: usize) -> Option<u32> {
    bytes(buffer, offset).map(u32::from_le_bytes)
}

/// A little-endian 64-bit number.
pub(crate) fn le64(buffer: &[u8], offset: usize) -> Option<u64> {
    bytes(buffer, offset).map(u64::from_le_bytes)
}

/// A table of big-endian 64-bit numbers; a rest of less than eight bytes is left out.
pub(crate) fn be64_table(buffer: &[u8]) -> Vec<u64> {
    buffer.as_chunks::<8>().0.iter().map(|entry| u64::from_be_bytes(*entry)).collect()
}
