//! Raw disk images: the bytes of the disk, with holes where clusters are zero.

use std::path::Path;

use nodekiln_words::{Cancel, Progress, Result};

use crate::disk::Disk;
use crate::file_writer::{FileWriter, write_file};
use crate::output::{Output, Written};
use crate::pass::Pass;
use crate::payload::Payload;

/// A raw file being written. Clusters of 64 KiB that hold only zeros become holes, whatever the sources
/// say.
///
/// It has the disk's digest: what was written is read back and compared with the disk, which all cores do and
/// which passes over holes, where hashing gigabytes a second time would take one core for seconds.
#[derive(Debug)]
pub struct Writer {
    output: Output,
}

impl Writer {
    /// Creates the file at `path` for `disk`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(disk: &Disk, path: &Path) -> Result<Self> {
        let output = Output::create(path)?;
        output.set_length(disk.size())?;
        Ok(Self { output })
    }
}

impl FileWriter for Writer {
    fn join<'a>(&'a mut self, disk: &'a Disk, pass: &mut Pass<'a>) {
        pass.plain(disk, &self.output);
    }

    fn finish(
        self: Box<Self>,
        disk: &Disk,
        payload: &Payload,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Written> {
        self.output.sync_and_compare(disk, &[], cancel)?;
        let sha256 = payload.digest(progress, cancel)?;
        Ok(Written { sha256, bytes: disk.size(), allocated: self.output.written() })
    }
}

/// Writes `disk`, whose digest is `payload`, to `path` as a sparse file and flushes it. The digest is
/// computed meanwhile.
///
/// # Errors
/// When a source cannot be read, the file cannot be written or reads back as something else, or
/// somebody asked to stop.
pub fn write(
    disk: &Disk,
    payload: &Payload,
    path: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Written> {
    let writer = Box::new(Writer::create(disk, path)?);
    let write = || write_file(disk, payload, writer, path, progress, cancel);
    Payload::beside(&[payload], progress, cancel, write)
}
