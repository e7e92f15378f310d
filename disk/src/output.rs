//! The file that a writer fills: writes by position, and says what is missing when the disk is full.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nodekiln_words::{Bytes, Cancel, Class, Failure, Result, ResultExt, Sha256, Silent};

use crate::disk::{Disk, file_extents};

/// What a writer wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// SHA-256 of all bytes of the file, which was read back and digested, or compared with what has
    /// this digest.
    pub sha256: Sha256,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// Bytes of it that carry data: all but holes.
    pub allocated: u64,
}

/// A file being written. The caller names a temporary path and renames it when all is well.
#[derive(Debug)]
pub struct Output {
    file: Arc<File>,
    path: PathBuf,
    written: AtomicU64,
}

impl Output {
    /// Creates the file at `path`, or empties the one that is there.
    ///
    /// # Errors
    /// When the file cannot be opened for writing.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.or_io(|| format!("cannot create {}", path.display()))?;
        Ok(Self { file: Arc::new(file), path: path.to_owned(), written: AtomicU64::new(0) })
    }

    /// Sets the length to `length` bytes; what is new is a hole.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn set_length(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(|error| self.failure(error, 0, length))
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    /// When writing fails; a full disk names the path and the bytes that did not fit.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let result = self.file.write_all_at(bytes, offset);
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        result.map_err(|error| self.failure(error, offset, bytes.len() as u64))
    }

    /// Bytes that were written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Flushes the file to its device.
    ///
    /// # Errors
    /// When the device reports an error.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| self.failure(error, 0, 0))
    }

    /// SHA-256 of a part of the file, read back.
    ///
    /// # Errors
    /// When it cannot be read, or somebody asked to stop.
    pub(crate) fn digest_of(&self, range: Range<u64>, cancel: &Cancel) -> Result<Sha256> {
        let length = range.end.saturating_sub(range.start);
        let extents = file_extents(&self.file, range.start, length, 0);
        self.told(Disk::new(length, extents)?.digest(&Silent, cancel))
    }

    /// Flushes the file to its device and meanwhile reads it back, from the kernel's cache, for its
    /// digest.
    ///
    /// A digest of the bytes on their way into the file would say nothing about the file, and formats
    /// whose first bytes are known last cannot have one.
    ///
    /// # Errors
    /// When reading or flushing fails, or somebody asked to stop.
    pub fn sync_and_digest(&self, cancel: &Cancel) -> Result<Sha256> {
        self.syncing(|| self.digest(cancel))
    }

    /// Flushes the file to its device and meanwhile reads it back, from the kernel's cache, and
    /// compares it with `disk` and the `tail` behind it.
    ///
    /// # Errors
    /// When they differ, when reading or flushing fails, or somebody asked to stop.
    pub fn sync_and_compare(&self, disk: &Disk, tail: &[u8], cancel: &Cancel) -> Result<()> {
        self.syncing(|| {
            let length = self.length()?;
            let head = disk.size().min(length);
            let written = Disk::over_file(&self.file, head);
            let mut found =
                vec![0; usize::try_from(length - head).unwrap_or(0).min(tail.len() + 1)];
            self.file.read_exact_at(&mut found, head).or_io(|| self.cannot_read_back())?;
            let differs = match disk.first_difference(&written, cancel)? {
                None if found == tail => return Ok(()),
                None => head,
                Some(offset) => offset,
            };
            let path = self.path.display();
            Err(Failure::io(format!("{path} differs from its disk at offset {differs}")).with_help(
                "the stored disk changed while it was read, or the memory or device is \
                            bad; run `nodekiln cache verify`",
            ))
        })
    }

    /// Flushes the file to its device and compares what stands from `offset` on with `tail`.
    ///
    /// # Errors
    /// When they differ, or flushing or reading fails.
    pub(crate) fn sync_and_compare_end(&self, offset: u64, tail: &[u8]) -> Result<()> {
        self.sync()?;
        let length = usize::try_from(self.length()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut found = vec![0; length.min(tail.len() + 1)];
        self.file.read_exact_at(&mut found, offset).or_io(|| self.cannot_read_back())?;
        if found != tail {
            let path = self.path.display();
            return Err(Failure::io(format!(
                "{path} differs at offset {offset} from what was written"
            ))
            .with_help("the memory or the device is bad"));
        }
        Ok(())
    }

    /// Does `work` while the file is flushed.
    fn syncing<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        std::thread::scope(|scope| {
            let flushed = scope.spawn(|| self.sync());
            let done = work();
            match flushed.join() {
                Ok(result) => result.and(done),
                Err(_) => Err(Failure::io(format!("flushing {} panicked", self.path.display()))),
            }
        })
    }

    /// The file as a disk.
    fn read_back(&self) -> Result<Disk> {
        Ok(Disk::over_file(&self.file, self.length()?))
    }

    fn length(&self) -> Result<u64> {
        Ok(self.file.metadata().or_io(|| self.cannot_read_back())?.len())
    }

    fn cannot_read_back(&self) -> String {
        format!("cannot read {} back", self.path.display())
    }

    fn digest(&self, cancel: &Cancel) -> Result<Sha256> {
        self.told(self.read_back()?.digest(&Silent, cancel))
    }

    /// Says of a failure that it came with reading the file back.
    fn told<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|failure| match failure.class() {
            Class::Interrupted => failure,
            _ => failure.context(self.cannot_read_back()),
        })
    }

    fn failure(&self, error: io::Error, offset: u64, length: u64) -> Failure {
        let path = self.path.display();
        if error.kind() == io::ErrorKind::StorageFull {
            return Failure::io(format!("no space left for {path} at offset {offset}"))
                .with_help(format!(
                    "free at least {} where {path} is written, or choose another folder",
                    Bytes(length)
                ))
                .with_source(error);
        }
        Failure::io(format!("cannot write {path} at offset {offset}")).with_source(error)
    }
}
