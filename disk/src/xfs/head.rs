//! What version 5 gives each structure: a checksum, its own place, its owner and the file system's UUID.

use nodekiln_words::Result;

use super::damaged;
use super::geometry::Geometry;
use crate::crc32c::{START, crc32c};
use crate::fields::{be64, bytes, le32};

/// Where a structure has them, in bytes from its start.
pub(super) struct Head {
    sum: usize,
    /// Its place in the file system, in units of 512 bytes.
    address: usize,
    uuid: usize,
    /// The inode that it belongs to.
    owner: usize,
}

/// A block of the tree of a file's extents.
pub(super) const EXTENTS: Head = Head { sum: 64, address: 24, uuid: 40, owner: 56 };
/// A block of names.
pub(super) const NAMES: Head = Head { sum: 4, address: 8, uuid: 24, owner: 40 };
/// A block of the tree of extended attributes.
pub(super) const ATTRIBUTES: Head = Head { sum: 12, address: 16, uuid: 32, owner: 48 };
/// A block of an attribute's value, or the blocks of a link's target.
pub(super) const CONTENT: Head = Head { sum: 12, address: 40, uuid: 16, owner: 32 };

/// Bytes of a unit of addresses.
const SECTOR: u64 = 512;

impl Head {
    /// Holds `bytes`, which stand from the block of this number on and belong to inode `owner`, against what they
    /// say of themselves.
    ///
    /// # Errors
    /// When they are damaged; `what` they are is told.
    pub(super) fn check(
        &self,
        geometry: &Geometry,
        bytes: &[u8],
        block: u64,
        owner: u64,
        what: &str,
    ) -> Result<()> {
        let bad = |how: &str| damaged(format!("block {block}, {what} of inode {owner}, has {how}"));
        if !is_sound(bytes, self.sum) {
            return Err(bad("a wrong checksum"));
        }
        if be64(bytes, self.address) != Some(block * (geometry.block / SECTOR)) {
            return Err(bad("the place of another one"));
        }
        if be64(bytes, self.owner) != Some(owner) {
            return Err(bad("another owner"));
        }
        if self::bytes(bytes, self.uuid) != Some(geometry.seal) {
            return Err(bad("another file system's UUID"));
        }
        Ok(())
    }
}

/// Whether the checksum at `at` is that of `bytes`, in which it counts as zeros.
pub(super) fn is_sound(bytes: &[u8], at: usize) -> bool {
    let before = bytes.get(..at).unwrap_or_default();
    let behind = bytes.get(at + 4..).unwrap_or_default();
    let sum = crc32c(crc32c(crc32c(START, before), &[0; 4]), behind);
    le32(bytes, at) == Some(!sum)
}
