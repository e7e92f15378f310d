//! Checksums of ext4's structures (Linux, `Documentation/filesystems/ext4/checksums.rst`).

use crc::{Algorithm, CRC_16_MODBUS, CRC_32_ISCSI, Crc, Table};

/// CRC-32C without the inversion at its end, by which one sum is the seed of the next.
static CRC32C: Crc<u32, Table<16>> =
    Crc::<u32, Table<16>>::new(&Algorithm { xorout: 0, ..CRC_32_ISCSI });
/// What group descriptors have where the other structures have none.
static CRC16: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_MODBUS);

/// What every seed begins with.
pub(super) const START: u32 = !0;

/// The checksum of `bytes` behind those whose checksum is `seed`.
pub(super) fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    // The crate takes the register's bits the other way round.
    let mut digest = CRC32C.digest_with_initial(seed.reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// The CRC-16 of all of `parts`.
pub(super) fn crc16(parts: &[&[u8]]) -> u16 {
    let mut digest = CRC16.digest();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_standard_ones_and_can_be_continued() {
        // Check values of the catalogue of parametrised CRC algorithms.
        assert_eq!(!crc32c(START, b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(crc32c(START, b"1234"), b"56789"), crc32c(START, b"123456789"));
        assert_eq!(crc16(&[b"1234", b"56789"]), 0x4B37);
    }
}
