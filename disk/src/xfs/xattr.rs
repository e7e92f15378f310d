//! Extended attributes: behind an inode's content, or in blocks of their own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use nodekiln_words::{Failure, Result};

use super::inode::{Fork, Form, Inode};
use super::volume::Volume;
use super::{attribute_blocks, damaged, unsupported};
use crate::fields::{be16, be32};

/// Flags of an attribute: which names it is among, and that it was not written whole.
mod flags {
    pub(super) const TRUSTED: u8 = 0x2;
    pub(super) const SECURITY: u8 = 0x4;
    pub(super) const PARENT: u8 = 0x8;
    pub(super) const INCOMPLETE: u8 = 0x80;
}
/// Bytes in front of the entries in an inode, and of an entry without its name and value.
const HEAD: usize = 4;
const ENTRY: usize = 3;
/// Bytes of all names and values of an inode at most.
const MOST_BYTES: usize = 16 << 20;
/// What is counted for an attribute besides its name and value.
const LEAST: usize = 64;
/// Access control lists, as they are called on the disk and by `getxattr(2)`.
const ACCESS_LISTS: [(&[u8], &str); 2] = [
    (b"SGI_ACL_FILE", "system.posix_acl_access"),
    (b"SGI_ACL_DEFAULT", "system.posix_acl_default"),
];
/// Tags of an access control list's entries that have an id: of a user and of a group.
const WITH_ID: [u32; 2] = [0x02, 0x08];

/// Extended attributes as they are found.
pub(super) struct Found<'a> {
    inode: &'a Inode,
    attributes: BTreeMap<OsString, Vec<u8>>,
    /// Bytes that may still be found.
    left: usize,
}

/// All attributes of `inode` that Linux tells, but for the stored forms of access control lists beside those of
/// `getxattr(2)`.
///
/// # Errors
/// When they are damaged, or more than 16 MiB.
pub(super) fn of(volume: &Volume, inode: &Inode) -> Result<BTreeMap<OsString, Vec<u8>>> {
    let mut found = Found { inode, attributes: BTreeMap::new(), left: MOST_BYTES };
    match inode.form(Fork::Attributes) {
        None => {}
        Some(Form::Extents) if inode.extents(Fork::Attributes) == 0 => {}
        Some(Form::Local) => short(inode.bytes(Fork::Attributes), &mut found)?,
        Some(_) => attribute_blocks::read(volume, inode, &mut found)
            .map_err(|failure| failure.context(format!("attributes of inode {}", inode.number)))?,
    }
    Ok(found.attributes)
}

/// Whether an attribute with these flags is one that Linux tells of: neither half of one, nor the place of a name
/// of the file.
pub(super) fn is_told(flags: u8) -> bool {
    flags & (flags::INCOMPLETE | flags::PARENT) == 0
}

impl Found<'_> {
    pub(super) fn damaged(&self, what: &str) -> Failure {
        damaged(format!("inode {} has {what}", self.inode.number))
    }

    /// Adds an attribute, if it is one that is told.
    ///
    /// # Errors
    /// When it is there already, an access control list is damaged, or there are too many.
    pub(super) fn add(&mut self, flags: u8, name: &[u8], value: Vec<u8>) -> Result<()> {
        if !is_told(flags) {
            return Ok(());
        }
        if name.is_empty() || name.contains(&0) {
            return Err(self.damaged("an attribute without a name"));
        }
        let cost = LEAST + name.len() + value.len();
        let number = self.inode.number;
        let left = self.left.checked_sub(cost);
        self.left =
            left.ok_or_else(|| unsupported(format!("inode {number} with 16 MiB of attributes")))?;
        let prefix = match flags & (flags::TRUSTED | flags::SECURITY) {
            0 => "user.",
            flags::TRUSTED => "trusted.",
            flags::SECURITY => "security.",
            _ => return Err(self.damaged("an attribute of two kinds")),
        };
        let list = ACCESS_LISTS.iter().find(|(stored, _)| *stored == name);
        let (name, value) = match list.filter(|_| prefix == "trusted.") {
            Some((_, told)) => {
                let list = access_list(&value);
                (
                    told.as_bytes().to_vec(),
                    list.ok_or_else(|| self.damaged("a damaged access control list"))?,
                )
            }
            None => ([prefix.as_bytes(), name].concat(), value),
        };
        match self.attributes.insert(OsString::from_vec(name), value) {
            None => Ok(()),
            Some(_) => Err(self.damaged("an attribute twice")),
        }
    }
}

/// Adds attributes that stand in the inode, each with the lengths of its name and value, flags, and the two.
fn short(bytes: &[u8], found: &mut Found<'_>) -> Result<()> {
    let length = be16(bytes, 0).map_or(0, usize::from);
    let (Some(bytes), Some(count)) = (bytes.get(..length), bytes.get(2)) else {
        return Err(found.damaged("more attributes than room"));
    };
    let mut rest = bytes.get(HEAD..).unwrap_or_default();
    for _ in 0..*count {
        let (name, value, flags) = match rest {
            [name, value, flags, ..] => (usize::from(*name), usize::from(*value), *flags),
            _ => return Err(found.damaged("an attribute that is cut off")),
        };
        let (start, end) = (ENTRY + name, ENTRY + name + value);
        let (Some(name), Some(value)) = (rest.get(ENTRY..start), rest.get(start..end)) else {
            return Err(found.damaged("an attribute that is cut off"));
        };
        found.add(flags, name, value.to_vec())?;
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(())
}

/// An access control list in the form that `getxattr(2)` gives (Linux, `include/uapi/linux/posix_acl_xattr.h`),
/// from the disk's: a count, and for each entry a tag, an id, permissions and two bytes of nothing.
fn access_list(stored: &[u8]) -> Option<Vec<u8>> {
    const ENTRY: usize = 12;
    const TOLD_VERSION: u32 = 2;
    const NOBODY: u32 = u32::MAX;
    let entries = stored.get(4..)?.as_chunks::<ENTRY>();
    let count = usize::try_from(be32(stored, 0)?).ok()?;
    if count != entries.0.len() || !entries.1.is_empty() {
        return None;
    }
    let mut told = TOLD_VERSION.to_le_bytes().to_vec();
    for entry in entries.0 {
        let tag = be32(entry, 0)?;
        let id = if WITH_ID.contains(&tag) { be32(entry, 4)? } else { NOBODY };
        told.extend_from_slice(&u16::try_from(tag).ok()?.to_le_bytes());
        told.extend_from_slice(&be16(entry, 8)?.to_le_bytes());
        told.extend_from_slice(&id.to_le_bytes());
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_ids_where_it_needs_them() {
        let stored = [
            &[0, 0, 0, 2][..],
            &[0, 0, 0, 1, 0, 0, 0, 9, 0, 6, 0, 0],
            &[0, 0, 0, 2, 0, 0, 3, 0xE8, 0, 4, 0, 0],
        ]
        .concat();
        let told = access_list(&stored).unwrap();
        let expected =
            [&[2, 0, 0, 0, 1, 0, 6, 0][..], &[0xFF; 4], &[2, 0, 4, 0, 0xE8, 3, 0, 0]].concat();
        assert_eq!(told, expected);
        assert_eq!(access_list(&stored[..27]), None);
        assert_eq!(access_list(&[0, 0, 0, 1]), None);
        assert_eq!(access_list(&[0, 0, 0]), None);
    }
}
