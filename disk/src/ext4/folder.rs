//! Names in a folder (Linux, `Documentation/filesystems/ext4/directory.rst`). Blocks of hashes among those of
//! names look like empty ones, so that all are read one after the other.

use nodekiln_words::Result;

use super::checksum::crc32c;
use super::inode::Inode;
use super::volume::{Body, Volume};
use super::{damaged, unsupported};
use crate::fields::{le16, le32};
use crate::files::Listing;

/// Most bytes of a folder's blocks: those of a folder that had many names stay.
const MOST_BYTES: u64 = 64 << 20;
/// Bytes of an entry without its name.
const HEAD: usize = 8;
/// Bytes of the entry of no name that a block's checksum stands in, and what marks it.
const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xDE;

/// Reads the folder `inode`.
///
/// # Errors
/// When it is damaged or encrypted, or has more than 131,072 names or 64 MiB of blocks.
pub(super) fn read(volume: &Volume, inode: &Inode) -> Result<Listing> {
    let number = inode.number;
    if inode.is_encrypted() {
        return Err(unsupported(format!(
            "the names in the folder of inode {number} are encrypted"
        )));
    }
    let mut listing = Listing::of("ext4", u64::from(number));
    match volume.body(inode)? {
        // The number of the folder above stands in front of the names.
        Body::Inline(bytes) => {
            let (within, behind) = bytes.split_at(inode.body().len().min(bytes.len()));
            for part in [within.get(4..).unwrap_or_default(), behind] {
                add(&mut listing, part, volume.geometry.has_types())?;
            }
        }
        Body::Blocks(runs) => {
            let block = volume.geometry.block;
            if inode.size > MOST_BYTES {
                let what = format!("a folder of {} bytes, inode {number}", inode.size);
                return Err(unsupported(what));
            }
            let whole = inode.size / block;
            let stored: u64 = runs.iter().map(|run| run.count).sum();
            if !inode.size.is_multiple_of(block) || stored < whole {
                return Err(listing.damaged("holes"));
            }
            for run in runs {
                for index in (0..run.count).take_while(|index| run.logical + index < whole) {
                    let bytes = volume.block(run.physical + index)?;
                    if volume.geometry.has_checksums() {
                        check(&bytes, run.logical + index, inode)?;
                    }
                    add(&mut listing, &bytes, volume.geometry.has_types())?;
                }
            }
        }
    }
    listing.sorted()
}

/// Adds the names in a block.
fn add(listing: &mut Listing, block: &[u8], has_types: bool) -> Result<()> {
    let mut rest = block;
    while !rest.is_empty() {
        let length = le16(rest, 4).map_or(0, |length| entry_length(length, block.len()));
        let endless = || listing.damaged("an entry without end");
        let (entry, behind) = rest.split_at_checked(length).ok_or_else(endless)?;
        if length < HEAD || !length.is_multiple_of(4) {
            return Err(endless());
        }
        rest = behind;
        let inode = le32(entry, 0).unwrap_or(0);
        if inode == 0 {
            continue;
        }
        let name = match has_types {
            true => entry.get(6).copied().map_or(0, usize::from),
            false => le16(entry, 6).map_or(0, usize::from),
        };
        let name = entry.get(HEAD..HEAD + name);
        let name = name.ok_or_else(|| listing.damaged("a name that is cut off"))?;
        listing.push(name, u64::from(inode))?;
    }
    Ok(())
}

/// The length of an entry; the lower bits of one in a block of 64 KiB and more are its upper ones.
fn entry_length(stored: u16, block: usize) -> usize {
    let stored = usize::from(stored);
    match stored {
        0 | 0xFFFF if block >= 1 << 16 => block,
        _ if block < 1 << 16 => stored,
        _ => stored & 0xFFFC | (stored & 0x3) << 16,
    }
}

/// Holds a block of the folder `inode` against its checksum.
fn check(block: &[u8], logical: u64, inode: &Inode) -> Result<()> {
    let sound = match hashes(block, logical).filter(|_| inode.is_indexed()) {
        Some(at) => are_hashes_sound(block, at, inode.seed),
        None => {
            let (bytes, tail) = block.split_at(block.len().saturating_sub(TAIL));
            let marked = le32(tail, 0) == Some(0)
                && le16(tail, 4) == Some(12)
                && tail.get(7) == Some(&TAIL_TYPE);
            marked && le32(tail, 8) == Some(crc32c(inode.seed, bytes))
        }
    };
    match sound {
        true => Ok(()),
        false => {
            let number = inode.number;
            Err(damaged(format!(
                "block {logical} of the folder of inode {number} is damaged: its checksum is wrong"
            )))
        }
    }
}

/// Where the count of hashes stands in a block of a folder with hashes; `None` for a block of names.
fn hashes(block: &[u8], logical: u64) -> Option<usize> {
    const ROOT: usize = 24;
    let whole = le16(block, 4).map(|length| entry_length(length, block.len())) == Some(block.len());
    match logical {
        // Behind `.`, `..` and the description, which tells its own length.
        0 => Some(ROOT + block.get(ROOT + 5).copied().map_or(0, usize::from)),
        _ if le32(block, 0) == Some(0) && whole => Some(HEAD),
        _ => None,
    }
}

fn are_hashes_sound(block: &[u8], at: usize, seed: u32) -> bool {
    let number = |at| le16(block, at).map_or(0, usize::from);
    let (limit, count) = (number(at), number(at + 2));
    let (end, tail) = (at + count * 8, at + limit * 8);
    if count > limit {
        return false;
    }
    let (Some(bytes), Some(reserved)) = (block.get(..end), block.get(tail..tail + 4)) else {
        return false;
    };
    let sum = crc32c(crc32c(crc32c(seed, bytes), reserved), &[0; 4]);
    le32(block, tail + 4) == Some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(inode: u32, length: u16, name: &[u8]) -> Vec<u8> {
        let mut entry = inode.to_le_bytes().to_vec();
        entry.extend(length.to_le_bytes());
        entry.extend([u8::try_from(name.len()).unwrap(), 1]);
        entry.extend(name);
        entry.resize(usize::from(length).max(entry.len()), 0);
        entry
    }

    fn listed(blocks: &[&[u8]]) -> Result<Listing> {
        let mut listing = Listing::of("ext4", 2);
        blocks.iter().try_for_each(|block| add(&mut listing, block, true))?;
        listing.sorted()
    }

    #[test]
    fn names_are_sorted_by_their_bytes_and_found() {
        let block = [
            entry(2, 12, b"."),
            entry(2, 12, b".."),
            entry(13, 12, b"b"),
            entry(0, 12, b"old"),
            entry(12, 16, b"a\xFF"),
            entry(14, 12, b"a"),
        ]
        .concat();
        let listing = listed(&[&block, &entry(15, 12, b"B")]).unwrap();
        let names: Vec<&[u8]> = listing.names().collect();
        assert_eq!(names, [&b"B"[..], b"a", b"a\xFF", b"b"]);
        assert_eq!(listing.find(b"a\xFF"), Some(12));
        assert_eq!(listing.find(b"old"), None);
        assert_eq!(listing.get(3), Some((&b"b"[..], 13)));
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for (block, told) in [
            (entry(12, 4, b""), "without end"),
            (entry(12, 14, b"abc"), "without end"),
            ([entry(12, 12, b"a"), vec![0; 12]].concat(), "without end"),
            (entry(12, 12, b"a")[..11].to_vec(), "without end"),
            (entry(12, 12, b"abcde")[..12].to_vec(), "cut off"),
            (entry(12, 12, b""), "that is none"),
            (entry(12, 12, b"a/b"), "that is none"),
            (entry(12, 12, b"a\0b"), "that is none"),
            ([entry(12, 12, b"a"), entry(13, 12, b"a")].concat(), "`a` twice"),
        ] {
            let failure = listed(&[&block]).unwrap_err().to_string();
            assert!(failure.contains(told), "{failure}");
        }
    }

    #[test]
    fn entries_of_large_blocks_have_lengths_of_eighteen_bits() {
        assert_eq!(entry_length(0xFFFF, 1 << 16), 1 << 16);
        assert_eq!(entry_length(0, 1 << 16), 1 << 16);
        assert_eq!(entry_length(0xFFFC, 1 << 16), 0xFFFC);
        assert_eq!(entry_length(12, 1 << 12), 12);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_names_or_an_error(
            block in prop::collection::vec(prop_oneof![Just(0_u8), Just(12), any::<u8>()], 0..200),
            has_types in any::<bool>(),
        ) {
            let mut listing = Listing::of("ext4", 2);
            if add(&mut listing, &block, has_types).is_ok() {
                prop_assert!(listing.names().all(|name| !name.is_empty()));
            }
            let _ = are_hashes_sound(&block, hashes(&block, 0).unwrap_or(0), 1);
        }
    }
}
