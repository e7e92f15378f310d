//! Entries of L1 and L2 tables.

use crate::fields::be64_table;

/// The cluster is used by nobody else and may be written in place.
pub(crate) const COPIED: u64 = 1 << 63;
/// The L2 entry describes a compressed cluster.
const COMPRESSED: u64 = 1 << 62;
/// The L2 entry reads as zeros.
const ZERO: u64 = 1;
/// Offset bits of an L1 entry or of a plain L2 entry.
const OFFSET: u64 = 0x00FF_FFFF_FFFF_FE00;
/// Compressed data is addressed in sectors of this many bytes.
pub(crate) const SECTOR: u64 = 512;

/// Where a cluster of the virtual disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// Nowhere: zeros, or the backing file's bytes.
    Absent,
    /// Zeros, whatever a backing file holds; `host` is a cluster kept for it, or 0.
    Zero { host: u64 },
    /// In the host cluster at this offset.
    Plain { host: u64 },
    /// Compressed, in at most `length` bytes from `host` on.
    Compressed { host: u64, length: u64 },
}

impl Mapping {
    /// Reads an L2 entry of an image with clusters of `2^cluster_bits` bytes.
    pub(crate) fn decode(entry: u64, cluster_bits: u32) -> Self {
        if entry & COMPRESSED != 0 {
            let shift = 62 - (cluster_bits - 8);
            let host = entry & ((1 << shift) - 1);
            let sectors = (entry & (COMPRESSED - 1)) >> shift;
            let length = (sectors + 1) * SECTOR - host % SECTOR;
            return Self::Compressed { host, length };
        }
        let host = entry & OFFSET;
        match (entry & ZERO != 0, host) {
            (true, host) => Self::Zero { host },
            (false, 0) => Self::Absent,
            (false, host) => Self::Plain { host },
        }
    }

    /// The L2 entry of `length` compressed bytes at `host`.
    pub(crate) fn compressed_entry(host: u64, length: u64, cluster_bits: u32) -> u64 {
        let shift = 62 - (cluster_bits - 8);
        let sectors = (host + length - 1) / SECTOR - host / SECTOR;
        COMPRESSED | sectors << shift | host
    }
}

/// The host offset in an L1 entry; 0 stands for "no table".
pub(crate) fn l2_offset(entry: u64) -> u64 {
    entry & OFFSET
}

/// Reads the refcount at `index` of a block of big-endian refcounts of `2^order` bits.
pub(crate) fn refcount(block: &[u8], index: usize, order: u32) -> Option<u64> {
    if order < 3 {
        let per_byte = 8 >> order;
        let byte = *block.get(index / per_byte)?;
        let shift = (index % per_byte) << order;
        return Some(u64::from(byte >> shift) & ((1 << (1 << order)) - 1));
    }
    let width = 1_usize << (order - 3);
    let bytes = block.get(index.checked_mul(width)?..)?.get(..width)?;
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Reads the entries of a table.
pub(crate) fn entries(bytes: &[u8]) -> Vec<u64> {
    be64_table(bytes)
}

/// Writes the entries of a table.
pub(crate) fn encode(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_entries_round_trip_to_whole_sectors() {
        for (host, length) in [(512, 1), (65_536 + 511, 2), (131_071, 65_535), (1000, 1024)] {
            let entry = Mapping::compressed_entry(host, length, 16);
            let Mapping::Compressed { host: decoded, length: room } = Mapping::decode(entry, 16)
            else {
                unreachable!("a compressed entry decodes as such");
            };
            assert_eq!(decoded, host);
            assert!(room >= length && room < length + SECTOR, "{length} in {room}");
            assert!((host + room).is_multiple_of(SECTOR));
        }
    }

    #[test]
    fn narrow_and_wide_refcounts_are_read() {
        assert_eq!(refcount(&[0b1000_0010], 1, 0), Some(1));
        assert_eq!(refcount(&[0b1000_0010], 2, 0), Some(0));
        assert_eq!(refcount(&[0x21], 1, 2), Some(2));
        assert_eq!(refcount(&[0, 1, 0, 7], 1, 4), Some(7));
        assert_eq!(refcount(&[0, 1, 0, 7], 2, 4), None);
    }
}
