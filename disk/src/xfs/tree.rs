//! An XFS as a tree of files.

use std::sync::Arc;

use nodekiln_words::{Failure, Result};

use super::inode::Inode;
use super::volume::{Body, Volume};
use super::{damaged, link, xattr};
use crate::files::{Attributes, Found, Kind, Listing, Tree};

impl Tree for Volume {
    type Inode = Inode;
    type Body = Body;

    fn root(&self) -> u64 {
        self.geometry.root
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        self.inode(number)
    }

    fn kind(&self, inode: &Inode) -> Kind {
        inode.kind
    }

    fn listing(&self, folder: &Inode) -> Result<Arc<Listing>> {
        self.listing(folder)
    }

    fn target(&self, link: &Inode) -> Result<Vec<u8>> {
        link::target(self, link)
    }

    fn fields(&self, inode: &Inode) -> Result<Attributes> {
        Ok(Attributes {
            kind: inode.kind,
            mode: inode.mode(),
            uid: inode.uid(),
            gid: inode.gid(),
            size: inode.size,
            modified: inode.modified(),
            inode: Some(inode.number),
            links: inode.links(),
            target: None,
            xattrs: xattr::of(self, inode)?,
        })
    }

    fn content(&self, inode: &Inode) -> Result<Found<Body>> {
        self.content(inode)
    }

    fn damaged(&self, what: &str) -> Failure {
        damaged(what)
    }
}
