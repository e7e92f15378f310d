//! An inode as it is stored (Linux, `Documentation/filesystems/ext4/inodes.rst`).

use std::ops::Range;

use nodekiln_words::Result;

use super::checksum::crc32c;
use super::damaged;
use super::geometry::{Geometry, four};
use crate::fields::{le16, le32};
use crate::files::Kind;
use crate::pages::Slice;

/// Bytes of the part that every inode has.
const OLD: usize = 128;
/// Where blocks, extents, data or a short link's target stand.
const BODY: Range<usize> = 0x28..0x64;
/// Places of the two halves of the checksum.
const SUM_LOW: usize = 0x7C;
const SUM_HIGH: usize = 0x82;

/// Flags of an inode.
mod flags {
    pub(super) const ENCRYPTED: u32 = 0x800;
    pub(super) const INDEX: u32 = 0x1000;
    pub(super) const EXTENTS: u32 = 0x8_0000;
    pub(super) const VALUE: u32 = 0x20_0000;
    pub(super) const INLINE: u32 = 0x1000_0000;
    pub(super) const NO_CASE: u32 = 0x4000_0000;
}

/// An inode that is in use.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    pub(super) number: u32,
    pub(super) kind: Kind,
    /// Bytes of what it holds.
    pub(super) size: u64,
    /// What checksums of its own structures begin with.
    pub(super) seed: u32,
    raw: Slice,
}

impl Inode {
    /// Takes the inode of this number from its bytes.
    ///
    /// # Errors
    /// When it is free, or its checksum or a field is wrong.
    pub(super) fn decode(number: u32, raw: Slice, geometry: &Geometry) -> Result<Self> {
        let bad = |what: &str| damaged(format!("inode {number} {what}"));
        let seed = geometry.seed_of(number, four(&raw, 0x64));
        let mode = le16(&raw, 0).unwrap_or(0);
        if mode == 0 || le16(&raw, 0x1A) == Some(0) {
            return Err(bad("is free and in use"));
        }
        if geometry.has_checksums() && !is_sound(&raw, seed) {
            return Err(bad("has a wrong checksum"));
        }
        let kind = kind(mode, &raw).ok_or_else(|| bad("is of no known type"))?;
        let high = match kind {
            Kind::File => true,
            Kind::Folder => geometry.has_large_folders(),
            _ => false,
        };
        let high = if high { le32(&raw, 0x6C).unwrap_or(0) } else { 0 };
        let size = u64::from(high) << 32 | u64::from(le32(&raw, 0x04).unwrap_or(0));
        if i64::try_from(size).is_err() {
            return Err(bad("is larger than any file"));
        }
        if OLD + extra(&raw) > raw.len() || !extra(&raw).is_multiple_of(4) {
            return Err(bad("has more fields than room"));
        }
        Ok(Self { number, kind, size, seed, raw })
    }

    fn long(&self, at: usize) -> u32 {
        le32(&self.raw, at).unwrap_or(0)
    }

    fn short(&self, at: usize) -> u16 {
        le16(&self.raw, at).unwrap_or(0)
    }

    /// Permissions with set-user-id, set-group-id and sticky.
    pub(super) fn mode(&self) -> u16 {
        self.short(0) & 0o7777
    }

    pub(super) fn uid(&self) -> u32 {
        u32::from(self.short(0x78)) << 16 | u32::from(self.short(0x02))
    }

    pub(super) fn gid(&self) -> u32 {
        u32::from(self.short(0x7A)) << 16 | u32::from(self.short(0x18))
    }

    pub(super) fn links(&self) -> u32 {
        u32::from(self.short(0x1A))
    }

    /// When its content changed, in UTC seconds.
    pub(super) fn modified(&self) -> i64 {
        const EXTRA: usize = 0x88;
        let seconds = i64::from(i32::from_le_bytes(four(&self.raw, 0x10)));
        // Two bits more, behind which nanoseconds stand.
        let more = if OLD + extra(&self.raw) >= EXTRA + 4 { self.long(EXTRA) & 0x3 } else { 0 };
        seconds + (i64::from(more) << 32)
    }

    /// Whether content and names are encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.long(0x20) & flags::ENCRYPTED != 0
    }

    /// Whether it is a folder with blocks of hashes among those of names.
    pub(super) fn is_indexed(&self) -> bool {
        self.long(0x20) & flags::INDEX != 0
    }

    pub(super) fn has_extents(&self) -> bool {
        self.long(0x20) & flags::EXTENTS != 0
    }

    /// Whether it holds the value of an attribute.
    pub(super) fn is_value(&self) -> bool {
        self.long(0x20) & flags::VALUE != 0
    }

    /// Whether its content stands in the inode itself.
    pub(super) fn is_inline(&self) -> bool {
        self.long(0x20) & flags::INLINE != 0
    }

    /// Whether names of the folder are looked up whatever their case.
    pub(super) fn is_without_case(&self) -> bool {
        self.long(0x20) & flags::NO_CASE != 0
    }

    /// Whether its content is a link's target in place of the numbers of blocks.
    pub(super) fn is_short_link(&self) -> bool {
        let fits = self.size < BODY.len() as u64;
        self.kind == Kind::Link && fits && !self.has_extents() && !self.is_inline()
    }

    /// The 60 bytes of blocks, extents, data or a short link's target.
    pub(super) fn body(&self) -> &[u8] {
        self.raw.get(BODY).unwrap_or_default()
    }

    /// The number of the block with its extended attributes; 0 where it has none.
    pub(super) fn attribute_block(&self, geometry: &Geometry) -> u64 {
        let high = if geometry.is_wide() { self.short(0x76) } else { 0 };
        u64::from(high) << 32 | u64::from(self.long(0x68))
    }

    /// What stands behind its last field: extended attributes, if it has any there.
    pub(super) fn behind(&self) -> &[u8] {
        match extra(&self.raw) {
            0 => &[],
            extra => self.raw.get(OLD + extra..).unwrap_or_default(),
        }
    }
}

/// Bytes of fields behind the part that every inode has.
fn extra(raw: &[u8]) -> usize {
    if raw.len() > OLD { le16(raw, OLD).map_or(0, usize::from) } else { 0 }
}

fn is_sound(raw: &[u8], seed: u32) -> bool {
    let part = |range: Range<usize>| raw.get(range).unwrap_or_default();
    let sum = crc32c(crc32c(seed, part(0..SUM_LOW)), &[0; 2]);
    let mut sum = crc32c(sum, part(SUM_LOW + 2..OLD));
    let low = u32::from(le16(raw, SUM_LOW).unwrap_or(0));
    if raw.len() == OLD {
        return low == sum & 0xFFFF;
    }
    sum = crc32c(sum, part(OLD..SUM_HIGH));
    if OLD + extra(raw) < SUM_HIGH + 2 {
        return low == crc32c(sum, part(SUM_HIGH..raw.len())) & 0xFFFF;
    }
    sum = crc32c(crc32c(sum, &[0; 2]), part(SUM_HIGH + 2..raw.len()));
    sum == u32::from(le16(raw, SUM_HIGH).unwrap_or(0)) << 16 | low
}

fn kind(mode: u16, raw: &[u8]) -> Option<Kind> {
    Some(match mode >> 12 {
        0x1 => Kind::Pipe,
        0x2 => {
            let (major, minor) = device(raw);
            Kind::CharacterDevice { major, minor }
        }
        0x4 => Kind::Folder,
        0x6 => {
            let (major, minor) = device(raw);
            Kind::BlockDevice { major, minor }
        }
        0x8 => Kind::File,
        0xA => Kind::Link,
        0xC => Kind::Socket,
        _ => return None,
    })
}

/// A device's numbers, in the old form of 8 bits each or the new one of 12 and 20.
fn device(raw: &[u8]) -> (u32, u32) {
    let (old, new) = (le32(raw, 0x28).unwrap_or(0), le32(raw, 0x2C).unwrap_or(0));
    match old {
        0 => (new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xF_FF00),
        _ => (old >> 8 & 0xFF, old & 0xFF),
    }
}
