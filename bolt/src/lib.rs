//! Databases of bbolt, which containerd keeps its records in: a reader and a writer of whole files.
//!
//! A file is an array of pages of one size. Pages 0 and 1 are two versions of the meta page, of which
//! the one with the higher transaction id holds; it names the page of the free list and the root page
//! of the root bucket. A bucket is a B+ tree of leaf and branch pages, sorted by key; a leaf's element
//! is a value or a bucket of its own, and a small bucket without buckets lies within its element. A
//! node that is larger than a page takes several in a row ("overflow").
//!
//! The reader takes files that were closed in good order and refuses all others. The writer gives one
//! content always the same bytes: what was there before, when and by how many transactions, leaves no
//! trace. bbolt itself and its ports write by transactions, whose ids and free pages stay in the file.
//!
//! Format: `page.go`, `bucket.go`, `node.go`, `freelist.go` and `db.go` of go.etcd.io/bbolt 1.3.6, on a
//! little-endian machine.

mod layout;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

pub use read::{Damaged, read};
pub use write::{Unwritable, write};

/// What a bucket has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// The last number that the bucket handed out (`NextSequence`).
    pub sequence: u64,
    /// Values and buckets by key, in the file's order.
    pub entries: BTreeMap<Vec<u8>, Item>,
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Bytes.
    Value(Vec<u8>),
    /// A bucket within the bucket.
    Bucket(Bucket),
}

impl Bucket {
    /// The bucket under `key`.
    #[must_use]
    pub fn bucket(&self, key: &str) -> Option<&Self> {
        match self.entries.get(key.as_bytes()) {
            Some(Item::Bucket(bucket)) => Some(bucket),
            _ => None,
        }
    }

    /// The bucket under `key`, to be changed.
    pub fn bucket_mut(&mut self, key: &str) -> Option<&mut Self> {
        match self.entries.get_mut(key.as_bytes()) {
            Some(Item::Bucket(bucket)) => Some(bucket),
            _ => None,
        }
    }

    /// The value under `key`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        match self.entries.get(key.as_bytes()) {
            Some(Item::Value(value)) => Some(value),
            _ => None,
        }
    }

    /// Puts a value under `key`, in place of what is there.
    pub fn put(&mut self, key: &str, value: impl Into<Vec<u8>>) {
        self.entries.insert(key.as_bytes().to_vec(), Item::Value(value.into()));
    }
}
