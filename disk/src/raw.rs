//! Raw disk images: the bytes of the disk, with holes where clusters are zero.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nodekiln_words::{Cancel, Digester, Progress, Result};

use crate::disk::{Disk, data_runs, digest_zeros};
use crate::ordered::ordered;
use crate::output::{Output, Written};

/// Writes `disk` to `path` as a sparse file and flushes it.
///
/// Clusters of 64 KiB that hold only zeros become holes, whatever the sources say. Reading and
/// writing run on all cores while the calling thread takes the digest; zeros are part of it.
/// Progress counts bytes of the disk.
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
    let allocated = AtomicU64::new(0);
    let mut digester = Digester::default();
    ordered(
        batches.len(),
        cancel,
        || (),
        |(), job| {
            let bytes = disk.read_batch(&batches[job])?;
            let data = write_data(&output, batches[job].start, &bytes)?;
            allocated.fetch_add(data, Ordering::Relaxed);
            Ok(bytes)
        },
        |job, bytes| {
            digest_zeros(&mut digester, batches[job].start, cancel)?;
            digester.update(&bytes);
            advance(digester.length());
            Ok(())
        },
    )?;
    digest_zeros(&mut digester, disk.size(), cancel)?;
    output.sync()?;
    Ok(Written { sha256: digester.finish(), bytes: disk.size(), allocated: allocated.into_inner() })
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
