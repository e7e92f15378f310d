//! Which blocks a file's content stands in: extents, or the block maps of ext2 and ext3
//! (Linux, `Documentation/filesystems/ext4/ifork.rst`).

use std::collections::HashSet;

use nodekiln_words::Result;

use super::checksum::crc32c;
use super::inode::Inode;
use super::volume::Volume;
use super::{damaged, unsupported};
use crate::fields::{le16, le32};
use crate::files::Run;

/// What a node of a tree of extents begins with.
const MAGIC: u16 = 0xF30A;
/// Bytes of a node's header, and of each of its entries.
const ENTRY: usize = 12;
/// Levels of a tree of extents: more than any file has a use for.
const MOST_LEVELS: u16 = 5;
/// Blocks of one extent; longer ones are not written yet, and read as zeros.
const LONGEST: u16 = 0x8000;
/// Most pieces of a file: one of 4 GiB of which no two blocks are neighbours.
const MOST_RUNS: usize = 1 << 20;
/// Numbers of blocks in an inode: of twelve blocks of content, then of one, two and three levels of numbers.
const DIRECT: usize = 12;

/// The runs of `inode`, ascending; what lies between them is a hole.
///
/// # Errors
/// When the map is damaged: it leaves the file system, goes backwards or leads in circles.
pub(super) fn runs(volume: &Volume, inode: &Inode) -> Result<Vec<Run>> {
    let mut map = Map { volume, inode, runs: Vec::new(), blocks: 0, met: HashSet::new() };
    if inode.has_extents() {
        map.extents(inode.body(), None)?;
    } else {
        map.numbers()?;
    }
    Ok(map.runs)
}

struct Map<'a> {
    volume: &'a Volume,
    inode: &'a Inode,
    runs: Vec<Run>,
    /// Blocks of all runs.
    blocks: u64,
    /// Blocks of the map itself: none is in it twice.
    met: HashSet<u64>,
}

impl Map<'_> {
    fn bad(&self, what: &str) -> nodekiln_words::Failure {
        damaged(format!("the block map of inode {} {what}", self.inode.number))
    }

    fn add(&mut self, run: Run) -> Result<()> {
        let geometry = &self.volume.geometry;
        let end = run.physical.checked_add(run.count);
        if run.physical == 0 || end.is_none_or(|end| end > geometry.blocks) {
            return Err(self.bad("leaves the file system"));
        }
        self.blocks += run.count;
        if self.blocks > geometry.blocks {
            return Err(self.bad("has more blocks than the file system"));
        }
        let pieces = self.runs.len();
        match self.runs.last_mut() {
            Some(last) if run.logical < last.end() => return Err(self.bad("goes backwards")),
            Some(last) if last.goes_on_in(&run) => last.count += run.count,
            _ if pieces == MOST_RUNS => {
                let number = self.inode.number;
                return Err(unsupported(format!("inode {number} in more than {MOST_RUNS} pieces")));
            }
            _ => self.runs.push(run),
        }
        Ok(())
    }

    /// Takes note of a block of the map itself.
    fn meet(&mut self, block: u64) -> Result<()> {
        if self.met.insert(block) { Ok(()) } else { Err(self.bad("leads in circles")) }
    }

    /// Adds the extents of a node and those below it. `level` is the number of levels below its own, which the root
    /// tells.
    fn extents(&mut self, node: &[u8], level: Option<u16>) -> Result<()> {
        let (count, most) = (le16(node, 2).unwrap_or(0), le16(node, 4).unwrap_or(0));
        let depth = le16(node, 6).unwrap_or(0);
        let room = (node.len() / ENTRY).saturating_sub(1);
        let sound = le16(node, 0) == Some(MAGIC)
            && depth <= MOST_LEVELS
            && level.is_none_or(|level| level == depth)
            && count <= most
            && usize::from(most) <= room;
        if !sound {
            return Err(self.bad("has a damaged node"));
        }
        if level.is_some() && self.volume.geometry.has_checksums() {
            let end = (usize::from(most) + 1) * ENTRY;
            let sum = crc32c(self.inode.seed, node.get(..end).unwrap_or_default());
            // Nodes leave room for the sum behind their last entry.
            if le32(node, end) != Some(sum) {
                return Err(self.bad("has a node with a wrong checksum"));
            }
        }
        let entries = node.get(ENTRY..).unwrap_or_default().chunks_exact(ENTRY);
        for entry in entries.take(usize::from(count)) {
            let logical = u64::from(le32(entry, 0).unwrap_or(0));
            let half = |at| u64::from(le16(entry, at).unwrap_or(0)) << 32;
            let low = |at| u64::from(le32(entry, at).unwrap_or(0));
            if depth > 0 {
                let block = half(8) | low(4);
                self.meet(block)?;
                let below = self.volume.block(block)?;
                self.extents(&below, Some(depth - 1))?;
                continue;
            }
            let count = le16(entry, 4).unwrap_or(0);
            if count == 0 {
                return Err(self.bad("has an empty extent"));
            }
            if count <= LONGEST {
                let physical = half(6) | low(8);
                self.add(Run { logical, physical, count: u64::from(count) })?;
            }
        }
        Ok(())
    }

    /// Adds the blocks of an ext2's or ext3's map, as far as the file reaches.
    fn numbers(&mut self) -> Result<()> {
        let end = self.inode.size.div_ceil(self.volume.geometry.block);
        let body = self.inode.body();
        let number = |index: usize| u64::from(le32(body, index * 4).unwrap_or(0));
        let mut logical = 0;
        for index in 0..DIRECT {
            self.number(number(index), 0, &mut logical, end)?;
        }
        for level in 1..=3 {
            self.number(number(DIRECT + level - 1), level, &mut logical, end)?;
        }
        Ok(())
    }

    /// Adds the blocks below `block`, a block of numbers `level` levels above the content; 0 is a hole. `logical`
    /// moves on by as many as it stands for.
    fn number(&mut self, block: u64, level: usize, logical: &mut u64, end: u64) -> Result<()> {
        if *logical >= end {
            return Ok(());
        }
        let per_block = self.volume.geometry.block / 4;
        match (block, level) {
            (0, level) => {
                let holes = (0..level).fold(1_u64, |holes, _| holes.saturating_mul(per_block));
                *logical = logical.saturating_add(holes);
                Ok(())
            }
            (physical, 0) => {
                self.add(Run { logical: *logical, physical, count: 1 })?;
                *logical += 1;
                Ok(())
            }
            (block, level) => {
                self.meet(block)?;
                let numbers = self.volume.block(block)?;
                numbers.chunks_exact(4).try_for_each(|number| {
                    let number = u64::from(le32(number, 0).unwrap_or(0));
                    self.number(number, level - 1, logical, end)
                })
            }
        }
    }
}
