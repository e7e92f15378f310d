//! Extended attributes in blocks: leaves, which follow each other, perhaps nodes above them, and blocks of values.

use std::collections::HashSet;

use nodekiln_words::Result;

use super::geometry::Geometry;
use super::head::{ATTRIBUTES, CONTENT};
use super::inode::{Fork, Inode};
use super::mapping;
use super::volume::Volume;
use super::xattr::{Found, is_told};
use crate::fields::{be16, be32};
use crate::files::Run;
use crate::pages::Slice;

/// Where in nodes and leaves the number of the next one stands, and what they are.
const NEXT: usize = 0;
const MAGIC: usize = 8;
/// What nodes and leaves are by, and where the count of their entries stands: of version 4, and of version 5.
const NODES: [u16; 2] = [0xFEBE, 0x3EBE];
const LEAVES: [u16; 2] = [0xFBEE, 0x3BEE];
const COUNTS: [usize; 2] = [12, 56];
/// Bytes in front of the entries: of nodes, and of leaves.
const NODE_HEADS: [usize; 2] = [16, 64];
const LEAF_HEADS: [usize; 2] = [32, 80];
/// Bytes of an entry of a node and of a leaf.
const ENTRY: usize = 8;
/// Levels of nodes at most (`XFS_DA_NODE_MAXDEPTH`).
const MOST_LEVELS: u16 = 5;
/// The flag of an entry whose value stands in the leaf too.
const LOCAL: u8 = 0x1;
/// Bytes of a value at most (`XFS_XATTR_SIZE_MAX`).
const MOST_VALUE: u32 = 64 << 10;
/// What blocks of values of version 5 begin with, and the bytes in front of their part of one.
const VALUE: &[u8] = b"XARM";
const VALUE_HEAD: u64 = 56;

/// The blocks of attributes of one inode.
struct Blocks<'a> {
    volume: &'a Volume,
    inode: &'a Inode,
    runs: Vec<Run>,
}

/// Adds all attributes of `inode` that stand in blocks.
///
/// # Errors
/// When they are damaged.
pub(super) fn read(volume: &Volume, inode: &Inode, found: &mut Found<'_>) -> Result<()> {
    let runs = mapping::runs(volume, inode, Fork::Attributes)?;
    let blocks = Blocks { volume, inode, runs };
    let form = usize::from(volume.geometry.is_sealed);
    let mut leaf = blocks.first_leaf(found)?;
    let mut met = HashSet::new();
    loop {
        let block = blocks.part(leaf, found)?;
        if be16(&block, MAGIC) != Some(LEAVES[form]) {
            return Err(found.damaged("a damaged leaf of attributes"));
        }
        blocks.leaf(&block, found)?;
        met.insert(leaf);
        leaf = be32(&block, NEXT).unwrap_or(0);
        if leaf == 0 {
            return Ok(());
        }
        if met.contains(&leaf) {
            return Err(found.damaged("leaves of attributes that lead in circles"));
        }
    }
}

impl Blocks<'_> {
    fn geometry(&self) -> &Geometry {
        &self.volume.geometry
    }

    /// Block `index` of the attributes, counted from the start of the file system.
    fn place(&self, index: u64, found: &Found<'_>) -> Result<u64> {
        let place = Run::find(&self.runs, index);
        place.ok_or_else(|| found.damaged("attributes in a block that it has not"))
    }

    /// A node or a leaf.
    fn part(&self, index: u32, found: &Found<'_>) -> Result<Slice> {
        let place = self.place(u64::from(index), found)?;
        let block = self.volume.block(place)?;
        if self.geometry().is_sealed {
            let what = "attributes";
            ATTRIBUTES.check(self.geometry(), &block, place, self.inode.number, what)?;
        }
        Ok(block)
    }

    /// The leaf that all others follow.
    fn first_leaf(&self, found: &Found<'_>) -> Result<u32> {
        let form = usize::from(self.geometry().is_sealed);
        let (mut index, mut above) = (0, None);
        loop {
            let block = self.part(index, found)?;
            if be16(&block, MAGIC) != Some(NODES[form]) {
                return Ok(index);
            }
            let level = be16(&block, COUNTS[form] + 2).unwrap_or(0);
            let sound = be16(&block, COUNTS[form]).is_some_and(|count| count > 0)
                && (1..=MOST_LEVELS).contains(&level)
                && above.is_none_or(|above| above == level + 1);
            let below = be32(&block, NODE_HEADS[form] + 4).filter(|_| sound);
            index = below.ok_or_else(|| found.damaged("a damaged node of attributes"))?;
            above = Some(level);
        }
    }

    /// Adds the attributes of a leaf.
    fn leaf(&self, block: &[u8], found: &mut Found<'_>) -> Result<()> {
        let form = usize::from(self.geometry().is_sealed);
        let count = be16(block, COUNTS[form]).map_or(0, usize::from);
        let (start, end) = (LEAF_HEADS[form], LEAF_HEADS[form] + count * ENTRY);
        let entries = block.get(start..end);
        let entries = entries.ok_or_else(|| found.damaged("more attributes than room"))?;
        for entry in entries.as_chunks::<ENTRY>().0 {
            let (at, flags) = (be16(entry, 4).map_or(0, usize::from), entry[6]);
            if !is_told(flags) {
                continue;
            }
            let cut_off = || found.damaged("an attribute that is cut off");
            let stored = block.get(at..).filter(|_| at >= end).ok_or_else(cut_off)?;
            let (name, value) = match flags & LOCAL {
                0 => remote(stored).ok_or_else(cut_off)?,
                _ => local(stored).ok_or_else(cut_off)?,
            };
            let value = match value {
                Value::Here(value) => value.to_vec(),
                Value::Blocks { first, length } => self.value(first, length, found)?,
            };
            found.add(flags & !LOCAL, name, value)?;
        }
        Ok(())
    }

    /// The value of `length` bytes that begins in block `first`.
    fn value(&self, first: u32, length: u32, found: &Found<'_>) -> Result<Vec<u8>> {
        let bad = || found.damaged("a damaged value of an attribute");
        if length > MOST_VALUE {
            return Err(found.damaged("a value of an attribute that is longer than any"));
        }
        let geometry = self.geometry();
        let head = if geometry.is_sealed { VALUE_HEAD } else { 0 };
        let length = usize::try_from(length).unwrap_or(0);
        let room = usize::try_from(geometry.block - head).unwrap_or(0);
        let head = usize::try_from(head).unwrap_or(0);
        let (mut value, mut index) = (Vec::new(), u64::from(first));
        while value.len() < length {
            let place = self.place(index, found)?;
            let block = self.volume.block(place)?;
            let count = room.min(length - value.len());
            if geometry.is_sealed {
                let what = "a value of an attribute";
                CONTENT.check(geometry, &block, place, self.inode.number, what)?;
                let says = (be32(&block, 4), be32(&block, 8));
                let expected = (u32::try_from(value.len()).ok(), u32::try_from(count).ok());
                if !block.starts_with(VALUE) || says != expected {
                    return Err(bad());
                }
            }
            value.extend_from_slice(block.get(head..head + count).ok_or_else(bad)?);
            index += 1;
        }
        Ok(value)
    }
}

enum Value<'a> {
    Here(&'a [u8]),
    Blocks { first: u32, length: u32 },
}

/// A name and its value: the lengths of both, and the two.
fn local(stored: &[u8]) -> Option<(&[u8], Value<'_>)> {
    let (value, name) = (usize::from(be16(stored, 0)?), usize::from(*stored.get(2)?));
    let value = stored.get(3 + name..3 + name + value)?;
    Some((stored.get(3..3 + name)?, Value::Here(value)))
}

/// A name whose value stands in blocks: the first one, the lengths of value and name, and the name.
fn remote(stored: &[u8]) -> Option<(&[u8], Value<'_>)> {
    let (first, length) = (be32(stored, 0)?, be32(stored, 4)?);
    let name = usize::from(*stored.get(8)?);
    Some((stored.get(9..9 + name)?, Value::Blocks { first, length }))
}
