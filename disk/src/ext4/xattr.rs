//! Extended attributes (Linux, `Documentation/filesystems/ext4/attributes.rst`): behind an inode's fields, in a
//! block of their own, and values in inodes of their own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt as _;

use nodekiln_words::{Failure, Result};

use super::checksum::crc32c;
use super::damaged;
use super::inode::Inode;
use super::volume::{Body, Volume};
use crate::fields::{le16, le32};

/// What both places begin with.
const MAGIC: u32 = 0xEA02_0000;
/// Bytes in front of the entries in a block.
const BLOCK_HEAD: usize = 32;
/// Where in a block its checksum stands.
const SUM: usize = 0x10;
/// Bytes of an entry without its name.
const HEAD: usize = 16;
/// Bytes of a value at most, as Linux has it (`XATTR_SIZE_MAX`).
const MOST_VALUE: u32 = 64 << 10;
/// Bytes of all values of an inode at most: sixteen of the longest.
const MOST_VALUES: usize = 1 << 20;
/// What the numbers in front of names stand for.
const SYSTEM: u8 = 7;
const ENCRYPTION: u8 = 9;
const PREFIXES: [(u8, &str); 9] = [
    (0, ""),
    (1, "user."),
    (2, "system.posix_acl_access"),
    (3, "system.posix_acl_default"),
    (4, "trusted."),
    (6, "security."),
    (SYSTEM, "system."),
    (8, "system.richacl"),
    (10, "gnu."),
];
/// The two that are access control lists, which the disk has in a shorter form.
const ACCESS_LISTS: [u8; 2] = [2, 3];
/// Tags of an access control list's entries that have an id: of a user and of a group.
const WITH_ID: [u16; 2] = [0x02, 0x08];

/// Extended attributes by their names as `getxattr(2)` has them.
pub(crate) type Attributes = BTreeMap<OsString, Vec<u8>>;

/// An attribute as it is stored.
#[derive(Debug, PartialEq, Eq)]
struct Stored<'a> {
    index: u8,
    name: &'a [u8],
    value: Value,
}

#[derive(Debug, PartialEq, Eq)]
enum Value {
    /// Bytes of the same place.
    Here(Range<usize>),
    /// An inode of this number and length.
    Inode(u32, u32),
}

/// All attributes of `inode` that Linux tells.
///
/// # Errors
/// When they are damaged.
pub(super) fn of(volume: &Volume, inode: &Inode) -> Result<Attributes> {
    let mut found = Attributes::new();
    let mut left = MOST_VALUES;
    each(volume, inode, &mut |stored, area| {
        // What content stands in the inode, and how it is encrypted, are not told.
        if stored.index == ENCRYPTION || (stored.index == SYSTEM && stored.name == b"data") {
            return Ok(());
        }
        let bad = |what: &str| damaged(format!("inode {} has {what}", inode.number));
        let mut value = match &stored.value {
            Value::Here(range) => area.get(range.clone()).unwrap_or_default().to_vec(),
            Value::Inode(number, size) => value_of(volume, *number, *size)?,
        };
        let fits = left.checked_sub(value.len());
        left = fits.ok_or_else(|| bad("more than 1 MiB of attributes"))?;
        if ACCESS_LISTS.contains(&stored.index) {
            value = access_list(&value).ok_or_else(|| bad("a damaged access control list"))?;
        }
        let name = name(stored).ok_or_else(|| {
            let index = stored.index;
            bad(&format!("an attribute of the unknown kind {index}"))
        })?;
        match found.insert(OsString::from_vec(name), value) {
            None => Ok(()),
            Some(_) => Err(bad("an attribute twice")),
        }
    })?;
    Ok(found)
}

/// What of an inode's own content stands in its attribute `system.data`.
///
/// # Errors
/// When attributes are damaged.
pub(super) fn data(volume: &Volume, inode: &Inode) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    each(volume, inode, &mut |stored, area| {
        if let (SYSTEM, b"data", Value::Here(range)) = (stored.index, stored.name, &stored.value) {
            data = area.get(range.clone()).unwrap_or_default().to_vec();
        }
        Ok(())
    })?;
    Ok(data)
}

type Visit<'a> = &'a mut dyn FnMut(&Stored<'_>, &[u8]) -> Result<()>;

/// Calls `visit` with each attribute and the bytes that its value is a part of.
fn each(volume: &Volume, inode: &Inode, visit: Visit<'_>) -> Result<()> {
    let number = inode.number;
    let context = |failure: Failure| failure.context(format!("attributes of inode {number}"));
    let behind = inode.behind();
    if le32(behind, 0) == Some(MAGIC) {
        let area = behind.get(4..).unwrap_or_default();
        for stored in entries(area, 0).map_err(context)? {
            visit(&stored, area)?;
        }
    }
    let number = inode.attribute_block(&volume.geometry);
    if number == 0 {
        return Ok(());
    }
    let block = volume.block(number).map_err(context)?;
    if le32(&block, 0) != Some(MAGIC) || le32(&block, 8) != Some(1) {
        return Err(context(damaged(format!("block {number} has none"))));
    }
    if volume.geometry.has_checksums() {
        let (before, behind) = block.split_at(SUM.min(block.len()));
        let sum = crc32c(crc32c(volume.geometry.seed, &number.to_le_bytes()), before);
        let sum = crc32c(crc32c(sum, &[0; 4]), behind.get(4..).unwrap_or_default());
        if le32(behind, 0) != Some(sum) {
            return Err(context(damaged(format!("block {number} has a wrong checksum"))));
        }
    }
    for stored in entries(&block, BLOCK_HEAD).map_err(context)? {
        visit(&stored, &block)?;
    }
    Ok(())
}

/// The entries in `area` from `start` on. Places of values count from the start of the area, and lie behind all
/// entries.
fn entries(area: &[u8], start: usize) -> Result<Vec<Stored<'_>>> {
    let bad = |what: &str| damaged(what.to_owned());
    let mut found = Vec::new();
    let mut rest = area.get(start..).unwrap_or_default();
    // Four zeros end the entries, or the area does.
    while le32(rest, 0).is_some_and(|start| start != 0) {
        let field = |at| le32(rest, at).ok_or_else(|| bad("an entry is cut off"));
        let (inode, size) = (field(4)?, field(8)?);
        let (length, index) = (usize::from(rest[0]), rest[1]);
        let end = HEAD + length.next_multiple_of(4);
        let name = rest.get(HEAD..HEAD + length).filter(|_| end <= rest.len());
        let name = name.ok_or_else(|| bad("a name is cut off"))?;
        if name.contains(&0) {
            return Err(bad("a name has a zero in it"));
        }
        if size > MOST_VALUE {
            return Err(bad("a value is longer than any"));
        }
        let at = le16(rest, 2).map_or(0, usize::from);
        let value = match inode {
            0 => Value::Here(at..at + usize::try_from(size).unwrap_or(usize::MAX)),
            inode => Value::Inode(inode, size),
        };
        found.push(Stored { index, name, value });
        rest = rest.get(end..).unwrap_or_default();
    }
    let values = area.len() - rest.len();
    let outside = |stored: &Stored<'_>| match &stored.value {
        Value::Here(range) => !range.is_empty() && (range.start < values || range.end > area.len()),
        Value::Inode(..) => false,
    };
    if found.iter().any(outside) {
        return Err(bad("a value lies outside of its place"));
    }
    Ok(found)
}

fn name(stored: &Stored<'_>) -> Option<Vec<u8>> {
    let (_, prefix) = PREFIXES.iter().find(|(index, _)| *index == stored.index)?;
    Some([prefix.as_bytes(), stored.name].concat())
}

/// A value of `size` bytes that is the content of an inode of its own.
fn value_of(volume: &Volume, number: u32, size: u32) -> Result<Vec<u8>> {
    let inode = volume.inode(number)?;
    let bad = || damaged(format!("inode {number} holds no attribute of {size} bytes"));
    if !inode.is_value() || inode.is_inline() || inode.size != u64::from(size) {
        return Err(bad());
    }
    let Body::Blocks(runs) = volume.body(&inode)? else { return Err(bad()) };
    let mut value = vec![0; usize::try_from(size).unwrap_or(0)];
    volume.read_runs(&runs, 0, &mut value)?;
    Ok(value)
}

/// An access control list in the form that `getxattr(2)` gives (Linux, `include/uapi/linux/posix_acl_xattr.h`),
/// from the disk's (`fs/ext4/acl.h`).
fn access_list(stored: &[u8]) -> Option<Vec<u8>> {
    const STORED_VERSION: u32 = 1;
    const TOLD_VERSION: u32 = 2;
    const NOBODY: u32 = u32::MAX;
    if le32(stored, 0)? != STORED_VERSION {
        return None;
    }
    let mut told = TOLD_VERSION.to_le_bytes().to_vec();
    let mut rest = stored.get(4..)?;
    while !rest.is_empty() {
        let has_id = WITH_ID.contains(&le16(rest, 0)?);
        let id = if has_id { le32(rest, 4)? } else { NOBODY };
        told.extend_from_slice(rest.get(..4)?);
        told.extend_from_slice(&id.to_le_bytes());
        rest = rest.get(if has_id { 8 } else { 4 }..)?;
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &[u8], at: u16, size: u32) -> Vec<u8> {
        let mut entry = vec![u8::try_from(name.len()).unwrap(), 1];
        entry.extend(at.to_le_bytes());
        entry.extend([0; 4]);
        entry.extend(size.to_le_bytes());
        entry.extend([0; 4]);
        entry.extend(name);
        entry.resize(entry.len().next_multiple_of(4), 0);
        entry
    }

    fn area(parts: &[Vec<u8>], length: usize) -> Vec<u8> {
        let mut area = parts.concat();
        area.resize(length, 0);
        area
    }

    #[test]
    fn values_lie_behind_the_entries_and_within_their_place() {
        let sound = |at, size| entries(&area(&[entry(b"name", at, size)], 64), 0).is_ok();
        assert!(sound(60, 4) && sound(20, 44) && sound(0, 0));
        for (at, size) in [(61, 4), (0, 4), (19, 4), (65, 4), (60, 70_000), (0xFFFF, 1)] {
            assert!(!sound(at, size), "{size} bytes at {at}");
        }
    }

    #[test]
    fn entries_end_with_zeros_or_with_their_place() {
        let two = [entry(b"a", 0, 0), entry(b"bcdef", 0, 0)];
        let names = |length| {
            let area = area(&two, length);
            let found = entries(&area, 0)?;
            Ok::<_, Failure>(found.iter().map(|stored| stored.name.to_vec()).collect::<Vec<_>>())
        };
        let expected = [b"a".to_vec(), b"bcdef".to_vec()];
        for length in [44, 46, 48, 60] {
            assert_eq!(names(length).unwrap(), expected, "{length}");
        }
        for length in [24, 30, 39, 43] {
            assert!(names(length).is_err(), "{length}");
        }
    }

    #[test]
    fn a_list_has_ids_where_it_needs_them() {
        let stored = [1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 0xE8, 3, 0, 0, 0x20, 0, 4, 0];
        let told = access_list(&stored).unwrap();
        let nobody = [0xFF; 4];
        let expected = [
            &[2, 0, 0, 0, 1, 0, 6, 0][..],
            &nobody,
            &[2, 0, 4, 0, 0xE8, 3, 0, 0],
            &[0x20, 0, 4, 0],
            &nobody,
        ];
        assert_eq!(told, expected.concat());
        assert_eq!(access_list(&stored[..15]), None);
        assert_eq!(access_list(&[2, 0, 0, 0]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_attributes_or_an_error(
            bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(4), any::<u8>()], 0..160),
            start in 0..40_usize,
        ) {
            for stored in entries(&bytes, start).unwrap_or_default() {
                if let Value::Here(range) = stored.value {
                    prop_assert!(range.is_empty() || bytes.get(range).is_some());
                }
            }
            let _ = access_list(&bytes);
        }
    }
}
