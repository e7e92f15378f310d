//! An ext2 to ext4 as a tree of files.

use std::sync::Arc;

use nodekiln_words::{Failure, Result};

use super::inode::Inode;
use super::volume::{Body, Volume};
use super::{damaged, unsupported, xattr};
use crate::files::{Attributes, Found, Kind, Listing, Tree};

/// The inode of the root folder.
const ROOT: u64 = 2;

impl Tree for Volume {
    type Inode = Inode;
    type Body = Body;

    fn root(&self) -> u64 {
        ROOT
    }

    fn inode(&self, number: u64) -> Result<Inode> {
        let number = u32::try_from(number);
        self.inode(number.map_err(|_| damaged("a number that no inode has"))?)
    }

    fn kind(&self, inode: &Inode) -> Kind {
        inode.kind
    }

    fn listing(&self, folder: &Inode) -> Result<Arc<Listing>> {
        self.listing(folder)
    }

    fn target(&self, link: &Inode) -> Result<Vec<u8>> {
        self.target(link)
    }

    fn fields(&self, inode: &Inode) -> Result<Attributes> {
        Ok(Attributes {
            kind: inode.kind,
            mode: inode.mode(),
            uid: inode.uid(),
            gid: inode.gid(),
            size: inode.size,
            modified: inode.modified(),
            inode: Some(u64::from(inode.number)),
            links: inode.links(),
            target: None,
            xattrs: xattr::of(self, inode)?,
        })
    }

    fn content(&self, inode: &Inode) -> Result<Found<Body>> {
        if inode.is_encrypted() {
            return Err(unsupported("its content is encrypted"));
        }
        Ok(Found { size: inode.size, body: self.body(inode)? })
    }

    fn damaged(&self, what: &str) -> Failure {
        damaged(what)
    }

    fn may_look_up(&self, folder: &Inode) -> Result<()> {
        match folder.is_without_case() {
            true => Err(unsupported("a folder whose names have no case")),
            false => Ok(()),
        }
    }
}
