//! An open XFS: its structures by their numbers.

use std::sync::Arc;

use nodekiln_words::Result;
use uuid::Uuid;

use super::geometry::Geometry;
use super::inode::{Fork, Form, Inode};
use super::{damaged, folder, log, mapping, unsupported};
use crate::files::{Found, Listing, Run, runs};
use crate::pages::{Pages, Slice};
use crate::recent::Recent;
use crate::window::Window;

/// Bytes of names in folders that are kept.
const LISTINGS: usize = 8 << 20;

/// An open file system.
#[derive(Debug)]
pub(crate) struct Volume {
    window: Arc<Window>,
    pub(super) geometry: Geometry,
    pages: Pages,
    listings: Recent<Listing>,
}

/// Where the content of a file stands: in these blocks; the rest are zeros.
#[derive(Clone, Debug)]
pub(crate) struct Body(Vec<Run>);

impl Volume {
    /// Opens the file system that begins with the bytes `start`.
    ///
    /// # Errors
    /// When it is damaged, has features that are not known here, or was not unmounted: its log is not replayed.
    pub(crate) fn open(window: &Arc<Window>, start: &[u8]) -> Result<Self> {
        let volume = Self {
            window: Arc::clone(window),
            geometry: Geometry::decode(start, window.length())?,
            pages: Pages::of(window.length()),
            listings: Recent::new(LISTINGS, Listing::weight),
        };
        log::refuse_unfinished(&volume)?;
        Ok(volume)
    }

    /// Its label; empty where it has none.
    pub(crate) fn label(&self) -> &str {
        &self.geometry.label
    }

    pub(crate) fn uuid(&self) -> Uuid {
        self.geometry.uuid
    }

    /// Bytes that do not leave a page, which blocks and inodes do not.
    pub(super) fn slice(&self, at: u64, length: usize) -> Result<Slice> {
        let read = |at, bytes: &mut [u8]| self.window.read_at(at, bytes);
        let found = self.pages.slice(at, length, read)?;
        found.ok_or_else(|| damaged(format!("byte {at} lies behind its end")))
    }

    /// The block of this number, counted from the start.
    pub(super) fn block(&self, number: u64) -> Result<Slice> {
        if number >= self.geometry.blocks {
            return Err(damaged(format!("there is no block {number}")));
        }
        let length = usize::try_from(self.geometry.block).unwrap_or(0);
        self.slice(number * self.geometry.block, length)
    }

    /// The inode of this number.
    ///
    /// # Errors
    /// When there is none, it is free, or it is damaged.
    pub(super) fn inode(&self, number: u64) -> Result<Inode> {
        let missing = || damaged(format!("there is no inode {number}"));
        let at = self.geometry.inode_at(number).ok_or_else(missing)?;
        Inode::decode(number, self.slice(at, self.geometry.inode)?, &self.geometry)
    }

    /// The names in a folder.
    pub(super) fn listing(&self, folder: &Inode) -> Result<Arc<Listing>> {
        self.listings.get_or(folder.number, || folder::read(self, folder))
    }

    /// Where the content of the file `inode` stands.
    pub(super) fn content(&self, inode: &Inode) -> Result<Found<Body>> {
        let Inode { number, size, .. } = *inode;
        if inode.is_realtime() && inode.extents(Fork::Content) > 0 {
            let what = format!("the content of inode {number} is on the realtime device");
            return Err(unsupported(what));
        }
        if inode.form(Fork::Content) == Some(Form::Local) {
            return Err(damaged(format!("the file of inode {number} has its content in it")));
        }
        Ok(Found { size, body: Body(mapping::runs(self, inode, Fork::Content)?) })
    }

    /// Fills `buffer` with the content of a file from byte `at` on; zeros where there is none. No holes are read.
    ///
    /// # Errors
    /// When it cannot be read, or somebody asked to stop.
    pub(crate) fn read_body(&self, body: &Body, at: u64, buffer: &mut [u8]) -> Result<()> {
        let read = |at, bytes: &mut [u8]| self.window.read_at(at, bytes);
        let zeros = |count| self.window.pay_for_zeros(count);
        runs::fill(&body.0, self.geometry.block, at, buffer, read, zeros)
    }
}
