//! A link's target.

use nodekiln_words::Result;

use super::damaged;
use super::head::CONTENT;
use super::inode::{Fork, Form, Inode};
use super::mapping;
use super::volume::Volume;
use crate::fields::be32;
use crate::files::Kind;

/// Bytes of a target at most (`XFS_SYMLINK_MAXLEN`).
const MOST_TARGET: u64 = 1024;
/// What blocks of version 5 begin with, and the bytes in front of their part of the target.
const MAGIC: &[u8] = b"XSLM";
const HEAD: usize = 56;

/// The target of `link`.
///
/// # Errors
/// When it is damaged.
pub(super) fn target(volume: &Volume, link: &Inode) -> Result<Vec<u8>> {
    let bad = || damaged(format!("the target of the link of inode {}", link.number));
    if link.kind != Kind::Link || !(1..=MOST_TARGET).contains(&link.size) {
        return Err(bad());
    }
    let length = usize::try_from(link.size).unwrap_or(0);
    let target = match link.form(Fork::Content) {
        Some(Form::Local) => link.bytes(Fork::Content).get(..length).ok_or_else(bad)?.to_vec(),
        _ => in_blocks(volume, link, length)?,
    };
    if target.len() != length || target.contains(&0) { Err(bad()) } else { Ok(target) }
}

/// A target of `length` bytes that stands in blocks.
fn in_blocks(volume: &Volume, link: &Inode, length: usize) -> Result<Vec<u8>> {
    let geometry = &volume.geometry;
    let bad = || damaged(format!("the blocks of the target of the link of inode {}", link.number));
    let (mut target, mut next) = (Vec::new(), 0);
    for run in mapping::runs(volume, link, Fork::Content)? {
        if target.len() == length {
            break;
        }
        // Blocks that follow each other have one head together.
        if run.logical != next || run.count > MOST_TARGET {
            return Err(bad());
        }
        next = run.end();
        let mut bytes = Vec::new();
        for index in 0..run.count {
            bytes.extend_from_slice(&volume.block(run.physical + index)?);
        }
        let mut part = bytes.as_slice();
        if geometry.is_sealed {
            CONTENT.check(geometry, &bytes, run.physical, link.number, "a target")?;
            let count = be32(&bytes, 8).and_then(|count| usize::try_from(count).ok());
            let goes_on = be32(&bytes, 4).map(u64::from) == Some(target.len() as u64);
            let found = count.and_then(|count| bytes.get(HEAD..)?.get(..count));
            part = found.filter(|_| goes_on && bytes.starts_with(MAGIC)).ok_or_else(bad)?;
        }
        target.extend_from_slice(part.get(..length - target.len()).unwrap_or(part));
    }
    Ok(target)
}
