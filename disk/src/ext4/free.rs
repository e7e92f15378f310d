//! Blocks and inodes that no file has, and taking out what was left in them.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use nodekiln_words::{Cancel, Failure, Result, ResultExt as _};
use rustix::fs::FallocateFlags;

use super::{BLOCK, INODE, Superblock};
use crate::fields::{bytes, le16, le32};

/// Blocks of a group: as many as a bitmap of one block has bits.
const PER_GROUP: u64 = 8 * BLOCK;
/// `INODE_UNINIT` and `BLOCK_UNINIT` of a group's flags: the bitmap was never written, for nothing of it was
/// ever taken.
const NO_INODES: u16 = 0x1;
const NO_BLOCKS: u16 = 0x2;
/// `META_BG` of the incompatible features: group descriptors stand elsewhere.
const META_BG: u32 = 0x10;
/// `64BIT` of the incompatible features: group descriptors have the length that the superblock gives.
const WIDE: u32 = 0x80;

/// Makes holes of all free blocks of the file system that begins at byte `offset` of `file`, and zeros of its
/// free inodes.
///
/// A program that removes a file leaves its bytes where they were, and in its inode a short link's target and
/// small extended attributes. They would be compressed and shipped, and read by whoever looks for them. Names
/// stay: what a folder's own blocks have between its entries is not touched.
///
/// # Errors
/// When it is no ext4 of 4 KiB blocks as [`super::mke2fs_arguments`] asks for, its numbers cannot be
/// true, or the file cannot be read or written; and on cancellation.
pub fn clear_free(file: &File, offset: u64, cancel: &Cancel) -> Result<()> {
    let found = FileSystem { file, offset }.free(cancel)?;
    let cannot = || "cannot clear what is free in the file system".to_owned();
    for blocks in found.blocks.0 {
        cancel.check()?;
        clear(file, offset + blocks.start, blocks.end - blocks.start).or_io(cannot)?;
    }
    for inodes in found.inodes.0 {
        cancel.check()?;
        overwrite(file, offset + inodes.start..offset + inodes.end).or_io(cannot)?;
    }
    Ok(())
}

/// What is free, as bytes from the start of the file system.
#[derive(Default)]
struct Free {
    blocks: Ranges,
    inodes: Ranges,
}

/// An ext4 that begins at byte `offset` of a file.
struct FileSystem<'a> {
    file: &'a File,
    offset: u64,
}

/// What the superblock says of all groups.
struct Groups {
    /// Blocks of the file system.
    blocks: u64,
    /// Bytes of a group's descriptor.
    descriptor: usize,
    /// Inodes of each group.
    inodes: u64,
}

/// A group of blocks and inodes (Linux, `Documentation/filesystems/ext4/group_descr.rst`).
struct Group {
    /// Numbers of the blocks where bitmaps stand, and where the inodes begin.
    block_bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
    /// [`NO_INODES`], [`NO_BLOCKS`] and others.
    flags: u16,
    /// How many inodes at the end of the table were never used.
    never_used: u32,
}

impl Group {
    fn decode(descriptor: &[u8]) -> Option<Self> {
        // The upper halves stand behind the end of a short one.
        let wide = |low: usize, high: usize| {
            let high = le32(descriptor, high).unwrap_or_default();
            Some(u64::from(high) << 32 | u64::from(le32(descriptor, low)?))
        };
        let never_used = u32::from(le16(descriptor, 0x32).unwrap_or_default()) << 16;
        Some(Self {
            block_bitmap: wide(0x00, 0x20)?,
            inode_bitmap: wide(0x04, 0x24)?,
            inode_table: wide(0x08, 0x28)?,
            flags: le16(descriptor, 0x12)?,
            never_used: never_used | u32::from(le16(descriptor, 0x1C)?),
        })
    }
}

impl FileSystem<'_> {
    /// All that is free. Blocks of groups that were never used, and inodes that never were, are left out:
    /// nobody has written there.
    fn free(&self, cancel: &Cancel) -> Result<Free> {
        let groups = self.groups()?;
        let count = groups.blocks.div_ceil(PER_GROUP);
        let total = usize::try_from(count).ok().and_then(|n| n.checked_mul(groups.descriptor));
        let descriptors = self.read(BLOCK, total.ok_or_else(wrong)?)?; // behind the superblock's block
        let mut free = Free::default();
        for (number, descriptor) in (0..).zip(descriptors.chunks_exact(groups.descriptor)) {
            cancel.check()?;
            let group = Group::decode(descriptor).ok_or_else(wrong)?;
            if group.flags & NO_BLOCKS == 0 {
                let bitmap = self.bitmap(&groups, group.block_bitmap)?;
                let first = number * PER_GROUP;
                let blocks = first..(first + PER_GROUP).min(groups.blocks);
                for block in blocks.filter(|block| !is_set(&bitmap, block - first)) {
                    free.blocks.add(block * BLOCK..(block + 1) * BLOCK);
                }
            }
            if group.flags & NO_INODES == 0 {
                let bitmap = self.bitmap(&groups, group.inode_bitmap)?;
                let used = groups.inodes.saturating_sub(group.never_used.into());
                let table = group.inode_table.checked_mul(BLOCK).ok_or_else(wrong)?;
                if table + used * INODE > groups.blocks * BLOCK {
                    return Err(bad("a table of inodes lies behind the end"));
                }
                for inode in (0..used).filter(|inode| !is_set(&bitmap, *inode)) {
                    free.inodes.add(table + inode * INODE..table + (inode + 1) * INODE);
                }
            }
        }
        Ok(free)
    }

    fn groups(&self) -> Result<Groups> {
        let start = self.read(0, Superblock::END)?;
        let superblock = Superblock::decode(&start)?;
        let fields = start.get(1024..).ok_or_else(wrong)?;
        let long = |at| le32(fields, at).map(u64::from);
        let inodes = long(0x28).filter(|inodes| *inodes <= 8 * BLOCK).ok_or_else(wrong)?;
        let expected = superblock.block == BLOCK
            && long(0x20) == Some(PER_GROUP)
            && le16(fields, 0x58).map(u64::from) == Some(INODE)
            && superblock.features[1] & META_BG == 0;
        let length =
            self.file.metadata().or_io(|| "cannot look at the file system".to_owned())?.len();
        if !expected || superblock.blocks > length.saturating_sub(self.offset) / BLOCK {
            return Err(wrong());
        }
        let short = superblock.features[1] & WIDE == 0;
        let descriptor = if short { Some(32) } else { le16(fields, 0xFE).map(usize::from) };
        let descriptor =
            descriptor.filter(|bytes| (32..=1024).contains(bytes)).ok_or_else(wrong)?;
        Ok(Groups { blocks: superblock.blocks, descriptor, inodes })
    }

    /// The bitmap in the block of this number.
    fn bitmap(&self, groups: &Groups, block: u64) -> Result<Vec<u8>> {
        if block >= groups.blocks {
            return Err(bad("a bitmap lies behind the end"));
        }
        self.read(block * BLOCK, BLOCK as usize)
    }

    fn read(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; length];
        let cannot = || "cannot read the file system".to_owned();
        self.file.read_exact_at(&mut buffer, self.offset + at).or_io(cannot)?;
        Ok(buffer)
    }
}

fn bad(what: &str) -> Failure {
    Failure::input(format!("ext4: {what}"))
}

fn wrong() -> Failure {
    bad("the superblock is not one that nodekiln asks for")
}

fn is_set(bitmap: &[u8], bit: u64) -> bool {
    let byte: Option<[u8; 1]> = usize::try_from(bit / 8).ok().and_then(|at| bytes(bitmap, at));
    byte.is_none_or(|[byte]| byte >> (bit % 8) & 1 == 1)
}

/// Ranges in ascending order, neighbours joined.
#[derive(Default)]
struct Ranges(Vec<Range<u64>>);

impl Ranges {
    fn add(&mut self, range: Range<u64>) {
        match self.0.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.0.push(range),
        }
    }
}

/// Makes a hole of `length` bytes; zeros where the file system below has no holes.
fn clear(file: &File, at: u64, length: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, at, length).map_err(io::Error::from) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            let zeros = [0; BLOCK as usize];
            (at..at + length).step_by(zeros.len()).try_for_each(|at| file.write_all_at(&zeros, at))
        }
        other => other,
    }
}

/// Writes zeros where there are none, so that no hole is filled.
fn overwrite(file: &File, range: Range<u64>) -> io::Result<()> {
    let mut buffer = [0; BLOCK as usize];
    let mut at = range.start;
    while at < range.end {
        let length = (range.end - at).min(BLOCK);
        let part = buffer.get_mut(..length as usize).unwrap_or_default();
        file.read_exact_at(part, at)?;
        if part.iter().any(|byte| *byte != 0) {
            part.fill(0);
            file.write_all_at(part, at)?;
        }
        at += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_stands_for_a_block_from_the_lowest_on() {
        let bitmap = [0b1000_0001, 0xFF];
        let set: Vec<u64> = (0..10).filter(|bit| is_set(&bitmap, *bit)).collect();
        assert_eq!(set, [0, 7, 8, 9]);
        assert!(is_set(&bitmap, 16), "what is not known to be free is taken");
    }

    #[test]
    fn what_is_not_zero_is_overwritten_within_the_range() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 9000], 0).unwrap();
        overwrite(&file, 100..8900).unwrap();
        let mut bytes = [1; 9000];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let zeros: Vec<usize> = (0..9000).filter(|at| bytes[*at] == 0).collect();
        assert_eq!((zeros.len(), zeros[0]), (8800, 100));
    }

    #[test]
    fn neighbours_are_one_range() {
        let mut ranges = Ranges::default();
        for start in [0, 1, 3] {
            ranges.add(start..start + 1);
        }
        assert_eq!(ranges.0, [0..2, 3..4]);
    }

    #[test]
    fn what_is_no_file_system_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let refused = clear_free(&file, 0, &Cancel::default()).unwrap_err();
        assert!(refused.to_string().contains("no magic number"), "{refused}");
    }
}
