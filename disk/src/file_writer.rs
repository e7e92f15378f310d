//! What every format's writer does around a pass: it joins, and ends its file afterwards.

use std::path::Path;

use nodekiln_words::{Cancel, Progress, Result};

use crate::disk::Disk;
use crate::output::Written;
use crate::pass::Pass;
use crate::payload::Payload;

/// A file of some format being written from a disk.
pub trait FileWriter: Send {
    /// Has `pass` feed the file with the bytes of `disk`, for which it was created.
    fn join<'a>(&'a mut self, disk: &'a Disk, pass: &mut Pass<'a>);

    /// Ends the file after the pass, flushes it and takes its digest. `payload` is the digest of `disk`; a
    /// format that does not need it does not ask for it.
    ///
    /// # Errors
    /// When the file cannot be written or reads back as something else, or somebody asked to stop.
    fn finish(
        self: Box<Self>,
        disk: &Disk,
        payload: &Payload,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Written>;
}

/// Writes one file by a pass of its own; `path` is its name in the progress display, which counts bytes of
/// data.
///
/// # Errors
/// When the disk cannot be read, and those of the writer.
pub fn write_file(
    disk: &Disk,
    payload: &Payload,
    mut writer: Box<dyn FileWriter>,
    path: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Written> {
    let mut pass = Pass::new();
    writer.join(disk, &mut pass);
    let task = progress.start(&format!("write {}", path.display()), Some(pass.length()), "B");
    let passed = pass.run(&|done| progress.advance(task, done), cancel);
    let written = passed.and_then(|_| writer.finish(disk, payload, progress, cancel));
    match &written {
        Ok(written) => progress.finish(task, &format!("sha256 {}", written.sha256.short())),
        Err(_) => progress.fail(task),
    }
    written
}
