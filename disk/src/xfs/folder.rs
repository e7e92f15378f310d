//! Names in a folder: in its inode, or in blocks, of which those of hashes and of free space stand where no name
//! does.

use nodekiln_words::Result;

use super::head::NAMES;
use super::inode::{Fork, Form, Inode};
use super::volume::Volume;
use super::{mapping, unsupported};
use crate::fields::{be16, be32, be64};
use crate::files::Listing;

/// Most bytes of a folder's blocks of names: those of a folder that had many names stay.
const MOST_BYTES: u64 = 64 << 20;
/// What blocks begin with: the only one of a folder, which has the hashes at its end, and one of several.
const ONLY: [&[u8]; 2] = [b"XD2B", b"XDB3"];
const ONE: [&[u8]; 2] = [b"XD2D", b"XDD3"];
/// Bytes in front of the entries: of version 4, and of version 5.
const HEADS: [usize; 2] = [16, 64];
/// Bytes of a hash, and of their count.
const HASH: usize = 8;
const COUNT: usize = 8;
/// What a free place begins with.
const FREE: u16 = 0xFFFF;

/// Reads the folder `inode`.
///
/// # Errors
/// When it is damaged, or has more than 131,072 names or 64 MiB of blocks.
pub(super) fn read(volume: &Volume, inode: &Inode) -> Result<Listing> {
    let mut listing = Listing::of("XFS", inode.number);
    match inode.form(Fork::Content) {
        Some(Form::Local) => {
            let length = usize::try_from(inode.size).unwrap_or(usize::MAX);
            let bytes = inode.bytes(Fork::Content).get(..length);
            let bytes = bytes.ok_or_else(|| listing.damaged("more names than room"))?;
            short(&mut listing, bytes, volume.geometry.has_types)?;
        }
        _ => blocks(volume, inode, &mut listing)?,
    }
    listing.sorted()
}

/// Adds names that stand in the inode: behind two counts and the folder above, each with its length, two bytes of
/// its place in a block that is none, perhaps its type, and its inode. The second count is of inodes of more than
/// 32 bits; where there are some, all have 64.
fn short(listing: &mut Listing, bytes: &[u8], has_types: bool) -> Result<()> {
    let (count, long) = match bytes {
        [count, long, ..] => (*count, *long > 0),
        _ => return Err(listing.damaged("names that are cut off")),
    };
    let width = if long { 8 } else { 4 };
    let mut rest = bytes.get(2 + width..).unwrap_or_default();
    for _ in 0..count {
        let length = rest.first().map_or(0, |length| usize::from(*length));
        let at = 3 + length + usize::from(has_types);
        let inode = match long {
            true => be64(rest, at),
            false => be32(rest, at).map(u64::from),
        };
        let (Some(name), Some(inode)) = (rest.get(3..3 + length), inode) else {
            return Err(listing.damaged("names that are cut off"));
        };
        listing.push(name, inode)?;
        rest = rest.get(at + width..).unwrap_or_default();
    }
    match rest {
        [] => Ok(()),
        _ => Err(listing.damaged("bytes behind its last name")),
    }
}

/// Adds the names in all blocks of names: those from the start of the folder to its size. Some may be missing, where
/// all names of one were removed.
fn blocks(volume: &Volume, inode: &Inode, listing: &mut Listing) -> Result<()> {
    let geometry = &volume.geometry;
    let length = geometry.folder_blocks * geometry.block;
    if inode.size > MOST_BYTES {
        let what = format!("a folder of {} bytes, inode {}", inode.size, inode.number);
        return Err(unsupported(what));
    }
    if inode.size == 0 || !inode.size.is_multiple_of(length) {
        return Err(listing.damaged("half a block"));
    }
    let end = inode.size / geometry.block;
    let runs = mapping::runs(volume, inode, Fork::Content)?;
    let each = runs
        .iter()
        .flat_map(|run| (0..run.count).map(|index| (run.logical + index, run.physical + index)));
    let (mut bytes, mut first) = (Vec::new(), (0, 0));
    for (logical, physical) in each.take_while(|(logical, _)| *logical < end) {
        let index = logical % geometry.folder_blocks;
        if index == 0 && bytes.is_empty() {
            first = (logical, physical);
        }
        if bytes.len() as u64 != index * geometry.block || logical != first.0 + index {
            return Err(listing.damaged("half a block"));
        }
        bytes.extend_from_slice(&volume.block(physical)?);
        if index + 1 == geometry.folder_blocks {
            if geometry.is_sealed {
                NAMES.check(geometry, &bytes, first.1, inode.number, "names")?;
            }
            let is_only = inode.size == length;
            add(listing, &bytes, geometry.is_sealed, geometry.has_types, is_only)?;
            bytes.clear();
        }
    }
    match bytes.is_empty() {
        true => Ok(()),
        false => Err(listing.damaged("half a block")),
    }
}

/// Adds the names in a block, which `is_only` tells to be the folder's only one.
fn add(
    listing: &mut Listing,
    block: &[u8],
    is_sealed: bool,
    has_types: bool,
    is_only: bool,
) -> Result<()> {
    let form = usize::from(is_sealed);
    let end = match block {
        _ if block.starts_with(ONE[form]) => Some(block.len()),
        _ if block.starts_with(ONLY[form]) && is_only => hashes(block),
        _ => None,
    };
    let end = end.ok_or_else(|| listing.damaged("a block that has no names"))?;
    let mut at = HEADS[form];
    while at < end {
        let endless = || listing.damaged("an entry without end");
        let entry = block.get(at..end).unwrap_or_default();
        if be16(entry, 0) == Some(FREE) {
            let length = be16(entry, 2).map_or(0, usize::from);
            if length == 0 || !length.is_multiple_of(8) || length > entry.len() {
                return Err(endless());
            }
            at += length;
            continue;
        }
        let name = entry.get(8).copied().map_or(0, usize::from);
        // An inode, a length, the name, perhaps a type, and the entry's own place.
        let length = (8 + 1 + name + usize::from(has_types) + 2).next_multiple_of(8);
        if length > entry.len() || be16(entry, length - 2).map(usize::from) != Some(at) {
            return Err(endless());
        }
        let inode = be64(entry, 0).unwrap_or(0);
        let name = entry.get(9..9 + name).ok_or_else(endless)?;
        listing.push(name, inode)?;
        at += length;
    }
    Ok(())
}

/// Where the hashes at the end of a folder's only block begin.
fn hashes(block: &[u8]) -> Option<usize> {
    let tail = block.len().checked_sub(COUNT)?;
    let count = usize::try_from(be32(block, tail)?).ok()?;
    tail.checked_sub(count.checked_mul(HASH)?)
}
