//! Files of a disk's partitions, read without mounting: ext2 to ext4, XFS, and FAT through `fatfs`. Others are told
//! by their names only.
//!
//! Paths are bytes, as in Linux: what takes or gives a [`Path`] has them as the file system does, whether they are
//! UTF-8 or not. [`FileSystem::list`] alone gives text, and leaves out the names that are none.

mod entry;
mod fat;
mod listing;
mod reader;
pub(crate) mod runs;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_words::{Cancel, Class, Failure, Result};

use crate::disk::{Disk, is_zero};
use crate::ext4::{self, Superblock};
use crate::fields::bytes;
use crate::partitions::Part;
use crate::window::Window;
use crate::xfs;

use fat::Fat;

pub use entry::{Attributes, Entry, Kind};
pub(crate) use listing::Listing;
pub use reader::FileReader;
pub(crate) use runs::Run;
pub(crate) use tree::{Found, Tree};

/// Most bytes of a file that are read at once.
const MOST_BYTES: u64 = 64 << 20;
/// Most names of a folder of a FAT that are listed: those of one whose clusters lead in a circle have no end.
const MOST_NAMES: usize = 1 << 17;
/// Most bytes of a path, as Linux has it (`PATH_MAX`).
pub(crate) const MOST_PATH: usize = 4096;
/// Most paths of a file system that are walked.
pub(crate) const MOST_PATHS: usize = 1 << 22;

/// What stands in a partition.
pub enum Content {
    /// Files that can be read.
    Files(FileSystem),
    /// Something else, by its name: `btrfs`, `swap`.
    Named(&'static str),
    /// Nothing but zeros at its start.
    Empty,
    /// Nobody knows.
    Unknown,
}

/// A file system that can be read, by several threads at once.
#[derive(Debug)]
pub struct FileSystem {
    kind: System,
    label: String,
    id: String,
}

#[derive(Debug)]
enum System {
    Ext(Box<ext4::Volume>),
    Xfs(Box<xfs::Volume>),
    Fat(Fat),
}

impl Content {
    /// Looks into partition `part` of `disk`. Whatever is read of its files later ends too once `cancel` is
    /// set.
    ///
    /// # Errors
    /// When the disk cannot be read or somebody asked to stop. A damaged file system is an error too.
    pub fn of(disk: &Disk, part: &Part, cancel: &Cancel) -> Result<Self> {
        cancel.check()?;
        let window = Arc::new(Window::of(disk, part, cancel));
        let mut start = vec![0; usize::try_from(part.length.min(PROBE)).unwrap_or(0)];
        disk.read_at(part.start, &mut start)?;
        let starts =
            |at: usize, magic: &[u8]| start.get(at..).is_some_and(|s| s.starts_with(magic));
        if starts(1080, &[0x53, 0xEF]) {
            return FileSystem::ext(&window, &start).map(Self::Files);
        }
        if bytes::<2>(&start, 510) == Some([0x55, 0xAA])
            && (starts(54, b"FAT") || starts(82, b"FAT"))
        {
            return FileSystem::fat(&window).map(Self::Files);
        }
        if starts(0, xfs::MAGIC) {
            return FileSystem::xfs(&window, &start).map(Self::Files);
        }
        let known: [(usize, &[u8], &str); 7] = [
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
    fn ext(window: &Arc<Window>, start: &[u8]) -> Result<Self> {
        let superblock = Superblock::decode(start)?;
        let volume = ext4::Volume::open(window, start.get(..Superblock::END).unwrap_or_default())
            .map_err(|failure| failure.context("cannot read the ext4 file system"))?;
        let (label, id) = (superblock.label, superblock.uuid.to_string());
        Ok(Self { kind: System::Ext(Box::new(volume)), label, id })
    }

    fn xfs(window: &Arc<Window>, start: &[u8]) -> Result<Self> {
        let volume = xfs::Volume::open(window, start)
            .map_err(|failure| failure.context("cannot read the XFS file system"))?;
        let (label, id) = (volume.label().to_owned(), volume.uuid().to_string());
        Ok(Self { kind: System::Xfs(Box::new(volume)), label, id })
    }

    fn fat(window: &Arc<Window>) -> Result<Self> {
        let (fat, label, serial) = Fat::open(window)?;
        let id = format!("{:04X}-{:04X}", serial >> 16, serial & 0xFFFF);
        Ok(Self { kind: System::Fat(fat), label, id })
    }

    /// `ext4` (or an older one), `xfs` or `vfat`, as `blkid` calls them.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.kind {
            System::Ext(_) => "ext4",
            System::Xfs(_) => "xfs",
            System::Fat(_) => "vfat",
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
    /// followed within the file system, as many as Linux follows.
    ///
    /// # Errors
    /// When the file system is damaged there, the file is larger than 64 MiB, or somebody asked to stop.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        let cannot = |failure: Failure| failure.context(format!("cannot read {}", path.display()));
        let Some(mut file) = self.open(path)? else { return Ok(None) };
        if file.size() > MOST_BYTES {
            let message = format!("{} has {} bytes", path.display(), file.size());
            return Err(Failure::new(Class::Unsupported, message));
        }
        let mut bytes = vec![0; usize::try_from(file.size()).unwrap_or(0)];
        file.fill(&mut bytes).map_err(cannot)?;
        Ok(Some(bytes))
    }

    /// As [`FileSystem::read`], as text; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`FileSystem::read`].
    pub fn text(&self, path: impl AsRef<Path>) -> Result<Option<String>> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The content of the file at the absolute `path`, of any size, as a stream; `None` where there is no such
    /// file. Links are followed as by [`FileSystem::read`].
    ///
    /// # Errors
    /// When the file system is damaged there or somebody asked to stop.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Option<FileReader<'_>>> {
        let path = path.as_ref();
        let cannot = |failure: Failure| failure.context(format!("cannot open {}", path.display()));
        match &self.kind {
            System::Ext(volume) => {
                let found = volume.file(path).map_err(cannot)?;
                Ok(found.map(|found| FileReader::ext(volume, found)))
            }
            System::Xfs(volume) => {
                let found = volume.file(path).map_err(cannot)?;
                Ok(found.map(|found| FileReader::xfs(volume, found)))
            }
            System::Fat(fat) => {
                let Some(text) = path.to_str() else { return Ok(None) };
                let found = fat.attributes(text).map_err(cannot)?;
                let found = found.filter(|found| found.kind == Kind::File);
                Ok(found.map(|found| FileReader::fat(fat, text, found.size)))
            }
        }
    }

    /// Names in the folder at the absolute `path`, sorted; none where there is no such folder. Names that are not
    /// UTF-8 are left out: [`FileSystem::walk`] has them.
    ///
    /// # Errors
    /// When the file system is damaged there, the folder has more than 131,072 names, or somebody asked to
    /// stop.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<String>> {
        let path = path.as_ref();
        let cannot = |failure: Failure| failure.context(format!("cannot list {}", path.display()));
        let texts = |names: Vec<PathBuf>| {
            let names = names.into_iter();
            names.filter_map(|name| name.into_os_string().into_string().ok()).collect()
        };
        let names = match &self.kind {
            System::Ext(volume) => volume.names(path).map(texts),
            System::Xfs(volume) => volume.names(path).map(texts),
            System::Fat(fat) => path.to_str().map_or(Ok(Vec::new()), |path| fat.list(path)),
        };
        let mut names = names.map_err(cannot)?;
        names.sort();
        Ok(names)
    }

    /// Whether there is a file or folder at the absolute `path`. Links are followed as by
    /// [`FileSystem::read`].
    ///
    /// # Errors
    /// When the file system is damaged there or somebody asked to stop.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        let path = path.as_ref();
        let found = match &self.kind {
            System::Ext(volume) => volume.exists(path),
            System::Xfs(volume) => volume.exists(path),
            System::Fat(fat) => match path.to_str() {
                Some(path) => fat.attributes(path).map(|found| found.is_some()),
                None => Ok(false),
            },
        };
        found.map_err(|failure| failure.context(format!("cannot look at {}", path.display())))
    }

    /// What stands at the absolute `path`; `None` where nothing does. Links are followed on the way there, and the
    /// last one is told of.
    ///
    /// # Errors
    /// When the file system is damaged there or somebody asked to stop.
    pub fn attributes(&self, path: impl AsRef<Path>) -> Result<Option<Attributes>> {
        let path = path.as_ref();
        let found = match &self.kind {
            System::Ext(volume) => volume.attributes(path),
            System::Xfs(volume) => volume.attributes(path),
            System::Fat(fat) => match path.to_str() {
                Some(path) => fat.attributes(path),
                None => Ok(None),
            },
        };
        found.map_err(|failure| failure.context(format!("cannot look at {}", path.display())))
    }

    /// The target of the link at the absolute `path`, byte for byte; `None` where there is no link.
    ///
    /// # Errors
    /// When the file system is damaged there or somebody asked to stop.
    pub fn link(&self, path: impl AsRef<Path>) -> Result<Option<PathBuf>> {
        let path = path.as_ref();
        let found = match &self.kind {
            System::Ext(volume) => volume.link(path),
            System::Xfs(volume) => volume.link(path),
            System::Fat(_) => Ok(None),
        };
        found.map_err(|failure| failure.context(format!("cannot look at {}", path.display())))
    }

    /// Calls `visit` with every path once, in the order of [`Path`]: the root first, each folder before what is in
    /// it, names of a folder by their bytes. Hard links are told by their inode.
    ///
    /// At most 4,194,304 paths of 4096 bytes each are walked; the names of all folders above where the walk is, and
    /// of what it read last, take 300 MiB of memory at most.
    ///
    /// # Errors
    /// When the file system is damaged anywhere, larger than that, or somebody asked to stop; and what `visit` fails
    /// with, which ends it.
    pub fn walk(&self, visit: &mut dyn FnMut(&Entry) -> Result<()>) -> Result<()> {
        match &self.kind {
            System::Ext(volume) => volume.walk(visit),
            System::Xfs(volume) => volume.walk(visit),
            System::Fat(fat) => fat.walk(visit),
        }
    }
}
