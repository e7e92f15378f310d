//! Packs: a node's output as one object.
//!
//! A pack is a sequence of zstd frames (RFC 8878), so that `zstd -dc` shows what is in it:
//!
//! ```text
//! nodekiln pack 1 <length of the inventory> <length of the links>\n
//! the inventory, as in the store
//! the links: a JSON list of lists of paths, each list the names of one file that has several
//! for each distinct content, in the order of the first path that has it:
//!     runs: offset (u64) · length (u32) · bytes         (numbers are little-endian)
//!     the end: 0 (u64) · 0 (u32)
//! ```
//!
//! Blocks of zeros are in no run, whether they are holes or were written, so that a disk takes as
//! much room as its data and the same tree gives the same pack on every file system. An inventory
//! says nothing of hard links, and yet the file system made from a tree keeps them: hence the links.
//!
//! A pack is read only after its bytes were compared with the digest in a signed record. What it
//! says is checked all the same: paths cannot leave the tree, nothing may be longer than announced,
//! and the store lists the tree that comes of it before it takes it in.

mod content;
mod frames;
mod paths;
mod read;
mod write;

use std::io;

use nodekiln_words::Sha256;
use serde::{Deserialize, Serialize};

pub(super) use read::unpack;
pub(super) use write::pack;

/// A pack, as a record names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::remote) struct PackName {
    /// Digest of its bytes.
    pub(in crate::remote) sha256: Sha256,
    /// Its length in bytes.
    pub(in crate::remote) size: u64,
    /// Length in bytes of what its frames hold.
    pub(in crate::remote) unpacked: u64,
}

/// What a pack begins with; raised when the format changes.
const MAGIC: &str = "nodekiln pack 1";

/// The longest inventory that is read, in bytes. One of a million files has about 200 MB.
const INVENTORY_LIMIT: u64 = 1 << 30;

/// Zeros are left out in whole blocks of this length, the block size of the file systems that are
/// made, so that what is sparse there is short here.
const BLOCK: usize = 4096;

/// Bytes that are looked at together; no run is longer.
const RUN: usize = 1 << 20;

/// What is wrong with a pack's bytes.
fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests;
