//! Writing a disk as a standalone qcow2 file in one pass over its data.
//!
//! Layout: header, L1 table, data in ascending order of the guest, L2 tables, refcount blocks,
//! refcount table. Clusters are compressed on all cores; the calling thread alone decides where
//! they go, in guest order, so the bytes do not depend on the number of threads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_words::{Cancel, Class, Failure, Progress, Result, Sha256};

use super::clusters::{Clusters, Form as Kept, Found, Made};
use super::codec::{Compression, Compressor};
use super::header::Header;
use super::table::{COPIED, Mapping, encode};
use crate::disk::{CLUSTER, CLUSTER_LENGTH, Disk};
use crate::file_writer::{FileWriter, write_file};
use crate::flushed::{Deflate, Piece};
use crate::output::{Output, Written};
use crate::pass::{Block, Encoded, Form, Packed, Pass, Stream};
use crate::payload::Payload;

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

/// Hands out places in the file and counts what refers to each host cluster.
#[derive(Debug)]
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

/// As [`write`]; what `clusters` know is not compressed again, and what is written is kept in
/// them under its path. The file has the same bytes. Those of another compression are left alone.
///
/// # Errors
/// As [`write`].
pub fn write_with(
    disk: &Disk,
    path: &Path,
    options: Options,
    clusters: Option<&Arc<Clusters>>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Written> {
    let writer = Box::new(Writer::create(disk, path, options, clusters.cloned())?);
    write_file(disk, &Payload::of(disk), writer, path, progress, cancel)
}

/// One thread's compressor, and the clusters that need none.
pub(crate) struct Packer {
    compressor: Compressor,
    known: Option<Arc<Clusters>>,
}

impl Packer {
    pub(crate) fn new(compression: Compression, known: Option<Arc<Clusters>>) -> Result<Self> {
        Ok(Self { compressor: Compressor::new(compression)?, known })
    }

    /// Compresses a cluster, unless an earlier file has it.
    pub(crate) fn pack(&mut self, cluster: &[u8]) -> Result<Packed> {
        let Some(known) = &self.known else {
            let mut bytes = Vec::new();
            let compressed = self.compressor.compress(cluster, &mut bytes)? > 0;
            return Ok(Packed { compressed: compressed.then_some(bytes), noted: None });
        };
        let content = Sha256::of(cluster);
        let (compressed, digest) = match known.find(&content) {
            Some(Found::Compressed(bytes, digest)) => (Some(bytes), digest),
            Some(Found::Incompressible) => (None, Sha256::of("")),
            None => {
                let mut bytes = Vec::new();
                let shorter = self.compressor.compress(cluster, &mut bytes)? > 0;
                let digest = Sha256::of(&bytes);
                (shorter.then_some(bytes), digest)
            }
        };
        Ok(Packed { compressed, noted: Some((content, digest)) })
    }
}

impl Packed {
    /// The cluster `plain` as a piece of deflate.
    fn of(piece: &Piece, plain: &[u8]) -> Self {
        let stream = Some(piece.ended()).filter(|stream| stream.len() < plain.len());
        Self { compressed: stream, noted: piece.noted }
    }
}

/// A qcow2 file being written: its tables as far as they are known, and what waits to be written.
#[derive(Debug)]
pub struct Writer {
    output: Output,
    compression: Compression,
    clusters: Option<Arc<Clusters>>,
    path: PathBuf,
    /// What the file has of clusters, where somebody wants to know.
    made: Made,
    header: Header,
    allocator: Allocator,
    /// L2 tables by their number, kept until the data ends: 1/8192 of the data.
    l2: BTreeMap<u64, Vec<u64>>,
    /// Bytes for one write, which begin at `pending_at` in the file.
    pending: Vec<u8>,
    pending_at: u64,
    data: u64,
}

impl Writer {
    /// Creates the file at `path` for `disk`. What `clusters` know is not compressed again, and what is
    /// written is kept in them under its path; those of another compression are left alone.
    ///
    /// # Errors
    /// When the disk is larger than 2 PiB or the file cannot be created.
    pub fn create(
        disk: &Disk,
        path: &Path,
        options: Options,
        clusters: Option<Arc<Clusters>>,
    ) -> Result<Self> {
        if disk.size() > MAX_SIZE {
            let size = disk.size();
            return Err(Failure::new(Class::Unsupported, format!("{size} bytes exceed qcow2")));
        }
        let size = disk.size().next_multiple_of(512);
        let header = standalone_header(size, options.compression.type_byte());
        let l1_clusters = header.l1_bytes().div_ceil(CLUSTER);
        let mut allocator = Allocator { next: 0, packed: 0..0, refcounts: Vec::new() };
        allocator.clusters(1 + l1_clusters);
        Ok(Self {
            output: Output::create(path)?,
            compression: options.compression,
            clusters: clusters.filter(|known| known.compression() == options.compression),
            path: path.to_owned(),
            made: Vec::new(),
            header,
            allocator,
            l2: BTreeMap::new(),
            pending: Vec::new(),
            pending_at: 0,
            data: 0,
        })
    }

    /// Gives a cluster its place and queues it for writing.
    fn place(&mut self, block: &Block<'_>, packed: &Packed) -> Result<()> {
        let (host, bytes, entry) = match &packed.compressed {
            Some(bytes) => {
                let length = bytes.len() as u64;
                let host = self.allocator.bytes(length)?;
                (host, &**bytes, Mapping::compressed_entry(host, length, CLUSTER_BITS))
            }
            None => {
                let host = self.allocator.clusters(1);
                (host, block.plain, COPIED | host)
            }
        };
        self.append(host, bytes)?;
        if let (Some(_), Some((content, digest))) = (&self.clusters, packed.noted) {
            let form = match packed.compressed {
                Some(_) => Kept::new(host, bytes.len(), digest),
                None => Kept::incompressible(),
            };
            self.made.push((content, form));
        }
        let index = usize::try_from(block.number % L2_ENTRIES as u64).unwrap_or(0);
        let table = self.l2.entry(block.number / L2_ENTRIES as u64);
        table.or_insert_with(|| vec![0; L2_ENTRIES])[index] = entry;
        Ok(())
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

impl FileWriter for Writer {
    fn join<'a>(&'a mut self, disk: &'a Disk, pass: &mut Pass<'a>) {
        pass.stream(disk, self);
    }

    /// Writes the tables and the header.
    fn finish(
        mut self: Box<Self>,
        _disk: &Disk,
        _payload: &Payload,
        _progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Written> {
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
        if let Some(clusters) = &self.clusters {
            clusters.keep(&self.path, std::mem::take(&mut self.made));
        }
        Ok(Written { sha256, bytes: self.allocator.next, allocated: self.data })
    }
}

impl Stream for Writer {
    fn form(&self) -> Form {
        let known = self.clusters.clone();
        match self.compression {
            Compression::Shared { level } => Form::Piece { deflate: Deflate::narrow(level), known },
            compression => Form::Cluster { compression, known },
        }
    }

    fn take(&mut self, blocks: &[Block<'_>]) -> Result<()> {
        for block in blocks {
            match block.encoded {
                Encoded::Cluster(packed) => self.place(block, packed)?,
                Encoded::Piece(piece) => self.place(block, &Packed::of(piece, block.plain))?,
            }
        }
        self.flush()
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
