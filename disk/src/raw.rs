//! Raw disk images: the bytes of the disk, with holes where clusters are zero.

use std::path::Path;

use nodekiln_words::{Cancel, Failure, Progress, Result, Sha256};

use crate::disk::{Disk, data_runs};
use crate::ordered::ordered;
use crate::output::{Output, Written};
use crate::payload::Payload;

/// Writes `disk`, whose digest is `payload`, to `path` as a sparse file and flushes it.
///
/// Clusters of 64 KiB that hold only zeros become holes, whatever the sources say. The file has the
/// disk's digest, which is computed meanwhile, unless somebody did so before: what was written is read
/// back and compared with the disk, which all cores do and which passes over holes, where hashing four
/// gigabytes a second time would take one core for seconds. Progress counts bytes of the disk.
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
    let task = progress.start(&format!("write {}", path.display()), Some(disk.size()), "B");
    let advance = |done| progress.advance(task, done);
    let digesting = cancel.child();
    let written = std::thread::scope(|scope| {
        let digest = scope.spawn(|| payload.digest(progress, &digesting));
        let allocated = beside_a_digest(|| write_sparse(disk, path, &advance, cancel));
        if allocated.is_err() {
            digesting.cancel();
        }
        let digest = joined(digest.join());
        Ok(Written { allocated: allocated?, sha256: digest?, bytes: disk.size() })
    });
    match &written {
        Ok(written) => progress.finish(task, &format!("sha256 {}", written.sha256.short())),
        Err(_) => progress.fail(task),
    }
    written
}

/// Does `work` on all cores but one: the digest is a chain that keeps one core busy for longer than
/// all else takes, and whatever takes that core from it makes the whole longer.
fn beside_a_digest<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let threads = rayon::current_num_threads().saturating_sub(1).max(1);
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(work),
        // No threads to be had: slower, not wrong.
        Err(_) => work(),
    }
}

fn joined(digest: std::thread::Result<Result<Sha256>>) -> Result<Sha256> {
    digest.unwrap_or_else(|_| Err(Failure::io("digesting the disk panicked")))
}

/// Writes, flushes and compares; returns how many bytes of the file are no holes.
fn write_sparse(
    disk: &Disk,
    path: &Path,
    advance: &(dyn Fn(u64) + Sync),
    cancel: &Cancel,
) -> Result<u64> {
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
    output.sync_and_compare(disk, &[], cancel)?;
    Ok(allocated)
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
