//! The structures of a file system, read a page at a time and kept.

use std::ops::{Deref, Range};
use std::sync::Arc;

use nodekiln_words::Result;

use crate::recent::Recent;

/// Bytes that are read at once of inodes, folders and the like: a cluster of most images, which would be
/// decompressed for any byte of it.
const PAGE: u64 = 64 << 10;
/// Bytes of such pages that are kept: the inodes of 65,536 files of ext4.
const PAGES: usize = 16 << 20;

/// Pages of a file system of some length, those that were used last.
#[derive(Debug)]
pub(crate) struct Pages {
    length: u64,
    kept: Recent<Vec<u8>>,
}

impl Pages {
    /// None yet, of a file system of `length` bytes.
    pub(crate) fn of(length: u64) -> Self {
        Self { length, kept: Recent::new(PAGES, Vec::len) }
    }

    /// The `length` bytes at `at`, of a page that `read` fills where it is not kept; `None` where they leave their
    /// page, or lie behind the end. Structures whose length is a power of two up to 64 KiB, and which stand at
    /// multiples of it, do not.
    ///
    /// # Errors
    /// What `read` fails with.
    pub(crate) fn slice(
        &self,
        at: u64,
        length: usize,
        read: impl FnOnce(u64, &mut [u8]) -> Result<()>,
    ) -> Result<Option<Slice>> {
        let page = self.kept.get_or(at / PAGE, || {
            let start = at / PAGE * PAGE;
            let length = self.length.saturating_sub(start).min(PAGE);
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            read(start, &mut bytes)?;
            Ok(bytes)
        })?;
        let within = usize::try_from(at % PAGE).unwrap_or(0);
        let range = within..within.saturating_add(length);
        Ok(if page.get(range.clone()).is_some() { Some(Slice { page, range }) } else { None })
    }
}

/// Bytes of a file system that are shared with what else was read along with them.
#[derive(Clone, Debug)]
pub(crate) struct Slice {
    page: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.page.get(self.range.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_page_is_read_once_and_its_bytes_stay_within_it() {
        let pages = Pages::of(PAGE + 100);
        let reads = Cell::new(0);
        let slice = |at, length| {
            let read = |start: u64, bytes: &mut [u8]| {
                reads.set(reads.get() + 1);
                bytes.fill(u8::try_from(start / PAGE).unwrap());
                Ok(())
            };
            pages.slice(at, length, read).unwrap().map(|slice| slice.to_vec())
        };
        assert_eq!(slice(512, 4), Some(vec![0; 4]));
        assert_eq!(slice(PAGE - 4, 4), Some(vec![0; 4]));
        assert_eq!(slice(PAGE + 96, 4), Some(vec![1; 4]));
        for (at, length) in [(PAGE - 4, 5), (PAGE + 96, 5), (3 * PAGE, 1), (0, usize::MAX)] {
            assert_eq!(slice(at, length), None, "{length} bytes at {at}");
        }
        assert_eq!(reads.get(), 3);
    }
}
