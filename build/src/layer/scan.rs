//! Lists a layer or a tree with a digest of every file.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_disk::Disk;
use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::{Entry, EntryKind};
use nodekiln_words::{Cancel, Result, ResultExt as _, Sha256};
use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};

use super::extended::{extended, is_opaque};
use super::layered::is_whiteout;

/// One thing that stands in the layer.
struct Item {
    /// Absolute path within the tree, escaped as inventories do.
    path: String,
    place: PathBuf,
    metadata: Metadata,
}

/// Lists everything in `layer`. With `whiteouts`, overlayfs's marks (character devices 0/0, opaque
/// directories) are taken as such; without, they are what they are.
///
/// # Errors
/// When something cannot be read, and on cancellation.
pub fn scan(layer: &Path, whiteouts: bool, cancel: &Cancel) -> Result<Inventory> {
    scan_as(layer, &Inventory::default(), whiteouts, cancel)
}

/// As [`scan`], for comparing with `expected`: what is a disk there is digested as a disk here.
///
/// # Errors
/// As [`scan`].
pub fn scan_as(
    layer: &Path,
    expected: &Inventory,
    whiteouts: bool,
    cancel: &Cancel,
) -> Result<Inventory> {
    let scan = Scan { layer, expected, cancel };
    // Worker threads may live in another mount namespace than the caller, where a mounted tree is
    // an empty folder; an open folder is the same for all.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = rustix::fs::open(layer, flags, Mode::empty()).or_io(|| scan.cannot("open", "/"))?;
    let place = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
    let metadata = fs::metadata(&place).or_io(|| scan.cannot("read", "/"))?;
    let mut items = scan.walk(&place, "")?;
    items.push(Item { path: "/".to_owned(), place, metadata });
    let (disks, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|item| scan.is_disk(item));
    let digests = scan.digests(&items)?;
    let mut entries = items
        .par_iter()
        .map(|item| {
            let digest = digests.get(&identity(&item.metadata)).copied();
            let entry = entry(item, digest, whiteouts);
            Ok((item.path.clone(), entry.or_io(|| scan.cannot("read", &item.path))?))
        })
        .collect::<Result<BTreeMap<_, _>>>()?;
    for disk in disks {
        let entry = scan.disk(&disk)?;
        entries.insert(disk.path, entry);
    }
    Ok(Inventory { entries })
}

/// A scan under way.
struct Scan<'a> {
    layer: &'a Path,
    expected: &'a Inventory,
    cancel: &'a Cancel,
}

impl Scan<'_> {
    fn cannot(&self, what: &str, path: &str) -> String {
        format!("cannot {what} {path} of {}", self.layer.display())
    }

    /// Everything below a folder, folders read in parallel.
    fn walk(&self, folder: &Path, path: &str) -> Result<Vec<Item>> {
        self.cancel.check()?;
        let read = || -> io::Result<Vec<Item>> {
            let items = fs::read_dir(folder)?.map(|entry| {
                let entry = entry?;
                let path = format!("{path}/{}", escape(entry.file_name().as_bytes()));
                Ok(Item { path, place: entry.path(), metadata: entry.metadata()? })
            });
            items.collect()
        };
        let items = read().or_io(|| self.cannot("list", path))?;
        let below = items
            .par_iter()
            .filter(|item| item.metadata.is_dir())
            .map(|item| self.walk(&item.place, &item.path))
            .collect::<Result<Vec<_>>>()?;
        Ok(items.into_iter().chain(below.into_iter().flatten()).collect())
    }

    /// Whether a regular file is expected to be a disk.
    fn is_disk(&self, item: &Item) -> bool {
        let expected = self.expected.entries.get(&item.path).map(|entry| &entry.kind);
        item.metadata.is_file() && matches!(expected, Some(EntryKind::Disk { .. }))
    }

    fn disk(&self, item: &Item) -> Result<Entry> {
        let cannot = || self.cannot("read", &item.path);
        let size = item.metadata.len();
        let file = Arc::new(File::open(&item.place).or_io(cannot)?);
        let blocks = Disk::over_file(&file, size).block_digest(self.cancel)?;
        attributed(item, EntryKind::Disk { size, blocks }).or_io(cannot)
    }

    /// Digests of all regular files, each read once however many names it has, the largest first
    /// so that none is left alone at the end.
    fn digests(&self, items: &[Item]) -> Result<HashMap<(u64, u64), Sha256>> {
        let files: HashMap<_, _> = items
            .iter()
            .filter(|item| item.metadata.is_file())
            .map(|item| (identity(&item.metadata), item))
            .collect();
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_by_key(|(identity, item)| (std::cmp::Reverse(item.metadata.len()), *identity));
        files
            .into_par_iter()
            .with_max_len(1)
            .map(|(identity, item)| {
                let cannot = || self.cannot("read", &item.path);
                let file = File::open(&item.place).or_io(cannot)?;
                Ok((identity, Sha256::of_stream(file, self.cancel, cannot)?))
            })
            .collect()
    }
}

/// Device and inode number: the same for all names of one file.
fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn entry(item: &Item, digest: Option<Sha256>, whiteouts: bool) -> io::Result<Entry> {
    let Item { place, metadata, .. } = item;
    let file_type = metadata.file_type();
    let (major, minor) = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let kind = match digest {
        Some(sha256) if file_type.is_file() => EntryKind::File { size: metadata.len(), sha256 },
        _ if file_type.is_dir() => EntryKind::Directory { opaque: whiteouts && is_opaque(place)? },
        _ if file_type.is_symlink() => {
            EntryKind::Link { target: escape(fs::read_link(place)?.as_os_str().as_bytes()) }
        }
        _ if whiteouts && is_whiteout(metadata) => return Ok(whiteout()),
        _ if file_type.is_char_device() => EntryKind::CharDevice { major, minor },
        _ if file_type.is_block_device() => EntryKind::BlockDevice { major, minor },
        _ if file_type.is_fifo() => EntryKind::Fifo,
        _ if file_type.is_socket() => EntryKind::Socket,
        _ => {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a file of an unknown kind"));
        }
    };
    attributed(item, kind)
}

/// The entry of `kind` with the item's owner, bits, time and extended attributes.
fn attributed(item: &Item, kind: EntryKind) -> io::Result<Entry> {
    let Item { place, metadata, .. } = item;
    let xattrs = extended(place)?.into_iter().map(|(name, value)| (name, hexadecimal(&value)));
    Ok(Entry {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: metadata.mtime(),
        xattrs: xattrs.collect(),
    })
}

/// A whiteout has no attributes of its own; those of the device node differ by kernel version.
fn whiteout() -> Entry {
    Entry { kind: EntryKind::Whiteout, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A path as [`Inventory`] writes it: `\\` for a backslash, `\xHH` for bytes that are not UTF-8.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            text.push_str(&format!(r"\x{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_text_are_escaped_without_loss() {
        assert_eq!(escape("Főtanúsítvány".as_bytes()), "Főtanúsítvány");
        assert_eq!(escape(b"a\\b\xff\xfec"), r"a\\b\xFF\xFEc");
    }

    proptest::proptest! {
        #[test]
        fn different_names_have_different_escapes(a: Vec<u8>, b: Vec<u8>) {
            proptest::prop_assert_eq!(a == b, escape(&a) == escape(&b));
        }
    }
}
