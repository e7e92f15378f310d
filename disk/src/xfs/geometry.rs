//! What the superblock says: sizes, places and features.

use nodekiln_words::Result;
use uuid::Uuid;

use super::head::is_sound;
use super::{MAGIC, damaged, unsupported};
use crate::fields::{be16, be32, be64, bytes};

/// Where the superblock's checksum stands.
const SUM: usize = 224;

/// `versionnum`: the version in the lower four bits, and version 4's features.
mod version {
    pub(super) const NUMBER: u16 = 0xF;
    /// Names have no case (`borgbit`).
    pub(super) const NO_CASE: u16 = 0x4000;
    /// The form of folders since 2001.
    pub(super) const FOLDERS_2: u16 = 0x2000;
    /// There are more features.
    pub(super) const MORE: u16 = 0x8000;
}

/// `features2`: version 4's features that came later.
mod more {
    pub(super) const FILETYPE: u32 = 0x200;
    /// That one, counters that are written late, attributes of no fixed place, an old form of parents that was
    /// never used, project ids of 32 bits, and version 5's own bit.
    pub(super) const KNOWN: u32 = FILETYPE | 0x2 | 0x8 | 0x10 | 0x80 | 0x100 | 0x5;
}

/// Incompatible features of version 5.
mod incompatible {
    pub(super) const FILETYPE: u32 = 0x1;
    pub(super) const META_UUID: u32 = 0x4;
    /// Those above; inodes in chunks with gaps; times beyond 2038; counts of extents of 48 bits; files whose content
    /// can be exchanged; and folders above as attributes. Of the former two and the latter two, inodes and
    /// attributes tell where they matter.
    pub(super) const READ: u32 = FILETYPE | 0x2 | META_UUID | 0x8 | 0x20 | 0x40 | 0x80;
    pub(super) const NEEDS_REPAIR: u32 = 0x10;
    /// The others by their names.
    pub(super) const NAMES: [(u32, &str); 3] =
        [(0x100, "metadir"), (0x200, "zoned"), (0x400, "zone_gaps")];
}

/// Sizes and places.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    /// Bytes of a block.
    pub(super) block: u64,
    /// Blocks in all.
    pub(super) blocks: u64,
    /// Blocks of a group; the last one may have fewer.
    per_group: u64,
    groups: u64,
    /// Bits of a block's number within its group.
    block_bits: u32,
    /// Bits of an inode's number within its block.
    inode_bits: u32,
    /// Bytes of an inode.
    pub(super) inode: usize,
    /// Blocks of a folder's blocks.
    pub(super) folder_blocks: u64,
    /// The inode of the root folder.
    pub(super) root: u64,
    /// Where the log begins, in blocks from the start, and its length in blocks.
    pub(super) log: (u64, u64),
    /// Whether structures tell of themselves.
    pub(super) is_sealed: bool,
    /// The UUID that structures have.
    pub(super) seal: [u8; 16],
    /// Whether entries of folders tell the type of what they name.
    pub(super) has_types: bool,
    /// The UUID that the file system is known by.
    pub(super) uuid: Uuid,
    pub(super) label: String,
}

impl Geometry {
    /// Takes it from the first bytes of a file system in a partition of `length` bytes.
    ///
    /// # Errors
    /// When a number cannot be true, the checksum is wrong, or a feature is not known here.
    pub(super) fn decode(start: &[u8], length: u64) -> Result<Self> {
        let cut_off = || damaged("the superblock is cut off");
        let sector = be16(start, 102).map(usize::from).ok_or_else(cut_off)?;
        if !start.starts_with(MAGIC)
            || !sector.is_power_of_two()
            || !(512..=32_768).contains(&sector)
        {
            return Err(damaged("the superblock's numbers cannot be true"));
        }
        let start = start.get(..sector).ok_or_else(cut_off)?;
        let features = Features::decode(start)?;
        let geometry = Self::fields(start, &features).ok_or_else(cut_off)?;
        geometry.check(start, length)?;
        Ok(geometry)
    }

    fn fields(start: &[u8], features: &Features) -> Option<Self> {
        let byte = |at: usize| start.get(at).copied().map(u32::from);
        let label: [u8; 12] = bytes(start, 108)?;
        let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
        let uuid = bytes(start, 32)?;
        let (block, block_bits) = (u64::from(be32(start, 4)?), byte(124)?);
        let mut geometry = Self {
            block,
            blocks: be64(start, 8)?,
            per_group: u64::from(be32(start, 84)?),
            groups: u64::from(be32(start, 88)?),
            block_bits,
            inode_bits: byte(123)?,
            inode: usize::from(be16(start, 104)?),
            // Checked below; a larger shift is none.
            folder_blocks: 1_u64.checked_shl(byte(192)?).unwrap_or(0),
            root: be64(start, 56)?,
            log: (0, u64::from(be32(start, 96)?)),
            is_sealed: features.is_sealed,
            seal: if features.has_seal { bytes(start, 248)? } else { uuid },
            has_types: features.has_types,
            uuid: Uuid::from_bytes(uuid),
            label: String::from_utf8_lossy(label).into_owned(),
        };
        let log = be64(start, 48)?;
        geometry.log.0 = if log == 0 { 0 } else { geometry.block_at(log).unwrap_or(u64::MAX) };
        Some(geometry)
    }

    /// Fails where the numbers cannot be true.
    fn check(&self, start: &[u8], length: u64) -> Result<()> {
        let Self { block, blocks, per_group, groups, block_bits, inode_bits, inode, .. } = *self;
        let bit = |at: usize| start.get(at).map(|bits| 1_u64.checked_shl(u32::from(*bits)));
        let is_power = |number: u64, at| bit(at) == Some(Some(number));
        if start.get(126) != Some(&0) {
            return Err(damaged("it was never finished by mkfs.xfs"));
        }
        let sound = (512..=65_536).contains(&block)
            && is_power(block, 120)
            && (256..=2048).contains(&inode)
            && is_power(inode as u64, 122)
            && inode as u64 <= block
            && block >> inode_bits.min(63) == inode as u64
            && (1..=65_536).contains(&self.folder_blocks.saturating_mul(block))
            && block_bits < 32
            && (1..=1 << block_bits).contains(&per_group)
            && groups > 0
            && blocks > (groups - 1) * per_group
            && blocks <= groups * per_group;
        if !sound {
            return Err(damaged("the superblock's numbers cannot be true"));
        }
        if blocks.checked_mul(block).is_none_or(|size| size > length) {
            let size = format!("a file system of {blocks} blocks of {block} bytes");
            return Err(damaged(format!("{size} is larger than its partition")));
        }
        match self.log {
            (0, _) => Err(unsupported("an XFS whose log is on another device")),
            (at, count) if at < blocks && count > 0 && count <= blocks - at => Ok(()),
            _ => Err(damaged("the log leaves the file system")),
        }
    }

    /// The number of a block counted from the start, from the one by its group; `None` where there is none.
    pub(super) fn block_at(&self, number: u64) -> Option<u64> {
        let group = number.checked_shr(self.block_bits)?;
        let within = number & (1_u64.checked_shl(self.block_bits)? - 1);
        let at = group.checked_mul(self.per_group)?.checked_add(within)?;
        (group < self.groups && within < self.per_group && at < self.blocks).then_some(at)
    }

    /// The same of `count` blocks that follow each other within a group.
    pub(super) fn blocks_at(&self, number: u64, count: u64) -> Option<u64> {
        let first = self.block_at(number)?;
        let last = self.block_at(number.checked_add(count.checked_sub(1)?)?)?;
        (last - first == count - 1 && last / self.per_group == first / self.per_group)
            .then_some(first)
    }

    /// The byte at which the inode of this number stands; `None` where there is no place for one.
    pub(super) fn inode_at(&self, number: u64) -> Option<u64> {
        let within = number & (1_u64.checked_shl(self.inode_bits)? - 1);
        let block = self.block_at(number.checked_shr(self.inode_bits)?)?;
        // A group begins with its superblock.
        (block % self.per_group != 0).then_some(block * self.block + within * self.inode as u64)
    }
}

/// What of the features matters to a reader.
struct Features {
    is_sealed: bool,
    has_seal: bool,
    has_types: bool,
}

impl Features {
    /// # Errors
    /// When there is one that cannot be read, or the superblock's checksum is wrong.
    fn decode(start: &[u8]) -> Result<Self> {
        let short = be16(start, 100).unwrap_or(0);
        let long = |at| be32(start, at).unwrap_or(0);
        if short & version::NO_CASE != 0 {
            return Err(unsupported("an XFS whose names have no case"));
        }
        match short & version::NUMBER {
            4 => {
                let more = if short & version::MORE != 0 { long(200) } else { 0 };
                if short & version::FOLDERS_2 == 0 {
                    return Err(unsupported("an XFS with folders of version 1"));
                }
                if more & !more::KNOWN != 0 {
                    let unknown = more & !more::KNOWN;
                    return Err(unsupported(format!("an XFS with unknown features {unknown:#x}")));
                }
                let has_types = more & more::FILETYPE != 0;
                Ok(Self { is_sealed: false, has_seal: false, has_types })
            }
            5 => {
                if !is_sound(start, SUM) {
                    return Err(damaged("the superblock has a wrong checksum"));
                }
                let features = long(216);
                refuse(features)?;
                let has = |feature| features & feature != 0;
                let has_types = has(incompatible::FILETYPE);
                Ok(Self { is_sealed: true, has_seal: has(incompatible::META_UUID), has_types })
            }
            number => Err(unsupported(format!("an XFS of version {number}"))),
        }
    }
}

fn refuse(features: u32) -> Result<()> {
    if features & incompatible::NEEDS_REPAIR != 0 {
        return Err(damaged("it is marked as one that needs repair")
            .with_help("repair a copy of it: `xfs_repair DEVICE`"));
    }
    let unknown = features & !incompatible::READ;
    if unknown == 0 {
        return Ok(());
    }
    let named = incompatible::NAMES.iter().find(|(bit, _)| unknown & bit != 0);
    Err(unsupported(match named {
        Some((_, name)) => format!("an XFS with the feature {name}"),
        None => format!("an XFS with unknown features {unknown:#x}"),
    }))
}
