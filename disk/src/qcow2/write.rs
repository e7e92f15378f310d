//! Writing a disk as a standalone qcow2 file in one pass over its data.
//!
//! Layout: header, L1 table, data in ascending order of the guest, L2 tables, refcount blocks,
//! refcount table. Clusters are compressed on all cores; the calling thread alone decides where
//! they go, in guest order, so the bytes do not depend on the number of threads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use nodekiln_words::{Cancel, Class, Failure, Progress, Result, Sha256};

use super::clusters::{Clusters, Found};
use super::codec::{Compression, Compressor};
use super::header::Header;
use super::table::{COPIED, Mapping, encode};
use crate::disk::{CLUSTER, CLUSTER_LENGTH, Disk, is_zero};
use crate::ordered::ordered;
use crate::output::{Output, Written};

pub(super) const CLUSTER_BITS: u32 = 16;
/// Entries of an L2 table.
const L2_ENTRIES: usize = CLUSTER_LENGTH / 8;
/// Bytes of the virtual disk mapped by one L2 table.
pub(super) const L2_SPAN: u64 = CLUSTER * L2_ENTRIES as u64;
/// Refcounts of 16 bits in a refcount block.
const BLOCK_ENTRIES: u64 = CLUSTER / 2;
/// Largest virtual size: an L1 table of 32 MiB is all that QEMU takes.
const MAX_SIZE: u64 = L2_SPAN * ((32 << 20) / 8);

/// How a qcow2 file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How clusters are compressed.
    pub compression: Compression,
}

/// One cluster that is not zero, as a worker hands it over.
struct Packed {
    /// Number of the cluster on the virtual disk.
    cluster: u64,
    /// Its bytes in the batch's buffer.
    bytes: Range<usize>,
    /// Whether they are compressed.
    compressed: bool,
    /// Digests of the cluster and of its compressed bytes, where they are to be noted.
    noted: Option<(Sha256, Sha256)>,
}

/// The clusters of one batch.
struct Batch {
    clusters: Vec<Packed>,
    bytes: Vec<u8>,
    /// Where the batch ends on the virtual disk.
    end: u64,
}

/// Hands out places in the file and counts what refers to each host cluster.
struct Allocator {
    /// The first host cluster that nobody uses.
    next: u64,
    /// Where the next compressed bytes go, and where their room ends.
    packed: Range<u64>,
    refcounts: Vec<u16>,
}

/// Writes `disk` to `path` as qcow2 version 3 and flushes it. Clusters of zeros are left out; a
/// cluster that compression does not shrink is stored as it is.
///
/// The virtual size is that of the disk, rounded up to whole sectors of 512 bytes. Progress counts
/// bytes of data.
///
/// # Errors
/// When the disk is larger than 2 PiB, a source cannot be read, the file cannot be written, or
/// somebody asked to stop.
pub fn write(
    disk: &Disk,
    path: &Path,
    options: Options,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Written> {
    write_with(disk, path, options, None, progress, cancel)
}

/// As [`write`]; what `clusters` know is not compressed again, and what is written is noted in them.
/// The file has the same bytes. Those of another compression are left alone.
///
/// # Errors
/// As [`write`].
pub fn write_with(
    disk: &Disk,
    path: &Path,
    options: Options,
    clusters: Option<&Clusters>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Written> {
    if disk.size() > MAX_SIZE {
        let size = disk.size();
        return Err(Failure::new(Class::Unsupported, format!("{size} bytes exceed qcow2")));
    }
    let clusters = clusters.filter(|clusters| clusters.compression() == options.compression);
    let batches = disk.batches();
    let total = batches.iter().map(|batch| batch.end - batch.start).sum();
    let task = progress.start(&format!("write {}", path.display()), Some(total), "B");
    let advance = |done| progress.advance(task, done);
    let written = write_batches(disk, &batches, path, options, clusters, &advance, cancel);
    match &written {
        Ok(written) => progress.finish(task, &format!("sha256 {}", written.sha256.short())),
        Err(_) => progress.fail(task),
    }
    written
}

fn write_batches(
    disk: &Disk,
    batches: &[Range<u64>],
    path: &Path,
    options: Options,
    clusters: Option<&Clusters>,
    advance: &dyn Fn(u64),
    cancel: &Cancel,
) -> Result<Written> {
    let mut image = ImageInProgress::begin(disk, path, options)?;
    let mut done = 0;
    ordered(
        batches.len(),
        cancel,
        || None,
        |kept: &mut Option<Compressor>, job| {
            let compressor = match kept {
                Some(compressor) => compressor,
                None => kept.insert(Compressor::new(options.compression)?),
            };
            pack(disk, &batches[job], compressor, clusters)
        },
        |job, batch| {
            image.place(&batch, clusters)?;
            done += batch.end - batches[job].start;
            advance(done);
            Ok(())
        },
    )?;
    image.finish(cancel)
}

/// Reads a batch and compresses its clusters, as far as `clusters` do not know them.
fn pack(
    disk: &Disk,
    range: &Range<u64>,
    compressor: &mut Compressor,
    clusters: Option<&Clusters>,
) -> Result<Batch> {
    let data = disk.read_batch(range)?;
    let mut batch = Batch { clusters: Vec::new(), bytes: Vec::new(), end: range.end };
    for (cluster, chunk) in (range.start / CLUSTER..).zip(data.chunks(CLUSTER_LENGTH)) {
        if is_zero(chunk) {
            continue;
        }
        let whole;
        let chunk = if chunk.len() == CLUSTER_LENGTH {
            chunk
        } else {
            whole = [chunk, &vec![0; CLUSTER_LENGTH - chunk.len()]].concat();
            &whole
        };
        let content = clusters.map(|clusters| (clusters, Sha256::of(chunk)));
        let found = content.and_then(|(clusters, content)| clusters.find(&content));
        let start = batch.bytes.len();
        let (compressed, digest) = match found {
            Some(Found::Compressed(bytes, digest)) => {
                batch.bytes.extend_from_slice(&bytes);
                (true, Some(digest))
            }
            Some(Found::Incompressible) => (false, None),
            None => (compressor.compress(chunk, &mut batch.bytes)? > 0, None),
        };
        let noted = content.map(|(_, content)| {
            let made = || Sha256::of(batch.bytes.get(start..).unwrap_or_default());
            (content, digest.unwrap_or_else(made))
        });
        if !compressed {
            batch.bytes.extend_from_slice(chunk);
        }
        let bytes = start..batch.bytes.len();
        batch.clusters.push(Packed { cluster, bytes, compressed, noted });
    }
    Ok(batch)
}

/// The file, its tables as far as they are known, and what waits to be written.
struct ImageInProgress {
    output: Output,
    header: Header,
    allocator: Allocator,
    /// L2 tables by their number, kept until the data ends: 1/8192 of the data.
    l2: BTreeMap<u64, Vec<u64>>,
    /// Bytes for one write, which begin at `pending_at` in the file.
    pending: Vec<u8>,
    pending_at: u64,
    data: u64,
}

impl ImageInProgress {
    fn begin(disk: &Disk, path: &Path, options: Options) -> Result<Self> {
        let size = disk.size().next_multiple_of(512);
        let header = standalone_header(size, options.compression.type_byte());
        let l1_clusters = header.l1_bytes().div_ceil(CLUSTER);
        let mut allocator = Allocator { next: 0, packed: 0..0, refcounts: Vec::new() };
        allocator.clusters(1 + l1_clusters);
        Ok(Self {
            output: Output::create(path)?,
            header,
            allocator,
            l2: BTreeMap::new(),
            pending: Vec::new(),
            pending_at: 0,
            data: 0,
        })
    }

    /// Gives each cluster of a batch its place and writes the batch.
    fn place(&mut self, batch: &Batch, clusters: Option<&Clusters>) -> Result<()> {
        for packed in &batch.clusters {
            let bytes = batch.bytes.get(packed.bytes.clone()).unwrap_or_default();
            let length = bytes.len() as u64;
            let (host, entry) = if packed.compressed {
                let host = self.allocator.bytes(length)?;
                (host, Mapping::compressed_entry(host, length, CLUSTER_BITS))
            } else {
                let host = self.allocator.clusters(1);
                (host, COPIED | host)
            };
            self.append(host, bytes)?;
            if let (Some(clusters), Some((content, digest))) = (clusters, packed.noted) {
                match packed.compressed {
                    true => clusters.note(content, host, bytes.len(), digest),
                    false => clusters.note_incompressible(content),
                }
            }
            let index = usize::try_from(packed.cluster % L2_ENTRIES as u64).unwrap_or(0);
            let table = self.l2.entry(packed.cluster / L2_ENTRIES as u64);
            table.or_insert_with(|| vec![0; L2_ENTRIES])[index] = entry;
        }
        self.flush()
    }

    /// Queues `bytes` for `offset`; bytes that follow each other are written in one call.
    fn append(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if self.pending_at + self.pending.len() as u64 != offset {
            self.flush()?;
            self.pending_at = offset;
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.output.write_at(self.pending_at, &self.pending)?;
        self.data += self.pending.len() as u64;
        self.pending_at += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Writes the tables and the header, flushes the file and takes its digest.
    fn finish(mut self, cancel: &Cancel) -> Result<Written> {
        let mut l1 = vec![0; usize::try_from(self.header.l1_entries).unwrap_or(0)];
        for (number, table) in std::mem::take(&mut self.l2) {
            let host = self.allocator.clusters(1);
            self.append(host, &encode(&table))?;
            if let Some(entry) = usize::try_from(number).ok().and_then(|n| l1.get_mut(n)) {
                *entry = COPIED | host;
            }
        }
        self.write_refcounts()?;
        self.flush()?;
        self.output.set_length(self.allocator.next)?;
        self.append(self.header.l1_offset, &encode(&l1))?;
        self.append(0, &self.header.encode())?;
        self.flush()?;
        let sha256 = self.output.sync_and_digest(cancel)?;
        Ok(Written { sha256, bytes: self.allocator.next, allocated: self.data })
    }

    /// Writes refcount blocks and their table; both count themselves.
    fn write_refcounts(&mut self) -> Result<()> {
        let used = self.allocator.next / CLUSTER;
        let (mut blocks, mut tables) = (0, 0);
        loop {
            let needed = (used + blocks + tables).div_ceil(BLOCK_ENTRIES);
            let table = (needed * 8).div_ceil(CLUSTER);
            if (needed, table) == (blocks, tables) {
                break;
            }
            (blocks, tables) = (needed, table);
        }
        let first = self.allocator.clusters(blocks);
        self.header.refcount_offset = self.allocator.clusters(tables);
        self.header.refcount_clusters = u32::try_from(tables).unwrap_or(u32::MAX);
        let mut counts: Vec<u8> =
            self.allocator.refcounts.iter().flat_map(|count| count.to_be_bytes()).collect();
        counts.resize(counts.len().next_multiple_of(CLUSTER_LENGTH), 0);
        self.append(first, &counts)?;
        let table: Vec<u64> = (0..blocks).map(|block| first + block * CLUSTER).collect();
        self.append(self.header.refcount_offset, &encode(&table))
    }
}

impl Allocator {
    /// The offset of `count` new host clusters in a row, each referred to once.
    fn clusters(&mut self, count: u64) -> u64 {
        let host = self.next;
        self.next += count * CLUSTER;
        self.refcounts.resize(usize::try_from(self.next / CLUSTER).unwrap_or(usize::MAX), 1);
        host
    }

    /// The offset of `length` bytes (less than a cluster) for compressed data.
    ///
    /// Room at the end of the last shared cluster is used where the next cluster follows it.
    fn bytes(&mut self, length: u64) -> Result<u64> {
        if self.packed.end - self.packed.start < length {
            let fresh = self.next;
            self.next += CLUSTER;
            self.refcounts.push(0);
            if self.packed.end != fresh {
                self.packed.start = fresh;
            }
            self.packed.end = self.next;
        }
        let host = self.packed.start;
        self.packed.start += length;
        for cluster in host / CLUSTER..=(host + length - 1) / CLUSTER {
            let count = usize::try_from(cluster).ok().and_then(|c| self.refcounts.get_mut(c));
            // 65,535 clusters cannot share one: each takes a byte at least, and in practice many.
            *count.ok_or_else(|| Failure::io(format!("host cluster {cluster} is unknown")))? += 1;
        }
        Ok(host)
    }
}

/// The header of a file without backing file; the refcount table is set later.
pub(super) fn standalone_header(size: u64, compression_type: u8) -> Header {
    Header {
        version: 3,
        cluster_bits: CLUSTER_BITS,
        size,
        // An empty disk has one entry as well: QEMU refuses an L1 table without any.
        l1_entries: u32::try_from(size.div_ceil(L2_SPAN).max(1)).unwrap_or(u32::MAX),
        l1_offset: CLUSTER,
        refcount_offset: 0,
        refcount_clusters: 0,
        snapshots: 0,
        bitmaps: 0,
        refcount_order: 4,
        compression_type,
        dirty: false,
        backing_file: None,
        backing_format: None,
    }
}
