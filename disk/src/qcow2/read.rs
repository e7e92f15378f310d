//! Reading the virtual disk inside a qcow2 file. Nothing in the file is trusted: every offset is
//! held against the length of the file before it is used.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nodekiln_words::{Class, Failure, Result, ResultExt};

use super::codec::decompress;
use super::header::Header;
use super::table::{Mapping, entries, l2_offset};
use crate::disk::ReadAt;
use crate::recent::Recent;

/// Most bytes of the file's start that a header and its extensions take.
const HEADER_BYTES: u64 = 64 << 10;
/// L2 tables kept in memory.
const CACHED_TABLES: usize = 64;
/// Bytes of decompressed clusters kept in memory, for whoever reads them in small pieces.
const CACHED_BYTES: usize = 8 << 20;

/// An open qcow2 file. Backing files are named, never opened.
#[derive(Debug)]
pub struct Reader {
    pub(super) file: Arc<File>,
    pub(super) length: u64,
    pub(super) header: Header,
    /// Host offsets of L2 tables; 0 where there is none.
    pub(super) l1: Vec<u64>,
    tables: Recent<Vec<u64>>,
    /// Decompressed clusters by their host offsets.
    clusters: Recent<Vec<u8>>,
}

impl ReadAt for Reader {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let length = buffer.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.size()) {
            return Err(Failure::io(format!("{length} bytes at offset {offset} leave the disk")));
        }
        let cluster = self.header.cluster();
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let within = at % cluster;
            let step = (cluster - within).min(rest.len() as u64);
            let (part, behind) = rest.split_at_mut(usize::try_from(step).unwrap_or(rest.len()));
            self.read_part(at - within, within, part)
                .map_err(|failure| failure.context(format!("qcow2 cluster at {}", at - within)))?;
            (at, rest) = (at + step, behind);
        }
        Ok(())
    }
}

impl Reader {
    /// Opens `file`, which is `length` bytes long.
    ///
    /// # Errors
    /// When the header or the L1 table is damaged, asks for what is not supported, or names one L2
    /// table twice.
    pub fn new(file: Arc<File>, length: u64) -> Result<Self> {
        let start = read_range(&file, 0, length.min(HEADER_BYTES))?;
        let header = Header::decode(&start, length)?;
        let l1 = entries(&read_range(&file, header.l1_offset, header.l1_bytes())?);
        for (index, entry) in l1.iter().enumerate() {
            check_host(l2_offset(*entry), header.cluster(), length, header.cluster())
                .map_err(|failure| failure.context(format!("qcow2 L1 entry {index}")))?;
        }
        refuse_shared_tables(&l1)?;
        let (tables, clusters) =
            (Recent::new(CACHED_TABLES, |_| 1), Recent::new(CACHED_BYTES, Vec::len));
        Ok(Self { file, length, header, l1, tables, clusters })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Size of the virtual disk in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.header.size
    }

    /// Fills `part` from `within` bytes behind the start of the guest cluster at `guest`.
    fn read_part(&self, guest: u64, within: u64, part: &mut [u8]) -> Result<()> {
        match self.mapping(guest)? {
            Mapping::Absent if self.header.backing_file.is_some() => {
                let name = self.header.backing_file.as_deref().unwrap_or_default();
                Err(Failure::new(Class::Unsupported, format!("its bytes are in `{name}`"))
                    .with_help(
                        "backing files are not followed; flatten it with `qemu-img convert`",
                    ))
            }
            Mapping::Absent | Mapping::Zero { .. } => {
                part.fill(0);
                Ok(())
            }
            Mapping::Plain { host } => {
                let end = host.saturating_add(within).saturating_add(part.len() as u64);
                if end > self.length {
                    return Err(Failure::input(format!("host offset {host} is behind the end")));
                }
                self.file
                    .read_exact_at(part, host + within)
                    .or_io(|| format!("cannot read at host offset {host}"))
            }
            Mapping::Compressed { host, length } => {
                // One that is read as a whole is not read again soon.
                let whole = match part.len() as u64 == self.header.cluster() {
                    true => Arc::new(self.decompressed(host, length)?),
                    false => self.clusters.get_or(host, || self.decompressed(host, length))?,
                };
                let from = usize::try_from(within).unwrap_or(usize::MAX);
                match whole.get(from..).and_then(|bytes| bytes.get(..part.len())) {
                    Some(bytes) => part.copy_from_slice(bytes),
                    None => return Err(Failure::io("cluster is too short")),
                }
                Ok(())
            }
        }
    }

    /// The bytes of a compressed cluster of which at most `length` bytes are stored at `host`.
    pub(super) fn decompressed(&self, host: u64, length: u64) -> Result<Vec<u8>> {
        // The last sector of the file may be cut off: a writer need not fill it.
        let available = self.length.saturating_sub(host).min(length);
        let compressed = read_range(&self.file, host, available)?;
        let mut whole = vec![0; usize::try_from(self.header.cluster()).unwrap_or(0)];
        decompress(self.header.compression_type, &compressed, &mut whole)
            .map_err(|failure| failure.context(format!("compressed data at host offset {host}")))?;
        Ok(whole)
    }

    /// Where the guest cluster that begins at `guest` is.
    fn mapping(&self, guest: u64) -> Result<Mapping> {
        let index = usize::try_from(guest / self.header.l2_span()).unwrap_or(usize::MAX);
        let offset = self.l1.get(index).copied().map_or(0, l2_offset);
        if offset == 0 {
            return Ok(Mapping::Absent);
        }
        let table = self.table(offset)?;
        let entry = (guest % self.header.l2_span()) / self.header.cluster();
        let entry = usize::try_from(entry).ok().and_then(|entry| table.get(entry));
        let entry = entry.ok_or_else(|| Failure::io("L2 table is too short"))?;
        let mapping = Mapping::decode(*entry, self.header.cluster_bits);
        self.check_mapping(mapping)?;
        Ok(mapping)
    }

    /// Holds a mapping against the bounds of the file.
    pub(super) fn check_mapping(&self, mapping: Mapping) -> Result<()> {
        let cluster = self.header.cluster();
        match mapping {
            Mapping::Plain { host } => check_host(host, 1, self.length, cluster),
            Mapping::Compressed { host, .. } => check_host(host, 1, self.length, 1),
            Mapping::Absent | Mapping::Zero { .. } => Ok(()),
        }
    }

    /// The L2 table at host offset `offset`, which has been checked.
    pub(super) fn table(&self, offset: u64) -> Result<Arc<Vec<u64>>> {
        let read = || Ok(entries(&read_range(&self.file, offset, self.header.cluster())?));
        self.tables.get_or(offset, read)
    }

    /// The ranges of the virtual disk, in bytes, that are not mapped to zeros, ascending and merged.
    ///
    /// # Errors
    /// When an L2 table cannot be read.
    pub fn data_ranges(&self) -> Result<Vec<Range<u64>>> {
        let backed = self.header.backing_file.is_some();
        let cluster = self.header.cluster();
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut add = |start: u64, end: u64| {
            let end = end.min(self.size());
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ if start < end => ranges.push(start..end),
                _ => {}
            }
        };
        let tables = usize::try_from(self.size().div_ceil(self.header.l2_span())).unwrap_or(0);
        for (number, entry) in self.l1.iter().take(tables).enumerate() {
            let start = number as u64 * self.header.l2_span();
            match l2_offset(*entry) {
                0 if backed => add(start, start.saturating_add(self.header.l2_span())),
                0 => {}
                offset => {
                    for (index, entry) in (0_u64..).zip(self.table(offset)?.iter()) {
                        let at = start + index * cluster;
                        let zero = match Mapping::decode(*entry, self.header.cluster_bits) {
                            Mapping::Absent => !backed,
                            Mapping::Zero { .. } => true,
                            Mapping::Plain { .. } | Mapping::Compressed { .. } => false,
                        };
                        if !zero && at < self.size() {
                            add(at, at.saturating_add(cluster));
                        }
                    }
                }
            }
        }
        Ok(ranges)
    }
}

/// Fails when two L1 entries name the same L2 table. No writer does that, and a small file could map
/// a disk of any size by it: work and memory of a reader are bounded by the length of the file only
/// as long as each table is met once.
fn refuse_shared_tables(l1: &[u64]) -> Result<()> {
    let tables = (0_usize..).zip(l1).map(|(index, entry)| (l2_offset(*entry), index));
    let mut tables: Vec<(u64, usize)> = tables.filter(|(offset, _)| *offset != 0).collect();
    tables.sort_unstable();
    match tables.array_windows().find(|[one, two]| one.0 == two.0) {
        None => Ok(()),
        Some([(offset, one), (_, two)]) => Err(Failure::input(format!(
            "qcow2 L1 entries {one} and {two} share the L2 table at host offset {offset}"
        ))),
    }
}

/// Fails unless `host` is aligned to `align` and `needed` bytes follow it in a file of `length`.
pub(super) fn check_host(host: u64, needed: u64, length: u64, align: u64) -> Result<()> {
    if !host.is_multiple_of(align) {
        return Err(Failure::input(format!("host offset {host} is not aligned to {align} bytes")));
    }
    if host.checked_add(needed).is_none_or(|end| end > length) {
        return Err(Failure::input(format!("host offset {host} is behind the end at {length}")));
    }
    Ok(())
}

/// Reads `length` bytes at `offset`; the caller has held `length` against the file.
pub(super) fn read_range(file: &File, offset: u64, length: u64) -> Result<Vec<u8>> {
    let too_long = || format!("{length} bytes at offset {offset}");
    let mut bytes = vec![0; usize::try_from(length).or_fail(Class::Input, too_long)?];
    file.read_exact_at(&mut bytes, offset)
        .or_io(|| format!("cannot read {length} bytes at offset {offset}"))?;
    Ok(bytes)
}
