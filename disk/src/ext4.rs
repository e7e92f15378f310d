//! ext4: how mke2fs is asked for a file system that is the same each time, a reader of any ext2 to ext4, and
//! what takes removed files' bytes out.
//!
//! Checked with e2fsprogs 1.47.0 and 1.47.2; only the latter honours `SOURCE_DATE_EPOCH` and gives
//! equal bytes for copies of a tree.

mod checksum;
mod folder;
mod free;
mod geometry;
mod inode;
mod journal;
mod mapping;
mod tree;
mod volume;
mod xattr;

use std::ffi::OsString;
use std::ops::Add;
use std::path::Path;

use nodekiln_words::{Bytes, Class, Failure, Result, SourceDate};
use uuid::Uuid;

use crate::fields::{bytes, le16, le32};
use crate::ids::Ids;

pub use free::clear_free;
pub(crate) use volume::{Body, Volume};

/// Bytes of a block.
pub const BLOCK: u64 = 4096;
/// Bytes of an inode: room for times beyond 2038 and small extended attributes.
const INODE: u64 = 256;
/// Bytes of the file system for each inode, mke2fs's own default.
const BYTES_PER_INODE: u64 = 16_384;
/// Per cent of blocks kept for root.
const RESERVED_PERCENT: u64 = 1;

/// Features that GRUB 2.06, Linux 4.x and e2fsck 1.45 know. `none` in front drops what the host's
/// mke2fs.conf turns on, such as `orphan_file` and `metadata_csum_seed`.
const FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,\
    flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// What a file system is made from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The image file to write.
    pub image: &'a Path,
    /// Byte in the image file at which the file system begins.
    pub offset: u64,
    /// Its length in bytes, whole blocks of 4 KiB.
    pub size: u64,
    /// Folder or tar file to fill it from, if any.
    pub tree: Option<&'a Path>,
    /// Label, at most 16 bytes.
    pub label: &'a str,
    /// The ids of the disk.
    pub ids: &'a Ids,
}

/// The arguments of mke2fs.
///
/// # Errors
/// When the size is not whole blocks or the label is longer than 16 bytes.
pub fn mke2fs_arguments(request: &Request<'_>) -> Result<Vec<OsString>> {
    let Request { image, offset, size, tree, label, ids } = request;
    if !size.is_multiple_of(BLOCK) || *size == 0 {
        return Err(Failure::input(format!("an ext4 of {size} bytes is not whole 4 KiB blocks")));
    }
    if label.len() > 16 {
        return Err(Failure::input(format!("ext4 label `{label}` is longer than 16 bytes")));
    }
    // Of several -E only the last one counts, so that all of it is one list.
    let extended = format!(
        "offset={offset},hash_seed={},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard",
        ids.hash_seed
    );
    let mut arguments: Vec<OsString> = ["-q", "-F", "-t", "ext4"].map(Into::into).into();
    let mut option = |flag: &str, value: OsString| {
        arguments.push(flag.into());
        arguments.push(value);
    };
    option("-b", BLOCK.to_string().into());
    option("-I", INODE.to_string().into());
    option("-i", BYTES_PER_INODE.to_string().into());
    option("-m", RESERVED_PERCENT.to_string().into());
    option("-G", "16".into());
    option("-J", format!("size={}", journal(*size) / Bytes::MIB).into());
    option("-O", FEATURES.into());
    option("-U", ids.root.to_string().into());
    option("-L", (*label).into());
    option("-E", extended.into());
    if let Some(tree) = tree {
        option("-d", (*tree).into());
    }
    arguments.push((*image).into());
    arguments.push((size / BLOCK).to_string().into());
    Ok(arguments)
}

/// The environment of mke2fs: a fixed time, and no host's configuration.
///
/// Without configuration mke2fs says on standard error that it does not define `ext4`; all that it
/// would define is in the arguments.
#[must_use]
pub fn mke2fs_environment(source_date: SourceDate) -> Vec<(&'static str, String)> {
    let date = source_date.unix().to_string();
    vec![
        ("E2FSPROGS_FAKE_TIME", date.clone()),
        ("MKE2FS_CONFIG", "/dev/null".to_owned()),
        ("SOURCE_DATE_EPOCH", date),
        ("TZ", "UTC".to_owned()),
    ]
}

/// Bytes of the journal of a file system of `size` bytes: mke2fs's own steps, pinned here.
fn journal(size: u64) -> u64 {
    let mib = match size / Bytes::MIB {
        0..128 => 4,
        128..1024 => 16,
        1024..2048 => 32,
        2048..16_384 => 64,
        _ => 128,
    };
    mib * Bytes::MIB
}

/// What a tree holds, in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Regular files, links and other entries that are no directories.
    pub files: u64,
    /// Sum of the lengths of regular files, in bytes.
    pub bytes: u64,
    /// Directories.
    pub directories: u64,
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            bytes: self.bytes + other.bytes,
            directories: self.directories + other.directories,
        }
    }
}

/// Bytes of the smallest ext4 that surely takes a tree, rounded up to MiB.
///
/// Each file is taken to waste half a block, and each directory to need two; inode tables, bitmaps,
/// journal and the reserve are those of [`mke2fs_arguments`].
#[must_use]
pub fn estimate_size(totals: Totals) -> u64 {
    let Totals { files, bytes, directories } = totals;
    let content = bytes + files * (BLOCK / 2 + 64) + directories * 2 * BLOCK;
    let mut size = 8 * Bytes::MIB;
    // What a larger file system spends on itself grows with it: a few rounds settle it.
    for _ in 0..16 {
        let groups = size.div_ceil(BLOCK * 8 * BLOCK);
        let inodes = (size / BYTES_PER_INODE).max(files + directories) * INODE;
        let tables = inodes + groups * 4 * BLOCK + size / 1024 + 4 * Bytes::MIB;
        let reserve = size * RESERVED_PERCENT / 100;
        let next = content + tables + journal(size) + reserve;
        size = size.max(next.next_multiple_of(Bytes::MIB));
    }
    // The inode count is fixed by the size, not by the tree.
    size.max(((files + directories + 16) * BYTES_PER_INODE).next_multiple_of(Bytes::MIB))
}

/// What an ext4 superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// UUID of the file system.
    pub uuid: Uuid,
    /// Label.
    pub label: String,
    /// Bytes of a block.
    pub block: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks that are free.
    pub free_blocks: u64,
    /// Inodes in all.
    pub inodes: u32,
    /// Inodes that are free.
    pub free_inodes: u32,
    /// Compatible, incompatible and read-only compatible feature bits.
    pub features: [u32; 3],
    /// Whether the file system was unmounted cleanly and has no known error.
    pub clean: bool,
    /// Seed of the directory hashes.
    pub hash_seed: Uuid,
    /// When it was made, in UTC seconds.
    pub made: u32,
}

impl Superblock {
    /// Bytes from the start of a file system that hold the superblock.
    pub const END: usize = 2048;

    /// Reads the superblock from the first 2048 bytes of a file system
    /// (Linux, `Documentation/filesystems/ext4/super.rst`).
    ///
    /// # Errors
    /// When there is no ext superblock or its numbers cannot be true.
    pub fn decode(start: &[u8]) -> Result<Self> {
        let bad = |what: &str| Failure::input(format!("ext4 superblock at offset 1024: {what}"));
        let block = start.get(1024..2048).ok_or_else(|| bad("cut off"))?;
        if le16(block, 0x38) != Some(0xEF53) {
            return Err(bad("no magic number at offset 1080"));
        }
        Self::fields(block).ok_or_else(|| bad("block size or block count is out of bounds"))
    }

    fn fields(block: &[u8]) -> Option<Self> {
        let wide = |low: usize, high: usize| {
            Some(u64::from(le32(block, low)?) | u64::from(le32(block, high)?) << 32)
        };
        let features = [le32(block, 0x5C)?, le32(block, 0x60)?, le32(block, 0x64)?];
        let is_wide = features[1] & 0x80 != 0;
        let count =
            |low, high| if is_wide { wide(low, high) } else { le32(block, low).map(u64::from) };
        let label: [u8; 16] = bytes(block, 0x78)?;
        let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
        let (blocks, free_blocks) = (count(0x04, 0x150)?, count(0x0C, 0x158)?);
        let shift = le32(block, 0x18).filter(|shift| *shift <= 6)?;
        (free_blocks <= blocks).then_some(())?;
        Some(Self {
            uuid: Uuid::from_bytes(bytes(block, 0x68)?),
            label: String::from_utf8_lossy(label).into_owned(),
            block: 1024 << shift,
            blocks,
            free_blocks,
            inodes: le32(block, 0x00)?,
            free_inodes: le32(block, 0x10)?,
            features,
            clean: le16(block, 0x3A)? & 0x3 == 1,
            hash_seed: Uuid::from_bytes(bytes(block, 0xEC)?),
            made: le32(block, 0x108)?,
        })
    }
}

/// Something in a file system that cannot be.
fn damaged(what: impl Into<String>) -> Failure {
    Failure::input(format!("damaged ext4: {}", what.into()))
}

/// Something in a file system that is not read here.
fn unsupported(what: impl Into<String>) -> Failure {
    Failure::new(Class::Unsupported, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_extended_list_and_one_feature_list() {
        let ids = Ids::derive(Uuid::from_u128(1));
        let request = Request {
            image: Path::new("root.img"),
            offset: 0,
            size: 1 << 30,
            tree: Some(Path::new("tree")),
            label: "root",
            ids: &ids,
        };
        let arguments = mke2fs_arguments(&request).unwrap();
        for flag in ["-E", "-O", "-U", "-d"] {
            assert_eq!(arguments.iter().filter(|argument| *argument == flag).count(), 1, "{flag}");
        }
        assert_eq!(arguments.last(), Some(&"262144".into()));
        assert!(mke2fs_arguments(&Request { size: 1 << 30 | 512, ..request }).is_err());
        assert!(mke2fs_arguments(&Request { label: "seventeen letters", ..request }).is_err());
    }

    #[test]
    fn estimates_grow_with_content_and_with_the_number_of_files() {
        let size = |files, bytes| estimate_size(Totals { files, bytes, directories: 10 });
        assert!(size(10, 1 << 30) > (1 << 30) + (16 << 20));
        assert!(size(10, 1 << 30) < (1 << 30) + (1 << 30) / 8);
        assert!(size(100_000, 1 << 20) > 100_000 * 16_384);
    }

    #[test]
    fn what_is_no_superblock_is_refused() {
        assert!(Superblock::decode(&[]).is_err());
        assert!(Superblock::decode(&[0; 2048]).is_err());
        let mut block = vec![0xFF; 2048];
        block[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xEF]);
        assert!(Superblock::decode(&block).is_err());
    }
}
