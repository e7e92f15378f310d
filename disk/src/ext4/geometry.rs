//! Where an ext2, ext3 or ext4 keeps its inodes.

use uuid::Uuid;

use super::checksum::{START, crc16, crc32c};
use super::{Superblock, damaged, unsupported};
use crate::fields::{bytes, le16, le32};
use nodekiln_words::Result;

/// Where the superblock stands in the file system, in bytes.
pub(super) const SUPERBLOCK: u64 = 1024;

/// Incompatible features (Linux, `Documentation/filesystems/ext4/super.rst`).
mod incompatible {
    pub(super) const FILETYPE: u32 = 0x2;
    pub(super) const RECOVER: u32 = 0x4;
    pub(super) const META_BG: u32 = 0x10;
    pub(super) const WIDE: u32 = 0x80;
    pub(super) const CHECKSUM_SEED: u32 = 0x2000;
    pub(super) const LARGE_FOLDERS: u32 = 0x4000;
    /// Those above, extents, multiple mount protection, flexible groups, values of attributes in inodes, data in
    /// inodes, encryption and folders without case. The last two are refused where they are met.
    pub(super) const READ: u32 = FILETYPE
        | RECOVER
        | META_BG
        | 0x40
        | WIDE
        | 0x100
        | 0x200
        | 0x400
        | CHECKSUM_SEED
        | LARGE_FOLDERS
        | 0x8000
        | 0x1_0000
        | 0x2_0000;
    /// The others by their names.
    pub(super) const NAMES: [(u32, &str); 3] =
        [(0x1, "compression"), (0x8, "journal_dev"), (0x1000, "dirdata")];
}

/// Of the features that matter to writers only, those that matter here too.
mod read_only {
    pub(super) const SPARSE_SUPER: u32 = 0x1;
    pub(super) const GROUP_CHECKSUMS: u32 = 0x10;
    pub(super) const CHECKSUMS: u32 = 0x400;
}

/// `SPARSE_SUPER2` of the compatible features: two backups of the superblock at most.
const SPARSE_SUPER2: u32 = 0x200;
/// `HAS_JOURNAL` of the compatible features.
const HAS_JOURNAL: u32 = 0x4;
/// Most block groups: 128 TiB in groups of 128 MiB.
const MOST_GROUPS: u64 = 1 << 20;

/// Sizes and places.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    /// Bytes of a block.
    pub(super) block: u64,
    /// Blocks in all.
    pub(super) blocks: u64,
    /// The number of the first block of the first group.
    first: u64,
    per_group: u64,
    groups: u64,
    inodes: u32,
    inodes_per_group: u32,
    /// Bytes of an inode.
    pub(super) inode: usize,
    /// Bytes of a group descriptor.
    descriptor: usize,
    features: [u32; 3],
    /// Which of the groups have a copy of the superblock, with `SPARSE_SUPER2`.
    backups: [u32; 2],
    /// Blocks of group descriptors before those that `META_BG` scatters.
    first_meta: u64,
    uuid: Uuid,
    /// What checksums begin with.
    pub(super) seed: u32,
    /// Number of the journal's inode.
    journal: u32,
}

impl Geometry {
    /// Reads the superblock from the first 2048 bytes of a file system in a partition of `length` bytes.
    ///
    /// # Errors
    /// When it is damaged, larger than its partition, or has features that change what is read in unknown ways.
    pub(super) fn decode(start: &[u8], length: u64) -> Result<Self> {
        let superblock = Superblock::decode(start)?;
        let fields = start.get(1024..2048).unwrap_or_default();
        let long = |at| le32(fields, at).unwrap_or(0);
        // Before revision 1 there were no features.
        let old = long(0x4C) == 0;
        let features = if old { [0; 3] } else { superblock.features };
        refuse_features(features[1])?;
        let checksums = features[2] & read_only::CHECKSUMS != 0;
        if checksums && crc32c(START, fields.get(..0x3FC).unwrap_or_default()) != long(0x3FC) {
            return Err(damaged("the superblock's checksum is wrong"));
        }
        let uuid = superblock.uuid;
        let seed = match features[1] & incompatible::CHECKSUM_SEED {
            0 => crc32c(START, uuid.as_bytes()),
            _ => long(0x270),
        };
        let short = features[1] & incompatible::WIDE == 0;
        let descriptor = if short { 32 } else { le16(fields, 0xFE).unwrap_or(0) };
        let inode = if old { 128 } else { le16(fields, 0x58).unwrap_or(0) };
        let first = u64::from(long(0x14));
        let mut geometry = Self {
            block: superblock.block,
            blocks: superblock.blocks,
            first,
            per_group: u64::from(long(0x20)),
            groups: 0,
            inodes: superblock.inodes,
            inodes_per_group: long(0x28),
            inode: usize::from(inode),
            descriptor: usize::from(descriptor),
            features,
            backups: [long(0x24C), long(0x250)],
            first_meta: u64::from(long(0x104)),
            uuid,
            seed,
            journal: long(0xE0),
        };
        geometry.check(length)?;
        geometry.groups = (geometry.blocks - first).div_ceil(geometry.per_group);
        if geometry.groups > MOST_GROUPS {
            let count = geometry.groups;
            return Err(unsupported(format!("an ext4 file system of {count} block groups")));
        }
        if u64::from(geometry.inodes) > geometry.groups * u64::from(geometry.inodes_per_group) {
            return Err(damaged("its groups have no room for its inodes"));
        }
        Ok(geometry)
    }

    /// Fails where the numbers cannot be true.
    fn check(&self, length: u64) -> Result<()> {
        let Self { block, blocks, first, per_group, inode, descriptor, .. } = *self;
        if blocks.checked_mul(block).is_none_or(|size| size > length) {
            let size = format!("a file system of {blocks} blocks of {block} bytes");
            return Err(damaged(format!("{size} is larger than its partition")));
        }
        let bits = 8 * block;
        let sound = first < blocks
            && per_group > 0
            && (1..=bits).contains(&u64::from(self.inodes_per_group))
            && inode.is_power_of_two()
            && inode >= 128
            && inode as u64 <= block
            && descriptor.is_power_of_two()
            && (32..=1024).contains(&descriptor);
        if sound { Ok(()) } else { Err(damaged("the superblock's numbers cannot be true")) }
    }

    /// Whether structures have checksums.
    pub(super) fn has_checksums(&self) -> bool {
        self.features[2] & read_only::CHECKSUMS != 0
    }

    /// Whether entries of folders tell the type of what they name.
    pub(super) fn has_types(&self) -> bool {
        self.features[1] & incompatible::FILETYPE != 0
    }

    /// Whether numbers of blocks have more than 32 bits.
    pub(super) fn is_wide(&self) -> bool {
        self.features[1] & incompatible::WIDE != 0
    }

    /// Whether a folder's length has more than 32 bits.
    pub(super) fn has_large_folders(&self) -> bool {
        self.features[1] & incompatible::LARGE_FOLDERS != 0
    }

    /// The inode of the journal that has changes which are not in their places yet.
    pub(super) fn unfinished_journal(&self) -> Option<u32> {
        let unfinished = self.features[1] & incompatible::RECOVER != 0;
        (unfinished && self.features[0] & HAS_JOURNAL != 0).then_some(self.journal)
    }

    /// Where, in bytes, the descriptors of the groups stand, in pieces that follow each other.
    pub(super) fn descriptors(&self) -> Vec<(u64, usize)> {
        let per_block = self.block / self.descriptor as u64;
        let blocks = self.groups.div_ceil(per_block);
        let within = |block: u64| {
            let left = (self.groups - block * per_block).min(per_block);
            usize::try_from(left).unwrap_or(0) * self.descriptor
        };
        (0..blocks)
            .map(|block| (self.descriptor_block(block) * self.block, within(block)))
            .collect()
    }

    /// The number of the block with the descriptors of number `index`.
    fn descriptor_block(&self, index: u64) -> u64 {
        // Blocks of 1 KiB have the superblock in block 1, all others in block 0.
        let superblock = u64::from(self.block == SUPERBLOCK);
        if self.features[1] & incompatible::META_BG == 0 || index < self.first_meta {
            return superblock + 1 + index;
        }
        let group = index * (self.block / self.descriptor as u64);
        let behind = u64::from(self.has_superblock(group));
        // In clusters of blocks of 1 KiB, group 0 begins with the boot sector's block.
        let boot = u64::from(group == 0 && superblock > self.first);
        self.first + group * self.per_group + behind + boot
    }

    /// Whether a group begins with the superblock or a copy of it.
    fn has_superblock(&self, group: u64) -> bool {
        if self.features[0] & SPARSE_SUPER2 != 0 {
            return group == 0 || self.backups.map(u64::from).contains(&group);
        }
        let power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        group <= 1
            || self.features[2] & read_only::SPARSE_SUPER == 0
            || [3, 5, 7].into_iter().any(power_of)
    }

    /// The blocks where the inodes of the groups begin, from the groups' descriptors.
    ///
    /// # Errors
    /// When a checksum is wrong.
    pub(super) fn tables(&self, descriptors: &[u8]) -> Result<Vec<u64>> {
        let mut tables = Vec::new();
        for (group, descriptor) in (0_u32..).zip(descriptors.chunks_exact(self.descriptor)) {
            if !self.is_descriptor_sound(group, descriptor) {
                return Err(damaged(format!("the checksum of block group {group} is wrong")));
            }
            let low = le32(descriptor, 0x08).unwrap_or(0);
            let high = if self.descriptor >= 64 { le32(descriptor, 0x28) } else { None };
            tables.push(u64::from(high.unwrap_or(0)) << 32 | u64::from(low));
        }
        Ok(tables)
    }

    fn is_descriptor_sound(&self, group: u32, descriptor: &[u8]) -> bool {
        const SUM: usize = 0x1E;
        let (before, behind) = descriptor.split_at(SUM.min(descriptor.len()));
        let behind = behind.get(2..).unwrap_or_default();
        let (stored, group) = (le16(descriptor, SUM), group.to_le_bytes());
        if self.has_checksums() {
            let sum = crc32c(crc32c(self.seed, &group), before);
            let sum = crc32c(crc32c(sum, &[0; 2]), behind);
            return stored.is_some_and(|stored| u32::from(stored) == sum & 0xFFFF);
        }
        if self.features[2] & read_only::GROUP_CHECKSUMS != 0 {
            return stored == Some(crc16(&[self.uuid.as_bytes(), &group, before, behind]));
        }
        true
    }

    /// The group of an inode, and its place among the group's; `None` where there is no such inode.
    pub(super) fn place(&self, inode: u32) -> Option<(usize, u64)> {
        let index = inode.checked_sub(1).filter(|_| inode <= self.inodes)?;
        let group = usize::try_from(index / self.inodes_per_group).ok()?;
        Some((group, u64::from(index % self.inodes_per_group)))
    }

    /// What the checksums of an inode's own structures begin with.
    pub(super) fn seed_of(&self, inode: u32, generation: [u8; 4]) -> u32 {
        crc32c(crc32c(self.seed, &inode.to_le_bytes()), &generation)
    }
}

fn refuse_features(features: u32) -> Result<()> {
    let unknown = features & !incompatible::READ;
    if unknown == 0 {
        return Ok(());
    }
    let named = incompatible::NAMES.iter().find(|(bit, _)| unknown & bit != 0);
    Err(unsupported(match named {
        Some((_, name)) => format!("an ext4 file system with the feature {name}"),
        None => format!("an ext4 file system with unknown features {unknown:#x}"),
    }))
}

/// The generation of an inode, and other fields of four bytes.
pub(super) fn four(bytes_of: &[u8], at: usize) -> [u8; 4] {
    bytes(bytes_of, at).unwrap_or_default()
}
