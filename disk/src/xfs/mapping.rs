//! Which blocks a fork's content stands in: a list of extents, or a tree of them.

use std::collections::HashSet;

use nodekiln_words::{Failure, Result};

use super::head::EXTENTS;
use super::inode::{Fork, Form, Inode};
use super::volume::Volume;
use super::{damaged, unsupported};
use crate::fields::{be16, be64};
use crate::files::Run;

/// Bytes of an extent, and of a key and a pointer of a tree together.
const EXTENT: usize = 16;
/// Bytes of a tree's root in an inode in front of its keys.
const ROOT_HEAD: usize = 4;
/// What blocks of a tree begin with, and the bytes in front of their entries: of version 4, and of version 5.
const OLD: (&[u8], usize) = (b"BMAP", 24);
const NEW: (&[u8], usize) = (b"BMA3", 72);
/// Levels of a tree, as Linux has it (`XFS_BTREE_MAXLEVELS`).
const MOST_LEVELS: u16 = 9;
/// Most pieces of a fork: those of a file of 4 GiB in blocks of 4 KiB of which no two are neighbours.
const MOST_RUNS: usize = 1 << 20;

/// The runs of a fork, ascending; what lies between them is a hole, and what is not written yet too.
///
/// # Errors
/// When they are damaged: they leave the file system, go backwards or lead in circles.
pub(super) fn runs(volume: &Volume, inode: &Inode, fork: Fork) -> Result<Vec<Run>> {
    let mut map =
        Map { volume, inode, fork, runs: Vec::new(), next: 0, count: 0, met: HashSet::new() };
    let bytes = inode.bytes(fork);
    match inode.form(fork) {
        None => return Ok(Vec::new()),
        Some(Form::Extents) => {
            let count = usize::try_from(inode.extents(fork)).unwrap_or(usize::MAX);
            let list = count.checked_mul(EXTENT).and_then(|length| bytes.get(..length));
            map.extents(list.ok_or_else(|| map.bad("have more extents than room"))?)?;
        }
        Some(Form::Tree) => {
            let room = bytes.len().saturating_sub(ROOT_HEAD) / EXTENT;
            let (level, entries) = (be16(bytes, 0), be16(bytes, 2));
            let (level, entries) = (level.unwrap_or(0), entries.map_or(0, usize::from));
            if !(1..=MOST_LEVELS).contains(&level) {
                return Err(map.bad("have a damaged root"));
            }
            let pointers = pointers(bytes, ROOT_HEAD, room, entries);
            map.below(level, pointers.ok_or_else(|| map.bad("have a damaged root"))?)?;
        }
        Some(_) => return Err(map.bad("stand in it itself")),
    }
    if map.count != inode.extents(fork) {
        return Err(map.bad("are of another number than it says"));
    }
    Ok(map.runs)
}

/// The pointers of a node with room for so many entries, of which it has `entries`; `None` where it has not.
fn pointers(node: &[u8], head: usize, room: usize, entries: usize) -> Option<&[u8]> {
    let start = head + room * 8;
    node.get(start..start + entries * 8).filter(|_| (1..=room).contains(&entries))
}

struct Map<'a> {
    volume: &'a Volume,
    inode: &'a Inode,
    fork: Fork,
    runs: Vec<Run>,
    /// The block within the file behind the last extent.
    next: u64,
    /// Extents, those that are not written yet too.
    count: u64,
    /// Blocks of the tree itself: none is in it twice.
    met: HashSet<u64>,
}

impl Map<'_> {
    fn bad(&self, what: &str) -> Failure {
        let of = match self.fork {
            Fork::Content => "blocks",
            Fork::Attributes => "attributes' blocks",
        };
        damaged(format!("the {of} of inode {} {what}", self.inode.number))
    }

    /// Adds what the pointers `below` lead to; `level` is the number of levels below those of their node.
    fn below(&mut self, level: u16, below: &[u8]) -> Result<()> {
        let geometry = &self.volume.geometry;
        let (magic, head) = if geometry.is_sealed { NEW } else { OLD };
        for pointer in below.chunks_exact(8) {
            let number = be64(pointer, 0).unwrap_or(u64::MAX);
            let block = geometry.block_at(number);
            let block = block.ok_or_else(|| self.bad("leave the file system"))?;
            if !self.met.insert(block) {
                return Err(self.bad("lead in circles"));
            }
            let node = self.volume.block(block)?;
            if geometry.is_sealed {
                let what = "a part of the extents";
                EXTENTS.check(geometry, &node, block, self.inode.number, what)?;
            }
            let entries = be16(&node, 6).map_or(0, usize::from);
            let room = node.len().saturating_sub(head) / EXTENT;
            if !node.starts_with(magic) || be16(&node, 4) != Some(level - 1) || entries > room {
                return Err(self.bad(&format!("have a damaged node, block {block}")));
            }
            if level == 1 {
                let list = node.get(head..head + entries * EXTENT).unwrap_or_default();
                self.extents(list)?;
                continue;
            }
            let pointers = pointers(&node, head, room, entries);
            let damaged = || self.bad(&format!("have a damaged node, block {block}"));
            self.below(level - 1, pointers.ok_or_else(damaged)?)?;
        }
        Ok(())
    }

    fn extents(&mut self, list: &[u8]) -> Result<()> {
        list.chunks_exact(EXTENT).try_for_each(|extent| {
            let half = |at| be64(extent, at).unwrap_or(0);
            self.add(u128::from(half(0)) << 64 | u128::from(half(8)))
        })
    }

    /// Adds an extent: from the upper bits on one that tells that it is not written yet, 54 of its first block within
    /// the file, 52 of that within the file system, and 21 of how many there are.
    fn add(&mut self, extent: u128) -> Result<()> {
        let bits = |from: u32, count: u32| {
            u64::try_from(extent >> from & ((1 << count) - 1)).unwrap_or(u64::MAX)
        };
        let (logical, number, count) = (bits(73, 54), bits(21, 52), bits(0, 21));
        let physical = self.volume.geometry.blocks_at(number, count);
        let physical = physical.ok_or_else(|| self.bad("leave the file system"))?;
        if logical < self.next {
            return Err(self.bad("go backwards"));
        }
        self.next = logical + count;
        self.count += 1;
        if bits(127, 1) == 1 {
            return Ok(());
        }
        let run = Run { logical, physical, count };
        let pieces = self.runs.len();
        match self.runs.last_mut() {
            Some(last) if last.goes_on_in(&run) => last.count += count,
            _ if pieces == MOST_RUNS => {
                let number = self.inode.number;
                return Err(unsupported(format!("inode {number} in more than {MOST_RUNS} pieces")));
            }
            _ => self.runs.push(run),
        }
        Ok(())
    }
}
