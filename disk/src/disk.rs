//! A disk as a block map: sorted extents over memory, files or another image; gaps are zeros.
//!
//! Writers walk the clusters that an extent touches and decide by content whether a cluster is
//! zero, so that their output does not depend on where the host's file system keeps holes.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nodekiln_words::{Cancel, Class, Digester, Failure, Progress, Result, ResultExt, Sha256};

use crate::ordered::{AHEAD, ordered, ordered_on};

/// The granularity of zero detection and of qcow2 clusters, in bytes.
///
/// 64 KiB is the default cluster of qcow2 and the grain of stream-optimised VMDK, so that one zero
/// map serves every writer.
pub const CLUSTER: u64 = 64 << 10;

/// Bytes that one job of a writer or digester handles: large enough to hide the hand-over between
/// threads, small enough that those which wait for their turn take 8 MiB for each thread.
pub(crate) const BATCH: u64 = 32 * CLUSTER;

/// [`CLUSTER`] as a length in memory.
pub(crate) const CLUSTER_LENGTH: usize = 64 << 10;

/// Threads that read ahead of a digest, which is a chain on one core: more would keep more in memory and gain
/// nothing. Of a compressed image they decompress.
const DIGEST_READERS: usize = 4;

static ZEROS: [u8; CLUSTER_LENGTH] = [0; CLUSTER_LENGTH];

/// Where the bytes of an extent come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Bytes in memory; the extent is as long as they are.
    Memory(Arc<[u8]>),
    /// A part of an open file, read by position.
    File {
        /// The file.
        file: Arc<File>,
        /// Where in the file the extent begins, in bytes.
        offset: u64,
    },
    /// A part of the virtual disk inside a file of some format.
    Inside {
        /// The format's reader.
        reader: Arc<dyn ReadAt>,
        /// Where in the virtual disk the extent begins, in bytes.
        offset: u64,
    },
}

/// Reads a virtual disk by position.
pub trait ReadAt: Debug + Send + Sync {
    /// Fills `buffer` with the bytes at `offset` of the disk.
    ///
    /// # Errors
    /// When the range leaves the disk or the file is damaged there.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;
}

/// A run of bytes that may hold data.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Where it begins on the disk, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its bytes.
    pub source: Source,
}

/// A disk: a size and sorted extents that do not overlap; everything else reads as zeros.
#[derive(Clone, Debug)]
pub struct Disk {
    size: u64,
    extents: Vec<Extent>,
}

/// Whether all bytes are zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    // Comparing with a slice of zeros becomes `memcmp`, which is fast in every build profile.
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

impl Extent {
    /// An extent over bytes in memory.
    #[must_use]
    pub fn memory(start: u64, bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self { start, length: bytes.len() as u64, source: Source::Memory(bytes) }
    }

    /// The offset of its last byte plus one.
    fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    /// Fills `buffer` from `at` bytes behind the start of the extent.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        match &self.source {
            Source::Memory(bytes) => {
                let slice = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
                match slice.and_then(|slice| slice.get(..buffer.len())) {
                    Some(slice) => buffer.copy_from_slice(slice),
                    None => return Err(Failure::io(format!("extent ends before offset {at}"))),
                }
                Ok(())
            }
            Source::File { file, offset } => file
                .read_exact_at(buffer, offset.saturating_add(at))
                .or_io(|| format!("cannot read the source of the disk at offset {}", offset + at)),
            Source::Inside { reader, offset } => reader.read_at(offset.saturating_add(at), buffer),
        }
    }
}

impl Disk {
    /// A disk of `size` bytes with `extents` in any order; empty ones are dropped.
    ///
    /// # Errors
    /// When an extent reaches behind the end, overlaps another, or is longer than its memory.
    pub fn new(size: u64, mut extents: Vec<Extent>) -> Result<Self> {
        extents.retain(|extent| extent.length > 0);
        extents.sort_by_key(|extent| extent.start);
        let mut free = 0;
        for extent in &extents {
            let Extent { start, length, source } = extent;
            let end = start.checked_add(*length).filter(|end| *end <= size);
            let short = matches!(source, Source::Memory(bytes) if (bytes.len() as u64) < *length);
            match end {
                Some(end) if *start >= free && !short => free = end,
                _ => {
                    let what = format!("extent of {length} bytes at {start}");
                    return Err(Failure::input(format!(
                        "{what} overlaps another, lacks bytes or leaves a disk of {size} bytes"
                    )));
                }
            }
        }
        Ok(Self { size, extents })
    }

    /// A disk over the whole of `file`, which is `size` bytes long. Its holes are left out where the
    /// file system tells them.
    #[must_use]
    pub fn over_file(file: &Arc<File>, size: u64) -> Self {
        Self { size, extents: file_extents(file, 0, size, 0) }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its extents, sorted.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Writes the extents that lie in memory to their places in `file`: what completes a disk whose
    /// root file system stands in that file already.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_memory_into(&self, file: &File) -> Result<()> {
        for extent in &self.extents {
            if let Source::Memory(bytes) = &extent.source {
                let length = usize::try_from(extent.length).unwrap_or(usize::MAX);
                let bytes = bytes.get(..length).unwrap_or(bytes);
                file.write_all_at(bytes, extent.start)
                    .or_io(|| format!("cannot write the disk at offset {}", extent.start))?;
            }
        }
        Ok(())
    }

    /// Fills `buffer` with the bytes at `offset`; only what an extent covers is read.
    ///
    /// # Errors
    /// When the range leaves the disk or a source cannot be read.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let length = buffer.len() as u64;
        let end = offset.checked_add(length).filter(|end| *end <= self.size).ok_or_else(|| {
            Failure::io(format!("{length} bytes at offset {offset} leave the disk"))
        })?;
        let mut at = offset;
        let mut rest = buffer;
        let first = self.extents.partition_point(|extent| extent.end() <= offset);
        for extent in self.extents.iter().skip(first).take_while(|extent| extent.start < end) {
            let start = extent.start.max(at);
            let (gap, behind) = split(rest, start - at);
            gap.fill(0);
            let stop = extent.end().min(end);
            let (part, behind) = split(behind, stop - start);
            extent.read_at(start - extent.start, part)?;
            (at, rest) = (stop, behind);
        }
        rest.fill(0);
        Ok(())
    }

    /// Runs of cluster numbers that an extent touches, ascending and not adjacent.
    ///
    /// All other clusters of `cluster` bytes are zero; those named here may be zero as well, which
    /// only their content tells.
    #[must_use]
    pub fn clusters_with_data(&self, cluster: u64) -> Vec<Range<u64>> {
        let cluster = cluster.max(1);
        let mut runs: Vec<Range<u64>> = Vec::new();
        for extent in &self.extents {
            let run = extent.start / cluster..extent.end().div_ceil(cluster);
            match runs.last_mut() {
                Some(last) if last.end >= run.start => last.end = last.end.max(run.end),
                _ => runs.push(run),
            }
        }
        runs
    }

    /// The byte ranges that hold data, in whole clusters of 64 KiB that are not zero, ascending and not
    /// adjacent: what all writers take the disk's data to be, wherever its sources have holes.
    ///
    /// # Errors
    /// When a source cannot be read or somebody asked to stop.
    pub fn data_runs(&self, cancel: &Cancel) -> Result<Vec<Range<u64>>> {
        let batches = self.batches();
        let mut runs: Vec<Range<u64>> = Vec::new();
        ordered(
            batches.len(),
            cancel,
            || (),
            |(), job| Ok(data_runs(&self.read_batch(&batches[job])?)),
            |job, found| {
                for run in found {
                    let start = batches[job].start + run.start as u64;
                    let end = batches[job].start + run.end as u64;
                    match runs.last_mut() {
                        Some(last) if last.end == start => last.end = end,
                        _ => runs.push(start..end),
                    }
                }
                Ok(())
            },
        )?;
        Ok(runs)
    }

    /// The byte ranges that writers handle as one job each: at most `BATCH` bytes, beginning at a
    /// multiple of [`CLUSTER`], ascending, the last one cut at the end of the disk.
    pub(crate) fn batches(&self) -> Vec<Range<u64>> {
        let mut batches = Vec::new();
        for run in self.clusters_with_data(CLUSTER) {
            let (mut at, end) = (run.start * CLUSTER, (run.end * CLUSTER).min(self.size));
            while at < end {
                let stop = (at + BATCH).min(end);
                batches.push(at..stop);
                at = stop;
            }
        }
        batches
    }

    /// SHA-256 of all bytes of the disk, zeros included: the digest that every format of it shares.
    ///
    /// # Errors
    /// When a source cannot be read or somebody asked to stop.
    pub fn digest(&self, progress: &dyn Progress, cancel: &Cancel) -> Result<Sha256> {
        Ok(self.digester(progress, cancel)?.finish())
    }

    /// What has taken in all bytes of the disk.
    pub(crate) fn digester(&self, progress: &dyn Progress, cancel: &Cancel) -> Result<Digester> {
        let batches = self.batches();
        let task = progress.start("digest of the disk", Some(self.size), "B");
        let mut digester = Digester::default();
        let threads = rayon::current_num_threads().min(DIGEST_READERS);
        let result = ordered_on(
            (threads, AHEAD),
            batches.len(),
            cancel,
            || (),
            |(), job| self.read_batch(&batches[job]),
            |job, bytes| {
                digest_zeros(&mut digester, batches[job].start, cancel)?;
                digester.update(&bytes);
                progress.advance(task, batches[job].end);
                Ok(())
            },
        );
        match result.and_then(|()| digest_zeros(&mut digester, self.size, cancel)) {
            Ok(()) => progress.finish(task, ""),
            Err(failure) => {
                progress.fail(task);
                return Err(failure);
            }
        }
        Ok(digester)
    }

    /// A digest of the disk's size and data that leaves zeros out and is made on all cores: what a
    /// store compares a disk with, where [`Disk::digest`] would hash gigabytes of zeros on one core.
    ///
    /// It is SHA-256 over the size and then, for each block of 2 MiB that has a byte other than zero,
    /// its offset and its SHA-256; numbers are 64 bits, little-endian. Where the sources have holes
    /// makes no difference.
    ///
    /// # Errors
    /// When a source cannot be read or somebody asked to stop.
    pub fn block_digest(&self, cancel: &Cancel) -> Result<Sha256> {
        let blocks: Vec<u64> =
            self.clusters_with_data(BATCH).into_iter().flatten().map(|n| n * BATCH).collect();
        let mut digester = Digester::default();
        digester.update(&self.size.to_le_bytes());
        let digest = |(): &mut (), job: usize| {
            let start = blocks[job];
            let bytes = self.read_batch(&(start..(start + BATCH).min(self.size)))?;
            Ok((!is_zero(&bytes)).then(|| Sha256::of(&bytes)))
        };
        ordered(
            blocks.len(),
            cancel,
            || (),
            digest,
            |job, digest| {
                if let Some(digest) = digest {
                    digester.update(&blocks[job].to_le_bytes());
                    digester.update(digest.as_bytes());
                }
                Ok(())
            },
        )?;
        Ok(digester.finish())
    }

    /// The first byte in which `self` and `other` differ, if any does; where one is longer, its first
    /// byte that the other lacks.
    ///
    /// # Errors
    /// When a source cannot be read or somebody asked to stop.
    pub fn first_difference(&self, other: &Self, cancel: &Cancel) -> Result<Option<u64>> {
        if self.size != other.size {
            return Ok(Some(self.size.min(other.size)));
        }
        let batches = self.batches().into_iter().chain(other.batches());
        let blocks: BTreeSet<u64> =
            batches.flat_map(|batch| batch.start / BATCH..batch.end.div_ceil(BATCH)).collect();
        let blocks: Vec<u64> = blocks.into_iter().map(|block| block * BATCH).collect();
        let mut first = None;
        let compare = |(): &mut (), job: usize| {
            let block = blocks[job]..(blocks[job] + BATCH).min(self.size);
            let (ours, theirs) = (self.read_batch(&block)?, other.read_batch(&block)?);
            if ours == theirs {
                return Ok(None);
            }
            let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
            Ok(Some(blocks[job] + same as u64))
        };
        ordered(
            blocks.len(),
            cancel,
            || (),
            compare,
            |_, differs| {
                first = first.or(differs);
                Ok(())
            },
        )?;
        Ok(first)
    }

    /// The bytes of one batch.
    pub(crate) fn read_batch(&self, batch: &Range<u64>) -> Result<Vec<u8>> {
        let length = usize::try_from(batch.end - batch.start)
            .or_fail(Class::Unsupported, || "a batch does not fit into memory".to_owned())?;
        let mut bytes = vec![0; length];
        self.read_at(batch.start, &mut bytes)?;
        Ok(bytes)
    }
}

/// Takes zeros into `digester` until it has seen `until` bytes.
fn digest_zeros(digester: &mut Digester, until: u64, cancel: &Cancel) -> Result<()> {
    let mut left = until.saturating_sub(digester.length());
    while left > 0 {
        cancel.check()?;
        let mut slice = left.min(BATCH);
        left -= slice;
        while slice > 0 {
            let step = slice.min(CLUSTER);
            digester.update(split_zeros(step));
            slice -= step;
        }
    }
    Ok(())
}

fn split_zeros(length: u64) -> &'static [u8] {
    let length = usize::try_from(length).unwrap_or(ZEROS.len());
    &ZEROS[..length.min(ZEROS.len())]
}

/// The ranges of `bytes` that are not zero, in whole clusters but for the end, ascending.
pub(crate) fn data_runs(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    for chunk in bytes.chunks(CLUSTER_LENGTH) {
        let range = at..at + chunk.len();
        at = range.end;
        if is_zero(chunk) {
            continue;
        }
        match runs.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => runs.push(range),
        }
    }
    runs
}

/// Splits `buffer` at `at`, or at its end if that comes first.
fn split(buffer: &mut [u8], at: u64) -> (&mut [u8], &mut [u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(buffer.len());
    buffer.split_at_mut(at)
}

/// Extents over the parts of `file` in `offset..offset + length` that are not holes, for a disk on
/// which that range begins at `start`: ascending, none empty, none overlapping another.
///
/// Where the file system cannot tell its holes, all that is left is one extent: this is a way to
/// read less, never the way to find zeros.
pub(crate) fn file_extents(file: &Arc<File>, offset: u64, length: u64, start: u64) -> Vec<Extent> {
    let end = offset + length;
    let whole = |from: u64, to: u64| Extent {
        start: start + (from - offset),
        length: to - from,
        source: Source::File { file: Arc::clone(file), offset: from },
    };
    let mut extents = Vec::new();
    let mut at = offset;
    while at < end {
        match rustix::fs::seek(file.as_fd(), rustix::fs::SeekFrom::Data(at)) {
            Ok(data) if (at..end).contains(&data) => {
                let hole = rustix::fs::seek(file.as_fd(), rustix::fs::SeekFrom::Hole(data));
                let hole = hole.unwrap_or(end).clamp(data + 1, end);
                extents.push(whole(data, hole));
                at = hole;
            }
            Ok(data) if data >= end => break,
            Err(rustix::io::Errno::NXIO) => break,
            // Not supported, or an answer that makes no sense.
            Ok(_) | Err(_) => {
                extents.push(whole(at, end));
                break;
            }
        }
    }
    extents
}
