//! Folders read as trees.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::{Entry, EntryKind, TreeReader};
use nodekiln_words::Sha256;

/// A folder read as a tree.
pub(crate) struct Folder(pub(crate) PathBuf);

impl TreeReader for Folder {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        let mut here = self.0.clone();
        let mut parts: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut links = 0;
        while let Some(part) = parts.pop() {
            let next = here.join(unescape(&part));
            match fs::read_link(&next) {
                Ok(target) if links < 40 => {
                    links += 1;
                    let target = target.to_str().unwrap().to_owned();
                    if target.starts_with('/') {
                        here = self.0.clone();
                    }
                    parts.extend(target.split('/').rev().map(str::to_owned));
                }
                _ if part == ".." => {
                    if here != self.0 {
                        here.pop();
                    }
                }
                _ => here = next,
            }
        }
        match fs::read(&here) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn escape(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::new(), |text, chunk| {
        let bad: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
        text + &chunk.valid().replace('\\', "\\\\") + &bad
    })
}

fn unescape(part: &str) -> String {
    part.replace("\\\\", "\\")
}

/// The inventory of a folder.
pub(crate) fn scan(root: &Path) -> Inventory {
    let mut inventory = Inventory::default();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).unwrap() {
            let path = item.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let kind = kind(&path, &metadata);
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let (mode, mtime) = (metadata.mode() & 0o7777, metadata.mtime());
            let (uid, gid) = (metadata.uid(), metadata.gid());
            let entry = Entry { kind, mode, uid, gid, mtime, xattrs: BTreeMap::new() };
            let inside = path.strip_prefix(root).unwrap().as_os_str().as_bytes();
            inventory.entries.insert(format!("/{}", escape(inside)), entry);
        }
    }
    inventory
}

fn kind(path: &Path, metadata: &fs::Metadata) -> EntryKind {
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        EntryKind::Directory { opaque: false }
    } else if file_type.is_symlink() {
        let target = fs::read_link(path).unwrap();
        EntryKind::Link { target: escape(target.as_os_str().as_bytes()) }
    } else if file_type.is_file() {
        let bytes = fs::read(path).unwrap();
        EntryKind::File { size: bytes.len() as u64, sha256: Sha256::of(&bytes) }
    } else if file_type.is_char_device() {
        EntryKind::CharDevice { major: 0, minor: 0 }
    } else if file_type.is_block_device() {
        EntryKind::BlockDevice { major: 0, minor: 0 }
    } else {
        EntryKind::Socket
    }
}
