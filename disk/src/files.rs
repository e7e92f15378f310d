//! Files of a disk's partitions, read without mounting: ext2 to ext4 through the crate `ext4-view`, FAT through
//! `fatfs`. Others are told by their names only.

use std::cell::RefCell;
use std::io::{self, Read, Seek, SeekFrom, Write};

use nodekiln_words::{Class, Failure, Result, ResultExt as _};

use crate::disk::{Disk, is_zero};
use crate::fields::bytes;
use crate::partitions::Part;

/// Most bytes of a file that are read.
const MOST_BYTES: u64 = 64 << 20;

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
}

enum Kind {
    Ext(ext4_view::Ext4),
    // Looking up a name moves the volume's position, also for whoever only reads.
    Fat(Box<RefCell<fatfs::FileSystem<Window>>>),
}

/// A part of a disk as a readable stream.
struct Window {
    disk: Disk,
    start: u64,
    length: u64,
    at: u64,
}

impl Content {
    /// Looks into partition `part` of `disk`.
    ///
    /// # Errors
    /// When the disk cannot be read. A damaged file system is an error too.
    pub fn of(disk: &Disk, part: &Part) -> Result<Self> {
        let window = Window { disk: disk.clone(), start: part.start, length: part.length, at: 0 };
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
        let superblock = crate::ext4::Superblock::decode(start)?;
        let failed = || "cannot read the ext4 file system".to_owned();
        let ext = ext4_view::Ext4::load(Box::new(window)).or_fail(Class::Input, failed)?;
        let (label, id) = (superblock.label, superblock.uuid.to_string());
        Ok(Self { kind: Kind::Ext(ext), label, id })
    }

    fn fat(window: Window) -> Result<Self> {
        let failed = || "cannot read the FAT file system".to_owned();
        let fat = fatfs::FileSystem::new(window, fatfs::FsOptions::new())
            .or_fail(Class::Input, failed)?;
        let serial = fat.volume_id();
        let id = format!("{:04X}-{:04X}", serial >> 16, serial & 0xFFFF);
        Ok(Self { label: fat.volume_label(), id, kind: Kind::Fat(Box::new(RefCell::new(fat))) })
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
    /// When the file system is damaged there, or the file is larger than 64 MiB.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let failed = || format!("cannot read {path}");
        match &self.kind {
            Kind::Ext(ext) => {
                let metadata = match ext.metadata(path) {
                    Ok(metadata) if metadata.is_dir() => return Ok(None),
                    Ok(metadata) => metadata,
                    Err(error) if is_absent(&error) => return Ok(None),
                    Err(error) => return Err(error).or_fail(Class::Input, failed),
                };
                if metadata.len() > MOST_BYTES {
                    let message = format!("{path} has {} bytes", metadata.len());
                    return Err(Failure::new(Class::Unsupported, message));
                }
                ext.read(path).map(Some).or_fail(Class::Input, failed)
            }
            Kind::Fat(fat) => {
                let fat = fat.borrow();
                let mut file = match fat.root_dir().open_file(path.trim_start_matches('/')) {
                    Ok(file) => file.take(MOST_BYTES),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error).or_fail(Class::Input, failed),
                };
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).or_fail(Class::Input, failed)?;
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
    /// When the file system is damaged there.
    pub fn list(&self, path: &str) -> Result<Vec<String>> {
        let failed = || format!("cannot list {path}");
        let mut names = Vec::new();
        match &self.kind {
            Kind::Ext(ext) => {
                let entries = match ext.read_dir(path) {
                    Ok(entries) => entries,
                    Err(error) if is_absent(&error) => return Ok(names),
                    Err(error) => return Err(error).or_fail(Class::Input, failed),
                };
                for entry in entries {
                    let entry = entry.or_fail(Class::Input, failed)?;
                    names.push(entry.file_name().display().to_string());
                }
            }
            Kind::Fat(fat) => {
                let (fat, inner) = (fat.borrow(), path.trim_matches('/'));
                let root = fat.root_dir();
                let folder = if inner.is_empty() { Ok(root) } else { root.open_dir(inner) };
                let folder = match folder {
                    Ok(folder) => folder,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
                    Err(error) => return Err(error).or_fail(Class::Input, failed),
                };
                for entry in folder.iter() {
                    names.push(entry.or_fail(Class::Input, failed)?.file_name());
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
        let failed = || format!("cannot look at {path}");
        match &self.kind {
            Kind::Ext(ext) => match ext.exists(path) {
                Ok(exists) => Ok(exists),
                Err(error) if is_absent(&error) => Ok(false),
                Err(error) => Err(error).or_fail(Class::Input, failed),
            },
            Kind::Fat(_) => {
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                Ok(self.list(folder)?.iter().any(|found| found.eq_ignore_ascii_case(name)))
            }
        }
    }
}

/// Whether a path leads nowhere, which is an answer and no failure.
fn is_absent(error: &ext4_view::Ext4Error) -> bool {
    matches!(error, ext4_view::Ext4Error::NotFound | ext4_view::Ext4Error::NotADirectory)
}

impl ext4_view::Ext4Read for Window {
    fn read(
        &mut self,
        start: u64,
        buffer: &mut [u8],
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync + 'static>> {
        if start.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return Err("behind the end of the partition".into());
        }
        self.disk.read_at(self.start + start, buffer).map_err(|failure| Box::new(failure).into())
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.length - self.at).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        self.disk
            .read_at(self.start + self.at, &mut buffer[..length])
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
