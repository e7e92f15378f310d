//! Reading an ext2, ext3 or ext4 without mounting it. Nothing in it is trusted: every number of a block or an inode
//! is held against the file system's size, every checksum is looked at, and no structure is met twice where
//! that would lead in circles.

use std::sync::Arc;

use nodekiln_words::{Class, Failure, Result};

use super::damaged;
use super::folder;
use super::geometry::Geometry;
use super::inode::Inode;
use super::journal::{ESCAPED_BYTES, Journal};
use super::mapping;
use super::xattr;
use crate::files::{Kind, Listing, Run, runs};
use crate::pages::{Pages, Slice};
use crate::recent::Recent;
use crate::window::Window;

/// Bytes of names in folders that are kept.
const LISTINGS: usize = 8 << 20;
/// Bytes of a link's target at most, as Linux has it (`PATH_MAX`).
const MOST_TARGET: u64 = 4096;

/// An open file system.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(super) window: Arc<Window>,
    pub(super) geometry: Geometry,
    /// The blocks where the inodes of each group begin.
    tables: Vec<u64>,
    journal: Journal,
    pages: Pages,
    listings: Recent<Listing>,
}

/// Where the content of an inode stands.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// In the inode itself.
    Inline(Vec<u8>),
    /// In these blocks; the rest are zeros.
    Blocks(Vec<Run>),
}

impl Volume {
    /// Opens the file system that begins with the bytes `start`.
    ///
    /// # Errors
    /// When it is damaged or has features that are not known here.
    pub(crate) fn open(window: &Arc<Window>, start: &[u8]) -> Result<Self> {
        let geometry = Geometry::decode(start, window.length())?;
        let volume = Self::over(window, geometry, Journal::default())?;
        let Some(journal) = volume.geometry.unfinished_journal() else { return Ok(volume) };
        // What the journal has is newer than all that was read of the file system until now.
        let volume = Self { journal: Journal::read(&volume, journal)?, ..volume };
        let mut start = start.to_vec();
        volume.newest(0, &mut start)?;
        let geometry = Geometry::decode(&start, window.length())?;
        Self::over(window, geometry, volume.journal)
    }

    fn over(window: &Arc<Window>, geometry: Geometry, journal: Journal) -> Result<Self> {
        let mut volume = Self {
            window: Arc::clone(window),
            geometry,
            tables: Vec::new(),
            journal,
            pages: Pages::of(window.length()),
            listings: Recent::new(LISTINGS, Listing::weight),
        };
        let mut descriptors = Vec::new();
        for (at, length) in volume.geometry.descriptors() {
            descriptors.extend_from_slice(&volume.slice(at, length)?);
        }
        volume.tables = volume.geometry.tables(&descriptors)?;
        Ok(volume)
    }

    /// Fills `buffer` with the newest bytes at `at`.
    fn newest(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        self.window.read_at(at, buffer)?;
        let (block, end) = (self.geometry.block, at + buffer.len() as u64);
        for (number, copied) in self.journal.0.range(at / block..end.div_ceil(block)) {
            let mut newest = vec![0; usize::try_from(block).unwrap_or(0)];
            self.window.read_at(copied.block.saturating_mul(block), &mut newest)?;
            if let (true, Some(first)) = (copied.escaped, newest.first_chunk_mut()) {
                *first = ESCAPED_BYTES;
            }
            let start = number * block;
            let (from, until) = (start.max(at), (start + block).min(end));
            let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let new = newest.get(index(from - start)..index(until - start));
            let old = buffer.get_mut(index(from - at)..index(until - at));
            if let (Some(old), Some(new)) = (old, new) {
                old.copy_from_slice(new);
            }
        }
        Ok(())
    }

    /// Bytes that do not leave a page, which blocks and inodes do not.
    fn slice(&self, at: u64, length: usize) -> Result<Slice> {
        let read = |at, bytes: &mut [u8]| self.newest(at, bytes);
        let found = self.pages.slice(at, length, read)?;
        found.ok_or_else(|| damaged(format!("byte {at} lies behind its end")))
    }

    /// The block of this number.
    pub(super) fn block(&self, number: u64) -> Result<Slice> {
        if number == 0 || number >= self.geometry.blocks {
            return Err(damaged(format!("there is no block {number}")));
        }
        let length = usize::try_from(self.geometry.block).unwrap_or(0);
        self.slice(number * self.geometry.block, length)
    }

    /// The inode of this number.
    ///
    /// # Errors
    /// When there is none, it is free, or it is damaged.
    pub(super) fn inode(&self, number: u32) -> Result<Inode> {
        let missing = || damaged(format!("there is no inode {number}"));
        let (group, index) = self.geometry.place(number).ok_or_else(missing)?;
        let table = *self.tables.get(group).ok_or_else(missing)?;
        let length = self.geometry.inode;
        let within = index * length as u64;
        let end = table.checked_add((within + length as u64).div_ceil(self.geometry.block));
        if table == 0 || end.is_none_or(|end| end > self.geometry.blocks) {
            return Err(missing());
        }
        let raw = self.slice(table * self.geometry.block + within, length)?;
        Inode::decode(number, raw, &self.geometry)
    }

    /// The names in a folder.
    pub(super) fn listing(&self, folder: &Inode) -> Result<Arc<Listing>> {
        self.listings.get_or(u64::from(folder.number), || folder::read(self, folder))
    }

    /// Where the content of `inode` stands.
    pub(super) fn body(&self, inode: &Inode) -> Result<Body> {
        if !inode.is_inline() {
            return mapping::runs(self, inode).map(Body::Blocks);
        }
        let mut bytes = inode.body().to_vec();
        bytes.extend(xattr::data(self, inode)?);
        let size = usize::try_from(inode.size).ok().filter(|size| *size <= bytes.len());
        let cut_off = || damaged(format!("the content of inode {} is cut off", inode.number));
        bytes.truncate(size.ok_or_else(cut_off)?);
        Ok(Body::Inline(bytes))
    }

    /// Fills `buffer` with the content in `runs` from byte `at` on; zeros where there is none. No holes are read.
    pub(super) fn read_runs(&self, runs: &[Run], at: u64, buffer: &mut [u8]) -> Result<()> {
        let read = |at, bytes: &mut [u8]| self.newest(at, bytes);
        let zeros = |count| self.window.pay_for_zeros(count);
        runs::fill(runs, self.geometry.block, at, buffer, read, zeros)
    }

    /// Fills `buffer` with the content of a file from byte `at` on.
    ///
    /// # Errors
    /// When it cannot be read, or somebody asked to stop.
    pub(crate) fn read_body(&self, body: &Body, at: u64, buffer: &mut [u8]) -> Result<()> {
        match body {
            Body::Blocks(runs) => self.read_runs(runs, at, buffer),
            Body::Inline(bytes) => {
                let from = usize::try_from(at).unwrap_or(usize::MAX);
                let found = bytes.get(from..).and_then(|bytes| bytes.get(..buffer.len()));
                buffer.copy_from_slice(found.ok_or_else(|| damaged("a file is cut off"))?);
                Ok(())
            }
        }
    }

    /// A link's target.
    pub(super) fn target(&self, link: &Inode) -> Result<Vec<u8>> {
        let bad = || damaged(format!("the target of the link of inode {}", link.number));
        if link.kind != Kind::Link || !(1..=MOST_TARGET).contains(&link.size) {
            return Err(bad());
        }
        if link.is_encrypted() {
            let what = format!("the target of the link of inode {} is encrypted", link.number);
            return Err(Failure::new(Class::Unsupported, what));
        }
        let length = usize::try_from(link.size).unwrap_or(0);
        let mut target = vec![0; length];
        if link.is_short_link() {
            target.copy_from_slice(link.body().get(..length).ok_or_else(bad)?);
        } else {
            self.read_body(&self.body(link)?, 0, &mut target)?;
        }
        if target.contains(&0) { Err(bad()) } else { Ok(target) }
    }
}
