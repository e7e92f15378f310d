//! Checksums of ext4's structures (Linux, `Documentation/filesystems/ext4/checksums.rst`).

use crc::{CRC_16_MODBUS, Crc, Table};

pub(super) use crate::crc32c::{START, crc32c};

/// What group descriptors have where the other structures have none.
static CRC16: Crc<u16, Table<1>> = Crc::<u16, Table<1>>::new(&CRC_16_MODBUS);

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
        // Check value of the catalogue of parametrised CRC algorithms.
        assert_eq!(crc16(&[b"1234", b"56789"]), 0x4B37);
    }
}
