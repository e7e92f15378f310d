//! Raw disk images: the bytes of the disk, with holes where clusters are zero.

use std::path::Path;

use nodekiln_words::{Cancel, Failure, Progress, Result, Sha256};

use crate::disk::Disk;
use crate::output::{Output, Written};
use crate::pass::Pass;
use crate::payload::Payload;

/// A raw file being written. Clusters of 64 KiB that hold only zeros become holes, whatever the sources
/// say.
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

    /// What takes the disk's bytes.
    #[must_use]
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// Flushes the file. It has the disk's digest, which is computed unless somebody did so before: what was
    /// written is read back and compared with the disk, which all cores do and which passes over holes,
    /// where hashing gigabytes a second time would take one core for seconds.
    ///
    /// # Errors
    /// When the file cannot be written or reads back as something else, or somebody asked to stop.
    pub fn finish(
        self,
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
/// computed meanwhile. Progress counts bytes of the disk's data.
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
    let writer = Writer::create(disk, path)?;
    let mut pass = Pass::new();
    pass.plain(disk, writer.output());
    let task = progress.start(&format!("write {}", path.display()), Some(pass.length()), "B");
    let digesting = cancel.child();
    let written = std::thread::scope(|scope| {
        let digest = scope.spawn(|| payload.digest(progress, &digesting));
        let written = pass
            .run(&|done| progress.advance(task, done), cancel)
            .and_then(|_| writer.output.sync_and_compare(disk, &[], cancel));
        if written.is_err() {
            digesting.cancel();
        }
        let digest = joined(digest.join());
        written?; // before the digest, which was merely told to stop
        Ok(Written { allocated: writer.output.written(), sha256: digest?, bytes: disk.size() })
    });
    match &written {
        Ok(written) => progress.finish(task, &format!("sha256 {}", written.sha256.short())),
        Err(_) => progress.fail(task),
    }
    written
}

fn joined(digest: std::thread::Result<Result<Sha256>>) -> Result<Sha256> {
    digest.unwrap_or_else(|_| Err(Failure::io("digesting the disk panicked")))
}
