//! The tree of an image: its root file system and those that its fstab mounts into it.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nodekiln_disk::files::{Attributes, FileSystem, Kind as DiskKind};
use nodekiln_words::Result;

use super::{Entry, Files, Kind};

/// The extended attribute with the capabilities of a program.
const CAPABILITY: &str = "security.capability";

/// The file systems of an image, each at its place in the tree.
pub struct Root<'a> {
    /// By absolute path, `/` first, the longer ones later.
    mounts: Vec<(String, &'a FileSystem)>,
    /// Paths that are not UTF-8, by the text that stands for them.
    odd: BTreeMap<String, PathBuf>,
}

impl<'a> Root<'a> {
    /// The tree of the file system `root`, with `others` mounted at their absolute paths. Of several at one path the
    /// last is to be seen, as after mount(8).
    #[must_use]
    pub fn of(root: &'a FileSystem, others: Vec<(String, &'a FileSystem)>) -> Self {
        let mut mounts = vec![("/".to_owned(), root)];
        mounts.extend(others);
        mounts.sort_by_key(|(place, _)| place.len());
        Self { mounts, odd: BTreeMap::new() }
    }

    /// Every path of the tree with its attributes. Paths that are not UTF-8 get their other bytes as `\xNN`.
    ///
    /// # Errors
    /// When a file system is damaged, or somebody asked to stop.
    pub fn entries(&mut self) -> Result<BTreeMap<String, Entry>> {
        let mut entries = BTreeMap::new();
        for (number, (place, files)) in (0..).zip(&self.mounts) {
            // What is below a mount is not to be seen.
            let below = format!("{place}/");
            if place != "/" {
                entries.retain(|path: &String, _| !path.starts_with(&below));
            }
            files.walk(&mut |found| {
                let path = text(&found.path);
                let path = match (place.as_str(), path.as_str()) {
                    ("/", path) => path.to_owned(),
                    (place, "/") => place.to_owned(),
                    (place, path) => format!("{place}{path}"),
                };
                if found.path.to_str().is_none() {
                    self.odd.insert(path.clone(), found.path.clone());
                }
                entries.insert(path, entry(&found.attributes, number));
                Ok(())
            })?;
        }
        Ok(entries)
    }

    /// The file system that has `path`, and where it is there.
    fn place<'p>(&'p self, path: &'p str) -> Option<(&'a FileSystem, &'p Path)> {
        let (place, files) = self.mounts.iter().rev().find(|(place, _)| {
            place == "/" || path == place || path.starts_with(&format!("{place}/"))
        })?;
        if let Some(odd) = self.odd.get(path) {
            return Some((files, odd));
        }
        let inner = if place == "/" { path } else { &path[place.len()..] };
        Some((files, Path::new(if inner.is_empty() { "/" } else { inner })))
    }
}

impl Files for Root<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.place(path).map_or(Ok(None), |(files, path)| files.read(path))
    }

    fn open(&self, path: &str) -> Result<Option<Box<dyn io::Read + '_>>> {
        match self.place(path) {
            None => Ok(None),
            Some((files, path)) => {
                Ok(files.open(path)?.map(|file| Box::new(file) as Box<dyn io::Read>))
            }
        }
    }

    fn list(&self, path: &str) -> Result<Vec<String>> {
        self.place(path).map_or(Ok(Vec::new()), |(files, path)| files.list(path))
    }

    fn exists(&self, path: &str) -> Result<bool> {
        self.place(path).map_or(Ok(false), |(files, path)| files.exists(path))
    }
}

fn entry(attributes: &Attributes, file_system: u32) -> Entry {
    let kind = match attributes.kind {
        DiskKind::File => Kind::File,
        DiskKind::Folder => Kind::Folder,
        DiskKind::Link => Kind::Link,
        DiskKind::BlockDevice { .. } => Kind::BlockDevice,
        DiskKind::CharacterDevice { .. } => Kind::CharacterDevice,
        DiskKind::Pipe => Kind::Pipe,
        DiskKind::Socket => Kind::Socket,
    };
    Entry {
        kind,
        mode: u32::from(attributes.mode),
        uid: attributes.uid,
        gid: attributes.gid,
        size: attributes.size,
        target: attributes.target.as_deref().map(text),
        inode: (file_system, attributes.inode.unwrap_or(0)),
        capability: attributes.xattrs.get(std::ffi::OsStr::new(CAPABILITY)).cloned(),
    }
}

/// A path as text in which no two paths are the same: what is not UTF-8 is told byte by byte.
fn text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn two_names_that_are_not_utf8_stay_two() {
        let path = |bytes: &[u8]| text(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(path(b"/a/\xffb"), "/a/\\xffb");
        assert_ne!(path(b"/\xfe"), path(b"/\xff"));
        assert_eq!(path("/ä".as_bytes()), "/ä");
    }
}
