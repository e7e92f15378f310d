//! Raw disk images: the bytes of the disk, with holes where clusters are zero.

use std::path::Path;

use nodekiln_words::{Cancel, Progress, Result};

use crate::disk::{Disk, data_runs};
use crate::ordered::ordered;
use crate::output::{Output, Written};

/// Writes `disk` to `path` as a sparse file, flushes it and reads it back for its digest.
///
/// Clusters of 64 KiB that hold only zeros become holes, whatever the sources say. The digest is
/// that of the file, zeros included, and not of what was meant to be written: the caller may compare
/// the two. Progress counts bytes of the disk.
///
/// # Errors
/// When a source cannot be read, the file cannot be written, or somebody asked to stop.
pub fn write(
    disk: &Disk,
    path: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Written> {
    let task = progress.start(&format!("write {}", path.display()), Some(disk.size()), "B");
    let advance = |done| progress.advance(task, done);
    let written = write_sparse(disk, path, &advance, cancel);
    match &written {
        Ok(written) => progress.finish(task, &format!("sha256 {}", written.sha256.short())),
        Err(_) => progress.fail(task),
    }
    written
}

fn write_sparse(
    disk: &Disk,
    path: &Path,
    advance: &dyn Fn(u64),
    cancel: &Cancel,
) -> Result<Written> {
    let output = Output::create(path)?;
    output.set_length(disk.size())?;
    let batches = disk.batches();
    let mut allocated = 0;
    ordered(
        batches.len(),
        cancel,
        || (),
        |(), job| write_data(&output, batches[job].start, &disk.read_batch(&batches[job])?),
        |job, data| {
            allocated += data;
            advance(batches[job].end);
            Ok(())
        },
    )?;
    // Hashing while the device takes the bytes costs no more than hashing them on their way did.
    let sha256 = output.sync_and_digest(cancel)?;
    Ok(Written { sha256, bytes: disk.size(), allocated })
}

/// Writes the clusters of `bytes` that are not zero, neighbours in one call; returns their length.
fn write_data(output: &Output, start: u64, bytes: &[u8]) -> Result<u64> {
    let mut data = 0;
    for run in data_runs(bytes) {
        output.write_at(start + run.start as u64, &bytes[run.clone()])?;
        data += run.len() as u64;
    }
    Ok(data)
}
