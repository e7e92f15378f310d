//! Blocks that no file has, and taking out what was left in them.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use nodekiln_words::{Cancel, Failure, Result, ResultExt as _};
use rustix::fs::FallocateFlags;

use super::{BLOCK, Superblock};
use crate::fields::{bytes, le16, le32};

/// `BLOCK_UNINIT` of a group's flags: its bitmap was never written, for none of its blocks was taken.
const NEVER_USED: u16 = 0x2;
/// `META_BG` of the incompatible features: group descriptors stand elsewhere.
const META_BG: u32 = 0x10;
/// `64BIT` of the incompatible features: group descriptors have the length that the superblock gives.
const WIDE: u32 = 0x80;

/// Makes holes of all free blocks of the file system that begins at byte `offset` of `file`.
///
/// A program that removes a file leaves its bytes where they were. They would be compressed and
/// shipped, and read by whoever looks for them.
///
/// # Errors
/// When it is no ext4 of 4 KiB blocks as [`super::mke2fs_arguments`] asks for, its numbers cannot be
/// true, or the file cannot be read or written; and on cancellation.
pub fn clear_free_blocks(file: &File, offset: u64, cancel: &Cancel) -> Result<()> {
    for free in free_blocks(file, offset, cancel)? {
        cancel.check()?;
        clear(file, offset + free.start, free.end - free.start)
            .or_io(|| "cannot clear the free blocks of the file system".to_owned())?;
    }
    Ok(())
}

/// Free blocks as ranges of bytes from the start of the file system. Groups that were never used are
/// left out: nobody has written there.
fn free_blocks(file: &File, offset: u64, cancel: &Cancel) -> Result<Vec<Range<u64>>> {
    let read = |at: u64, length: usize| {
        let mut buffer = vec![0; length];
        let cannot = || "cannot read the file system".to_owned();
        file.read_exact_at(&mut buffer, offset + at).or_io(cannot)?;
        Ok::<_, Failure>(buffer)
    };
    let bad = |what: &str| Failure::input(format!("ext4: {what}"));
    let start = read(0, Superblock::END)?;
    let superblock = Superblock::decode(&start)?;
    let wrong = || bad("the superblock is not one that nodekiln asks for");
    let fields = start.get(1024..).ok_or_else(wrong)?;
    let per_group = le32(fields, 0x20).map(u64::from).filter(|blocks| *blocks == 8 * BLOCK);
    let per_group = per_group.ok_or_else(wrong)?;
    if superblock.block != BLOCK || superblock.features[1] & META_BG != 0 {
        return Err(wrong());
    }
    let length = if superblock.features[1] & WIDE == 0 { Some(32) } else { le16(fields, 0xFE) };
    let length = length.map(usize::from).filter(|bytes| (32..=1024).contains(bytes));
    let length = length.ok_or_else(wrong)?;
    let groups = superblock.blocks.div_ceil(per_group);
    let total = usize::try_from(groups).ok().and_then(|groups| groups.checked_mul(length));
    let descriptors = read(BLOCK, total.ok_or_else(wrong)?)?; // in the blocks behind the superblock's
    let mut free = Ranges::default();
    for (group, descriptor) in (0..).zip(descriptors.chunks_exact(length)) {
        cancel.check()?;
        let flags = le16(descriptor, 0x12).ok_or_else(wrong)?;
        if flags & NEVER_USED != 0 {
            continue;
        }
        let high = le32(descriptor, 0x20).unwrap_or_default(); // behind the end of a short one
        let low = le32(descriptor, 0x00).ok_or_else(wrong)?;
        let bitmap = u64::from(high) << 32 | u64::from(low);
        if bitmap >= superblock.blocks {
            return Err(bad("a block bitmap lies behind the end"));
        }
        let bitmap = read(bitmap * BLOCK, BLOCK as usize)?;
        let first = group * per_group;
        for number in first..(first + per_group).min(superblock.blocks) {
            if !is_set(&bitmap, number - first) {
                free.add(number * BLOCK..(number + 1) * BLOCK);
            }
        }
    }
    Ok(free.0)
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
        let refused = clear_free_blocks(&file, 0, &Cancel::default()).unwrap_err();
        assert!(refused.to_string().contains("no magic number"), "{refused}");
    }
}
