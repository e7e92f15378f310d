//! Whether the log has changes that are not in their places: whether its newest record is the one that an unmount
//! writes last.
//!
//! The log is a ring of sectors, each of which begins with how many times the ring was round when it was written,
//! or, where a record begins, with a magic number and then that count.

use nodekiln_words::{Class, Failure, Result};

use super::volume::Volume;
use crate::fields::be32;

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// What a record begins with.
const MAGIC: u32 = 0xFEED_BABE;
/// The flag of the second form of records, whose heads have a sector for each 32 KiB that a record may have.
const WIDE: u32 = 0x2;
const PER_HEAD: u32 = 32 << 10;
/// Sectors of a record at most: 256 KiB, and as many heads as that needs.
const MOST_RECORD: u64 = 512 + 8;
/// The flag of the operation of an unmount.
const UNMOUNT: u8 = 0x20;

/// Fails where the file system was not unmounted.
///
/// # Errors
/// As it says, and when the log cannot be read.
pub(super) fn refuse_unfinished(volume: &Volume) -> Result<()> {
    let (start, blocks) = volume.geometry.log;
    let block = volume.geometry.block;
    let log = Log { volume, start: start * block, count: blocks * block / SECTOR };
    if log.is_finished()? {
        return Ok(());
    }
    let what = "an XFS that was not unmounted: its log has changes that are not in their places";
    let help = "mount it once and unmount it, which replays the log; or shut the machine down before its disk is copied";
    Err(Failure::new(Class::Unsupported, what).with_help(help))
}

struct Log<'a> {
    volume: &'a Volume,
    /// The byte where it begins.
    start: u64,
    /// Sectors in all.
    count: u64,
}

impl Log<'_> {
    fn is_finished(&self) -> Result<bool> {
        let (first, last) = (self.round(0)?, self.round(self.count - 1)?);
        if first == 0 && last == 0 {
            // Nothing was ever written.
            return Ok(true);
        }
        if first != last && first != last.wrapping_add(1) && last != 0 {
            return Ok(false);
        }
        let head = if first == last { self.count } else { self.end_of(first)? };
        for distance in 1..=MOST_RECORD.min(self.count) {
            let at = (head + self.count - distance) % self.count;
            if self.is_record(at)? {
                return self.is_unmount(at, distance);
            }
        }
        Ok(false)
    }

    /// The sector behind the last one of round `round`, in which the first one was written and the last one was not.
    fn end_of(&self, round: u32) -> Result<u64> {
        let (mut within, mut behind) = (0, self.count - 1);
        while behind - within > 1 {
            let middle = within + (behind - within) / 2;
            match self.round(middle)? == round {
                true => within = middle,
                false => behind = middle,
            }
        }
        Ok(behind)
    }

    /// Whether the record at a sector is the one that an unmount writes, of `length` sectors.
    fn is_unmount(&self, at: u64, length: u64) -> Result<bool> {
        let long = |offset| self.long(at, offset);
        let (form, bytes, operations, most) = (long(8)?, long(12)?, long(40)?, long(320)?);
        let heads = match form & WIDE {
            0 => 1,
            _ => u64::from(most.div_ceil(PER_HEAD).max(1)),
        };
        let expected = heads + u64::from(bytes).div_ceil(SECTOR);
        if operations != 1 || expected != length {
            return Ok(false);
        }
        let [_, flags, _, _] = self.long((at + heads) % self.count, 8)?.to_be_bytes();
        Ok(flags & UNMOUNT != 0)
    }

    fn is_record(&self, sector: u64) -> Result<bool> {
        Ok(self.long(sector, 0)? == MAGIC)
    }

    /// In which round a sector was written; 0 where it was not.
    fn round(&self, sector: u64) -> Result<u32> {
        match self.long(sector, 0)? {
            MAGIC => self.long(sector, 4),
            round => Ok(round),
        }
    }

    fn long(&self, sector: u64, offset: usize) -> Result<u32> {
        let length = usize::try_from(SECTOR).unwrap_or(0);
        let bytes = self.volume.slice(self.start + sector * SECTOR, length)?;
        Ok(be32(&bytes, offset).unwrap_or(0))
    }
}
