//! Files of a disk's partitions, read without mounting: ext2 to ext4 through the crate `ext4-view`, FAT through
//! `fatfs`. Others are told by their names only.

use std::cell::RefCell;
use std::error::Error;
use std::io::{self, Read, Seek, SeekFrom, Write};

use nodekiln_words::{Cancel, Class, Failure, Result};

use crate::disk::{Disk, is_zero};
use crate::ext4::Superblock;
use crate::fields::{bytes, le32};
use crate::partitions::Part;

/// Most bytes of a file that are read.
const MOST_BYTES: u64 = 64 << 20;
/// Most names of a folder that are listed: those of a folder whose blocks are one block over and over have no
/// end.
const MOST_NAMES: usize = 1 << 17;
/// Most block groups of an ext4 file system: 128 TiB in groups of 128 MiB.
const MOST_GROUPS: u64 = 1 << 20;
/// Bytes that are read of a file system at most, after which it is taken for one that leads in circles.
const BUDGET: u64 = 2 << 30;
/// What a read costs at least: one of a few bytes may mean that a cluster is decompressed.
const LEAST_COST: u64 = 1 << 10;

/// What stands in a partition.
pub enum Content {
    /// Files that can be read.
    Files(FileSystem),
    /// Something else, by its name: `xfs`, `swap`.
    Named(&'static str),
    /// Nothing but zeros at its start.
    Empty,
    /// Nobody knows.
    Unknown,
}

/// A file system that can be read.
pub struct FileSystem {
    kind: Kind,
    label: String,
    id: String,
    cancel: Cancel,
}

enum Kind {
    Ext(ext4_view::Ext4),
    // Looking up a name moves the volume's position, also for whoever only reads.
    Fat(Box<RefCell<fatfs::FileSystem<Window>>>),
}

/// A part of a disk as a readable stream that ends after a while, whatever the libraries that read it are
/// led into: neither looks for cycles.
struct Window {
    disk: Disk,
    start: u64,
    length: u64,
    at: u64,
    /// What may still be read, in bytes.
    left: u64,
    cancel: Cancel,
}

impl Content {
    /// Looks into partition `part` of `disk`. Whatever is read of its files later ends too once `cancel` is
    /// set.
    ///
    /// # Errors
    /// When the disk cannot be read or somebody asked to stop. A damaged file system is an error too.
    pub fn of(disk: &Disk, part: &Part, cancel: &Cancel) -> Result<Self> {
        cancel.check()?;
        let window = Window {
            disk: disk.clone(),
            start: part.start,
            length: part.length,
            at: 0,
            left: BUDGET,
            cancel: cancel.clone(),
        };
        let mut start = vec![0; usize::try_from(part.length.min(PROBE)).unwrap_or(0)];
        disk.read_at(part.start, &mut start)?;
        let starts =
            |at: usize, magic: &[u8]| start.get(at..).is_some_and(|s| s.starts_with(magic));
        if starts(1080, &[0x53, 0xEF]) {
            return FileSystem::ext(window, &start).map(Self::Files);
        }
        if bytes::<2>(&start, 510) == Some([0x55, 0xAA])
            && (starts(54, b"FAT") || starts(82, b"FAT"))
        {
            return FileSystem::fat(window).map(Self::Files);
        }
        let known: [(usize, &[u8], &str); 8] = [
            (0, b"XFSB", "xfs"),
            (0x1_0040, b"_BHRfS_M", "btrfs"),
            (4086, b"SWAPSPACE2", "swap"),
            (536, b"LVM2 001", "LVM physical volume"),
            (0, b"LUKS\xba\xbe", "LUKS"),
            (0, b"hsqs", "squashfs"),
            (1024, &[0xE2, 0xE1, 0xF5, 0xE0], "erofs"),
            (3, b"NTFS", "ntfs"),
        ];
        let named = known.iter().find(|(at, magic, _)| starts(*at, magic)).map(|(.., name)| *name);
        Ok(match named {
            Some(name) => Self::Named(name),
            None if is_zero(&start) => Self::Empty,
            None => Self::Unknown,
        })
    }
}

/// Enough for btrfs, whose superblock stands at 64 KiB.
const PROBE: u64 = 68 << 10;

impl FileSystem {
    fn ext(window: Window, start: &[u8]) -> Result<Self> {
        let superblock = Superblock::decode(start)?;
        refuse_too_large(&superblock, start, window.length)?;
        let cancel = window.cancel.clone();
        let ext = ext4_view::Ext4::load(Box::new(window))
            .map_err(|error| failed(&cancel, error, "cannot read the ext4 file system"))?;
        let (label, id) = (superblock.label, superblock.uuid.to_string());
        Ok(Self { kind: Kind::Ext(ext), label, id, cancel })
    }

    fn fat(window: Window) -> Result<Self> {
        let cancel = window.cancel.clone();
        let fat = fatfs::FileSystem::new(window, fatfs::FsOptions::new())
            .map_err(|error| failed(&cancel, error, "cannot read the FAT file system"))?;
        let serial = fat.volume_id();
        let id = format!("{:04X}-{:04X}", serial >> 16, serial & 0xFFFF);
        let (label, kind) = (fat.volume_label(), Kind::Fat(Box::new(RefCell::new(fat))));
        Ok(Self { kind, label, id, cancel })
    }

    /// `ext4` (or an older one) or `vfat`, as `blkid` calls them.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Ext(_) => "ext4",
            Kind::Fat(_) => "vfat",
        }
    }

    /// Its label; empty where it has none.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its UUID, or a FAT volume's serial number.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bytes of the file at the absolute `path`; `None` where there is no such file. Links are
    /// followed within the file system.
    ///
    /// # Errors
    /// When the file system is damaged there, the file is larger than 64 MiB, or somebody asked to stop.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let what = format!("cannot read {path}");
        match &self.kind {
            Kind::Ext(ext) => {
                let metadata = match ext.metadata(path) {
                    Ok(metadata) if metadata.is_dir() => return Ok(None),
                    Ok(metadata) => metadata,
                    Err(error) if is_absent(&error) => return Ok(None),
                    Err(error) => return Err(self.failed(error, what)),
                };
                if metadata.len() > MOST_BYTES {
                    let message = format!("{path} has {} bytes", metadata.len());
                    return Err(Failure::new(Class::Unsupported, message));
                }
                ext.read(path).map(Some).map_err(|error| self.failed(error, what))
            }
            Kind::Fat(fat) => {
                let fat = fat.borrow();
                let mut file = match fat.root_dir().open_file(path.trim_start_matches('/')) {
                    Ok(file) => file.take(MOST_BYTES),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(self.failed(error, what)),
                };
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(|error| self.failed(error, what))?;
                Ok(Some(bytes))
            }
        }
    }

    /// As [`FileSystem::read`], as text; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`FileSystem::read`].
    pub fn text(&self, path: &str) -> Result<Option<String>> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Names in the folder at the absolute `path`, sorted; none where there is no such folder.
    ///
    /// # Errors
    /// When the file system is damaged there, the folder has more than 131,072 names, or somebody asked to
    /// stop.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        let what = || format!("cannot list {path}");
        let mut names = Vec::new();
        let mut add = |name: String| {
            self.cancel.check()?;
            if names.len() == MOST_NAMES {
                let message = format!("{path} has more than {MOST_NAMES} names");
                return Err(Failure::new(Class::Unsupported, message));
            }
            names.push(name);
            Ok(())
        };
        match &self.kind {
            Kind::Ext(ext) => {
                let entries = match ext.read_dir(path) {
                    Ok(entries) => entries,
                    Err(error) if is_absent(&error) => return Ok(names),
                    Err(error) => return Err(self.failed(error, what())),
                };
                for entry in entries {
                    let entry = entry.map_err(|error| self.failed(error, what()))?;
                    add(entry.file_name().display().to_string())?;
                }
            }
            Kind::Fat(fat) => {
                let (fat, inner) = (fat.borrow(), path.trim_matches('/'));
                let root = fat.root_dir();
                let folder = if inner.is_empty() { Ok(root) } else { root.open_dir(inner) };
                let folder = match folder {
                    Ok(folder) => folder,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
                    Err(error) => return Err(self.failed(error, what())),
                };
                for entry in folder.iter() {
                    add(entry.map_err(|error| self.failed(error, what()))?.file_name())?;
                }
            }
        }
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    /// Whether there is a file or folder at the absolute `path`.
    ///
    /// # Errors
    /// When the file system is damaged there.
    pub fn exists(&self, path: &str) -> Result<bool> {
        match &self.kind {
            Kind::Ext(ext) => match ext.exists(path) {
                Ok(exists) => Ok(exists),
                Err(error) if is_absent(&error) => Ok(false),
                Err(error) => Err(self.failed(error, format!("cannot look at {path}"))),
            },
            Kind::Fat(_) => {
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                Ok(self.list(folder)?.iter().any(|found| found.eq_ignore_ascii_case(name)))
            }
        }
    }

    fn failed(&self, error: impl Error + Send + Sync + 'static, what: String) -> Failure {
        failed(&self.cancel, error, what)
    }
}

/// That `what` was not possible: the file system is damaged, unless somebody asked to stop.
fn failed(
    cancel: &Cancel,
    error: impl Error + Send + Sync + 'static,
    what: impl Into<String>,
) -> Failure {
    match cancel.check() {
        Err(interrupted) => interrupted,
        Ok(()) => Failure::input(what).with_source(error),
    }
}

/// Fails where the file system tells of more blocks than its partition of `length` bytes has, or of more groups
/// than their descriptors may take memory. `start` has its superblock.
fn refuse_too_large(superblock: &Superblock, start: &[u8], length: u64) -> Result<()> {
    let Superblock { block, blocks, .. } = *superblock;
    if blocks.checked_mul(block).is_none_or(|size| size > length) {
        let message = format!("an ext4 file system of {blocks} blocks of {block} bytes");
        return Err(Failure::input(format!("{message} is larger than its partition")));
    }
    let per_group = le32(start, 1024 + 0x20).map_or(1, |blocks| u64::from(blocks).max(1));
    let groups = blocks.div_ceil(per_group);
    if groups > MOST_GROUPS {
        let message = format!("an ext4 file system of {groups} block groups");
        return Err(Failure::new(Class::Unsupported, message));
    }
    Ok(())
}

/// Whether a path leads nowhere, which is an answer and no failure.
fn is_absent(error: &ext4_view::Ext4Error) -> bool {
    matches!(error, ext4_view::Ext4Error::NotFound | ext4_view::Ext4Error::NotADirectory)
}

impl Window {
    /// Takes the cost of a read of `length` bytes from what is left.
    fn pay(&mut self, length: usize) -> Result<()> {
        self.cancel.check()?;
        let cost = (length as u64).max(LEAST_COST);
        self.left = self.left.checked_sub(cost).ok_or_else(|| {
            Failure::input("too much was read of it: the file system leads in circles")
        })?;
        Ok(())
    }
}

impl ext4_view::Ext4Read for Window {
    fn read(
        &mut self,
        start: u64,
        buffer: &mut [u8],
    ) -> std::result::Result<(), Box<dyn Error + Send + Sync + 'static>> {
        if start.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return Err("behind the end of the partition".into());
        }
        self.pay(buffer.len())?;
        self.disk.read_at(self.start + start, buffer).map_err(|failure| Box::new(failure).into())
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        self.pay(length)
            .and_then(|()| self.disk.read_at(self.start + self.at, &mut buffer[..length]))
            .map_err(|failure| io::Error::other(failure.chain().join(": ")))?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        let at = at.filter(|at| *at <= self.length);
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// `fatfs` wants to be able to write, and marks a volume that it wrote to; nothing here does.
impl Write for Window {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
