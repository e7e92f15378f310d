//! Paths of a file system of inodes: found one by one, and walked all.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_words::{Class, Failure, Result};

use super::entry::{Attributes, Entry, Kind};
use super::listing::Listing;
use super::{MOST_PATH, MOST_PATHS};

/// Most links that are followed on the way to a file, as Linux has it (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;
/// Bytes of memory for the names of all folders on the way to where a walk is.
const MOST_PENDING: usize = 256 << 20;

/// A regular file whose content can be read.
#[derive(Debug)]
pub(crate) struct Found<B> {
    pub(crate) size: u64,
    pub(crate) body: B,
}

/// A file system whose files are inodes, by number, that folders give names to.
pub(crate) trait Tree {
    /// What is known of an inode without reading more.
    type Inode;
    /// Where the content of one stands.
    type Body;

    /// The number of the root folder.
    fn root(&self) -> u64;
    /// The inode of this number. Fails where there is none in use.
    fn inode(&self, number: u64) -> Result<Self::Inode>;
    /// What an inode is.
    fn kind(&self, inode: &Self::Inode) -> Kind;
    /// The names in a folder.
    fn listing(&self, folder: &Self::Inode) -> Result<Arc<Listing>>;
    /// A link's target.
    fn target(&self, link: &Self::Inode) -> Result<Vec<u8>>;
    /// What is told of a file; a link's target is told by [`Tree::target`].
    fn fields(&self, inode: &Self::Inode) -> Result<Attributes>;
    /// A regular file's content.
    fn content(&self, inode: &Self::Inode) -> Result<Found<Self::Body>>;
    /// Something in the file system that cannot be.
    fn damaged(&self, what: &str) -> Failure;
    /// Fails where names of a folder cannot be looked up as they stand.
    fn may_look_up(&self, _folder: &Self::Inode) -> Result<()> {
        Ok(())
    }

    /// What stands at `path`; `None` where it leads nowhere, also through more than 40 links. A link at its end is
    /// followed on demand.
    fn find(&self, path: &Path, follow: bool) -> Result<Option<Self::Inode>> {
        let mut folders = vec![self.inode(self.root())?];
        let mut left: Vec<Vec<u8>> = Vec::new();
        let push = |left: &mut Vec<Vec<u8>>, path: &[u8]| {
            let names = path.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty());
            left.extend(names.map(<[u8]>::to_vec));
        };
        push(&mut left, path.as_os_str().as_bytes());
        let mut links = 0;
        while let Some(name) = left.pop() {
            let Some(folder) = folders.last() else { return Ok(None) };
            if name == b"." {
                continue;
            }
            if name == b".." {
                folders.truncate((folders.len() - 1).max(1));
                continue;
            }
            self.may_look_up(folder)?;
            let Some(number) = self.listing(folder)?.find(&name) else { return Ok(None) };
            let inode = self.inode(number)?;
            match self.kind(&inode) {
                Kind::Folder => folders.push(inode),
                Kind::Link if follow || !left.is_empty() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Ok(None);
                    }
                    let target = self.target(&inode)?;
                    if target.starts_with(b"/") {
                        folders.truncate(1);
                    }
                    push(&mut left, &target);
                }
                _ if left.is_empty() => return Ok(Some(inode)),
                _ => return Ok(None),
            }
        }
        Ok(folders.pop())
    }

    /// Whether there is something at `path`.
    ///
    /// # Errors
    /// When the file system is damaged there.
    fn exists(&self, path: &Path) -> Result<bool> {
        Ok(self.find(path, true)?.is_some())
    }

    /// The regular file at `path`.
    ///
    /// # Errors
    /// When the file system is damaged there, or the content cannot be read.
    fn file(&self, path: &Path) -> Result<Option<Found<Self::Body>>> {
        let inode = self.find(path, true)?.filter(|inode| self.kind(inode) == Kind::File);
        inode.map(|inode| self.content(&inode)).transpose()
    }

    /// The names in the folder at `path`.
    ///
    /// # Errors
    /// When the file system is damaged there.
    fn names(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let Some(inode) = self.find(path, true)?.filter(|inode| self.kind(inode) == Kind::Folder)
        else {
            return Ok(Vec::new());
        };
        let listing = self.listing(&inode)?;
        Ok(listing.names().map(|name| PathBuf::from(OsStr::from_bytes(name))).collect())
    }

    /// What is known of the file at `path` itself.
    ///
    /// # Errors
    /// When the file system is damaged there.
    fn attributes(&self, path: &Path) -> Result<Option<Attributes>> {
        self.find(path, false)?.map(|inode| self.attributes_of(&inode)).transpose()
    }

    /// The target of the link at `path`.
    ///
    /// # Errors
    /// When the file system is damaged there.
    fn link(&self, path: &Path) -> Result<Option<PathBuf>> {
        match self.find(path, false)? {
            Some(inode) if self.kind(&inode) == Kind::Link => {
                self.target(&inode).map(as_path).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// What is told of a file.
    ///
    /// # Errors
    /// When the file system is damaged there.
    fn attributes_of(&self, inode: &Self::Inode) -> Result<Attributes> {
        let target = match self.kind(inode) {
            Kind::Link => Some(as_path(self.target(inode)?)),
            _ => None,
        };
        Ok(Attributes { target, ..self.fields(inode)? })
    }

    /// Calls `visit` with every path, a folder before what is in it, names by their bytes.
    ///
    /// # Errors
    /// When the file system is damaged or larger than the bounds, or `visit` fails.
    fn walk(&self, visit: &mut dyn FnMut(&Entry) -> Result<()>) -> Result<()> {
        let root = self.inode(self.root())?;
        if self.kind(&root) != Kind::Folder {
            return Err(self.damaged("its root is no folder"));
        }
        let mut met = HashSet::from([self.root()]);
        let mut paths = 1;
        let mut entry = Entry { path: PathBuf::from("/"), attributes: self.attributes_of(&root)? };
        visit(&entry)?;
        let listing = self.listing(&root)?;
        let mut pending = listing.weight();
        let mut levels = vec![(listing, 0)];
        while let Some((listing, next)) = levels.last_mut() {
            let Some((name, number)) = listing.get(*next) else {
                pending -= listing.weight();
                levels.pop();
                entry.path.pop();
                continue;
            };
            *next += 1;
            paths += 1;
            entry.path.push(OsStr::from_bytes(name));
            let path = &entry.path;
            let here = |failure: Failure| failure.context(path.display().to_string());
            if path.as_os_str().len() > MOST_PATH || paths > MOST_PATHS {
                let what =
                    format!("more than {MOST_PATHS} paths, or one of over {MOST_PATH} bytes");
                return Err(here(unsupported(what)));
            }
            let inode = self.inode(number).map_err(here)?;
            entry.attributes = self.attributes_of(&inode).map_err(here)?;
            let is_folder = self.kind(&inode) == Kind::Folder;
            if is_folder && !met.insert(number) {
                return Err(here(self.damaged("the folder is in two places")));
            }
            visit(&entry)?;
            if !is_folder {
                entry.path.pop();
                continue;
            }
            let path = &entry.path;
            let here = |failure: Failure| failure.context(path.display().to_string());
            let below = self.listing(&inode).map_err(here)?;
            pending += below.weight();
            if pending > MOST_PENDING {
                return Err(here(unsupported("more names at once than fit into 256 MiB")));
            }
            levels.push((below, 0));
        }
        Ok(())
    }
}

fn as_path(target: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(target))
}

fn unsupported(what: impl Into<String>) -> Failure {
    Failure::new(Class::Unsupported, what)
}
