//! Reading a sparse extent, compressed or not. Nothing in the file is trusted.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt};
use zlib_rs::{Inflate, InflateFlush, Status};

use super::SECTOR;
use super::header::{AT_END, Header};
use crate::disk::ReadAt;
use crate::fields::{le32, le64};
use crate::ordered::ordered;
use crate::recent::Recent;

/// Most bytes that a compressed grain may take: incompressible data grows by little.
const MAX_GRAIN_BYTES: u64 = 8 << 20;
/// Bytes behind the header's sector that QEMU takes for the descriptor.
const QEMU_DESCRIPTOR: u64 = 20 * SECTOR;
/// Bytes of decompressed grains kept in memory, for whoever reads them in small pieces.
const CACHED_BYTES: usize = 8 << 20;
/// Problems beyond which no more are collected.
const MAX_PROBLEMS: usize = 100;

/// Places of grains in sectors, 0 and 1 where there is none; by the numbers of their tables.
type Tables = BTreeMap<u64, Vec<u32>>;

/// An open extent within a file. Parents and other extents are never opened.
#[derive(Debug)]
pub struct Reader {
    file: Arc<File>,
    /// Where in the file the extent lies, in bytes.
    range: Range<u64>,
    header: Header,
    /// The grain tables that have any grain, by their numbers.
    tables: Tables,
    descriptor: String,
    /// Decompressed grains by their numbers.
    grains: Recent<Vec<u8>>,
}

impl Reader {
    /// Opens the extent in `range` of `file`.
    ///
    /// # Errors
    /// When the header, the footer or a table is damaged, or asks for what is not supported.
    pub fn new(file: Arc<File>, range: Range<u64>) -> Result<Self> {
        let place = Place { file: &file, range: &range };
        let start = place.read(0, 512)?;
        let mut header = Header::decode(&start)?;
        if header.directory == AT_END {
            // Footer and end-of-stream marker, a sector each, are the last there is.
            let length = range.end - range.start;
            let at = length.checked_sub(2 * SECTOR).ok_or_else(|| damaged("it has no footer"))?;
            let footer = place.read(at, 512)?;
            let last = Header::decode(&footer).map_err(|failure| failure.context("VMDK footer"))?;
            if (last.capacity, last.grain) != (header.capacity, header.grain) {
                return Err(damaged("header and footer tell of different disks"));
            }
            header = last;
        }
        let (at, sectors) = (le64(&start, 28).unwrap_or(0), le64(&start, 36).unwrap_or(0));
        let descriptor = match sectors {
            0 => String::new(),
            _ => text(&place.read(at.saturating_mul(SECTOR), sectors.min(128) * SECTOR)?),
        };
        refuse_other_files(&descriptor)?;
        // QEMU looks for a parent at this place, wherever the header has the descriptor.
        let length = (range.end - range.start).saturating_sub(SECTOR).min(QEMU_DESCRIPTOR);
        refuse_other_files(&text(&place.read(SECTOR, length)?))?;
        let tables = tables(&place, &header)?;
        let grains = Recent::new(CACHED_BYTES, Vec::len);
        Ok(Self { file, range, header, tables, descriptor, grains })
    }

    /// Size of the disk in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.header.capacity * SECTOR
    }

    /// The descriptor inside the file; empty where there is none.
    #[must_use]
    pub fn descriptor(&self) -> &str {
        &self.descriptor
    }

    /// The disk's `createType`, as the descriptor names it.
    #[must_use]
    pub fn create_type(&self) -> Option<&str> {
        value(&self.descriptor, "createType")
    }

    /// Ranges of the disk that grains are stored for, in bytes, ascending.
    #[must_use]
    pub fn data_ranges(&self) -> Vec<Range<u64>> {
        let grain = self.header.grain * SECTOR;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for number in self.tables.keys().flat_map(|table| self.stored(*table)) {
            let range = number * grain..((number + 1) * grain).min(self.size());
            match ranges.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => ranges.push(range),
            }
        }
        ranges
    }

    /// Numbers of the grains of a table that are stored.
    fn stored(&self, table: u64) -> impl Iterator<Item = u64> {
        let places = self.tables.get(&table).into_iter().flatten();
        let first = table * u64::from(self.header.table_entries);
        (first..).zip(places).filter(|(_, place)| **place > 1).map(|(number, _)| number)
    }

    /// Reads and decompresses every grain; what is wrong with them.
    ///
    /// # Errors
    /// When somebody asked to stop.
    pub fn problems(&self, cancel: &Cancel) -> Result<Vec<String>> {
        let numbers: Vec<u64> = self.tables.keys().copied().collect();
        let check = |(): &mut (), job: usize| {
            let mut found = Vec::new();
            for number in self.stored(numbers[job]) {
                cancel.check()?;
                let read = |sector: Option<u64>| sector.map(|sector| self.grain(number, sector));
                if let Err(failure) = self.sector(number).and_then(|at| read(at).transpose()) {
                    let at = number * self.header.grain * SECTOR;
                    found.push(format!("VMDK grain at {at}: {}", failure.chain().join(": ")));
                }
            }
            Ok(found)
        };
        let mut problems: Vec<String> = Vec::new();
        ordered(
            numbers.len(),
            cancel,
            || (),
            check,
            |_, found| {
                let room = MAX_PROBLEMS.saturating_sub(problems.len());
                problems.extend(found.into_iter().take(room));
                Ok(())
            },
        )?;
        Ok(problems)
    }

    /// The sector where grain `number` stands; `None` where it is zero.
    fn sector(&self, number: u64) -> Result<Option<u64>> {
        if number >= self.header.capacity.div_ceil(self.header.grain) {
            return Err(damaged("there is no such grain"));
        }
        let entries = u64::from(self.header.table_entries);
        let entry = usize::try_from(number % entries).unwrap_or(usize::MAX);
        let table = self.tables.get(&(number / entries));
        Ok(match table.and_then(|table| table.get(entry)) {
            None | Some(0 | 1) => None,
            Some(sector) => Some(u64::from(*sector)),
        })
    }

    /// The bytes of grain `number`, which stands at `sector`.
    fn grain(&self, number: u64, sector: u64) -> Result<Vec<u8>> {
        let length = self.header.grain * SECTOR;
        let place = Place { file: &self.file, range: &self.range };
        if !self.header.compressed {
            return place.read(sector * SECTOR, length);
        }
        let marker = place.read(sector * SECTOR, 12)?;
        if le64(&marker, 0) != Some(number * self.header.grain) {
            return Err(damaged("it is another grain's"));
        }
        let stored = u64::from(le32(&marker, 8).unwrap_or(0));
        if stored == 0 || stored > MAX_GRAIN_BYTES {
            return Err(damaged(&format!("{stored} bytes of compressed data")));
        }
        let stored = place.read(sector * SECTOR + 12, stored)?;
        let mut grain = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut inflate = Inflate::new(true, 15);
        match inflate.decompress(&stored, &mut grain, InflateFlush::Finish) {
            // The last grain of a disk may be a short one.
            Ok(Status::StreamEnd) => Ok(grain),
            Ok(_) => Err(damaged("its data do not end")),
            Err(error) => Err(damaged(error.as_str())),
        }
    }
}

impl ReadAt for Reader {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let grain = self.header.grain * SECTOR;
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let within = at % grain;
            let step = usize::try_from(grain - within).unwrap_or(usize::MAX).min(rest.len());
            let (part, behind) = rest.split_at_mut(step);
            self.read_part(at / grain, within, part)
                .map_err(|failure| failure.context(format!("VMDK grain at {}", at - within)))?;
            (at, rest) = (at + step as u64, behind);
        }
        Ok(())
    }
}

impl Reader {
    /// Fills `part` from `within` bytes behind the start of grain `number`.
    fn read_part(&self, number: u64, within: u64, part: &mut [u8]) -> Result<()> {
        let Some(sector) = self.sector(number)? else {
            part.fill(0);
            return Ok(());
        };
        let place = Place { file: &self.file, range: &self.range };
        if !self.header.compressed {
            let bytes = place.read(sector * SECTOR + within, part.len() as u64)?;
            part.copy_from_slice(&bytes);
            return Ok(());
        }
        // One that is read as a whole is not read again soon.
        let whole = match part.len() as u64 == self.header.grain * SECTOR {
            true => Arc::new(self.grain(number, sector)?),
            false => self.grains.get_or(number, || self.grain(number, sector))?,
        };
        let from = usize::try_from(within).unwrap_or(usize::MAX);
        let found = whole.get(from..).and_then(|bytes| bytes.get(..part.len()));
        part.copy_from_slice(found.ok_or_else(|| damaged("a grain is too short"))?);
        Ok(())
    }
}

fn damaged(what: &str) -> Failure {
    Failure::input(format!("damaged VMDK: {what}"))
}

/// A part of a file.
struct Place<'a> {
    file: &'a File,
    range: &'a Range<u64>,
}

impl Place<'_> {
    fn read(&self, at: u64, length: u64) -> Result<Vec<u8>> {
        let start = self.range.start.checked_add(at);
        let end = start.and_then(|start| start.checked_add(length));
        let (Some(start), Some(true)) = (start, end.map(|end| end <= self.range.end)) else {
            return Err(damaged(&format!("{length} bytes at {at} lie behind its end")));
        };
        let mut buffer = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file
            .read_exact_at(&mut buffer, start)
            .or_io(|| format!("cannot read the VMDK at offset {at}"))?;
        Ok(buffer)
    }
}

/// The grain tables that have any grain. What they take is bounded by the length of the file, whatever size
/// of disk the header tells of, as each table is met once and those without grains are not kept.
fn tables(place: &Place<'_>, header: &Header) -> Result<Tables> {
    let count = header.capacity.div_ceil(header.grain);
    let entries = u64::from(header.table_entries);
    let directory = place
        .read(header.directory.saturating_mul(SECTOR), count.div_ceil(entries) * 4)
        .map_err(|failure| failure.context("VMDK grain directory"))?;
    let sectors: Vec<u32> = directory.chunks_exact(4).filter_map(|entry| le32(entry, 0)).collect();
    refuse_shared_tables(&sectors)?;
    let mut tables = Tables::new();
    for (number, sector) in (0..).zip(&sectors).filter(|(_, sector)| **sector != 0) {
        let sector = u64::from(*sector);
        let left = (count - number * entries).min(entries);
        let table = place
            .read(sector * SECTOR, left * 4)
            .map_err(|failure| failure.context(format!("VMDK grain table {number}")))?;
        let table: Vec<u32> = table.chunks_exact(4).filter_map(|entry| le32(entry, 0)).collect();
        if table.iter().any(|place| *place > 1) {
            tables.insert(number, table);
        }
    }
    Ok(tables)
}

/// Fails when two entries of the directory name the same table, by which a small file could map a disk of any
/// size.
fn refuse_shared_tables(sectors: &[u32]) -> Result<()> {
    let mut sectors: Vec<u32> = sectors.iter().copied().filter(|sector| *sector != 0).collect();
    sectors.sort_unstable();
    match sectors.array_windows().find(|[one, two]| one == two) {
        None => Ok(()),
        Some([sector, _]) => {
            Err(damaged(&format!("two entries share the grain table at sector {sector}")))
        }
    }
}

/// Fails where a descriptor says that the disk, or a part of it, is in another file.
///
/// # Errors
/// [`Class::Unsupported`]: a snapshot, or a disk of other extents than the one that the descriptor is in.
fn refuse_other_files(descriptor: &str) -> Result<()> {
    let parent = value(descriptor, "parentCID");
    // QEMU finds the hint anywhere in the text, whatever the parent's id.
    let hint = descriptor.contains("parentFileNameHint");
    if hint || parent.is_some_and(|id| !id.eq_ignore_ascii_case("ffffffff")) {
        return Err(Failure::new(Class::Unsupported, "a VMDK snapshot, which needs its parent"));
    }
    let extents = descriptor.lines().filter_map(extent_kind);
    let kinds: Vec<&str> = extents.collect();
    if !matches!(kinds[..], [] | ["SPARSE"]) {
        let text = format!("a VMDK of other files, of the kinds {}", kinds.join(", "));
        let text = text.escape_debug().to_string();
        return Err(Failure::new(Class::Unsupported, text).with_help(
            "make one file of it: `qemu-img convert -O vmdk -o subformat=streamOptimized`",
        ));
    }
    Ok(())
}

/// The kind of the extent that a line of a descriptor tells of, if it tells of one.
fn extent_kind(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let access = words.next().filter(|word| matches!(*word, "RW" | "RDONLY" | "NOACCESS"));
    access.map(|_| words.nth(1).unwrap_or_default())
}

/// The text before the first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// What a descriptor says of `key`.
fn value<'a>(descriptor: &'a str, key: &str) -> Option<&'a str> {
    descriptor.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case(key).then(|| value.trim().trim_matches('"'))
    })
}
