//! A reader of XFS, versions 4 and 5 of the disk's format (`XFS Filesystem Disk Structures` of xfs-documentation).
//!
//! Numbers are big-endian, but for checksums. A file system is divided into allocation groups; blocks and inodes are
//! numbered by group and place within it, with gaps where a group is no power of two. Version 5 gives each
//! structure a checksum, its own place, its owner and the file system's UUID: all are looked at. Nothing in it is
//! trusted: every number is held against the file system's size, and no structure is met twice where that would
//! lead in circles.
//!
//! Checked with xfsprogs 6.1.0 and 6.13.0, and with Linux 6.18.

mod attribute_blocks;
mod folder;
mod geometry;
mod head;
mod inode;
mod link;
mod log;
mod mapping;
mod tree;
mod volume;
mod xattr;

use nodekiln_words::{Class, Failure};

pub(crate) use volume::{Body, Volume};

/// What an XFS begins with.
pub(crate) const MAGIC: &[u8] = b"XFSB";

/// Something in a file system that cannot be.
fn damaged(what: impl Into<String>) -> Failure {
    Failure::input(format!("damaged XFS: {}", what.into()))
}

/// Something in a file system that is not read here.
fn unsupported(what: impl Into<String>) -> Failure {
    Failure::new(Class::Unsupported, what)
}
