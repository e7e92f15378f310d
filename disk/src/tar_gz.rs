//! A disk as Google Compute Engine imports it: a gzip member (RFC 1952) around a tar archive in GNU's old
//! format with one sparse file, `disk.raw`.
//!
//! Sparse files of that format (GNU tar manual, appendix "Storing Sparse Files", old GNU) name the runs
//! of data in their header; the bytes of the runs follow each other without holes. So the compressed
//! blocks of the disk go into the member one behind the other, as a VMDK has them.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use nodekiln_words::{Bytes, Cancel, Class, Failure, Progress, Result, ResultExt};
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use crate::disk::{BATCH, CLUSTER, Disk, data_runs};
use crate::file_writer::FileWriter;
use crate::flushed::{Deflate, END, Flusher};
use crate::image::Unpacking;
use crate::metered::{HEADERS, Metered};
use crate::output::{Output, Written};
use crate::pass::{Block, Encoded, Form, Pass, Stream};
use crate::payload::Payload;

/// Name of the one member.
pub const MEMBER: &str = "disk.raw";
/// What the disk's size must be a multiple of.
pub const ALIGNMENT: u64 = 1 << 30;
/// gzip's head: deflate, no name, no time, no particular operating system.
const HEAD: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];
/// tar's own unit of writing, which archives are filled up to.
const RECORD: u64 = 20 * 512;
/// Largest disk that is unpacked: Compute Engine's own largest, and what keeps a header from asking for years
/// of zeros.
const MAX_SIZE: u64 = 64 << 40;

/// A `.tar.gz` being written.
#[derive(Debug)]
pub struct Writer {
    output: Output,
    deflate: Deflate,
    /// Where the next byte goes.
    at: u64,
    /// Of all bytes before compression.
    crc: crc32fast::Hasher,
    /// Bytes before compression: so far, and when the disk is complete.
    length: u64,
    expected: u64,
}

impl Writer {
    /// Creates the file at `path` and writes the head of the archive, for which all of the disk is looked
    /// at once. `created`, in seconds since 1970, becomes the member's time.
    ///
    /// # Errors
    /// When the disk is not a whole number of GiB or cannot be read, the file cannot be written, or somebody
    /// asked to stop.
    pub fn create(
        disk: &Disk,
        path: &Path,
        deflate: Deflate,
        created: u64,
        cancel: &Cancel,
    ) -> Result<Self> {
        if disk.size() == 0 || !disk.size().is_multiple_of(ALIGNMENT) {
            let message = format!("{} bytes are not a whole number of GiB", disk.size());
            return Err(Failure::input(message)
                .with_help("Google Compute Engine takes no other disk: give it a size in GiB"));
        }
        let runs = disk.data_runs(cancel)?;
        let head = head(disk.size(), &runs, created);
        let data: u64 = runs.iter().map(|run| run.end - run.start).sum();
        let mut writer = Self {
            output: Output::create(path)?,
            deflate,
            at: 0,
            crc: crc32fast::Hasher::new(),
            length: 0,
            expected: head.len() as u64 + data,
        };
        writer.append(&HEAD)?;
        writer.compress(&head)?;
        Ok(writer)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Takes bytes that are none of the disk's.
    fn compress(&mut self, bytes: &[u8]) -> Result<()> {
        let piece = Flusher::new(self.deflate, None).piece(bytes)?;
        self.crc.update(bytes);
        self.length += bytes.len() as u64;
        self.append(&piece.bytes)
    }
}

impl FileWriter for Writer {
    fn join<'a>(&'a mut self, disk: &'a Disk, pass: &mut Pass<'a>) {
        pass.stream(disk, self);
    }

    /// Ends the archive and the member; a disk that changed since it was looked at is an error.
    fn finish(
        mut self: Box<Self>,
        _disk: &Disk,
        _payload: &Payload,
        _progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Written> {
        if self.length != self.expected {
            let (length, expected) = (self.length, self.expected);
            let message = format!("the disk changed: {length} bytes in place of {expected}");
            return Err(Failure::io(message).with_help("run `nodekiln cache verify`"));
        }
        // Two blocks of zeros end an archive, and it is filled up to a whole record.
        let end = (self.length + 1024).next_multiple_of(RECORD) - self.length;
        self.compress(&vec![0; usize::try_from(end).unwrap_or(1024)])?;
        let (crc, length) = (self.crc.clone().finalize(), self.length);
        let mut tail = END.to_vec();
        tail.extend_from_slice(&crc.to_le_bytes());
        tail.extend_from_slice(&length.to_le_bytes()[..4]); // modulo 2^32
        self.append(&tail)?;
        let sha256 = self.output.sync_and_digest(cancel)?;
        Ok(Written { sha256, bytes: self.at, allocated: self.at })
    }
}

impl Stream for Writer {
    fn form(&self) -> Form {
        Form::Piece { deflate: self.deflate, known: None }
    }

    fn take(&mut self, blocks: &[Block<'_>]) -> Result<()> {
        let mut bytes = Vec::new();
        for block in blocks {
            if let Encoded::Piece(piece) = block.encoded {
                bytes.extend_from_slice(&piece.bytes);
                self.crc.combine(&crc32fast::Hasher::new_with_initial_len(piece.crc, CLUSTER));
                self.length += CLUSTER;
            }
        }
        self.append(&bytes)
    }
}

/// The header of the member and the records that continue its map.
fn head(size: u64, runs: &[std::ops::Range<u64>], created: u64) -> Vec<u8> {
    let mut map: Vec<(u64, u64)> =
        runs.iter().map(|run| (run.start, run.end - run.start)).collect();
    if runs.last().is_none_or(|run| run.end < size) {
        map.push((size, 0)); // a hole at the end
    }
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..MEMBER.len()].copy_from_slice(MEMBER.as_bytes());
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(created);
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(runs.iter().map(|run| run.end - run.start).sum());
    let mut rest = &map[..];
    if let Some(gnu) = header.as_gnu_mut() {
        rest = fill(&mut gnu.sparse, rest);
        gnu.isextended = [u8::from(!rest.is_empty())];
        number(&mut gnu.realsize, size);
    }
    header.set_cksum();
    let mut head = header.as_bytes().to_vec();
    while !rest.is_empty() {
        let mut more = GnuExtSparseHeader::new();
        rest = fill(&mut more.sparse, rest);
        more.isextended = [u8::from(!rest.is_empty())];
        head.extend_from_slice(more.as_bytes());
    }
    head
}

/// Writes as many entries of the map as there is room for; returns the others.
fn fill<'a>(slots: &mut [GnuSparseHeader], map: &'a [(u64, u64)]) -> &'a [(u64, u64)] {
    let (now, later) = map.split_at(map.len().min(slots.len()));
    for (slot, (offset, length)) in slots.iter_mut().zip(now) {
        number(&mut slot.offset, *offset);
        number(&mut slot.numbytes, *length);
    }
    later
}

/// A number of a tar header: octal, or from 8 GiB on in base 256 behind a byte of 0x80.
fn number(field: &mut [u8; 12], value: u64) {
    if value < 1 << 33 {
        field.copy_from_slice(format!("{value:011o}\0").as_bytes());
    } else {
        *field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&value.to_be_bytes());
    }
}

/// What Compute Engine would refuse in a sound archive with a disk of `size` bytes.
pub(crate) fn problems(size: u64) -> Vec<String> {
    if size > 0 && size.is_multiple_of(ALIGNMENT) {
        return Vec::new();
    }
    vec![format!("`{MEMBER}` of {size} bytes is not a whole number of GiB, as Google wants it")]
}

/// Unpacks the disk of the archive at `path` into a file, with holes where blocks of 64 KiB are zero, and
/// opens that.
///
/// # Errors
/// When the archive is damaged or has another member than `disk.raw`, the folder cannot be written or
/// somebody asked to stop.
pub fn unpack(path: &Path, unpacking: Unpacking<'_>) -> Result<(Arc<File>, Disk)> {
    let shown = path.display();
    let progress = unpacking.progress;
    let task = progress.start(&format!("unpack {shown}"), None, "B");
    let unpacked = unpack_into(path, unpacking, &|done| progress.advance(task, done))
        .map_err(|failure| failure.context(shown.to_string()));
    match &unpacked {
        Ok((_, disk)) => progress.finish(task, &Bytes(disk.size()).to_string()),
        Err(_) => progress.fail(task),
    }
    unpacked
}

fn unpack_into(
    path: &Path,
    unpacking: Unpacking<'_>,
    advance: &dyn Fn(u64),
) -> Result<(Arc<File>, Disk)> {
    let Unpacking { folder, cancel, .. } = unpacking;
    let packed = File::open(path).or_io(|| "cannot open it".to_owned())?;
    let packed = std::io::BufReader::with_capacity(1 << 18, packed);
    let (unpacked, budget) = Metered::new(MultiGzDecoder::new(packed));
    let mut archive = tar::Archive::new(unpacked);
    let damaged = || "it is no archive with a disk, or damaged".to_owned();
    let mut members = archive.entries().or_fail(Class::Input, damaged)?;
    let mut member = match members.next() {
        Some(member) => member.or_fail(Class::Input, damaged)?,
        None => return Err(Failure::input("it is an empty archive")),
    };
    let found = String::from_utf8_lossy(&member.path_bytes()).into_owned();
    if found.trim_start_matches("./") != MEMBER {
        let found = found.escape_debug();
        return Err(Failure::input(format!("its first member is `{found}` and not `{MEMBER}`")));
    }
    if member.size() > MAX_SIZE {
        let message = format!("a disk of {} bytes is more than {}", member.size(), Bytes(MAX_SIZE));
        return Err(Failure::new(Class::Unsupported, message));
    }
    budget.grant(u64::MAX);
    let file = tempfile::tempfile_in(folder);
    let file = file.or_io(|| format!("cannot make a file in {}", folder.display()))?;
    let (mut at, mut buffer) = (0_u64, vec![0; usize::try_from(BATCH).unwrap_or(1 << 21)]);
    loop {
        cancel.check()?;
        let length = read_full(&mut member, &mut buffer).or_fail(Class::Input, damaged)?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
        for run in data_runs(bytes) {
            let place = at + run.start as u64;
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes[run], place)
                .or_io(|| format!("cannot write a disk into {}", folder.display()))?;
        }
        at += length as u64;
        advance(at);
    }
    drop(member);
    budget.grant(HEADERS);
    match members.next() {
        None => {}
        Some(Ok(_)) => {
            return Err(Failure::input(format!("it has more members than `{MEMBER}`")));
        }
        Some(Err(error)) => return Err(error).or_fail(Class::Input, damaged),
    }
    // The checksum of all that was read stands behind the archive's end.
    budget.grant(u64::MAX);
    let mut rest = archive.into_inner();
    while read_full(&mut rest, &mut buffer).or_fail(Class::Input, damaged)? > 0 {
        cancel.check()?;
    }
    file.set_len(at).or_io(|| format!("cannot write a disk into {}", folder.display()))?;
    let file = Arc::new(file);
    let disk = Disk::over_file(&file, at);
    Ok((file, disk))
}

/// Fills `buffer` as far as there are bytes.
fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
