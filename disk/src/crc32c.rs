//! CRC-32C (Castagnoli), the checksum of the structures of ext4 and XFS.

use crc::{Algorithm, CRC_32_ISCSI, Crc, Table};

/// CRC-32C without the inversion at its end, by which one sum is the seed of the next.
static CRC32C: Crc<u32, Table<16>> =
    Crc::<u32, Table<16>>::new(&Algorithm { xorout: 0, ..CRC_32_ISCSI });

/// What every seed begins with.
pub(crate) const START: u32 = !0;

/// The checksum of `bytes` behind those whose checksum is `seed`.
pub(crate) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    // The crate takes the register's bits the other way round.
    let mut digest = CRC32C.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_standard_ones_and_can_be_continued() {
        // Check value of the catalogue of parametrised CRC algorithms.
        assert_eq!(!crc32c(START, b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(crc32c(START, b"1234"), b"56789"), crc32c(START, b"123456789"));
    }
}
