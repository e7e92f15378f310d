//! The folder that becomes the file tree: every path is resolved inside it.
//!
//! Links met on the way are followed as the finished system would, with the tree as root, so that
//! `/bin/x` lands in `/usr/bin` where `/bin` is a link, and no link leads out of the tree; see
//! [`Confined`]. Folders stay open while an archive goes through them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::rc::Rc;

use nodekiln_words::{Result, ResultExt};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::layer::Confined;

/// Folders that a [`Folders`] keeps open: well below the usual limit of 1024 open files for a
/// process, and archives go through their folders one by one.
const MOST_OPEN: usize = 96;

/// A file tree below one folder of this machine.
#[derive(Debug)]
pub(crate) struct Tree {
    confined: Confined,
    /// The folder's own path, for turning an open folder's path into one within the tree.
    base: Vec<u8>,
}

/// An open folder of the tree.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    /// Its path without links; empty for the root.
    path: Vec<u8>,
}

/// Owner, permissions and time of something in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// UTC seconds.
    pub(crate) mtime: u64,
}

impl Attributes {
    pub(crate) fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    pub(crate) fn permissions(&self) -> Mode {
        Mode::from_raw_mode(self.mode & 0o7777)
    }

    pub(crate) fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: i64::try_from(self.mtime).unwrap_or(i64::MAX), tv_nsec: 0 };
        Timestamps { last_access: time, last_modification: time }
    }
}

impl Tree {
    /// The tree below `root`, which exists.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let opened = || -> io::Result<Self> {
            let confined = Confined::new(root)?;
            let base = own_path(confined.root())?;
            Ok(Self { confined, base: if base == b"/" { Vec::new() } else { base } })
        };
        opened().or_io(|| format!("tree {}: cannot be opened", root.display()))
    }

    /// The folder at `path`, absolute within the tree, links followed.
    pub(crate) fn folder(&self, path: &[u8]) -> io::Result<Folder> {
        let path = OsStr::from_bytes(if path.is_empty() { b"/" } else { path });
        let fd = self.confined.open(path, OFlags::PATH | OFlags::DIRECTORY)?;
        let own = own_path(fd.as_fd())?;
        let path = own.strip_prefix(self.base.as_slice()).filter(|path| *path != b"/");
        Ok(Folder { fd, path: path.unwrap_or_default().to_vec() })
    }

    /// The content of the file at `path`, or `None` where there is none.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.confined.read(path).or_io(|| format!("{path} in the tree cannot be read"))
    }

    /// The content of the regular file that stands at `path` itself; `None` for a link and all else.
    pub(crate) fn read_unlinked(&self, path: &[u8]) -> Result<Option<Vec<u8>>> {
        let path = OsStr::from_bytes(path);
        let read = || match self.confined.stat(path) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                self.confined.read(path)
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(None),
        };
        read().or_io(|| format!("{} in the tree cannot be read", path.to_string_lossy()))
    }

    /// Like [`Tree::read`], as text; empty where there is no file.
    pub(crate) fn read_text(&self, path: &str) -> Result<String> {
        String::from_utf8(self.read(path)?.unwrap_or_default())
            .or_io(|| format!("{path} in the tree is not UTF-8"))
    }

    /// Writes a file of root's at `path`, whose folder exists; a link there is replaced.
    pub(crate) fn write(
        &self,
        path: &str,
        bytes: &[u8],
        mode: u32,
        mtime: Option<u64>,
    ) -> Result<()> {
        let write = || -> io::Result<()> {
            let (parent, name) = split(path.as_bytes());
            let folder = self.folder(parent)?;
            let mut file = File::from(folder.create(name)?);
            file.write_all(bytes)?;
            fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            if let Some(mtime) = mtime {
                fs::futimens(&file, &Attributes { mode, uid: 0, gid: 0, mtime }.times())?;
            }
            Ok(())
        };
        write().or_io(|| format!("{path} in the tree cannot be written"))
    }

    /// Makes the folder at `path` and those above it where they are missing, 0755 and root's.
    pub(crate) fn make_folders(&self, path: &str) -> Result<()> {
        let made = self.confined.make_directories(Path::new(path));
        made.or_io(|| format!("folder {path} in the tree cannot be made"))
    }
}

impl Folder {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The path of `name` in this folder, free of links.
    pub(crate) fn path_of(&self, name: &OsStr) -> Vec<u8> {
        [&self.path, b"/".as_slice(), name.as_bytes()].concat()
    }

    /// Makes an empty file `name` in place of what is there, unless that is a folder.
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<OwnedFd> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        match fs::openat(&self.fd, name, flags, mode) {
            Err(Errno::EXIST) => {
                self.remove(name)?;
                Ok(fs::openat(&self.fd, name, flags, mode)?)
            }
            result => Ok(result?),
        }
    }

    /// Removes what `name` is, unless that is a folder.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::NOENT) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a folder `name`; `false` where a folder, or a link, is there already.
    pub(crate) fn make(&self, name: &OsStr, mode: u32) -> io::Result<bool> {
        match fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) => {
                fs::chmodat(&self.fd, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
                Ok(true)
            }
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Open folders of a tree, by the path they were asked for with.
pub(crate) struct Folders<'a> {
    tree: &'a Tree,
    open: RefCell<HashMap<Vec<u8>, Rc<Folder>>>,
}

impl<'a> Folders<'a> {
    pub(crate) fn new(tree: &'a Tree) -> Self {
        Self { tree, open: RefCell::default() }
    }

    pub(crate) fn get(&self, path: &[u8]) -> io::Result<Rc<Folder>> {
        let mut open = self.open.borrow_mut();
        if let Some(folder) = open.get(path) {
            return Ok(folder.clone());
        }
        if open.len() >= MOST_OPEN {
            open.clear();
        }
        let folder = Rc::new(self.tree.folder(path)?);
        open.insert(path.to_vec(), folder.clone());
        Ok(folder)
    }
}

/// A path's folder and last component.
pub(crate) fn split(path: &[u8]) -> (&[u8], &OsStr) {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let (folder, name) = slash.map_or((&[][..], path), |at| (&path[..at], &path[at + 1..]));
    (folder, OsStr::from_bytes(name))
}

fn own_path(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(std::fs::read_link(link)?.into_os_string().into_vec())
}
