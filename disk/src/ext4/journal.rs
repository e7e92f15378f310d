//! Changes that stand in the journal and not yet in their places (Linux,
//! `Documentation/filesystems/ext4/journal.rst`): those of a file system that was not unmounted.

use std::collections::BTreeMap;

use nodekiln_words::Result;

use super::checksum::{START, crc32c};
use super::mapping;
use super::volume::Volume;
use super::{damaged, unsupported};
use crate::fields::{be32, be64, bytes};
use crate::files::Run;

/// What every block of the journal itself begins with.
const MAGIC: u32 = 0xC03B_3998;
/// Bytes of the head of such a block.
const HEAD: usize = 12;
/// Types of blocks.
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCKS: [u32; 2] = [3, 4];
const REVOCATION: u32 = 5;
/// Incompatible features: blocks can be revoked, numbers of 64 bits, commits that nobody waits for, and checksums.
const WIDE: u32 = 0x2;
const SUMS_2: u32 = 0x8;
const SUMS_3: u32 = 0x10;
const READ: u32 = 0x1 | WIDE | 0x4 | SUMS_2 | SUMS_3;
/// `FAST_COMMIT`: changes in a form of their own behind the others.
const FAST_COMMIT: u32 = 0x20;
/// Flags of a tag: its block began with the magic number, it has the UUID of the tag before, it is the last.
const ESCAPED: u32 = 0x1;
const SAME_UUID: u32 = 0x2;
const LAST: u32 = 0x8;

/// Where the newest bytes of blocks stand, by the numbers of the blocks.
#[derive(Debug, Default)]
pub(super) struct Journal(pub(super) BTreeMap<u64, Copied>);

/// A block's bytes in the journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    /// The number of the block where they stand.
    pub(super) block: u64,
    /// Whether their first four bytes are the magic number, in whose place there are zeros.
    pub(super) escaped: bool,
}

/// The first four bytes of an escaped block.
pub(super) const ESCAPED_BYTES: [u8; 4] = MAGIC.to_be_bytes();

/// What the journal's superblock says.
struct Log {
    runs: Vec<Run>,
    /// The first and the last block of the ring, the latter not included.
    first: u64,
    end: u64,
    /// Where the oldest transaction begins.
    start: u64,
    sequence: u32,
    features: u32,
    seed: u32,
}

/// A block's copy that a transaction has.
struct Tagged {
    block: u64,
    sequence: u32,
    copied: Copied,
}

impl Journal {
    /// Reads the journal in the inode of this number.
    ///
    /// # Errors
    /// When it is damaged, or has fast commits.
    pub(super) fn read(volume: &Volume, inode: u32) -> Result<Self> {
        let inode = volume.inode(inode)?;
        let Some(log) = Log::read(volume, mapping::runs(volume, &inode)?)? else {
            return Ok(Self::default());
        };
        let (mut tagged, mut revoked) = (Vec::new(), BTreeMap::new());
        log.transactions(volume, &mut tagged, &mut revoked)?;
        let mut newest = BTreeMap::new();
        // One that is revoked later, or in the same transaction, is not put back.
        for Tagged { block, sequence, copied } in tagged {
            let later = |until: &u32| !is_before(*until, sequence);
            if !revoked.get(&block).is_some_and(later) {
                newest.insert(block, copied);
            }
        }
        Ok(Self(newest))
    }
}

/// Whether a transaction's number is before another's; they start again at 0.
fn is_before(one: u32, other: u32) -> bool {
    one != other && other.wrapping_sub(one) < 1 << 31
}

impl Log {
    /// Reads the journal's superblock; `None` where nothing is left to do.
    fn read(volume: &Volume, runs: Vec<Run>) -> Result<Option<Self>> {
        let bad = |what: &str| damaged(format!("the journal {what}"));
        let first = runs.first().filter(|run| run.logical == 0).ok_or_else(|| bad("is empty"))?;
        let head = volume.block(first.physical)?;
        let long = |at| be32(&head, at).unwrap_or(0);
        if long(0) != MAGIC || !SUPERBLOCKS.contains(&long(4)) {
            return Err(bad("has no superblock"));
        }
        if u64::from(long(0x0C)) != volume.geometry.block {
            return Err(bad("has blocks of another size"));
        }
        let start = u64::from(long(0x1C));
        if start == 0 {
            return Ok(None);
        }
        let features = if long(4) == 4 { long(0x28) } else { 0 };
        if features & FAST_COMMIT != 0 {
            return Err(unsupported(
                "an ext4 file system with fast commits that was not unmounted",
            ));
        }
        if features & !READ != 0 {
            return Err(unsupported(format!("a journal with unknown features {features:#x}")));
        }
        let uuid: [u8; 16] = bytes(&head, 0x30).unwrap_or_default();
        let (first, end) = (u64::from(long(0x14)), u64::from(long(0x10)));
        if !(1..end).contains(&first) || !(first..end).contains(&start) {
            return Err(bad("has a superblock whose numbers cannot be true"));
        }
        let log = Self {
            runs,
            first,
            end,
            start,
            sequence: long(0x18),
            features,
            seed: crc32c(START, &uuid),
        };
        if log.has_sums() {
            let (before, behind) = head.split_at(0xFC.min(head.len()));
            let behind = behind.get(4..).unwrap_or_default();
            let behind = behind.get(..1024 - 0x100).unwrap_or_default();
            if long(0xFC) != crc32c(crc32c(crc32c(START, before), &[0; 4]), behind) {
                return Err(bad("has a superblock with a wrong checksum"));
            }
        }
        Ok(Some(log))
    }

    fn has_sums(&self) -> bool {
        self.features & (SUMS_2 | SUMS_3) != 0
    }

    /// The block of the file system where a block of the ring stands.
    fn place(&self, index: u64) -> Option<u64> {
        let behind = self.runs.partition_point(|run| run.logical <= index);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        (index - run.logical < run.count).then(|| run.physical + (index - run.logical))
    }

    /// Goes through all transactions that were committed.
    fn transactions(
        &self,
        volume: &Volume,
        tagged: &mut Vec<Tagged>,
        revoked: &mut BTreeMap<u64, u32>,
    ) -> Result<()> {
        let (mut at, mut sequence) = (self.start, self.sequence);
        let mut left = self.end - self.first;
        let next = |at: &mut u64, left: &mut u64| {
            let place = self.place(*at).filter(|_| *left > 0);
            *at = if *at + 1 == self.end { self.first } else { *at + 1 };
            *left = left.saturating_sub(1);
            place
        };
        // What the transaction that is being read brings.
        let (mut copies, mut withdrawn) = (Vec::new(), Vec::new());
        while let Some(place) = next(&mut at, &mut left) {
            volume.window.check()?;
            let block = volume.block(place)?;
            // What is not of this transaction is left of an earlier round.
            if be32(&block, 0) != Some(MAGIC) || be32(&block, 8) != Some(sequence) {
                return Ok(());
            }
            match be32(&block, 4) {
                Some(DESCRIPTOR) if self.is_sound(&block) => {
                    for (block, escaped) in self.tags(&block) {
                        let Some(copy) = next(&mut at, &mut left) else { return Ok(()) };
                        let copied = Copied { block: copy, escaped };
                        copies.push(Tagged { block, sequence, copied });
                    }
                }
                Some(REVOCATION) if self.is_sound(&block) => {
                    withdrawn.extend(self.withdrawn(&block));
                }
                Some(COMMIT) if self.is_commit_sound(&block) => {
                    tagged.append(&mut copies);
                    revoked.extend(withdrawn.drain(..).map(|block| (block, sequence)));
                    sequence = sequence.wrapping_add(1);
                }
                // One that is cut off was not committed.
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether a descriptor's or a revocation's checksum, its last four bytes, is right.
    fn is_sound(&self, block: &[u8]) -> bool {
        let (bytes, sum) = block.split_at(block.len().saturating_sub(4));
        !self.has_sums() || be32(sum, 0) == Some(crc32c(crc32c(self.seed, bytes), &[0; 4]))
    }

    fn is_commit_sound(&self, block: &[u8]) -> bool {
        const SUM: usize = 0x10;
        let (before, behind) = block.split_at(SUM.min(block.len()));
        let sum = crc32c(crc32c(self.seed, before), &[0; 4]);
        let sum = crc32c(sum, behind.get(4..).unwrap_or_default());
        !self.has_sums() || be32(behind, 0) == Some(sum)
    }

    /// The numbers of blocks that a descriptor tells of, and whether they are escaped.
    fn tags(&self, block: &[u8]) -> Vec<(u64, bool)> {
        let end = block.len() - if self.has_sums() { 4 } else { 0 };
        let wide = self.features & WIDE != 0;
        let mut rest = block.get(HEAD..end).unwrap_or_default();
        let mut tags = Vec::new();
        loop {
            let third = self.features & SUMS_3 != 0;
            let long = |at| be32(rest, at).map(u64::from);
            // The third form has a checksum of 32 bits behind all; the first two have 16 bits of each.
            let (length, flags, high) = match (third, wide) {
                (true, _) => (16, be32(rest, 4), if wide { long(8) } else { Some(0) }),
                (false, true) => (12, be32(rest, 4), long(8)),
                (false, false) => (8, be32(rest, 4), Some(0)),
            };
            let (Some(low), Some(flags), Some(high)) = (long(0), flags, high) else {
                return tags;
            };
            let flags = if third { flags } else { flags & 0xFFFF };
            tags.push((high << 32 | low, flags & ESCAPED != 0));
            let length = length + if flags & SAME_UUID == 0 { 16 } else { 0 };
            if flags & LAST != 0 || length > rest.len() {
                return tags;
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }

    /// The numbers of blocks that a revocation tells of.
    fn withdrawn(&self, block: &[u8]) -> Vec<u64> {
        let used = be32(block, HEAD).and_then(|used| usize::try_from(used).ok()).unwrap_or(0);
        let most = block.len() - if self.has_sums() { 4 } else { 0 };
        let numbers = block.get(HEAD + 4..used.min(most)).unwrap_or_default();
        match self.features & WIDE {
            0 => numbers.chunks_exact(4).filter_map(|n| be32(n, 0).map(u64::from)).collect(),
            _ => numbers.chunks_exact(8).filter_map(|number| be64(number, 0)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_transactions_start_again() {
        assert!(is_before(1, 2) && !is_before(2, 1) && !is_before(2, 2));
        assert!(is_before(u32::MAX, 0) && !is_before(0, u32::MAX));
    }

    #[test]
    fn tags_have_four_forms() {
        let log = |features| Log {
            runs: Vec::new(),
            first: 1,
            end: 9,
            start: 1,
            sequence: 1,
            features,
            seed: 0,
        };
        let block = |tags: &[&[u8]]| {
            let mut block = [&[0; HEAD][..], &tags.concat()].concat();
            block.resize(256, 0);
            block
        };
        let uuid: &[u8] = &[9; 16];
        // The first tag has a UUID, the second is escaped and the last.
        let narrow = block(&[&[0, 0, 0, 5, 0, 0, 0, 0], uuid, &[0, 0, 0, 6, 0xAB, 0xCD, 0, 0xB]]);
        assert_eq!(log(0).tags(&narrow), [(5, false), (6, true)]);
        assert_eq!(log(SUMS_2).tags(&narrow), [(5, false), (6, true)]);
        let high = &[0, 0, 0, 1][..];
        let wide =
            block(&[&[0, 0, 0, 5, 0, 0, 0, 0], high, uuid, &[0, 0, 0, 6, 0, 0, 0, 0xB], high]);
        assert_eq!(log(WIDE).tags(&wide), [(1 << 32 | 5, false), (1 << 32 | 6, true)]);
        let sum = &[7; 4][..];
        let third = block(&[
            &[0, 0, 0, 5, 0, 0, 0, 0],
            high,
            sum,
            uuid,
            &[0, 0, 0, 6, 0, 0, 0, 0xB],
            high,
            sum,
        ]);
        assert_eq!(log(WIDE | SUMS_3).tags(&third), [(1 << 32 | 5, false), (1 << 32 | 6, true)]);
        assert_eq!(log(SUMS_3).tags(&third), [(5, false), (6, true)]);
        // Without a last one they end with the block.
        assert!(log(0).tags(&block(&[&[0, 0, 0, 5, 0, 0, 0, 2]])).len() < 64);
    }
}
